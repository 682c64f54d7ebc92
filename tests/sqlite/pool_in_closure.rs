//! A closure around a pool is a source like the pool.

use std::time::Duration;

use dbop_diesel::{FaultClass, Report, Runner};
use dbop_tests::InstantClock;
use dbop_tests::sqlite::Bed;
use diesel::SqliteConnection;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::Error;

fn pool(url: &str) -> Pool<ConnectionManager<SqliteConnection>> {
    Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_millis(100))
        .build_unchecked(ConnectionManager::new(url))
}

/// What is the same from the pool and from the closure.
fn same(closure: &Report<(), Error>, pool: &Report<(), Error>) {
    assert_eq!(closure.attempts, pool.attempts);
    assert_eq!(closure.stop, pool.stop);
    assert_eq!(closure.failures[0].fault, pool.failures[0].fault);
}

#[test]
fn a_file_that_is_not_there_is_looked_for_as_often() {
    let pool = pool("/nonexistent/x.db");
    let runner = Runner::default().with_clock(InstantClock::new());
    let directly: Report<(), Error> = runner.run_on_report(&pool, |_conn| Ok(()));
    let report: Report<(), Error> = runner.run_on_report(&|| pool.get(), |_conn| Ok(()));
    assert_eq!(report.attempts, 6);
    let fault = report.failures[0].fault.expect("a fault");
    assert_eq!(fault.class(), FaultClass::NotConnected);
    same(&report, &directly);
}

#[test]
fn a_pool_that_has_nothing_free_is_asked_once() {
    let bed = Bed::new();
    let pool = pool(bed.url());
    let taken = pool.get().expect("the only one");
    let runner = Runner::default().with_clock(InstantClock::new());
    let directly: Report<(), Error> = runner.run_on_report(&pool, |_conn| Ok(()));
    let report: Report<(), Error> = runner.run_on_report(&|| pool.get(), |_conn| Ok(()));
    assert_eq!(report.attempts, 1);
    same(&report, &directly);
    drop(taken);
}
