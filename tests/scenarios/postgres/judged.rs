//! Errors that an application raises itself, and that its classifier knows.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Outcome, Phase, Seen, StopReason};
use dbop_tests::{InstantClock, is_rolled_back};
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::{insert, set};
use super::steps::connect;
use super::{
    Bed, Conn, RunQueryDsl, Runner, SimpleConnection as _, caught, depth, helper, scenario,
};

/// What a function of the application raises.
#[helper]
async fn raise(conn: &mut Conn) -> QueryResult<usize> {
    sql_query("DO $$ BEGIN RAISE EXCEPTION 'write conflict: row 7'; END $$")
        .execute(conn)
        .await
}

fn conflict(seen: &Seen<'_>) -> Option<FaultClass> {
    let is_ours = seen.class() == FaultClass::Unknown
        && seen.phase() == Phase::Body
        && seen.message() == "write conflict: row 7";
    is_ours.then_some(FaultClass::SerializationFailure)
}

#[scenario]
async fn at_top_level_it_is_retried() {
    let bed = Bed::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .with_classifier(conflict)
        .run_report(&mut connect(&bed).await, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => raise(conn).await,
                _ => Ok(7),
            }
        })
        .await;
    assert_eq!((report.result, report.attempts), (Ok(7), 2));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::SerializationFailure);
    assert_eq!(fault.recognized_class(), FaultClass::Unknown);
    assert_eq!(bed.balances()[0], (1, 1));
}

#[scenario]
async fn in_a_step_it_is_escalated() {
    let bed = Bed::new();
    let runner = Runner::default()
        .with_clock(InstantClock::new())
        .with_classifier(conflict);
    let (wholes, steps) = (AtomicU32::new(0), AtomicU32::new(0));
    let report = runner
        .run_report(&mut connect(&bed).await, async |conn: &mut Conn| {
            let whole = wholes.fetch_add(1, Ordering::Relaxed);
            let step = runner
                .run_report(conn, async |conn: &mut Conn| {
                    steps.fetch_add(1, Ordering::Relaxed);
                    match whole {
                        0 => raise(conn).await,
                        _ => set(conn, 1, 1).await,
                    }
                })
                .await;
            if whole == 0 {
                assert_eq!(step.stop, StopReason::EnclosingTransaction);
            }
            step.result
        })
        .await;
    assert_eq!((report.result, report.attempts), (Ok(1), 2));
    assert_eq!((wholes.into_inner(), steps.into_inner()), (2, 2));
}

/// The transaction that was refused is undone, so it may be retried; that it was refused stays true.
#[scenario]
async fn a_swallowed_error_can_be_retried_and_is_never_a_success() {
    let bed = Bed::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .with_classifier(|seen| {
            let aborted = seen.class() == FaultClass::TransactionAborted;
            aborted.then_some(FaultClass::Deadlock)
        })
        .run_report(&mut connect(&bed).await, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            assert!(insert(conn, 1).await.is_err());
            QueryResult::Ok(())
        })
        .await;
    let error = report.result.expect_err("it is not");
    assert!(is_rolled_back(&error), "{error}");
    assert_eq!((report.attempts, report.outcome), (21, Outcome::Undone));
    assert_eq!(bodies.into_inner(), 21, "as after a deadlock");
}

/// In COMMIT, too, where no body of the user's is running.
#[scenario]
async fn a_classifier_that_panics_about_a_commit_leaves_nothing_behind() {
    let bed = Bed::new();
    let mut conn = connect(&bed).await;
    conn.batch_execute("CREATE TABLE tokens (token INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        .await
        .expect("a new table");
    let runner = Runner::default().with_classifier(|seen| {
        assert_eq!(seen.phase(), Phase::Commit, "the first error");
        panic!("cannot tell")
    });
    let result = caught(async || {
        let never: QueryResult<usize> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                set(conn, 1, 1).await?;
                sql_query("INSERT INTO tokens VALUES (7), (7)")
                    .execute(conn)
                    .await
            })
            .await;
        never
    })
    .await;
    let payload = result.expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"cannot tell"));
    assert_eq!(depth(&mut conn), Some(0));
    let next: Result<usize, Error> = runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 2, 2).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 2), (3, 100)]);
}
