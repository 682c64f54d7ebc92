//! On PostgreSQL a transaction that the operation ended by itself is nobody's to judge: whatever
//! the operation says, whatever fails after that, its outcome is unknown. What failed inside of its
//! transaction is certainly undone.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{IsolationLevel, OperationError as _, Outcome, StopReason};
use dbop_tests::{Capture, InstantClock, assert_unknown, is_unknown};
use diesel::QueryResult;
use diesel::result::Error;
use log::Level;

use super::money::{balance, set};
use super::steps::show;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, depth, helper, scenario};

#[scenario]
async fn an_operation_that_commits_by_itself_has_an_unknown_outcome() {
    ended_by_the_operation("COMMIT", 1).await;
}

#[scenario]
async fn an_operation_that_rolls_back_by_itself_has_an_unknown_outcome() {
    ended_by_the_operation("ROLLBACK", 100).await;
}

#[helper]
async fn ended_by_the_operation(statement: &str, left: i64) {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .with_clock(clock.clone())
        .operation("ends it")
        .fallback(())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            conn.batch_execute(statement).await
        })
        .await;
    assert_unknown(&report);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
    assert_eq!(log.levels(), [Level::Error]);
    assert!(clock.slept().is_empty());
    assert_eq!(bed.balances()[0], (1, left));
    assert_eq!(depth(&mut conn), Some(0));

    let next: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| set(conn, 3, 3).await)
        .await;
    assert_eq!(next, Ok(1), "usable");
    assert_eq!(bed.balances()[2], (3, 3));
}

#[scenario]
async fn an_operation_that_commits_by_itself_and_then_fails_has_an_unknown_outcome_too() {
    fails_after("COMMIT", "no, thanks").await;
}

/// The last of these is an error that is worth another attempt, in which all would be done twice.
#[scenario]
async fn whatever_it_is_that_fails_after_it() {
    for failing in [
        "SELECT 1 / 0",
        "INSERT INTO accounts VALUES (1, 0)",
        "SAVEPOINT outside",
        "DO $$ BEGIN RAISE 'conflict' USING ERRCODE = '40001'; END $$",
        "DO $$ BEGIN RAISE 'deadlock detected' USING ERRCODE = '40P01', DETAIL = 'x'; END $$",
    ] {
        fails_after("COMMIT", failing).await;
    }
    fails_after("ROLLBACK", "SELECT 1 / 0").await;
}

/// The operation ends its transaction and then fails, by an error of its own or by this statement.
#[helper]
async fn fails_after(ending: &str, failing: &str) {
    let bed = Bed::new();
    for runner in [
        Runner::default(),
        Runner::default().with_default_lock_timeout(None),
    ] {
        let mut conn = bed.connect();
        let before = show(&mut conn, "lock_timeout").await;
        let bodies = AtomicU32::new(0);
        let report = runner
            .with_clock(InstantClock::new())
            .operation("ends it")
            .fallback(())
            .run_report(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                set(conn, 1, 1).await?;
                conn.batch_execute(ending).await?;
                match failing {
                    "no, thanks" => Err(Error::NotFound),
                    _ => conn.batch_execute(failing).await,
                }
            })
            .await;
        let error = report.result.expect_err("no fallback: it is not undone");
        assert!(is_unknown(&error), "{failing}: {error}");
        assert_eq!(report.outcome, Outcome::Unknown, "{failing}");
        assert_eq!(bodies.into_inner(), 1, "{failing}");
        let left = if ending == "COMMIT" { 1 } else { 100 };
        assert_eq!(bed.balances()[0], (1, left));
        assert_eq!(depth(&mut conn), Some(0));
        let after = show(&mut conn, "lock_timeout").await;
        assert_eq!(after, before, "{failing}");
        set(&mut conn, 1, 100).await.expect("usable");
    }
}

/// The check must not take what is there for gone: not an aborted transaction, not one whose failed
/// statement was undone to a savepoint, and not one that is fine.
#[scenario]
async fn what_fails_in_its_own_transaction_is_certainly_undone() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    for failing in ["aborted", "undone to a savepoint", "fine"] {
        let report = runner
            .operation(failing)
            .read_only()
            .isolation(IsolationLevel::Serializable)
            .deferrable()
            .run_report(&mut conn, async |conn: &mut Conn| match failing {
                "aborted" => conn.batch_execute("SELECT 1 / 0").await,
                "fine" => Err(Error::NotFound),
                _ => {
                    conn.transaction(async |conn: &mut Conn| {
                        conn.batch_execute("SELECT 1 / 0").await
                    })
                    .await
                }
            })
            .await;
        report.result.expect_err("as planned");
        assert_eq!(report.outcome, Outcome::Undone, "{failing}");
        assert!(report.failures[0].rollback_error.is_none(), "{failing}");
        assert_eq!(depth(&mut conn), Some(0));
        set(&mut conn, 3, 3).await.expect("usable, and read-write");
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 3)]);
}

#[scenario]
async fn a_nested_operation_that_commits_everything_is_never_reported_as_done() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            let step: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 2, 2).await?;
                    conn.batch_execute("COMMIT").await
                })
                .await;
            let error = step.expect_err("it ended our transaction");
            assert!(error.dbop_error().is_some());
            Ok(())
        })
        .await;
    let error = result.expect_err("although the outer one says Ok");
    assert!(error.dbop_error().is_some());
    assert_eq!(bodies.into_inner(), 1, "it would be done twice");
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(balance(&mut conn, 1).await, Ok(1));
}
