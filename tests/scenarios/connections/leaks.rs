//! The same with `run_on`: what it gives back to its pool, in the end and between two attempts, has
//! every setting that it had before. Not for mobc, which keeps none, and not after a panic, after which
//! not every pool keeps it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Jitter, RetryPolicy};
use dbop_tests::{InstantClock, TestPool as _};

use super::money::{balance, insert};
use super::sessions::{Trouble, assert_unchanged, operations, runners, session, sessions};
use super::{Bed, Conn, Pool, Runner, SimpleConnection as _, scenario};

#[scenario]
async fn the_next_one_gets_from_the_pool_what_was_there_before() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, Duration::from_secs(5));
    // It is the same one: another one would not have these.
    pool.checkout()
        .batch_execute(sessions()[1])
        .await
        .expect("it can be set");
    let before = session(&mut pool.checkout()).await;
    // Long enough for the connection to be given back meanwhile.
    let policy = RetryPolicy::new()
        .with_max_retries(1)
        .with_jitter(Jitter::None)
        .with_initial_delay(Duration::from_millis(50));
    for runner in runners(&Runner::new(policy).with_clock(InstantClock::new())) {
        for operation in operations(&runner) {
            let what = format!("{operation:?}");
            let done: Result<i64, Trouble> = operation
                .run_on(&pool, async |conn: &mut Conn| Ok(balance(conn, 1).await?))
                .await;
            drop(done);
            assert_unchanged(&mut pool.checkout(), &before, &what).await;
            let failed: Result<usize, Trouble> = operation
                .run_on(&pool, async |conn: &mut Conn| Ok(insert(conn, 1).await?))
                .await;
            failed.expect_err("a unique violation");
            assert_unchanged(&mut pool.checkout(), &before, &what).await;
            let own: Result<(), Trouble> = operation
                .run_on(&pool, async |_: &mut Conn| Err(Trouble::Own))
                .await;
            own.expect_err("as it says");
            assert_unchanged(&mut pool.checkout(), &before, &what).await;
            let in_vain: Result<(), Trouble> = operation
                .run_on(&pool, async |_: &mut Conn| Err(Trouble::Again))
                .await;
            in_vain.expect_err("as it says");
            assert_unchanged(&mut pool.checkout(), &before, &what).await;
            let bodies = AtomicU32::new(0);
            let again: Result<i64, Trouble> = operation
                .run_on(&pool, async |conn: &mut Conn| {
                    match bodies.fetch_add(1, Ordering::Relaxed) {
                        0 => Err(Trouble::Again),
                        _ => Ok(balance(conn, 1).await?),
                    }
                })
                .await;
            drop(again);
            assert_unchanged(&mut pool.checkout(), &before, &what).await;
            let steps: Result<(), Trouble> = runner
                .run_on(&pool, async |conn: &mut Conn| {
                    let step: Result<i64, Trouble> = operation
                        .run(conn, async |conn: &mut Conn| Ok(balance(conn, 1).await?))
                        .await;
                    drop(step);
                    operation
                        .run(conn, async |_: &mut Conn| Err(Trouble::Own))
                        .await
                })
                .await;
            steps.expect_err("as it says");
            assert_unchanged(&mut pool.checkout(), &before, &what).await;
        }
    }
}
