//! What an outermost run hands down to those nested in it goes by the connection, not by the task:
//! runs on two connections never take each other for nested, however they are entangled; runs on
//! the same connection do, whatever type it is seen as. What is handed down shows in how often a
//! nested operation that always wants to be tried again is: as often as the outermost run allows.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel_async::{RetryPolicy, Runner, SupportedConnection};
use dbop_tests::Again;
use dbop_tests::asynchronous::depth;
use diesel::QueryResult;
use diesel_async::pooled_connection::{bb8, deadpool};
use tokio::sync::Barrier;

use super::money::{add, balance};
use super::pools::Pool;
use super::{Bed, Conn, Db, run};

const NO_DELAY: RetryPolicy = RetryPolicy::new().with_initial_delay(Duration::ZERO);

/// A run that allows itself two retries and always uses them up: how often does it begin?
async fn bodies_of_a_stubborn_run<C: SupportedConnection<Backend = Db>>(conn: &mut C) -> u32 {
    let bodies = AtomicU32::new(0);
    let runner = Runner::new(NO_DELAY.with_max_retries(2));
    let result: Result<(), Again> = runner
        .run(conn, async |conn: &mut C| {
            bodies.fetch_add(1, Ordering::Relaxed);
            balance(conn, 1).await?;
            Err(Again)
        })
        .await;
    assert!(result.is_err());
    bodies.into_inner()
}

fn once() -> Runner {
    Runner::new(NO_DELAY.with_max_retries(0))
}

#[test]
fn a_run_on_the_same_connection_is_nested() {
    run(async {
        let bed = Bed::new();
        nested_on(&mut bed.connect().await).await;
    });
}

#[test]
fn on_a_pooled_connection_too() {
    run(async {
        let bed = Bed::new();
        nested_on(&mut deadpool::Pool::of(&bed, 1).await.checkout().await).await;
        nested_on(&mut bb8::Pool::of(&bed, 1).await.checkout().await).await;
    });
}

async fn nested_on<C: SupportedConnection<Backend = Db>>(conn: &mut C) {
    assert_eq!(bodies_of_a_stubborn_run(conn).await, 3, "alone");
    let bodies: QueryResult<u32> = once()
        .run(conn, async |conn: &mut C| {
            assert_eq!(depth(conn), Some(1));
            Ok(bodies_of_a_stubborn_run(conn).await)
        })
        .await;
    assert_eq!(bodies, Ok(1));
    assert_eq!(bodies_of_a_stubborn_run(conn).await, 3, "alone again");
}

/// First as what the pool hands out, then as the connection inside.
#[test]
fn a_pooled_connection_and_the_one_inside_it_are_the_same() {
    run(async {
        let bed = Bed::new();
        let mut conn = deadpool::Pool::of(&bed, 1).await.checkout().await;
        let bodies: QueryResult<u32> = once()
            .run(&mut conn, async |conn: &mut deadpool::Object<Conn>| {
                let inside: &mut Conn = conn;
                Ok(bodies_of_a_stubborn_run(inside).await)
            })
            .await;
        assert_eq!(bodies, Ok(1));
        let inside: &mut Conn = &mut conn;
        let mut outside = inside;
        let bodies: QueryResult<u32> = once()
            .run(&mut outside, async |conn: &mut &mut Conn| {
                Ok(bodies_of_a_stubborn_run(*conn).await)
            })
            .await;
        assert_eq!(bodies, Ok(1));
    });
}

#[test]
fn a_run_on_another_connection_inside_one_is_not_nested() {
    run(async {
        let bed = Bed::new();
        let mut one = bed.connect().await;
        let result: QueryResult<u32> = once()
            .operation("outer")
            .read_only()
            .run(&mut one, async |one: &mut Conn| {
                balance(one, 1).await?;
                let mut other = bed.connect().await;
                let bodies = bodies_of_a_stubborn_run(&mut other).await;
                let runner = Runner::default();
                runner
                    .run(&mut other, async |other: &mut Conn| {
                        assert_eq!(depth(other), Some(1));
                        add(other, 1, 1).await
                    })
                    .await?;
                assert_eq!(bed.balances()[0], (1, 101), "committed by itself");
                assert_eq!(bodies_of_a_stubborn_run(one).await, 1, "this one is nested");
                Ok(bodies)
            })
            .await;
        assert_eq!(result, Ok(3));
    });
}

/// Both are in the middle of their operations at the same time, in one task.
#[test]
fn two_joined_runs_do_not_see_each_other() {
    run(async {
        let bed = Bed::new();
        let mut one = bed.connect().await;
        let mut other = bed.connect().await;
        let both = Barrier::new(2);
        let runner = once();
        let strict = runner.operation("strict").read_only();
        let strict = strict.run(&mut one, async |conn: &mut Conn| {
            balance(conn, 1).await?;
            both.wait().await;
            let bodies = bodies_of_a_stubborn_run(conn).await;
            both.wait().await;
            QueryResult::Ok((bodies, depth(conn)))
        });
        let tolerant = Runner::new(NO_DELAY.with_max_retries(7));
        let tolerant = tolerant.operation("tolerant").read_only();
        let tolerant = tolerant.run(&mut other, async |conn: &mut Conn| {
            balance(conn, 1).await?;
            both.wait().await;
            let bodies = bodies_of_a_stubborn_run(conn).await;
            both.wait().await;
            QueryResult::Ok((bodies, depth(conn)))
        });
        let (strict, tolerant) = tokio::join!(strict, tolerant);
        assert_eq!(strict, Ok((1, Some(1))));
        assert_eq!(tolerant, Ok((3, Some(1))));
    });
}

/// It is polled on another thread than it began on.
#[test]
fn a_nested_run_stays_nested_when_its_task_moves() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let task = tokio::spawn(async move {
            let nested: QueryResult<Vec<u32>> = once()
                .run(&mut conn, async |conn: &mut Conn| {
                    let mut bodies = Vec::new();
                    for _ in 0..50 {
                        tokio::task::yield_now().await;
                        bodies.push(bodies_of_a_stubborn_run(conn).await);
                    }
                    Ok(bodies)
                })
                .await;
            nested
        });
        assert_eq!(task.await.expect("no panic"), Ok(vec![1; 50]));
    });
}

/// A run that was dropped half-way leaves nothing behind that a later one on a connection at the
/// same address could take for its own.
#[test]
fn a_dropped_run_hands_nothing_down() {
    run(async {
        let bed = Bed::new();
        let mut conn = Box::new(bed.connect().await);
        let runner = once();
        let work = runner.run(&mut *conn, async |conn: &mut Conn| {
            balance(conn, 1).await?;
            std::future::pending::<QueryResult<()>>().await
        });
        let moment = dbop_tests::asynchronous::Moment::UnderWay;
        let done = dbop_tests::asynchronous::dropped_after(work, 1, moment).await;
        assert!(done.is_none());
        *conn = bed.connect().await;
        let bodies: QueryResult<u32> =
            diesel_async::AsyncConnection::transaction(&mut *conn, async |conn: &mut Conn| {
                Ok(bodies_of_a_stubborn_run(conn).await)
            })
            .await;
        assert_eq!(bodies, Ok(3));
    });
}
