//! Batches of steps that really deadlock with each other: whichever the server picks as the
//! victim, all of a batch is kept or nothing, and with dbop around them all are kept in the end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::RetryPolicy;
use dbop_tests::eventually;
use diesel::QueryResult;

use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, helper, scenario, together};

const ROUNDS: i64 = 20;

/// Waits until both batches have come this far.
fn meet(met: &AtomicU32) {
    met.fetch_add(1, Ordering::Relaxed);
    eventually("both batches meet", || met.load(Ordering::Relaxed) == 2);
}

/// Two steps: takes from one account, gives to another. Both batches meet between the two, the
/// first time.
#[helper]
async fn transfer(
    bed: &Bed,
    from: i32,
    to: i32,
    amount: i64,
    met: &AtomicU32,
    bodies: &AtomicU32,
) -> QueryResult<usize> {
    let runner = Runner::default();
    let has_met = AtomicBool::new(false);
    runner
        .run(&mut bed.connect(), async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            runner
                .run(conn, async |conn: &mut Conn| add(conn, from, -amount).await)
                .await?;
            // The other one waits there until this one comes, in whichever attempt that is.
            if !has_met.swap(true, Ordering::Relaxed) {
                meet(met);
            }
            runner
                .run(conn, async |conn: &mut Conn| add(conn, to, amount).await)
                .await
        })
        .await
}

#[scenario]
async fn two_that_deadlock_every_time_are_both_kept_whole() {
    let bed = Bed::new();
    for round in 1..=ROUNDS {
        let met = AtomicU32::new(0);
        let bodies = AtomicU32::new(0);
        let results = together(
            async || transfer(&bed, 1, 2, 3, &met, &bodies).await,
            async || transfer(&bed, 2, 1, 5, &met, &bodies).await,
        )
        .await;
        assert_eq!(results, (Ok(1), Ok(1)));
        assert!(bodies.into_inner() > 2, "one of them was the victim");
        let balances = [(1, 100 + 2 * round), (2, 100 - 2 * round), (3, 100)];
        assert_eq!(bed.balances(), balances);
    }
}

/// The same with the steps in transactions of the caller's, who is told and takes another
/// connection.
#[helper]
async fn transfer_of_a_caller(
    bed: &Bed,
    from: i32,
    to: i32,
    amount: i64,
    met: &AtomicU32,
) -> QueryResult<u32> {
    let runner = Runner::default();
    let mut attempts = 1;
    let has_met = AtomicBool::new(false);
    loop {
        let has_met = &has_met;
        let result: QueryResult<usize> = bed
            .connect()
            .transaction(async |conn: &mut Conn| {
                runner
                    .run(conn, async |conn: &mut Conn| add(conn, from, -amount).await)
                    .await?;
                if !has_met.swap(true, Ordering::Relaxed) {
                    meet(met);
                }
                runner
                    .run(conn, async |conn: &mut Conn| add(conn, to, amount).await)
                    .await
            })
            .await;
        match result {
            Ok(_) => return Ok(attempts),
            Err(_) if attempts < 6 => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}

#[scenario]
async fn in_transactions_of_the_callers_half_of_one_is_never_kept() {
    let bed = Bed::new();
    for round in 1..=ROUNDS {
        let met = AtomicU32::new(0);
        let (one, other) = together(
            async || transfer_of_a_caller(&bed, 1, 2, 3, &met).await,
            async || transfer_of_a_caller(&bed, 2, 1, 5, &met).await,
        )
        .await;
        let attempts = one.expect("committed") + other.expect("committed");
        assert!(attempts > 2, "one of them was the victim");
        let balances = [(1, 100 + 2 * round), (2, 100 - 2 * round), (3, 100)];
        assert_eq!(bed.balances(), balances);
    }
}

/// Transfers among the accounts, each of two steps.
#[helper]
async fn customer(bed: &Bed, number: i32) -> u32 {
    let policy = RetryPolicy::new()
        .with_max_retries(100)
        .with_initial_delay(Duration::from_millis(1));
    let runner = Runner::new(policy);
    let mut conn = bed.connect();
    let mut attempts = 0;
    for turn in 0..25 {
        let from = (number + turn) % 3 + 1;
        let to = (number + turn + 1 + turn % 2) % 3 + 1;
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                runner
                    .run(conn, async |conn: &mut Conn| add(conn, from, -1).await)
                    .await?;
                runner
                    .run(conn, async |conn: &mut Conn| add(conn, to, 1).await)
                    .await
            })
            .await;
        assert_eq!(report.result, Ok(1));
        attempts += report.attempts;
    }
    attempts
}

#[scenario]
async fn under_load_no_unit_is_made_and_none_is_lost() {
    let bed = Bed::new();
    let attempts = together(
        async || {
            together(
                async || customer(&bed, 0).await,
                async || customer(&bed, 1).await,
            )
            .await
        },
        async || {
            together(
                async || customer(&bed, 2).await,
                async || customer(&bed, 3).await,
            )
            .await
        },
    )
    .await;
    assert_eq!(bed.balances(), expected_balances(), "{attempts:?}");
}

/// What the customers leave when each of their transfers happens once.
fn expected_balances() -> [(i32, i64); 3] {
    let mut balances = [(1, 100), (2, 100), (3, 100)];
    for number in 0..4 {
        for turn in 0..25 {
            balances[(number + turn) % 3].1 -= 1;
            balances[(number + turn + 1 + turn % 2) % 3].1 += 1;
        }
    }
    balances
}
