//! Who is told about operations: what begins, what happens, and how it ends.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::event::{Event, Logging, Subject};
use crate::fault::Fault;
use crate::gate::GateStatus;
use crate::outcome::{Outcome, StopReason};

pub use observation::{AttemptTimes, Observation, Times};

mod observation;

/// Is told about each operation of a runner. Given with `with_observer`.
///
/// An operation is started once and ends once, whatever becomes of it: also if it is refused, if it
/// panics, and if its future is dropped half-way. Between the two come its attempts and its events. An
/// operation that is nested in another one has a start and an end of its own.
///
/// The methods are called on the thread that runs the operation, while it waits, so they should be short.
/// dbop holds no lock meanwhile. They must not use the operation's connection. Each does nothing by
/// default, so implement the ones that you need. A panic in them changes nothing for the operation and
/// for other observers: dbop drops it, after a record of the level of a retry for the first panic of an
/// observer.
///
/// dbop reads the clock for an operation only if its runner has an observer, or for a report or a
/// deadline.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use dbop_core::{Event, EventKind, Observer, Subject, Summary};
///
/// #[derive(Default)]
/// struct Counts {
///     retries: AtomicU64,
///     failures: AtomicU64,
/// }
///
/// impl Observer for Counts {
///     fn on_event(&self, _: &Subject<'_>, event: &Event) {
///         if event.kind() == EventKind::Retrying {
///             self.retries.fetch_add(1, Ordering::Relaxed);
///         }
///     }
///
///     fn on_end(&self, _: &Subject<'_>, summary: &Summary) {
///         if !summary.is_success() {
///             self.failures.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// An operation begins. Nothing of it has been done yet.
    fn on_start(&self, subject: &Subject<'_>) {
        _ = subject;
    }

    /// An attempt begins: the first one has the number 1. With a source of connections, getting a
    /// connection is a part of it.
    fn on_attempt(&self, subject: &Subject<'_>, number: u32) {
        _ = (subject, number);
    }

    /// Something has happened to the operation, of which there is also a log record.
    fn on_event(&self, subject: &Subject<'_>, event: &Event) {
        _ = (subject, event);
    }

    /// The operation is over. Called once for each [`on_start`](Self::on_start).
    fn on_end(&self, subject: &Subject<'_>, summary: &Summary) {
        _ = (subject, summary);
    }
}

/// An observer that is shared with other code, for example with what reads its counts.
impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn on_start(&self, subject: &Subject<'_>) {
        (**self).on_start(subject);
    }

    fn on_attempt(&self, subject: &Subject<'_>, number: u32) {
        (**self).on_attempt(subject, number);
    }

    fn on_event(&self, subject: &Subject<'_>, event: &Event) {
        (**self).on_event(subject, event);
    }

    fn on_end(&self, subject: &Subject<'_>, summary: &Summary) {
        (**self).on_end(subject, summary);
    }
}

/// How an operation ended, for an [`Observer`].
///
/// ```
/// use dbop_core::{Observer, Subject, Summary};
///
/// /// Prints what took long.
/// struct Slow;
///
/// impl Observer for Slow {
///     fn on_end(&self, subject: &Subject<'_>, summary: &Summary) {
///         if summary.elapsed().as_secs() >= 1 {
///             let (waited, paused) = (summary.connection_wait(), summary.paused());
///             eprintln!("{}: {summary}, waited {waited:?}, paused {paused:?}", subject.name());
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub(crate) attempts: u32,
    pub(crate) outcome: Outcome,
    pub(crate) stop: StopReason,
    pub(crate) times: Times,
    pub(crate) last_fault: Option<Fault>,
    pub(crate) gate: Option<GateStatus>,
    pub(crate) retries_left: Option<u32>,
}

impl Summary {
    /// How many attempts were begun. 0 if the operation was refused before its first one.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the work is committed.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Why there was no further attempt.
    #[must_use]
    pub const fn stop(&self) -> StopReason {
        self.stop
    }

    /// Whether the operation has succeeded. A fallback value is no success of the operation.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.stop, StopReason::Succeeded)
    }

    /// Whether the operation failed, for the database, for dbop, or by a panic. Its own errors are
    /// answers, and to be cancelled is no failure.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        !matches!(
            self.stop,
            StopReason::Succeeded | StopReason::OwnError | StopReason::Cancelled
        )
    }

    /// Whether it was dropped half-way, without a panic.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        matches!(self.stop, StopReason::Cancelled)
    }

    /// Whether it ended by a panic: in the operation or in other code of yours that dbop calls.
    #[must_use]
    pub const fn is_panicked(&self) -> bool {
        matches!(self.stop, StopReason::Panicked)
    }

    /// How long it took, all attempts and the pauses between them together.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.times.elapsed
    }

    /// How much of that were pauses between attempts, and between questions about a COMMIT.
    #[must_use]
    pub const fn paused(&self) -> Duration {
        self.times.paused
    }

    /// How much of that was spent waiting for turns at gates.
    #[must_use]
    pub const fn queued(&self) -> Duration {
        self.times.queued
    }

    /// How much of that was spent waiting for connections from the source, in all attempts together.
    /// Zero for an operation on a connection of the caller.
    #[must_use]
    pub const fn connection_wait(&self) -> Duration {
        self.times.connection_wait
    }

    /// The database error of the last attempt that failed, also if the next attempt succeeded. `None`
    /// if that attempt failed for another reason, such as an error of the operation's own.
    #[must_use]
    pub const fn last_fault(&self) -> Option<Fault> {
        self.last_fault
    }

    /// How the gate of the operation's name stood when the operation had left it. `None` without such a
    /// gate.
    #[must_use]
    pub const fn gate(&self) -> Option<GateStatus> {
        self.gate
    }

    /// How many retries were left in the retry budget of the runner, as
    /// [`RetryBudget::retries_left`](crate::RetryBudget::retries_left) counts them. `None` without a budget.
    #[must_use]
    pub const fn retries_left(&self) -> Option<u32> {
        self.retries_left
    }
}

/// For example `undone after 6 attempts and 1.8s, retries_exhausted`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outcome, elapsed) = (self.outcome.as_str(), self.times.elapsed);
        write!(f, "{outcome} after {}", Attempts(self.attempts))?;
        write!(f, " and {elapsed:.1?}")?;
        match self.stop {
            StopReason::Succeeded => Ok(()),
            stop => write!(f, ", {}", stop.as_str()),
        }
    }
}

/// A number of attempts in words.
struct Attempts(u32);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("no attempt"),
            1 => f.write_str("1 attempt"),
            number => write!(f, "{number} attempts"),
        }
    }
}

/// The observers of a runner, in the order in which they were added. Shared by its clones.
#[derive(Clone, Default)]
pub(crate) struct Observers(Vec<Arc<Entry>>);

struct Entry {
    observer: Box<dyn Observer>,
    /// One of its panics has been reported.
    has_panicked: AtomicBool,
}

impl Observers {
    pub(crate) fn add(&mut self, observer: Box<dyn Observer>) {
        self.0.push(Arc::new(Entry {
            observer,
            has_panicked: AtomicBool::new(false),
        }));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells each of them. Not even a panic in one of them gets out of here: this is also called while a
    /// panic unwinds.
    fn tell(&self, subject: &Subject<'_>, logging: &Logging, what: impl Fn(&dyn Observer)) {
        for entry in &self.0 {
            if is_quiet(|| what(&*entry.observer)) {
                continue;
            }
            if !entry.has_panicked.swap(true, Ordering::Relaxed) {
                is_quiet(|| logging.record_observers_panic(subject));
            }
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.len().fmt(f)
    }
}

/// Whether this did not panic. What it panics with is dropped, and so is what that panics with.
fn is_quiet(code: impl FnOnce()) -> bool {
    let Err(payload) = catch_unwind(AssertUnwindSafe(code)) else {
        return true;
    };
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    false
}

#[cfg(test)]
mod tests;
