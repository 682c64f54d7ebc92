//! A run that is dropped half-way has an end for its observers: undone before its COMMIT was sent, and
//! unknown while the COMMIT was under way. The table on the server agrees.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel_async::{
    FaultClass, Jitter, Observer, Outcome, RetryPolicy, Runner, StopReason, Subject, Summary,
};
use dbop_tests::asynchronous::{Moment, Trace, caught, dropped_after, dropped_when};
use dbop_tests::{Again, Notes};
use diesel::QueryResult;
use diesel_async::AsyncConnection as _;

use super::money::{add, share_out};
use super::{Bed, Conn, run};

/// The work: in a step of its own, or not.
async fn work(runner: &Runner, conn: &mut Conn, has_step: bool) -> QueryResult<()> {
    let outer = runner.operation("outer");
    if !has_step {
        return outer.run(conn, share_out::<Conn>).await;
    }
    outer
        .run(conn, async |conn: &mut Conn| {
            add(conn, 1, -10).await?;
            let step = runner.operation("step");
            step.run(conn, async |conn: &mut Conn| {
                add(conn, 2, 4).await?;
                add(conn, 3, 6).await
            })
            .await?;
            Ok(())
        })
        .await
}

/// Drops the work at its first await point, at its second, and so on, until it was dropped both before
/// its COMMIT and while that was under way. Where an answer comes too soon to be waited for, it is tried
/// again.
async fn at_every_await_point(has_step: bool) {
    let bed = Bed::new();
    for moment in Moment::ALL {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            for waits in 1.. {
                match dropped_at_await_point(&bed, has_step, waits, moment).await {
                    Some(outcome) => seen.insert(outcome),
                    None => break,
                };
            }
            if seen.len() == 2 {
                break;
            }
        }
        assert_eq!(seen.len(), 2, "{moment:?}: {seen:?}");
    }
}

/// What the observer is told of a run that is dropped there. `None` if it was done before.
async fn dropped_at_await_point(
    bed: &Bed,
    has_step: bool,
    waits: u32,
    moment: Moment,
) -> Option<Outcome> {
    let notes = Notes::new();
    let runner = Runner::default().with_observer(notes.clone());
    let mut conn = bed.connect().await;
    let session = Bed::session_id(&mut conn).await;
    let trace = Trace::default();
    conn.set_instrumentation(trace.clone());
    let before = bed.balances();

    let done = dropped_after(work(&runner, &mut conn, has_step), waits, moment).await;

    let told = notes.take();
    let count = |text| told.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count(": start"), count(": end"), "{told:?}");
    let ends = notes.ends();
    let end = *ends.last().expect("an end");
    if done.is_some() {
        assert_eq!(end.outcome(), Outcome::Committed);
        return None;
    }
    assert!(end.is_cancelled() && !end.is_failure() && !end.is_panicked());
    let expected = match trace.is_committing() {
        true => Outcome::Unknown,
        false => Outcome::Undone,
    };
    assert_eq!(end.outcome(), expected, "{waits} {moment:?}: {told:?}");
    // The step ends before what is around it.
    if let [step, _] = ends[..] {
        let is_over = step.stop() == StopReason::Succeeded;
        assert!(is_over || step.is_cancelled(), "{told:?}");
        assert_eq!(step.outcome() == Outcome::Undone, !is_over);
        let last = told.last().expect("an end");
        assert!(last.starts_with("outer: end"), "{told:?}");
    }
    drop(conn);
    bed.session_ends(session).await;
    if end.outcome() == Outcome::Undone {
        assert_eq!(bed.balances(), before, "{waits} {moment:?}: {told:?}");
    }
    Some(end.outcome())
}

#[test]
fn at_every_await_point_of_an_operation() {
    run(at_every_await_point(false));
}

#[test]
fn at_every_await_point_of_a_step() {
    run(at_every_await_point(true));
}

#[test]
fn during_a_pause_it_is_undone() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let notes = Notes::new();
        let hours = Duration::from_secs(9999);
        let policy = RetryPolicy::new()
            .with_initial_delay(hours)
            .with_max_delay(hours)
            .with_jitter(Jitter::None);
        let runner = Runner::new(policy).with_observer(notes.clone());
        let attempts = AtomicU32::new(0);
        let never: Option<Result<(), Again>> = dropped_when(
            runner
                .operation("pay")
                .run(&mut conn, async |_: &mut Conn| {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    Err(Again)
                }),
            Moment::UnderWay,
            // Only the ROLLBACK and the pause are waited for after that.
            || attempts.load(Ordering::Relaxed) == 1 && notes_say(&notes, "Retrying"),
        )
        .await;
        assert!(never.is_none());
        let end = notes.end();
        assert_eq!((end.attempts(), end.outcome()), (1, Outcome::Undone));
        assert!(end.is_cancelled());
        assert_eq!(
            end.last_fault().map(|fault| fault.class()),
            None::<FaultClass>
        );
    });
}

fn notes_say(notes: &Notes, what: &str) -> bool {
    notes.take().iter().any(|line| line.contains(what))
}

#[test]
fn a_run_that_was_never_polled_was_never_begun() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let notes = Notes::new();
        let runner = Runner::default().with_observer(notes.clone());
        drop(runner.run(&mut conn, share_out::<Conn>));
        assert!(notes.take().is_empty());
    });
}

/// Panics at the end of what it observes.
struct Loud;

impl Observer for Loud {
    fn on_end(&self, _: &Subject<'_>, _: &Summary) {
        panic!("at the end");
    }
}

/// Dropped while a panic unwinds, the run must not let another one out: that would abort.
#[test]
fn a_panic_around_the_run_ends_it_too() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let notes = Notes::new();
        let runner = Runner::default()
            .with_observer(Loud)
            .with_observer(Arc::clone(&notes));
        let never: Result<(), _> = caught(async {
            let step = runner.run(&mut conn, async |_: &mut Conn| {
                pending::<QueryResult<()>>().await
            });
            let mut waited = 0;
            _ = dropped_when(step, Moment::UnderWay, || {
                waited += 1;
                assert!(waited < 2, "enough");
                false
            })
            .await;
        })
        .await;
        assert!(never.is_err());
        let end = notes.end();
        assert_eq!(end.outcome(), Outcome::Undone);
        assert_eq!(end.stop(), StopReason::Panicked);
    });
}
