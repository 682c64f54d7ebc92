//! Two batches of two steps at the same time, in opposite order, so that they deadlock in every
//! round: both are done in the end, each of them completely or not at all. In real time, with real
//! delays.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::RetryPolicy;
use dbop_tests::{Capture, eventually};
use diesel::QueryResult;

use super::money::add;
use super::steps::connect;
use super::{Bed, Conn, Connection as _, Runner, helper, scenario, together};

const ROUNDS: i64 = 20;

/// Waits until both batches have come this far.
fn meet(met: &AtomicU32) {
    met.fetch_add(1, Ordering::Relaxed);
    eventually("both batches meet", || met.load(Ordering::Relaxed) == 2);
}

/// Takes from one account and gives to another, a step each. Both batches meet between the two,
/// the first time.
#[helper]
async fn transfer(
    runner: &Runner,
    bed: &Bed,
    (from, to, amount): (i32, i32, i64),
    met: &AtomicU32,
) -> QueryResult<usize> {
    let mut conn = connect(bed).await;
    let bodies = AtomicU32::new(0);
    runner
        .operation("transfer")
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| add(conn, from, -amount).await)
                .await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                meet(met);
            }
            runner
                .run(conn, async |conn: &mut Conn| add(conn, to, amount).await)
                .await
        })
        .await
}

#[scenario]
async fn with_retries_both_are_done_in_every_round() {
    let bed = Bed::new();
    let log = Capture::new();
    let policy = RetryPolicy::new()
        .with_max_retries(20)
        .with_initial_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(50));
    let runner = Runner::new(policy).with_logger(log.clone());
    for round in 1..=ROUNDS {
        let met = AtomicU32::new(0);
        let results = together(
            async || transfer(&runner, &bed, (1, 2, 1), &met).await,
            async || transfer(&runner, &bed, (2, 1, 3), &met).await,
        )
        .await;
        assert_eq!(results, (Ok(1), Ok(1)), "round {round}");
        let expected = [(1, 100 + 2 * round), (2, 100 - 2 * round), (3, 100)];
        assert_eq!(bed.balances(), expected, "round {round}");
    }
    let restarts = log
        .records()
        .iter()
        .filter(|record| {
            record.keys["operation"] == "transfer"
                && record.keys.get("class").is_some_and(|it| it == "deadlock")
        })
        .count();
    assert!(restarts > 0, "some wins were second attempts");
}

#[scenario]
async fn without_retries_the_victim_leaves_nothing() {
    let bed = Bed::new();
    let runner = Runner::new(RetryPolicy::no_retries());
    let (mut ones, mut others) = (0, 0);
    for round in 1..=ROUNDS {
        let met = AtomicU32::new(0);
        let (one, other) = together(
            async || transfer(&runner, &bed, (1, 2, 1), &met).await,
            async || transfer(&runner, &bed, (2, 1, 3), &met).await,
        )
        .await;
        assert!(one.is_err() || other.is_err(), "round {round}");
        ones += i64::from(one.is_ok());
        others += i64::from(other.is_ok());
        let moved = 3 * others - ones;
        let expected = [(1, 100 + moved), (2, 100 - moved), (3, 100)];
        assert_eq!(bed.balances(), expected, "round {round}");
    }
    assert!(ones + others > 0, "somebody wins now and then");
}

/// The same without an operation around the steps: whoever is told starts again.
#[helper]
async fn transfer_of_a_caller(
    runner: &Runner,
    bed: &Bed,
    (from, to, amount): (i32, i32, i64),
    met: &AtomicU32,
) -> QueryResult<usize> {
    let mut conn = connect(bed).await;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let result: QueryResult<usize> = conn
            .transaction(async |conn: &mut Conn| {
                runner
                    .run(conn, async |conn: &mut Conn| add(conn, from, -amount).await)
                    .await?;
                if attempts == 1 {
                    meet(met);
                }
                runner
                    .run(conn, async |conn: &mut Conn| add(conn, to, amount).await)
                    .await
            })
            .await;
        if result.is_ok() || attempts == 10 {
            return result;
        }
    }
}

#[scenario]
async fn in_transactions_of_the_callers_half_of_one_is_never_kept() {
    let bed = Bed::new();
    let policy = RetryPolicy::new().with_initial_delay(Duration::from_millis(5));
    let runner = Runner::new(policy);
    for round in 1..=ROUNDS {
        let met = AtomicU32::new(0);
        let results = together(
            async || transfer_of_a_caller(&runner, &bed, (1, 2, 1), &met).await,
            async || transfer_of_a_caller(&runner, &bed, (2, 1, 3), &met).await,
        )
        .await;
        assert_eq!(results, (Ok(1), Ok(1)), "round {round}");
        let expected = [(1, 100 + 2 * round), (2, 100 - 2 * round), (3, 100)];
        assert_eq!(bed.balances(), expected, "round {round}");
    }
}
