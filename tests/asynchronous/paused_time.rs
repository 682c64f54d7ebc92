//! Between attempts a run sleeps on tokio's timer and on nothing else: where time is paused, its
//! delays take no time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant as RealInstant};

use dbop_diesel_async::{Jitter, RetryPolicy, Runner, StopReason};
use dbop_tests::Again;
use diesel_async::SimpleAsyncConnection as _;
use tokio::time::Instant;

use super::money::{add, share_out};
use super::{Bed, Conn, LOCK, LOCK_NOWAIT};

/// 100 s, 200 s, 400 s, 500 s, 500 s.
pub(super) const POLICY: RetryPolicy = RetryPolicy::new()
    .with_initial_delay(Duration::from_secs(100))
    .with_max_delay(Duration::from_secs(500))
    .with_jitter(Jitter::None);
const DELAYS: [u64; 5] = [100, 200, 400, 500, 500];

/// Tokio's timer rounds every sleep up to its next millisecond.
pub(super) fn is_about(duration: Duration, seconds: u64) -> bool {
    let exact = Duration::from_secs(seconds);
    duration >= exact && duration < exact + Duration::from_millis(50)
}

#[tokio::test(start_paused = true)]
async fn the_delays_are_those_of_the_policy_and_take_no_time() {
    let bed = Bed::new();
    let mut conn = bed.connect().await;
    let really = RealInstant::now();
    let started = Instant::now();
    let begun = std::sync::Mutex::new(Vec::new());
    let report = Runner::new(POLICY)
        .run_report(&mut conn, async |conn: &mut Conn| {
            begun.lock().expect("no panic").push(started.elapsed());
            share_out(conn).await?;
            Err::<(), _>(Again)
        })
        .await;
    assert_eq!(report.attempts, 6);
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert!(is_about(report.elapsed, 1700), "{:?}", report.elapsed);
    assert!(is_about(started.elapsed(), 1700), "{:?}", started.elapsed());
    assert!(really.elapsed() < Duration::from_secs(30));
    let begun = begun.into_inner().expect("no panic");
    let mut expected = 0;
    for (number, begin) in begun.iter().enumerate() {
        assert!(is_about(*begin, expected), "{number}: {begin:?}");
        expected += DELAYS.get(number).copied().unwrap_or_default();
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

/// A lock that somebody else does not give up.
#[tokio::test(start_paused = true)]
async fn real_faults_are_retried_without_waiting_too() {
    let bed = Bed::new();
    let writer = bed.opponent();
    writer.execute(LOCK);
    let mut conn = bed.connect().await;
    let really = RealInstant::now();
    let bodies = AtomicU32::new(0);
    let report = Runner::new(POLICY.with_max_retries(2))
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            conn.batch_execute(LOCK_NOWAIT).await?;
            add(conn, 1, 1).await
        })
        .await;
    let fault = report.failures[0].fault.expect("a fault");
    assert!(fault.class().is_transient(), "{fault:?}");
    assert_eq!(report.attempts, 3);
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert!(is_about(report.elapsed, 300), "{:?}", report.elapsed);
    assert!(really.elapsed() < Duration::from_secs(30));
    writer.execute("ROLLBACK");
    let report = Runner::new(POLICY)
        .run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.elapsed, Duration::ZERO, "time stands still");
}
