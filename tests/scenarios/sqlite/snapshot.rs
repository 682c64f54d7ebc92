//! A transaction that has read before it writes fails at once, and for good, when somebody else
//! has written meanwhile: its snapshot is stale. No retry inside it can help, so a step in the
//! caller's transaction is not tried again. An operation of dbop's own begins with the write lock
//! and has no such problem.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Outcome, StopReason};
use dbop_tests::{InstantClock, Opponent};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance};
use super::{Bed, Conn, Connection as _, Runner, depth, helper, scenario};

const ELSEWHERE: &str = "UPDATE accounts SET balance = balance + 1000 WHERE id = 1";

/// Adds to what it has read. Somebody else tries to write in between.
#[helper]
async fn read_then_write(conn: &mut Conn, opponent: &Opponent) -> QueryResult<usize> {
    let before = balance(conn, 1).await?;
    opponent.start(ELSEWHERE);
    let written = opponent.finish();
    let added = add(conn, 1, 10).await?;
    assert!(written.is_err(), "we have the write lock");
    assert_eq!(balance(conn, 1).await?, before + 10);
    Ok(added)
}

/// So that the other tests are known to bite.
#[scenario]
async fn a_transaction_of_diesels_own_fails() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| read_then_write(conn, &opponent).await)
        .await;
    assert_eq!(result.expect_err("stale").to_string(), "database is locked");
    assert_eq!(bed.balances()[0], (1, 1100));
}

#[scenario]
async fn the_same_work_as_an_operation_succeeds_at_once() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = Runner::default()
        .with_clock(clock.clone())
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            read_then_write(conn, &opponent).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 1);
    assert!(clock.slept().is_empty());
    opponent.execute(ELSEWHERE);
    assert_eq!(bed.balances()[0], (1, 1110));
}

#[scenario]
async fn a_step_in_the_callers_transaction_is_not_tried_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<i64> = conn
        .transaction(async |conn: &mut Conn| {
            let step = runner
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    read_then_write(conn, &opponent).await
                })
                .await;
            assert_eq!(step.stop, StopReason::EnclosingTransaction);
            assert_eq!((step.attempts, step.outcome), (1, Outcome::Undone));
            let fault = step.failures[0].fault.expect("a database error");
            assert_eq!(fault.class(), FaultClass::Busy);
            step.result.expect_err("stale");
            balance(conn, 1).await
        })
        .await;
    assert_eq!(result, Ok(100), "it can still read what it saw");
    assert_eq!(bodies.into_inner(), 1);
    assert!(clock.slept().is_empty());
    assert_eq!(bed.balances()[0], (1, 1100));
}

/// The other one has not committed yet and may still roll back; nobody can tell the two apart.
#[scenario]
async fn a_step_that_finds_the_write_lock_taken_is_not_tried_again_either() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            balance(conn, 1).await?;
            opponent.execute("BEGIN IMMEDIATE");
            runner
                .operation("step")
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                })
                .await
        })
        .await;
    assert_eq!(
        result.expect_err("locked").to_string(),
        "database is locked"
    );
    assert_eq!(bodies.into_inner(), 1);
    opponent.execute("ROLLBACK");
    let next = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(next, Ok(1));
}

#[scenario]
async fn a_fallback_value_replaces_it_and_the_caller_goes_on_reading() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            let step: usize = runner
                .operation("step")
                .fallback(77)
                .run(conn, async |conn: &mut Conn| {
                    read_then_write(conn, &opponent).await
                })
                .await?;
            balance(conn, 2).await?;
            Ok(step)
        })
        .await;
    assert_eq!(result, Ok(77));
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn a_step_in_a_read_only_operation_cannot_write() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = runner
        .operation("read")
        .read_only()
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                })
                .await
        })
        .await;
    assert!(matches!(result, Err(Error::DatabaseError(..))));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 100));
}
