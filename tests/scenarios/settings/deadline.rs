//! A deadline is for all attempts and delays together: nothing is begun after it, nothing is waited
//! for that would end after it, and the server gives no statement more time than is left.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dbop_diesel::{
    Clock, FaultClass, Jitter, OperationError as _, Outcome, RetryPolicy, StopReason,
};
use dbop_tests::Meanwhile;
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

use super::money::{add, insert, set};
use super::steps::{in_force, set_session};
use super::{Bed, Conn, Connection as _, Runner, backend, depth, scenario};

/// Delays of 10, 20, 40, 60 and 60 s. A unique violation, which needs nobody else, stands for what
/// may be retried.
pub(crate) const POLICY: RetryPolicy = RetryPolicy::new()
    .with_retry_on(FaultClass::Constraint)
    .with_jitter(Jitter::None)
    .with_initial_delay(Duration::from_secs(10))
    .with_max_delay(Duration::from_secs(60));

const HOUR: Duration = Duration::from_secs(3600);

fn timeless() -> Arc<Meanwhile> {
    Meanwhile::new(|_| {})
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[scenario]
async fn no_attempt_begins_after_it_and_no_delay_ends_after_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let all = [10, 20, 40, 60, 60].map(seconds);
    for (deadline, retries) in [(1, 0), (10, 0), (11, 1), (30, 1), (31, 2), (3600, 5)] {
        let clock = timeless();
        let bodies = AtomicU32::new(0);
        let report = Runner::new(POLICY)
            .with_clock(clock.clone())
            .operation("open")
            .deadline(seconds(deadline))
            .run_report(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                insert(conn, 1).await
            })
            .await;
        let error = report.result.expect_err("a unique violation");
        let is_last_error = matches!(
            error,
            Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)
        );
        assert!(is_last_error, "{error}");
        assert_eq!(clock.slept(), all[..retries], "{deadline} s");
        assert_eq!(bodies.into_inner() as usize, 1 + retries);
        let stop = match retries {
            5 => StopReason::RetriesExhausted,
            _ => StopReason::DeadlineExceeded,
        };
        assert_eq!((report.stop, report.outcome), (stop, Outcome::Undone));
        assert_eq!(depth(&mut conn), Some(0));
    }
}

#[scenario]
async fn a_default_one_is_for_operations_that_have_none_of_their_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for (own, delays) in [(None, 1), (Some(seconds(31)), 2), (Some(seconds(5)), 0)] {
        let clock = timeless();
        let runner = Runner::new(POLICY)
            .with_clock(clock.clone())
            .with_default_deadline(seconds(11));
        let mut operation = runner.operation("open");
        if let Some(own) = own {
            operation = operation.deadline(own);
        }
        let result: QueryResult<usize> = operation
            .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
            .await;
        result.expect_err("a unique violation");
        assert_eq!(clock.slept().len(), delays, "{own:?}");
    }
}

#[scenario]
async fn one_that_cannot_be_meant_is_refused() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    for bad in [
        Duration::ZERO,
        Duration::from_millis(1 << 31),
        Duration::MAX,
    ] {
        let own = Runner::default();
        let default = Runner::default().with_default_deadline(bad);
        for operation in [
            own.operation("own").deadline(bad),
            own.operation("lenient").deadline(bad).best_effort(),
            default.operation("default"),
        ] {
            let result: QueryResult<usize> = operation
                .run(&mut conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    set(conn, 1, 1).await
                })
                .await;
            let error = result.expect_err("refused");
            let own = error.dbop_error().expect("of dbop's own");
            assert!(own.is_invalid_setting(), "{own}");
        }
    }
    assert_eq!(bodies.into_inner(), 0);
    assert_eq!(depth(&mut conn), Some(0));
}

/// Read on the server in each of three attempts, of which 50, 40 and 20 s are left.
#[scenario]
async fn no_statement_may_take_longer_than_what_is_left() {
    let bed = Bed::new();
    for (own, session, statements) in [
        (None, 0, [50, 40, 20]),
        (None, 30, [30, 30, 20]),
        (Some(45), 30, [45, 40, 20]),
        (Some(1), 0, [1, 1, 1]),
    ] {
        if own.is_some() && !backend::STATEMENT_TIMEOUT {
            continue;
        }
        let mut conn = bed.connect();
        set_session(&mut conn, [25, session]).await;
        let before = in_force(&mut conn).await;
        let runner = Runner::new(POLICY).with_clock(timeless());
        let mut operation = runner.operation("open").lock_timeout(HOUR);
        if let Some(own) = own {
            operation = operation.statement_timeout(seconds(own));
        }
        let seen = Mutex::new(Vec::new());
        let result: QueryResult<usize> = operation
            .deadline(seconds(50))
            .run(&mut conn, async |conn: &mut Conn| {
                let now = in_force(conn).await;
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(now);
                insert(conn, 1).await
            })
            .await;
        result.expect_err("a unique violation");
        let left = [50, 40, 20];
        let expected = [0, 1, 2].map(|n| match backend::BACKEND {
            "postgresql" => [3_600_000, statements[n] * 1000],
            "mysql" => [left[n] * 1000, statements[n] * 1000],
            _ => [left[n] * 1000, 0],
        });
        let seen = seen.into_inner().expect("no panic");
        assert_eq!(seen, expected, "{own:?}, session {session}");
        assert_eq!(in_force(&mut conn).await, before);
    }
}

#[scenario]
async fn nested_operations_have_what_is_left_and_no_more() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    set_session(&mut conn, [60, 0]).await;
    for (own, left) in [(None, 30), (Some(60), 30), (Some(3), 3)] {
        let clock = timeless();
        let runner = Runner::new(POLICY).with_clock(clock.clone());
        let late = AtomicU32::new(0);
        let report = runner
            .operation("outer")
            .deadline(seconds(50))
            .run_report(&mut conn, async |conn: &mut Conn| {
                let outer = in_force(conn).await;
                pass(&clock, 20);
                let mut inner = runner.operation("inner").lock_timeout(HOUR);
                if let Some(own) = own {
                    inner = inner.deadline(seconds(own));
                }
                let seen: [i64; 2] = inner
                    .run(conn, async |conn: &mut Conn| {
                        QueryResult::Ok(in_force(conn).await)
                    })
                    .await?;
                let left = left * 1000;
                let expected = match backend::BACKEND {
                    "postgresql" => [3_600_000, left],
                    "mysql" => [left, left],
                    _ => [left, 0],
                };
                assert_eq!(seen, expected, "{own:?}");
                assert_eq!(in_force(conn).await, outer);
                pass(&clock, 30);
                let refused: QueryResult<usize> = inner
                    .run(conn, async |conn: &mut Conn| {
                        late.fetch_add(1, Ordering::Relaxed);
                        add(conn, 1, 10).await
                    })
                    .await;
                let error = refused.expect_err("too late");
                if own != Some(60) {
                    return Ok(in_force(conn).await);
                }
                Err(error)
            })
            .await;
        assert_eq!(late.into_inner(), 0, "not even begun");
        assert_eq!(report.attempts, 1);
        match report.result {
            // What is there is committed, however late.
            Ok(_) => assert_ne!(own, Some(60)),
            Err(error) => {
                let own = error.dbop_error().expect("of dbop's own");
                assert!(own.is_deadline_exceeded(), "{own}");
            }
        }
        assert_eq!(depth(&mut conn), Some(0));
    }
    assert_eq!(bed.balances()[0], (1, 100));
}

fn pass(clock: &Meanwhile, time: u64) {
    Clock::sleep(clock, seconds(time));
}

#[scenario]
async fn when_connecting_has_taken_too_long_nothing_is_begun() {
    let bed = Bed::new();
    let bodies = AtomicU32::new(0);
    for (takes, is_late) in [(49, false), (50, true), (70, true)] {
        let clock = timeless();
        let report = Runner::new(POLICY)
            .with_clock(clock.clone())
            .operation("late")
            .deadline(seconds(50))
            .run_on_report(
                &async || {
                    pass(&clock, takes);
                    Conn::establish(bed.url()).await
                },
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                },
            )
            .await;
        assert_eq!(report.outcome == Outcome::Committed, !is_late);
        if is_late {
            assert_eq!(report.stop, StopReason::DeadlineExceeded);
            let error = report.result.expect_err("too late");
            let own = error.dbop_error().expect("of dbop's own");
            assert!(own.is_deadline_exceeded(), "{own}");
        }
    }
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 110));
}

/// In real time, with a lock timeout that would wait for longer.
#[scenario]
async fn a_wait_for_a_lock_ends_with_it() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute("BEGIN");
    opponent.execute("UPDATE accounts SET balance = 50 WHERE id = 1");
    let mut conn = bed.connect();
    let asked = Duration::from_millis(1200);
    let started = Instant::now();
    let result: QueryResult<usize> = Runner::default()
        .operation("wait")
        .lock_timeout(seconds(25))
        .deadline(asked)
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    let took = started.elapsed();
    result.expect_err("it is held");
    assert!(took >= seconds(1), "{took:?}");
    assert!(took < seconds(10), "{took:?}");
    assert_eq!(depth(&mut conn), Some(0));
    opponent.execute("ROLLBACK");
}
