//! `lock_timeouts`: another lock timeout in each attempt, as long as the list goes; then the last.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dbop_diesel::OperationError as _;
use dbop_tests::InstantClock;
use diesel::QueryResult;

use super::deadline::POLICY;
use super::money::{insert, set};
use super::steps::{in_force, set_session};
use super::{Bed, Conn, Connection as _, Operation, Runner, backend, depth, helper, scenario};

const RUNGS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(30),
    Duration::from_secs(7),
];

/// The timeouts in force in each attempt of an operation that fails as often as it may.
#[helper]
async fn attempts(conn: &mut Conn, operation: Operation<'_>) -> Vec<[i64; 2]> {
    let seen = Mutex::new(Vec::new());
    let result: QueryResult<usize> = operation
        .run(conn, async |conn: &mut Conn| {
            let now = in_force(conn).await;
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(now);
            insert(conn, 1).await
        })
        .await;
    result.expect_err("a unique violation");
    seen.into_inner().expect("no panic")
}

#[helper]
async fn lock_timeouts(conn: &mut Conn, operation: Operation<'_>) -> Vec<i64> {
    let attempts = attempts(conn, operation).await;
    attempts.into_iter().map(|[lock, _]| lock).collect()
}

#[scenario]
async fn each_attempt_has_its_own_and_the_last_is_for_all_that_follow() {
    let bed = Bed::new();
    let runner = Runner::new(POLICY.with_max_retries(4)).with_clock(InstantClock::new());
    let expected = [1000, 30_000, 7000, 7000, 7000];
    for session in [3, 60] {
        let mut conn = bed.connect();
        set_session(&mut conn, [session, 0]).await;
        let before = in_force(&mut conn).await;
        let operation = runner.operation("climb").lock_timeouts(&RUNGS);
        assert_eq!(lock_timeouts(&mut conn, operation).await, expected);
        assert_eq!(in_force(&mut conn).await, before);
        let result: QueryResult<()> = conn
            .transaction(async |conn: &mut Conn| {
                let before = in_force(conn).await;
                assert_eq!(
                    lock_timeouts(conn, operation).await,
                    expected,
                    "a savepoint"
                );
                assert_eq!(in_force(conn).await, before);
                Ok(())
            })
            .await;
        assert_eq!(result, Ok(()));
        assert_eq!(in_force(&mut conn).await, before);
        let short = operation.max_retries(1);
        assert_eq!(lock_timeouts(&mut conn, short).await, expected[..2]);
    }
}

#[scenario]
async fn an_attempt_that_succeeds_restores_what_was_there() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    set_session(&mut conn, [20, 0]).await;
    let before = in_force(&mut conn).await;
    let runner = Runner::new(POLICY).with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let inside: QueryResult<i64> = runner
        .operation("climb")
        .lock_timeouts(&RUNGS)
        .run(&mut conn, async |conn: &mut Conn| {
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                insert(conn, 1).await?;
            }
            Ok(in_force(conn).await[0])
        })
        .await;
    assert_eq!(inside, Ok(30_000));
    assert_eq!(in_force(&mut conn).await, before);
}

#[scenario]
async fn an_empty_list_asks_for_nothing() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    set_session(&mut conn, [60, 0]).await;
    let runner = Runner::new(POLICY.with_max_retries(1)).with_clock(InstantClock::new());
    let plain = lock_timeouts(&mut conn, runner.operation("plain")).await;
    let empty = runner.operation("empty").lock_timeouts(&[]);
    assert_eq!(lock_timeouts(&mut conn, empty).await, plain);
    assert_eq!(plain.len(), 2);
}

/// Time does not pass on this clock, so that what is left stays about the same.
#[scenario]
async fn no_rung_is_longer_than_what_is_left() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    set_session(&mut conn, [60, 0]).await;
    let runner = Runner::new(POLICY.with_max_retries(2)).with_clock(InstantClock::new());
    let operation = runner
        .operation("climb")
        .lock_timeouts(&RUNGS)
        .deadline(Duration::from_secs(25));
    let seen = attempts(&mut conn, operation).await;
    let about = |ms: i64| ms > 14_000 && ms <= 25_000;
    assert_eq!((seen[0][0], seen[2][0]), (1000, 7000));
    match backend::BACKEND {
        "postgresql" => {
            assert_eq!(seen[1][0], 30_000, "the statement timeout is shorter");
            assert!(about(seen[1][1]), "{seen:?}");
        }
        _ => assert!(about(seen[1][0]), "{seen:?}"),
    }
}

#[scenario]
async fn a_rung_that_cannot_be_meant_is_refused_before_the_first_attempt() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    for bad in [Duration::ZERO, Duration::from_millis(1 << 31)] {
        for rungs in [[bad, RUNGS[0]], [RUNGS[0], bad]] {
            let result: QueryResult<usize> = runner
                .operation("climb")
                .lock_timeouts(&rungs)
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

#[scenario]
async fn of_the_two_ways_to_ask_the_last_one_counts() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::new(POLICY.with_max_retries(1)).with_clock(InstantClock::new());
    let climb = runner.operation("climb").lock_timeouts(&RUNGS);
    let one = climb.lock_timeout(Duration::from_secs(5));
    assert_eq!(lock_timeouts(&mut conn, one).await, [5000, 5000]);
    let ladder = one.lock_timeouts(&RUNGS);
    assert_eq!(lock_timeouts(&mut conn, ladder).await, [1000, 30_000]);
    let none = ladder.lock_timeouts(&[]);
    let plain = runner.operation("climb");
    let expected = lock_timeouts(&mut conn, plain).await;
    assert_eq!(lock_timeouts(&mut conn, none).await, expected);
}
