//! A step that loses a deadlock has lost the whole transaction, with every step before it. It is
//! never tried again in place: the outermost operation starts again, or reports the deadlock. All
//! of a batch is kept or nothing, whatever the body makes of the error.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Outcome, StopReason};
use dbop_tests::{InstantClock, assert_lost, is_lost, is_unknown};
use diesel::QueryResult;

use super::money::add;
use super::steps::{assert_unchanged, hide_deadlock, is_deadlock, lose_deadlock, session};
use super::{Bed, Conn, Runner, scenario};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

#[scenario]
async fn the_outermost_operation_starts_again_with_every_step() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone());
    let [outer, first, second] = [const { AtomicU32::new(0) }; 3];
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            let lose = outer.fetch_add(1, Ordering::Relaxed) == 0;
            runner
                .run(conn, async |conn: &mut Conn| {
                    first.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                })
                .await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    second.fetch_add(1, Ordering::Relaxed);
                    if lose {
                        lose_deadlock(conn, &bed).await?;
                    }
                    add(conn, 3, 10).await
                })
                .await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, report.outcome), (2, Outcome::Committed));
    let bodies = [outer, first, second].map(AtomicU32::into_inner);
    assert_eq!(bodies, [2, 2, 2], "not tried again in place");
    assert_eq!(clock.slept().len(), 1);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 110)]);
}

#[scenario]
async fn from_three_levels_down_the_outermost_operation_starts_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone());
    let bodies = [const { AtomicU32::new(0) }; 3];
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let lose = bodies[0].fetch_add(1, Ordering::Relaxed) == 0;
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    bodies[1].fetch_add(1, Ordering::Relaxed);
                    add(conn, 3, 10).await?;
                    runner
                        .run(conn, async |conn: &mut Conn| {
                            bodies[2].fetch_add(1, Ordering::Relaxed);
                            match lose {
                                true => lose_deadlock(conn, &bed).await,
                                false => add(conn, 2, 10).await,
                            }
                        })
                        .await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.map(AtomicU32::into_inner), [2, 2, 2]);
    assert_eq!(clock.slept().len(), 1);
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 110)]);
}

#[scenario]
async fn without_retries_the_deadlock_is_reported_and_nothing_is_kept() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let report = runner
        .operation("batch")
        .max_retries(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| add(conn, 1, 10).await)
                .await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    lose_deadlock(conn, &bed).await
                })
                .await
        })
        .await;
    let error = report.result.expect_err("no retries");
    assert!(is_deadlock(&error), "{error:?}");
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bed.balances(), UNTOUCHED);
    add(&mut conn, 1, 1).await.expect("usable");
    assert_eq!(bed.balances()[0], (1, 101), "and in autocommit again");
}

#[scenario]
async fn a_fallback_value_of_the_step_does_not_hide_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let lose = bodies.fetch_add(1, Ordering::Relaxed) == 0;
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .operation("step")
                .fallback(77)
                .run(conn, async |conn: &mut Conn| match lose {
                    true => lose_deadlock(conn, &bed).await,
                    false => add(conn, 2, 10).await,
                })
                .await;
            if lose {
                let error = step.expect_err("what was before is lost");
                assert!(is_deadlock(&error), "{error:?}");
            }
            add(conn, 3, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 110)]);
}

#[scenario]
async fn a_fallback_value_of_the_whole_operation_can_replace_it_when_all_is_undone() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let report = runner
        .operation("batch")
        .max_retries(0)
        .fallback(77)
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    lose_deadlock(conn, &bed).await
                })
                .await
        })
        .await;
    assert_eq!(report.result, Ok(77));
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn a_body_that_swallows_it_and_writes_on_is_started_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let lose = bodies.fetch_add(1, Ordering::Relaxed) == 0;
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| match lose {
                    true => lose_deadlock(conn, &bed).await,
                    false => add(conn, 2, 10).await,
                })
                .await;
            assert_eq!(step.is_err(), lose);
            add(conn, 3, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 110)]);
}

#[scenario]
async fn a_body_that_swallows_it_gets_no_ok_when_no_retry_is_left() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let report = runner
        .operation("batch")
        .max_retries(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    lose_deadlock(conn, &bed).await
                })
                .await;
            step.expect_err("the victim");
            let written = add(conn, 3, 10).await;
            assert_eq!(written, Ok(1), "the server lets it pass");
            written
        })
        .await;
    assert_lost(&report);
    assert_eq!(bed.balances(), UNTOUCHED);
    drop(conn);
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn a_further_step_is_refused_before_it_begins() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = runner
        .operation("batch")
        .max_retries(0)
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let lost: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    lose_deadlock(conn, &bed).await
                })
                .await;
            lost.expect_err("the victim");
            let refused = runner
                .operation("further")
                .fallback(0)
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 3, 10).await
                })
                .await;
            assert_eq!(refused.attempts, 0);
            let error = refused.result.expect_err("refused");
            assert!(is_lost(&error), "{error}");
            Err(error)
        })
        .await;
    result.expect_err("lost");
    assert_eq!(bodies.into_inner(), 0);
    assert_eq!(bed.balances(), UNTOUCHED);
}

/// The body of a step hides the deadlock and writes on: the step is no success, whatever it returns,
/// and nothing of the whole operation is kept, or claimed.
#[scenario]
async fn hidden_by_the_body_of_a_step_nothing_is_kept() {
    for ends_well in [true, false] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        let before = session(&mut conn).await;
        let runner = Runner::default().with_clock(InstantClock::new());
        let [outer, step] = [const { AtomicU32::new(0) }; 2];
        let report = runner
            .operation("hides")
            .fallback(77)
            .run_report(&mut conn, async |conn: &mut Conn| {
                outer.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await?;
                let step: QueryResult<usize> = runner
                    .run(conn, async |conn: &mut Conn| {
                        step.fetch_add(1, Ordering::Relaxed);
                        hide_deadlock(conn, &bed, ends_well).await
                    })
                    .await;
                step.expect_err("its savepoint is gone");
                // The outer body hides it as well.
                add(conn, 2, 10).await
            })
            .await;
        let error = report.result.expect_err("half of it is lost");
        assert!(is_unknown(&error), "{ends_well}: {error}");
        assert_eq!(report.outcome, Outcome::Unknown, "{ends_well}");
        assert_eq!([outer, step].map(AtomicU32::into_inner), [1, 1]);
        assert_eq!(bed.balances(), UNTOUCHED);
        assert_unchanged(&mut conn, &before).await;
    }
}
