//! `run_on` with a pool: during a long delay others can have the connection, during a short one it
//! is kept, and a pool that has none is not asked twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{
    FaultClass, GivenUp, Jitter, OperationError as _, Outcome, Report, RetryPolicy, StopReason,
};
use dbop_tests::{Again, Capture, InstantClock, Meanwhile, Said, TestPool as _, eventually};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, set};
use super::{Bed, Conn, Pool, Runner, after_commit, caught, depth, scenario};

const PATIENCE: Duration = Duration::from_secs(5);

/// Tries again after exactly this delay.
fn policy(delay: Duration) -> RetryPolicy {
    RetryPolicy::new()
        .with_initial_delay(delay)
        .with_jitter(Jitter::None)
}

#[scenario]
async fn a_deadline_ends_the_wait_for_a_connection() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let held = pool.checkout();
    let deadline = Duration::from_millis(300);
    let bodies = AtomicU32::new(0);
    let started = Instant::now();
    let report = Runner::default()
        .operation("in time")
        .deadline(deadline)
        .run_on_report(&pool, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await
        })
        .await;
    let waited = started.elapsed();
    drop(held);
    let error: Error = report.result.expect_err("there is none");
    let own = error.dbop_error().expect("dbop's own");
    assert!(own.is_no_connection(), "{own}");
    assert!((deadline..PATIENCE).contains(&waited), "{waited:?}");
    assert_eq!((report.outcome, bodies.into_inner()), (Outcome::Undone, 0));
}

/// Two callers, one connection: the second one works during the first one's delay.
#[scenario]
async fn a_long_delay_gives_the_connection_back_first() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let others = Arc::new(AtomicU32::new(0));
    let (waiting, served) = (pool.clone(), Arc::clone(&others));
    let clock = Meanwhile::new(move |_| {
        let mut conn = waiting.checkout();
        assert_eq!(depth(&mut conn), Some(0), "rolled back before");
        served.fetch_add(1, Ordering::Relaxed);
    });
    let bodies = AtomicU32::new(0);
    let result = Runner::new(policy(Duration::from_millis(10)).with_max_retries(3))
        .with_clock(clock.clone())
        .run_on(&pool, async |conn: &mut Conn| {
            let done = add(conn, 1, 1).await?;
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0..=2 => Err(Again),
                _ => Ok(done),
            }
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(others.load(Ordering::Relaxed), 3);
    assert_eq!(clock.slept().len(), 3);
    assert_eq!(bed.balances()[0], (1, 101));
}

#[scenario]
async fn a_short_delay_keeps_the_connection() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let lent = Arc::new(AtomicU64::new(0));
    let (observed, seen) = (pool.clone(), Arc::clone(&lent));
    let clock = Meanwhile::new(move |_| {
        seen.fetch_add(observed.lent(), Ordering::Relaxed);
    });
    let policy = policy(Duration::from_millis(9)).with_max_delay(Duration::from_millis(9));
    let result: Result<usize, Again> = Runner::new(policy)
        .with_clock(clock.clone())
        .run_on(&pool, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            Err(Again)
        })
        .await;
    assert_eq!(result, Err(Again));
    assert_eq!(lent.load(Ordering::Relaxed), 5, "in each of the delays");
    eventually("it is given back at the end", || pool.lent() == 0);
}

/// The pool has waited already.
#[scenario]
async fn a_pool_without_a_connection_to_lend_is_not_asked_again() {
    let bed = Bed::new();
    // Long enough to connect, which the first checkout does.
    let pool = Pool::of(bed.url(), 1, Duration::from_secs(1));
    let held = pool.checkout();
    let (clock, log) = (InstantClock::new(), Capture::new());
    let report: Report<usize, Error> = Runner::default()
        .with_clock(clock.clone())
        .with_logger(log.clone())
        .run_on_report(&pool, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    let error = report.result.expect_err("no connection");
    let error = error.dbop_error().expect("an error of dbop's own");
    assert!(error.is_no_connection());
    assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(clock.slept(), []);
    let classes: Vec<_> = log
        .records()
        .iter()
        .map(|r| r.keys["class"].clone())
        .collect();
    assert_eq!(classes, [FaultClass::NotConnected.as_str()]);
    drop(held);
    let next: QueryResult<usize> = Runner::default()
        .run_on(&pool, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert_eq!(next, Ok(1));
}

/// Nothing is left lent, whatever the end.
#[scenario]
async fn every_end_of_a_run_gives_the_connection_back() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let runner = Runner::default();
    for end in 0..12 {
        let ended = caught(async || {
            let ended: QueryResult<()> = runner
                .run_on(&pool, async |conn: &mut Conn| {
                    assert_eq!(depth(conn), Some(1));
                    set(conn, 1, end).await?;
                    match end % 3 {
                        0 => Ok(()),
                        1 => Err(Error::RollbackTransaction),
                        _ => panic!("in the operation"),
                    }
                })
                .await;
            ended
        })
        .await;
        match end % 3 {
            0 => assert!(matches!(ended, Ok(Ok(())))),
            1 => assert!(matches!(ended, Ok(Err(Error::RollbackTransaction)))),
            _ => assert!(ended.is_err()),
        }
        eventually("it is given back", || pool.lent() == 0);
        assert_eq!(bed.balances()[0], (1, end / 3 * 3));
    }
}

/// The pool has one connection.
#[scenario]
async fn hooks_are_called_when_the_connection_is_back() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let said = Said::new();
    let look = |when: &str| {
        let mut conn = pool.checkout();
        said.say(format!("{when}: {:?}", depth(&mut conn)));
    };
    let (committed, given_up) = (|| look("committed"), |_: &GivenUp| look("given up"));
    let runner = Runner::default();
    let operation = runner
        .operation("pay")
        .after_commit(&committed)
        .after_giving_up(&given_up);
    let result: QueryResult<usize> = operation
        .run_on(&pool, async |conn: &mut Conn| {
            let (pool, said) = (pool.clone(), said.clone());
            after_commit(conn, async move || {
                let mut conn = pool.checkout();
                said.say(format!("body: {:?}", depth(&mut conn)));
            })?;
            add(conn, 1, 1).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(said.all(), ["committed: Some(0)", "body: Some(0)"]);
    let result: QueryResult<usize> = operation
        .run_on(&pool, async |_: &mut Conn| Err(Error::NotFound))
        .await;
    assert_eq!(result, Err(Error::NotFound));
    assert_eq!(said.all()[2..], ["given up: Some(0)"]);
}
