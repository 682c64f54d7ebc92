//! `run_on`, whatever the source and the database: it does what `run` does.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Outcome, Report, RetryPolicy, StopReason};
use dbop_tests::{Again, InstantClock};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, set};
use super::{Bed, Conn, Runner, caught, depth, helper, scenario, source};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

#[scenario]
async fn done_operations_are_kept_and_undone_ones_are_not() {
    let bed = Bed::new();
    let source = source(bed.url());
    let runner = Runner::default();
    for balance in 1..=3 {
        let kept: QueryResult<usize> = runner
            .run_on(&source, async |conn: &mut Conn| {
                assert_eq!(depth(conn), Some(1));
                set(conn, 1, balance).await
            })
            .await;
        assert_eq!(kept, Ok(1));
        let undone: Report<usize, Error> = runner
            .run_on_report(&source, async |conn: &mut Conn| {
                set(conn, 2, balance).await?;
                Err(Error::RollbackTransaction)
            })
            .await;
        assert_eq!(undone.result, Err(Error::RollbackTransaction));
        assert_eq!(
            (undone.stop, undone.outcome),
            (StopReason::OwnError, Outcome::Undone)
        );
        assert_eq!(bed.balances(), [(1, balance), (2, 100), (3, 100)]);
    }
}

#[scenario]
async fn a_fallback_value_replaces_an_error_that_is_undone() {
    let bed = Bed::new();
    let source = source(bed.url());
    let runner = Runner::default();
    let result: QueryResult<usize> = runner
        .operation("count")
        .fallback(77)
        .run_on(&source, async |conn: &mut Conn| {
            set(conn, 2, 1).await?;
            Err(Error::NotFound)
        })
        .await;
    assert_eq!(result, Ok(77));
    assert_eq!(bed.balances(), UNTOUCHED);
}

/// Five retries are five retries, wherever they are used.
#[scenario]
async fn the_attempts_of_nested_operations_do_not_multiply() {
    let bed = Bed::new();
    let source = source(bed.url());
    let runner = Runner::default().with_clock(InstantClock::new());
    let (bodies, steps) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: Result<usize, Again> = runner
        .run_on(&source, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            fail_in_step(&runner, conn, &steps).await
        })
        .await;
    assert_eq!(result, Err(Again));
    let (bodies, steps) = (bodies.into_inner(), steps.into_inner());
    // The step uses up all of them, and the outermost operation has none left.
    assert_eq!((bodies, steps), (1, 6));
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[helper]
async fn fail_in_step(runner: &Runner, conn: &mut Conn, steps: &AtomicU32) -> Result<usize, Again> {
    runner
        .run(conn, async |conn: &mut Conn| {
            steps.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await?;
            Err(Again)
        })
        .await
}

/// Also where the connection went back to its pool in between.
#[scenario]
async fn retries_of_nested_operations_count_from_attempt_to_attempt() {
    let bed = Bed::new();
    // SQLite refuses everything, at once, while the last connection is being closed: that would be a
    // retry of its own. So there is one that stays.
    let stays = bed.opponent();
    stays.execute("SELECT balance FROM accounts");
    let source = source(bed.url());
    let policy = RetryPolicy::new().with_max_retries(4);
    let runner = Runner::new(policy).with_clock(InstantClock::new());
    let (bodies, steps) = (AtomicU32::new(0), AtomicU32::new(0));
    let report: Report<usize, Again> = runner
        .run_on_report(&source, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            succeed_in_second_step(&runner, conn, &steps).await?;
            Err(Again)
        })
        .await;
    assert_eq!(report.result, Err(Again));
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    // Of four retries, two in steps and two of the whole; then the third step fails for good.
    assert_eq!(
        (bodies.into_inner(), steps.into_inner()),
        (3, 5),
        "{report:?}"
    );
    assert_eq!(report.attempts, 3);
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[helper]
async fn succeed_in_second_step(
    runner: &Runner,
    conn: &mut Conn,
    steps: &AtomicU32,
) -> Result<usize, Again> {
    runner
        .run(conn, async |conn: &mut Conn| {
            let done = add(conn, 1, 1).await?;
            match steps.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => Err(Again),
                _ => Ok(done),
            }
        })
        .await
}

#[scenario]
async fn a_panic_is_rolled_back_and_goes_on() {
    let bed = Bed::new();
    let source = source(bed.url());
    let runner = Runner::default();
    let panicked = caught(async || {
        let never: QueryResult<()> = runner
            .run_on(&source, async |conn: &mut Conn| {
                set(conn, 2, 2).await?;
                panic!("in the operation")
            })
            .await;
        never
    })
    .await;
    let payload = panicked.expect_err("it goes on");
    assert_eq!(payload.downcast_ref(), Some(&"in the operation"));
    let next = runner
        .run_on(&source, async |conn: &mut Conn| {
            assert_eq!(depth(conn), Some(1));
            set(conn, 1, 7).await
        })
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances(), [(1, 7), (2, 100), (3, 100)]);
}
