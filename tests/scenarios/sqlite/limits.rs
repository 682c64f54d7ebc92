//! Errors that only a limit of the whole process brings about, so that each of these tests has a
//! process of its own: SQLite is out of memory, and a file cannot be written. Both make it roll back
//! the whole transaction by itself.

use std::env::{current_exe, var_os};
use std::process::Command;

use dbop_diesel::{Code, FaultClass, Outcome, Report, StopReason};
use dbop_tests::{blocking, is_unknown};
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::{Bed, Conn, RunQueryDsl, Runner, SimpleConnection as _, helper, scenario};

const ALONE: &str = "DBOP_TEST_ALONE";

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

/// Whether this is the process of its own, in which no file may have more than so many KiB. If not,
/// the test is run in one.
fn is_alone(test: &str, file_size: &str) -> bool {
    if var_os(ALONE).is_some() {
        return true;
    }
    let (_, module) = module_path!()
        .split_once("::")
        .expect("a program and a module");
    // What is ignored here stays ignored there: the signal would end the process.
    let mut alone = Command::new("bash");
    alone
        .args([
            "-c",
            r#"trap '' XFSZ; ulimit -f "$0"; exec "$@""#,
            file_size,
        ])
        .arg(current_exe().expect("a test program"))
        .args(["--exact", &format!("{module}::{test}"), "--nocapture"])
        .env(ALONE, "1");
    let output = blocking(|| alone.output()).expect("bash");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{output:?}");
    false
}

/// The journal decides what is written when.
fn beds() -> [Bed; 2] {
    [Bed::new(), Bed::with_rollback_journal()]
}

#[helper]
async fn execute(conn: &mut Conn, sql: &str) -> QueryResult<usize> {
    sql_query(sql).execute(conn).await
}

/// Whether the body hides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndsWith {
    It,
    AnotherError,
    Ok,
}

/// Writes, and then something large.
#[helper]
async fn write(conn: &mut Conn, large: &str, ends: EndsWith) -> Report<(), Error> {
    Runner::default()
        .run_report(conn, async |conn: &mut Conn| {
            execute(conn, "UPDATE accounts SET balance = 7 WHERE id = 1").await?;
            let written = execute(conn, large).await;
            match ends {
                EndsWith::It => written.map(|_| ()),
                EndsWith::AnotherError => Err(Error::NotFound),
                EndsWith::Ok => Ok(()),
            }
        })
        .await
}

fn assert_undone(report: &Report<(), Error>, code: i32) {
    let fault = report.failures[0].fault.expect("of the database");
    assert_eq!(fault.code(), Some(Code::Sqlite(code)));
    assert_eq!(fault.class(), FaultClass::ResourceExhausted);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(
        (report.attempts, report.stop),
        (1, StopReason::NotRetryable)
    );
}

fn assert_unknown(report: &Report<(), Error>) {
    let error = report.result.as_ref().expect_err("nobody knows");
    assert!(is_unknown(error), "{error}");
    assert_eq!((report.attempts, report.outcome), (1, Outcome::Unknown));
}

/// It can be used as before.
#[helper]
async fn assert_usable(conn: &mut Conn, bed: &Bed) {
    let next = Runner::default()
        .run(conn, async |conn: &mut Conn| {
            execute(conn, "UPDATE accounts SET balance = 1 WHERE id = 3").await
        })
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 1)]);
}

/// An error with this code, which comes while something is written, however the body ends then.
#[helper]
async fn assert_undone_at(code: i32, limit: &str, large: &str) {
    for ends in [EndsWith::It, EndsWith::AnotherError, EndsWith::Ok] {
        for bed in beds() {
            let mut conn = bed.connect();
            conn.batch_execute(limit).await.expect("a limit");
            let report = write(&mut conn, large, ends).await;
            match ends {
                EndsWith::It => assert_undone(&report, code),
                _ => assert_unknown(&report),
            }
            assert_eq!(bed.balances(), UNTOUCHED, "{ends:?}");
            assert_usable(&mut conn, &bed).await;
        }
    }
}

#[scenario]
async fn out_of_memory_it_is_undone() {
    if is_alone("out_of_memory_it_is_undone", "unlimited") {
        let large = "INSERT INTO accounts VALUES (4, randomblob(20000000))";
        assert_undone_at(7, "PRAGMA hard_heap_limit = 10000000", large).await;
    }
}

#[scenario]
async fn after_an_input_output_error_it_is_undone() {
    if is_alone("after_an_input_output_error_it_is_undone", "100") {
        let large = "INSERT INTO accounts VALUES (4, randomblob(200000))";
        // So it does not wait for COMMIT.
        assert_undone_at(10, "PRAGMA cache_size = 5", large).await;
    }
}

/// The answer to COMMIT is definite: SQLite has rolled it back.
#[scenario]
async fn after_an_input_output_error_at_commit_it_is_undone() {
    if !is_alone("after_an_input_output_error_at_commit_it_is_undone", "100") {
        return;
    }
    let large = "INSERT INTO accounts VALUES (4, randomblob(200000))";
    for bed in beds() {
        let mut conn = bed.connect();
        let report = write(&mut conn, large, EndsWith::Ok).await;
        assert_undone(&report, 10);
        assert_eq!(bed.balances(), UNTOUCHED);
        assert_usable(&mut conn, &bed).await;
    }
}
