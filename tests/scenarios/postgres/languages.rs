//! Errors in other languages than English: each is what it is in English.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, Outcome, Report};
use dbop_tests::InstantClock;
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;

use super::money::add;
use super::steps::{connect, opponent_goes_on_during};
use super::{Bed, Conn, RunQueryDsl as _, Runner, SimpleConnection as _, helper, scenario};

/// Those that tests/run.sh compiles for its servers.
const LANGUAGES: [&str; 13] = [
    "de_DE", "es_ES", "fr_FR", "it_IT", "ja_JP", "ko_KR", "pl_PL", "pt_BR", "ru_RU", "sv_SE",
    "tr_TR", "uk_UA", "zh_CN",
];

const SOON: Duration = Duration::from_millis(30);

/// Statements, the codes of their errors, and their classes. Row 1 is locked.
#[rustfmt::skip] // One row, one line.
const FAILING: &[(&str, &str, FaultClass)] = &[
    ("UPDATE accounts SET balance = 0 WHERE id = 1", "55P03", FaultClass::LockTimeout),
    ("SELECT id FROM accounts WHERE id = 1 FOR UPDATE NOWAIT", "55P03", FaultClass::LockTimeout),
    ("SELECT pg_sleep(30)", "57014", FaultClass::StatementTimeout),
    ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(10)", "57014", FaultClass::Canceled),
    ("EXECUTE gone", "26000", FaultClass::StalePlan),
    ("ROLLBACK TO SAVEPOINT gone", "3B001", FaultClass::TransactionLost),
    ("CREATE TABLE accounts (id INT)", "42P07", FaultClass::SerializationFailure),
    ("INSERT INTO accounts VALUES (3, 0)", "23505", FaultClass::Constraint),
    ("SET TRANSACTION READ ONLY; UPDATE accounts SET balance = 0", "25006", FaultClass::ReadOnlyServer),
];

#[helper]
async fn speak(conn: &mut Conn, language: &str) {
    let speak = format!("SET lc_messages = '{language}.UTF-8'");
    let spoken = conn.batch_execute(&speak).await;
    spoken.expect("tests/run.sh compiles this language for its servers");
}

/// As text, where several statements are allowed, or prepared.
#[helper]
async fn send(conn: &mut Conn, statement: &str, as_text: bool) -> QueryResult<()> {
    if as_text || statement.contains(';') {
        conn.batch_execute(statement).await
    } else {
        sql_query(statement).execute(conn).await.map(|_| ())
    }
}

fn assert_fault(report: &Report<(), Error>, code: &str, class: FaultClass, label: &str) {
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), class, "{label}: {:?}", report.failures[0]);
    let found = fault.code().map(|code| code.to_string());
    assert_eq!(found.as_deref(), Some(code), "{label}");
}

#[scenario]
async fn what_fails_is_known() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    for language in LANGUAGES {
        speak(&mut conn, language).await;
        for &(statement, code, class) in FAILING {
            for as_text in [false, true] {
                let report = runner
                    .operation("fail")
                    .max_retries(0)
                    .lock_timeout(SOON)
                    .statement_timeout(Duration::from_millis(200))
                    .run_report(&mut conn, async |conn: &mut Conn| {
                        add(conn, 2, 10).await?;
                        send(conn, statement, as_text).await
                    })
                    .await;
                assert_fault(&report, code, class, &format!("{language}: {statement}"));
                assert_eq!(report.outcome, Outcome::Undone, "{language}: {statement}");
            }
        }
    }
    opponent.execute("COMMIT");
    assert_eq!(bed.balances(), [(1, 101), (2, 100), (3, 100)]);
}

#[scenario]
async fn a_deadlock_is_retried() {
    for language in LANGUAGES {
        let bed = Arc::new(Bed::new());
        let opponent = Arc::new(bed.opponent());
        opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2");
        let mut conn = connect(&bed).await;
        speak(&mut conn, language).await;
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(opponent_goes_on_during(1, &bed, &opponent))
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                    opponent.start("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
                    bed.wait_until_blocked(opponent.id());
                }
                add(conn, 2, 10).await.map(|_| ())
            })
            .await;
        assert_eq!(report.result, Ok(()), "{language}");
        assert_eq!((report.attempts, report.outcome), (2, Outcome::Committed));
        assert_fault(&report, "40P01", FaultClass::Deadlock, language);
    }
}

/// What swallows an error is told from what returns it, by the COMMIT and by the next statement.
#[scenario]
async fn an_aborted_transaction_is_known() {
    for language in LANGUAGES {
        let bed = Bed::new();
        let mut conn = bed.connect();
        speak(&mut conn, language).await;
        for goes_on in [false, true] {
            let report: Report<(), Error> = Runner::default()
                .run_report(&mut conn, async |conn: &mut Conn| {
                    add(conn, 2, 10).await?;
                    let swallowed = sql_query("SELECT nonsense FROM accounts").execute(conn);
                    swallowed.await.expect_err("no such column");
                    match goes_on {
                        true => add(conn, 2, 10).await.map(|_| ()),
                        false => Ok(()),
                    }
                })
                .await;
            assert_fault(&report, "25P02", FaultClass::TransactionAborted, language);
            assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
        }
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    }
}

#[scenario]
async fn a_session_that_is_terminated_in_a_statement_is_lost() {
    for language in LANGUAGES {
        let bed = Bed::new();
        let mut conn = bed.connect();
        speak(&mut conn, language).await;
        let report: Report<(), Error> = Runner::default()
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                send(
                    conn,
                    "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)",
                    false,
                )
                .await
            })
            .await;
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::ConnectionLost, "{language}");
        assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    }
}
