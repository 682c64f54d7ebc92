//! Hooks: what an operation calls besides its body.

use std::any::Any;
use std::fmt;
use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;
use std::vec;

use crate::fault::Fault;
use crate::machine::Done;
use crate::outcome::{Outcome, Phase, StopReason};

/// A hook that is called before each attempt, with the number of the attempt, from 1.
pub type AttemptHook<'a> = dyn Fn(u32) + Send + Sync + 'a;

/// A hook that is called before each retry, and decides about it. [`Retry`] has an example.
pub type RetryHook<'a> = dyn Fn(&Retry) -> RetryDecision + Send + Sync + 'a;

/// A hook that is called once after the commit.
pub type CommitHook<'a> = dyn Fn() + Send + Sync + 'a;

/// A hook that is called once after an operation has failed. [`GivenUp`] has an example.
pub type GiveUpHook<'a> = dyn Fn(&GivenUp) + Send + Sync + 'a;

/// A retry that is about to be made: the failed attempt is rolled back, and the delay has not begun.
///
/// ```
/// use std::time::Duration;
///
/// use dbop_core::{FaultClass, Retry, RetryDecision};
///
/// /// Given to an operation with `before_retry(&patient)`.
/// fn patient(retry: &Retry) -> RetryDecision {
///     match retry.fault().map(|fault| fault.class()) {
///         Some(FaultClass::ReadOnlyServer) => RetryDecision::After(Duration::from_secs(2)),
///         Some(FaultClass::Busy) if retry.attempt() == 3 => RetryDecision::Veto,
///         _ => RetryDecision::AsPlanned,
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    pub(crate) attempt: u32,
    pub(crate) fault: Option<Fault>,
    pub(crate) phase: Phase,
    pub(crate) delay: Duration,
}

impl Retry {
    /// The number of the attempt that has failed, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The database error of the attempt, with its class and its code. `None` if an error of the
    /// operation's own asked for the retry.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The part of the attempt that failed.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The delay that the policy has planned.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        self.delay
    }
}

/// What a [`RetryHook`] says about a retry.
///
/// ```
/// use dbop_core::RetryDecision;
///
/// assert_eq!(RetryDecision::default(), RetryDecision::AsPlanned);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryDecision {
    /// The retry is made after the delay that the policy has planned.
    #[default]
    AsPlanned,
    /// The retry is made after this delay, which no policy bounds. The deadline still holds: a delay
    /// that would end after it is not begun. With a delay of zero the retry is one of those of the
    /// policy, also where waiting for a server would take none.
    After(Duration),
    /// There is no further attempt: the operation returns the error of this one, with
    /// [`StopReason::Vetoed`].
    Veto,
}

/// An operation that has failed.
///
/// ```
/// use dbop_core::{GivenUp, StopReason};
///
/// /// Given to an operation with `after_giving_up(&alert)`.
/// fn alert(given_up: &GivenUp) {
///     if given_up.stop() == StopReason::RetriesExhausted {
///         eprintln!("gave up after {} attempts", given_up.attempts());
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GivenUp {
    pub(crate) attempts: u32,
    pub(crate) fault: Option<Fault>,
    pub(crate) stop: StopReason,
    pub(crate) outcome: Outcome,
}

impl GivenUp {
    /// After so many attempts. 0 if the operation was refused before its first one.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The database error of the last attempt, if there is one.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Why there was no further attempt.
    #[must_use]
    pub const fn stop(&self) -> StopReason {
        self.stop
    }

    /// Whether the work is certainly undone, or unknown.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }
}

/// The hooks that an operation's builder was given.
#[derive(Clone, Copy, Default)]
pub struct Hooks<'a> {
    /// Before each attempt.
    pub before_attempt: Option<&'a AttemptHook<'a>>,
    /// Before each retry.
    pub before_retry: Option<&'a RetryHook<'a>>,
    /// After the commit.
    pub after_commit: Option<&'a CommitHook<'a>>,
    /// After the operation has failed.
    pub after_giving_up: Option<&'a GiveUpHook<'a>>,
}

impl Hooks<'_> {
    /// No hooks.
    pub const NONE: Self = Self {
        before_attempt: None,
        before_retry: None,
        after_commit: None,
        after_giving_up: None,
    };
}

impl fmt::Debug for Hooks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            self.before_attempt.map(|_| "before_attempt"),
            self.before_retry.map(|_| "before_retry"),
            self.after_commit.map(|_| "after_commit"),
            self.after_giving_up.map(|_| "after_giving_up"),
        ];
        f.debug_set().entries(names.iter().flatten()).finish()
    }
}

/// What an async hook does once it is called.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A hook that the body of an operation has registered for after the commit.
pub struct Hook(HookKind);

enum HookKind {
    Sync(Box<dyn FnOnce() + Send>),
    Async(Box<dyn FnOnce() -> HookFuture<'static> + Send>),
}

impl Hook {
    /// A hook that is called.
    #[must_use]
    pub fn sync(hook: impl FnOnce() + Send + 'static) -> Self {
        Self(HookKind::Sync(Box::new(hook)))
    }

    /// A hook that is called and awaited.
    #[must_use]
    pub fn awaited<F>(hook: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(HookKind::Async(Box::new(|| Box::pin(hook()))))
    }

    pub(crate) const fn is_async(&self) -> bool {
        matches!(self.0, HookKind::Async(_))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            HookKind::Sync(_) => "Hook::sync",
            HookKind::Async(_) => "Hook::awaited",
        })
    }
}

/// Drops hooks that are not going to run. What they own can panic: the payload is returned.
pub(crate) fn discard(hooks: Vec<Hook>) -> Result<(), Box<dyn Any + Send>> {
    if hooks.is_empty() {
        return Ok(());
    }
    catch_unwind(AssertUnwindSafe(|| drop(hooks)))
}

/// The hooks that are due at the end of a run, in the order in which they were registered. An adapter
/// calls each of them once, when the connection is back, under `catch_unwind`.
#[derive(Debug)]
pub struct DueHooks<'a> {
    of_builder: Hooks<'a>,
    registered: vec::IntoIter<Hook>,
    end: GivenUp,
}

impl<'a> DueHooks<'a> {
    /// Those of an operation that has ended like this. `fault` is the database error of its last attempt.
    #[must_use]
    pub fn after(done: &mut Done, hooks: &Hooks<'a>, fault: Option<Fault>) -> Self {
        let end = GivenUp {
            attempts: done.attempts,
            fault,
            stop: done.stop,
            outcome: done.outcome,
        };
        Self::new(hooks, std::mem::take(&mut done.hooks), end)
    }

    /// Those of an operation that was refused, in the attempt of this number: 0 before the first one.
    #[must_use]
    pub fn after_refusal(hooks: &Hooks<'a>, attempts: u32) -> Self {
        let end = GivenUp {
            attempts,
            fault: None,
            stop: StopReason::NotRetryable,
            outcome: Outcome::Undone,
        };
        Self::new(hooks, Vec::new(), end)
    }

    fn new(hooks: &Hooks<'a>, registered: Vec<Hook>, end: GivenUp) -> Self {
        let is_committed = end.outcome == Outcome::Committed;
        // Not if it was committed by another call, or as a refusal.
        let has_succeeded = is_committed && end.stop == StopReason::Succeeded;
        Self {
            of_builder: Hooks {
                after_commit: hooks.after_commit.filter(|_| has_succeeded),
                after_giving_up: hooks.after_giving_up.filter(|_| !is_committed),
                ..Hooks::NONE
            },
            registered: registered.into_iter(),
            end,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of_builder.after_commit.is_none()
            && self.of_builder.after_giving_up.is_none()
            && self.registered.as_slice().is_empty()
    }

    /// The next one.
    pub fn next_due(&mut self) -> Option<DueHook<'a>> {
        if let Some(hook) = self.of_builder.after_commit.take() {
            return Some(DueHook::Commit(hook));
        }
        if let Some(hook) = self.registered.next() {
            return Some(DueHook::Registered(hook));
        }
        let hook = self.of_builder.after_giving_up.take()?;
        Some(DueHook::GiveUp(hook, self.end))
    }
}

/// A hook that is due.
pub enum DueHook<'a> {
    /// The builder's, after the commit.
    Commit(&'a CommitHook<'a>),
    /// One that the body has registered.
    Registered(Hook),
    /// The builder's, after the failure.
    GiveUp(&'a GiveUpHook<'a>, GivenUp),
}

impl fmt::Debug for DueHook<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit(_) => "Commit",
            Self::Registered(_) => "Registered",
            Self::GiveUp(..) => "GiveUp",
        })
    }
}

impl DueHook<'_> {
    /// Calls it. What is returned is to be awaited, and is ready at once for a hook that is not async;
    /// only an async run is given others.
    #[must_use = "an async hook does nothing until it is awaited"]
    pub fn call(self) -> HookFuture<'static> {
        match self {
            Self::Commit(hook) => hook(),
            Self::GiveUp(hook, given_up) => hook(&given_up),
            Self::Registered(Hook(HookKind::Sync(hook))) => hook(),
            Self::Registered(Hook(HookKind::Async(hook))) => return hook(),
        }
        Box::pin(ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::fault::FaultClass;

    #[test]
    fn what_is_due_follows_from_the_outcome() {
        let (committed, gave_up) = (|| {}, |_: &GivenUp| {});
        let hooks = Hooks {
            after_commit: Some(&committed),
            after_giving_up: Some(&gave_up),
            ..Hooks::NONE
        };
        let due = |outcome| {
            let registered = match outcome {
                Outcome::Committed => vec![Hook::sync(|| {})],
                _ => Vec::new(),
            };
            let end = GivenUp {
                attempts: 1,
                fault: None,
                stop: match outcome {
                    Outcome::Committed => StopReason::Succeeded,
                    _ => StopReason::NotRetryable,
                },
                outcome,
            };
            let mut due = DueHooks::new(&hooks, registered, end);
            assert!(!due.is_empty());
            let mut names = Vec::new();
            while let Some(hook) = due.next_due() {
                names.push(format!("{hook:?}"));
                drop(hook.call());
            }
            assert!(due.is_empty());
            names
        };
        assert_eq!(due(Outcome::Committed), ["Commit", "Registered"]);
        assert_eq!(due(Outcome::Undone), ["GiveUp"]);
        assert_eq!(due(Outcome::Unknown), ["GiveUp"]);
    }

    #[test]
    fn a_hook_is_told_of_the_attempt_and_of_the_end() {
        let fault = Fault::from_class(Dialect::Postgres, FaultClass::Deadlock);
        let retry = Retry {
            attempt: 3,
            fault: Some(fault),
            phase: Phase::Commit,
            delay: Duration::from_secs(4),
        };
        assert_eq!((retry.attempt(), retry.fault()), (3, Some(fault)));
        assert_eq!(retry.phase(), Phase::Commit);
        assert_eq!(retry.delay(), Duration::from_secs(4));
        let end = GivenUp {
            attempts: 5,
            fault: Some(fault),
            stop: StopReason::RetriesExhausted,
            outcome: Outcome::Unknown,
        };
        assert_eq!((end.attempts(), end.fault()), (5, Some(fault)));
        assert_eq!(end.stop(), StopReason::RetriesExhausted);
        assert_eq!(end.outcome(), Outcome::Unknown);
    }

    #[test]
    fn what_is_set_is_shown() {
        assert_eq!(format!("{:?}", Hooks::NONE), "{}");
        let hook = || {};
        let hooks = Hooks {
            after_commit: Some(&hook),
            ..Hooks::NONE
        };
        assert_eq!(format!("{hooks:?}"), "{\"after_commit\"}");
        let shown = format!("{:?} {:?}", Hook::sync(hook), Hook::awaited(async || ()));
        assert_eq!(shown, "Hook::sync Hook::awaited");
    }
}
