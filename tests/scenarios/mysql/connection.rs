//! The connection is killed under an operation: before COMMIT nothing was kept, only a new
//! connection can help, and this one takes no further transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use dbop_diesel::{FaultClass, Outcome, StopReason};
use dbop_tests::{InstantClock, assert_unknown, is_unknown};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::add;
use super::steps::session_id;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, depth, helper, scenario};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

/// Nothing can be begun on this connection any more.
#[helper]
async fn assert_refuses(conn: &mut Conn) {
    assert_eq!(depth(conn), None);
    let bodies = AtomicU32::new(0);
    let next: QueryResult<usize> = Runner::default()
        .run(conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await
        })
        .await;
    assert!(matches!(next, Err(Error::BrokenTransactionManager)));
    let next: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await
        })
        .await;
    assert!(matches!(next, Err(Error::BrokenTransactionManager)));
    assert_eq!(bodies.into_inner(), 0);
}

#[scenario]
async fn in_the_body_it_is_undone_and_needs_a_new_connection() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .operation("killed")
        .fallback(77)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            bed.kill(session);
            bed.wait_until_gone(session);
            add(conn, 2, 10).await
        })
        .await;
    let error = report.result.expect_err("no fallback on a dead connection");
    assert!(matches!(error, Error::DatabaseError(..)), "{error:?}");
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert!(clock.slept().is_empty());
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::ConnectionLost);
    assert_eq!(bed.balances(), UNTOUCHED);
    assert_refuses(&mut conn).await;
}

#[scenario]
async fn a_body_that_hides_it_gets_no_ok() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            bed.kill(session);
            bed.wait_until_gone(session);
            _ = add(conn, 2, 10).await;
            Ok(())
        })
        .await;
    let error: Error = report.result.expect_err("nothing was committed");
    assert!(is_unknown(&error), "{error}");
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(bed.balances(), UNTOUCHED);
    assert_refuses(&mut conn).await;
}

#[scenario]
async fn while_it_waits_for_a_lock_it_is_undone_too() {
    let bed = Arc::new(Bed::new());
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = 0 WHERE id = 2");
    let killer = {
        let bed = Arc::clone(&bed);
        thread::spawn(move || {
            bed.wait_until_blocked(session);
            bed.kill(session);
        })
    };
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            add(conn, 2, 10).await
        })
        .await;
    killer.join().expect("no panic");
    report.result.expect_err("killed");
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.outcome, Outcome::Undone);
    opponent.execute("ROLLBACK");
    bed.wait_until_gone(session);
    assert_eq!(bed.balances(), UNTOUCHED);
    assert_refuses(&mut conn).await;
}

#[scenario]
async fn before_it_begins_the_body_is_not_run() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    bed.kill(session);
    bed.wait_until_gone(session);
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await
        })
        .await;
    report.result.expect_err("dead");
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bodies.into_inner(), 0);
    assert_refuses(&mut conn).await;
}

/// The killed session's answer to COMMIT is the same whether it was carried out or not.
#[scenario]
async fn at_the_commit_the_outcome_is_unknown() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            bed.kill(session);
            bed.wait_until_gone(session);
            QueryResult::Ok(())
        })
        .await;
    assert_unknown(&report);
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
    assert_eq!(bodies.into_inner(), 1);
    assert_refuses(&mut conn).await;
}

#[scenario]
async fn in_a_step_it_goes_up_and_nothing_is_kept() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let runner = Runner::default().with_clock(InstantClock::new());
    let [outer, step] = [const { AtomicU32::new(0) }; 2];
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    step.fetch_add(1, Ordering::Relaxed);
                    bed.kill(session);
                    bed.wait_until_gone(session);
                    add(conn, 2, 10).await
                })
                .await
        })
        .await;
    let error = report.result.expect_err("killed");
    assert!(matches!(error, Error::DatabaseError(..)), "{error:?}");
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!([outer, step].map(AtomicU32::into_inner), [1, 1]);
    assert_eq!(bed.balances(), UNTOUCHED);
    assert_refuses(&mut conn).await;
}

#[scenario]
async fn in_the_callers_transaction_the_first_error_is_the_one_that_is_seen() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    conn.batch_execute(&format!("KILL CONNECTION {session}"))
                        .await?;
                    add(conn, 2, 10).await
                })
                .await
        })
        .await;
    let error = result.expect_err("killed");
    assert!(matches!(error, Error::DatabaseError(..)), "{error:?}");
    bed.wait_until_gone(session);
    assert_eq!(bed.balances(), UNTOUCHED);
    assert_refuses(&mut conn).await;
}
