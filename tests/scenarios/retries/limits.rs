//! How often and how soon: `max_retries` counts the tries after the first one, operations nested
//! in one another share them, the delays are the policy's, and every attempt starts from the same
//! state.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, Jitter, RetryPolicy, StopReason};
use dbop_tests::InstantClock;
use diesel::QueryResult;

use super::money::{add, insert};
use super::{Bed, Conn, Connection as _, Runner, scenario};

/// So that a unique violation, which needs no one else, can stand for what may be retried.
const POLICY: RetryPolicy = RetryPolicy::new().with_retry_on(FaultClass::Constraint);

#[scenario]
async fn max_retries_counts_the_tries_after_the_first() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for max_retries in [0, 1, 5] {
        let runner =
            Runner::new(POLICY.with_max_retries(max_retries)).with_clock(InstantClock::new());
        let bodies = AtomicU32::new(0);
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                insert(conn, 1).await
            })
            .await;
        assert!(report.result.is_err());
        assert_eq!(bodies.into_inner(), 1 + max_retries);
        assert_eq!(report.attempts, 1 + max_retries);
        assert_eq!(report.stop, StopReason::RetriesExhausted);
    }
}

#[scenario]
async fn an_operation_can_have_a_max_retries_of_its_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::new(POLICY).with_clock(InstantClock::new());
    for max_retries in [0, 1, 7] {
        let bodies = AtomicU32::new(0);
        let result: QueryResult<usize> = runner
            .operation("open")
            .max_retries(max_retries)
            .run(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                insert(conn, 1).await
            })
            .await;
        assert!(result.is_err());
        assert_eq!(bodies.into_inner(), 1 + max_retries);
    }
}

#[scenario]
async fn the_delays_are_those_of_the_policy() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let policy = POLICY.with_max_retries(8).with_seed(42);
    let clock = InstantClock::new();
    let result: QueryResult<usize> = Runner::new(policy)
        .with_clock(clock.clone())
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    let expected: Vec<_> = policy.delays().take(8).collect();
    assert_eq!(clock.slept(), expected);
}

#[scenario]
async fn the_delays_double_up_to_the_longest() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let policy = POLICY.with_max_retries(6).with_jitter(Jitter::None);
    let result: QueryResult<usize> = Runner::new(policy)
        .with_clock(clock.clone())
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    let expected = [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
    assert_eq!(clock.slept(), expected);
}

#[scenario]
async fn a_retry_that_succeeds_is_the_only_one_that_leaves_anything() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = Runner::new(POLICY)
        .with_clock(InstantClock::new())
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 2, 1).await?;
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => insert(conn, 1).await,
                _ => add(conn, 3, 1).await,
            }
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 3);
    assert_eq!(bed.balances(), [(1, 100), (2, 101), (3, 101)]);
}

#[scenario]
async fn a_savepoint_is_retried_in_place() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::new(POLICY).with_clock(InstantClock::new());
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    add(conn, 2, 1).await?;
                    match inner.fetch_add(1, Ordering::Relaxed) {
                        0 => insert(conn, 1).await,
                        _ => add(conn, 3, 1).await,
                    }
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!((outer.into_inner(), inner.into_inner()), (1, 2));
    assert_eq!(bed.balances(), [(1, 101), (2, 101), (3, 101)]);
}

#[scenario]
async fn every_attempt_starts_from_the_same_state() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let mut ids = vec![2];
    let bodies_seen = &bodies;
    let result: QueryResult<Vec<i32>> = Runner::new(POLICY)
        .with_clock(InstantClock::new())
        .run(&mut conn, async move |conn: &mut Conn| {
            ids.push(3);
            for id in &ids {
                add(conn, *id, 1).await?;
            }
            if bodies_seen.fetch_add(1, Ordering::Relaxed) < 2 {
                insert(conn, 1).await?;
            }
            Ok(ids)
        })
        .await;
    assert_eq!(result, Ok(vec![2, 3]));
    assert_eq!(bed.balances(), [(1, 100), (2, 101), (3, 101)]);
}

#[scenario]
async fn the_attempts_of_nested_operations_do_not_multiply() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let runner = Runner::new(POLICY.with_max_retries(5)).with_clock(clock.clone());
    let bodies = [const { AtomicU32::new(0) }; 3];
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            bodies[0].fetch_add(1, Ordering::Relaxed);
            runner
                .run(conn, async |conn: &mut Conn| {
                    bodies[1].fetch_add(1, Ordering::Relaxed);
                    runner
                        .run(conn, async |conn: &mut Conn| {
                            bodies[2].fetch_add(1, Ordering::Relaxed);
                            insert(conn, 1).await
                        })
                        .await
                })
                .await
        })
        .await;
    assert!(result.is_err());
    assert_eq!(bodies.map(AtomicU32::into_inner), [1, 1, 6]);
    assert_eq!(clock.slept().len(), 5);
}

#[scenario]
async fn inner_limits_leave_the_rest_to_the_levels_around() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let runner = Runner::new(POLICY.with_max_retries(5)).with_clock(clock.clone());
    let bodies = [const { AtomicU32::new(0) }; 3];
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            bodies[0].fetch_add(1, Ordering::Relaxed);
            runner
                .operation("middle")
                .max_retries(1)
                .run(conn, async |conn: &mut Conn| {
                    bodies[1].fetch_add(1, Ordering::Relaxed);
                    runner
                        .operation("inner")
                        .max_retries(1)
                        .run(conn, async |conn: &mut Conn| {
                            bodies[2].fetch_add(1, Ordering::Relaxed);
                            insert(conn, 1).await
                        })
                        .await
                })
                .await
        })
        .await;
    assert!(result.is_err());
    // Five retries in all: inner, middle, inner, outer, inner.
    assert_eq!(bodies.map(AtomicU32::into_inner), [2, 3, 6]);
    assert_eq!(clock.slept().len(), 5);
}

/// The outer operation only reads, so that SQLite has a writer's place free.
#[scenario]
async fn an_operation_on_another_connection_has_retries_of_its_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::new(POLICY.with_max_retries(2)).with_clock(InstantClock::new());
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: QueryResult<usize> = runner
        .operation("outer")
        .read_only()
        .max_retries(1)
        .run(&mut conn, async |_: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            bed.connect()
                .transaction(async |conn: &mut Conn| {
                    runner
                        .run(conn, async |conn: &mut Conn| {
                            inner.fetch_add(1, Ordering::Relaxed);
                            insert(conn, 1).await
                        })
                        .await
                })
                .await
        })
        .await;
    assert!(result.is_err());
    assert_eq!((outer.into_inner(), inner.into_inner()), (2, 2 * 3));
}

/// The outer operation only reads, so that SQLite has a writer's place free.
#[scenario]
async fn an_operation_keeps_its_retries_while_one_runs_on_another_connection() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::new(POLICY.with_max_retries(2)).with_clock(InstantClock::new());
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: QueryResult<usize> = runner
        .operation("outer")
        .read_only()
        .max_retries(1)
        .run(&mut conn, async |_: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            runner
                .run(&mut bed.connect(), async |conn: &mut Conn| {
                    inner.fetch_add(1, Ordering::Relaxed);
                    insert(conn, 1).await
                })
                .await
        })
        .await;
    assert!(result.is_err());
    assert_eq!((outer.into_inner(), inner.into_inner()), (2, 2 * 3));
}
