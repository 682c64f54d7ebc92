//! A file that a restore replaces under a running service. SQLite refuses to write to the old one on
//! the connections that have it open (READONLY_DBMOVED, of which Diesel shows the text of READONLY).

use dbop_diesel::{FaultClass, Outcome, Report, Runner, StopReason};
use dbop_tests::InstantClock;
use dbop_tests::sqlite::Bed;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::Error;
use diesel::sql_query;

const WRITE: &str = "UPDATE accounts SET balance = balance + 1 WHERE id = 1";

fn pool(url: &str) -> Pool<ConnectionManager<SqliteConnection>> {
    let manager = ConnectionManager::new(url);
    let pool = Pool::builder().max_size(1).build(manager);
    pool.expect("a pool")
}

fn write(
    runner: &Runner,
    pool: &Pool<ConnectionManager<SqliteConnection>>,
) -> Report<usize, Error> {
    runner.run_on_report(pool, |conn| sql_query(WRITE).execute(conn))
}

#[test]
fn a_file_that_was_replaced_is_found_by_another_connection() {
    let bed = Bed::with_rollback_journal();
    let pool = pool(bed.url());
    let runner = Runner::default().with_clock(InstantClock::new());
    assert_eq!(write(&runner, &pool).result, Ok(1));

    let restored = format!("{}.restored", bed.url());
    std::fs::copy(bed.url(), &restored).expect("a copy");
    std::fs::rename(&restored, bed.url()).expect("a replacement");
    let report = write(&runner, &pool);
    assert_eq!((report.result, report.attempts), (Ok(1), 2));
    let fault = report.failures[0].fault.expect("a fault");
    assert_eq!(fault.class(), FaultClass::ReadOnlyServer);
    // The dead connection has left the pool.
    let report = write(&runner, &pool);
    assert_eq!((report.result, report.attempts), (Ok(1), 1));
    assert_eq!(bed.balances()[0], (1, 103));
}

#[test]
fn a_database_that_is_read_only_is_tried_on_one_more_connection() {
    let bed = Bed::with_rollback_journal();
    let pool = pool(&format!("file:{}?mode=ro", bed.url()));
    let report = write(&Runner::default().with_clock(InstantClock::new()), &pool);
    assert_eq!(report.attempts, 2);
    assert_eq!(
        (report.stop, report.outcome),
        (StopReason::RetriesExhausted, Outcome::Undone)
    );
    let error = report.result.expect_err("it may not write");
    assert_eq!(error.to_string(), "attempt to write a readonly database");
    assert_eq!(bed.balances()[0], (1, 100));
}
