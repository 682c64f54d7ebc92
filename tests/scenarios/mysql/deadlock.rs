//! MySQL and MariaDB roll back the whole transaction of a deadlock's victim, and let what follows
//! in it commit one by one. A top-level operation that loses one starts again from nothing, and
//! one that hides it and writes on is never told that it was committed.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Code, FaultClass, Outcome, StopReason};
use dbop_tests::{InstantClock, assert_unknown};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::add;
use super::steps::{Winner, is_deadlock, lose_deadlock};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, scenario};

#[scenario]
async fn the_victim_of_a_deadlock_starts_again_and_wins() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                lose_deadlock(conn, &bed).await?;
            }
            add(conn, 3, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, report.failures.len()), (2, 1));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::Deadlock);
    assert_eq!(fault.code(), Some(Code::Errno(1213)));
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(clock.slept().len(), 1);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 110)]);
}

/// Diesel gives a deadlock no kind when the statement was sent as text.
#[scenario]
async fn a_deadlock_of_a_statement_sent_as_text_is_one_too() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<()> = Runner::default()
        .with_clock(InstantClock::new())
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                let winner = Winner::waiting(&bed);
                let lost = conn
                    .batch_execute("UPDATE accounts SET balance = 1 WHERE id = 2")
                    .await;
                winner.leave();
                lost?;
            }
            Ok(())
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}

#[scenario]
async fn without_retries_the_deadlock_itself_is_the_error() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let report = runner
        .operation("lose")
        .max_retries(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            lose_deadlock(conn, &bed).await
        })
        .await;
    let error = report.result.expect_err("no retries");
    assert!(is_deadlock(&error), "{error:?}");
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);

    let again = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
        .await;
    assert_eq!(again, Ok(1), "the connection is as good as before");
    assert_eq!(bed.balances()[0], (1, 101));
}

#[scenario]
async fn a_deadlock_that_the_body_hides_is_never_reported_as_committed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let runner = Runner::default();
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            lose_deadlock(conn, &bed).await.expect_err("the victim");
            add(conn, 3, 10).await
        })
        .await;
    assert_unknown(&report);
    assert_eq!(bodies.into_inner(), 1, "not known to be undone");
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);

    let again = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
        .await;
    assert_eq!(again, Ok(1));
    assert_eq!(bed.balances(), [(1, 101), (2, 100), (3, 100)]);
}

#[scenario]
async fn a_deadlock_hidden_behind_an_error_leaves_nothing_either() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<()> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            lose_deadlock(conn, &bed).await.expect_err("the victim");
            add(conn, 3, 10).await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert!(result.is_err());
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    add(&mut conn, 1, 1).await.expect("usable");
    assert_eq!(bed.balances()[0], (1, 101), "and in autocommit again");
}

/// Diesel sends a ROLLBACK TO of its own, which fails in the wake of the deadlock.
#[scenario]
async fn a_deadlock_in_a_transaction_of_the_bodys_own_starts_everything_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<()> = Runner::default()
        .with_clock(InstantClock::new())
        .run(&mut conn, async |conn: &mut Conn| {
            let body = bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            conn.transaction(async |conn| {
                add(conn, 3, 10).await?;
                if body == 0 {
                    lose_deadlock(conn, &bed).await?;
                }
                Ok(())
            })
            .await
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 110)]);
}
