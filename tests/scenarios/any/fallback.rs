//! A fallback value replaces an error whose attempt is certainly undone, and nothing else: not a
//! success, not a panic. What comes after it in the same transaction goes on.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Outcome, RetryPolicy, StopReason};
use dbop_tests::InstantClock;
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

use super::money::{balance, insert, set};
use super::{Bed, Conn, Connection as _, Runner, caught, scenario};

#[scenario]
async fn it_replaces_a_database_error_which_is_undone() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<usize> = Runner::default()
        .operation("open")
        .fallback(0)
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 2, 2).await?;
            insert(conn, 1).await
        })
        .await;
    assert_eq!(result, Ok(0));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn it_replaces_an_error_of_the_operations_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<i64> = Runner::default()
        .operation("look up")
        .fallback(-1)
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 99).await)
        .await;
    assert_eq!(result, Ok(-1), "instead of NotFound");
}

#[scenario]
async fn it_does_not_replace_a_success() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<usize> = Runner::default()
        .operation("set")
        .fallback(0)
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances()[0], (1, 1));
}

#[scenario]
async fn later_steps_of_the_callers_transaction_go_on_and_are_committed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await?;
            let replaced: QueryResult<usize> = runner
                .operation("open")
                .fallback(0)
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 2, 2).await?;
                    insert(conn, 1).await
                })
                .await;
            assert_eq!(replaced, Ok(0));
            runner
                .run(conn, async |conn: &mut Conn| set(conn, 3, 3).await)
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

#[scenario]
async fn all_retries_come_before_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let policy = RetryPolicy::new()
        .with_max_retries(2)
        .with_retry_on(FaultClass::Constraint);
    let bodies = AtomicU32::new(0);
    let report = Runner::new(policy)
        .with_clock(InstantClock::new())
        .operation("open")
        .fallback(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            insert(conn, 1).await
        })
        .await;
    assert_eq!(report.result, Ok(0));
    assert_eq!(bodies.into_inner(), 3);
    assert_eq!(report.stop, StopReason::RetriesExhausted);
}

#[scenario]
async fn the_report_keeps_the_error_that_it_replaced() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::default()
        .operation("open")
        .fallback(0)
        .run_report(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert_eq!(report.result, Ok(0));
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.stop, StopReason::NotRetryable);
    let [failure] = &report.failures[..] else {
        panic!("one failed attempt: {:?}", report.failures);
    };
    assert!(matches!(
        failure.error,
        Some(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
}

#[scenario]
async fn it_does_not_replace_a_panic() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result = caught(async || {
        let replaced: QueryResult<usize> = runner
            .operation("panic")
            .fallback(0)
            .run(&mut conn, async |conn: &mut Conn| {
                set(conn, 1, 1).await?;
                panic!("no value for this")
            })
            .await;
        replaced
    })
    .await;
    let payload = result.expect_err("a panic");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"no value for this"));
    assert_eq!(bed.balances()[0], (1, 100));
}
