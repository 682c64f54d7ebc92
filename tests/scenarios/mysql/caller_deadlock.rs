//! A step in the caller's own transaction loses a deadlock, and the whole transaction with it. The
//! caller is told by the error. One who does not listen still gets no `Ok`: the connection takes
//! no further COMMIT, and nothing written after the loss outlives it.

use dbop_tests::is_lost;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Outcome, StopReason};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::add;
use super::steps::{hide_deadlock, is_deadlock, lose_deadlock, session_id};
use super::{Bed, Conn, Connection as _, Runner, depth, scenario};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

#[scenario]
async fn the_caller_gets_the_deadlock_and_keeps_nothing() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| add(conn, 1, 10).await)
                .await?;
            let step = runner
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    lose_deadlock(conn, &bed).await
                })
                .await;
            assert_eq!(step.stop, StopReason::EnclosingTransaction);
            assert_eq!((step.attempts, step.outcome), (1, Outcome::Undone));
            step.result
        })
        .await;
    let error = result.expect_err("lost");
    assert!(is_deadlock(&error), "{error:?}");
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn the_connection_takes_no_further_transaction() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    lose_deadlock(conn, &bed).await
                })
                .await
        })
        .await;
    result.expect_err("lost");
    assert_eq!(depth(&mut conn), None);
    let bodies = AtomicU32::new(0);
    let next: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await
        })
        .await;
    assert!(is_refused(&next), "{next:?}");
    let operation: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await
        })
        .await;
    assert!(is_refused(&operation), "{operation:?}");
    assert_eq!(bodies.into_inner(), 0);
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn a_caller_who_swallows_it_and_writes_on_gets_no_ok_and_keeps_nothing() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .operation("step")
                .fallback(77)
                .run(conn, async |conn: &mut Conn| {
                    lose_deadlock(conn, &bed).await
                })
                .await;
            step.expect_err("no fallback in a lost transaction");
            let written = add(conn, 3, 10).await;
            assert_eq!(written, Ok(1), "the server lets it pass");
            written
        })
        .await;
    assert!(is_refused(&result), "{result:?}");
    assert_eq!(bed.balances(), UNTOUCHED);
    assert_eq!(add(&mut conn, 3, 10).await, Ok(1));
    assert_eq!(bed.balances(), UNTOUCHED, "still contained");
    drop(conn);
    // Pools may keep it until somebody asks for the next one.
    drop(bed.connect());
    bed.wait_until_gone(session);
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn a_further_step_is_refused_before_it_begins() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let lost: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    lose_deadlock(conn, &bed).await
                })
                .await;
            lost.expect_err("the victim");
            runner
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 3, 10).await
                })
                .await
        })
        .await;
    assert!(is_refused(&result), "{result:?}");
    assert_eq!(bodies.into_inner(), 0);
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn steps_in_steps_hand_the_loss_up_to_the_caller() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    let inner: QueryResult<usize> = runner
                        .run(conn, async |conn: &mut Conn| {
                            lose_deadlock(conn, &bed).await
                        })
                        .await;
                    inner.expect_err("the victim");
                    Ok(0)
                })
                .await;
            let error = step.expect_err("swallowed inside, but not lost on us");
            assert!(is_lost(&error), "{error}");
            Ok(0)
        })
        .await;
    assert!(is_refused(&result), "{result:?}");
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), UNTOUCHED);
}

/// A test that goes on with half of its data would be worth nothing.
#[scenario]
async fn a_test_transaction_that_is_lost_is_not_gone_on_with() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.begin_test_transaction().await.expect("a transaction");
    add(&mut conn, 1, 10).await.expect("in it");
    let step: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            lose_deadlock(conn, &bed).await
        })
        .await;
    step.expect_err("the victim");
    assert_eq!(depth(&mut conn), None);
    add(&mut conn, 3, 10).await.expect("contained");
    drop(conn);
    assert_eq!(bed.balances(), UNTOUCHED);
}

fn is_refused<T>(result: &QueryResult<T>) -> bool {
    matches!(result, Err(Error::BrokenTransactionManager))
}

/// What the body of a step writes after it has hidden the deadlock cannot be taken back in the
/// caller's transaction. But the step is no success, and the caller gets no Ok.
#[scenario]
async fn hidden_by_the_body_of_a_step_it_is_noticed_and_what_it_wrote_on_stays() {
    for ends_well in [true, false] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        let runner = Runner::default();
        let result: QueryResult<usize> = conn
            .transaction(async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                let step = runner
                    .run_report(conn, async |conn: &mut Conn| {
                        hide_deadlock(conn, &bed, ends_well).await
                    })
                    .await;
                step.result.expect_err("its savepoint is gone");
                assert_eq!(step.outcome, Outcome::Unknown, "{ends_well}");
                add(conn, 2, 10).await
            })
            .await;
        assert!(is_refused(&result), "{ends_well}: {result:?}");
        drop(conn);
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 110)]);
    }
}
