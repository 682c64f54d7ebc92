//! The gates of a runner: one for each name of an operation, closed by the first conflict.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::has_passed;
use super::keys::hash_of_name;
use super::queue::{Queue, Ticket, ToWake};
use crate::event::Name;

/// After this many times what the attempt took that met a conflict, one more is let in. A smaller number
/// makes a second conflict likely before the first one is over; what trying costs is about one part in 20.
const CALM: u32 = 20;

/// The longest time until one more is let in.
const LONGEST_CALM: Duration = Duration::from_secs(10);

/// What the first conflict is taken to have cost: no clock was read before it.
const FIRST_COST: Duration = Duration::from_millis(100);

/// A gate at which no one had to wait for so long is opened. That no one had a conflict is no reason: the
/// gate may be why.
const IDLE: Duration = Duration::from_secs(5);

/// The gates of a runner and of its clones.
#[derive(Clone)]
pub(crate) struct NamedGates(Arc<[NamedGate; Self::COUNT]>);

impl NamedGates {
    /// Two names with the same hash share a gate, which costs them no more than that.
    const COUNT: usize = 256;

    pub(crate) fn new() -> Self {
        Self(Arc::new(std::array::from_fn(|_| NamedGate::default())))
    }

    /// The gate of an operation.
    pub(crate) fn of(&self, name: Name<'_>) -> &NamedGate {
        let hash = match name {
            Name::Given(name) => hash_of_name(name),
            Name::Call(place) => hash_of_name(place.file()).wrapping_add(u64::from(place.line())),
        };
        &self.0[usize::try_from(hash % Self::COUNT as u64).unwrap_or(0)]
    }
}

impl fmt::Debug for NamedGates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = self.0.iter().filter(|gate| gate.is_closed()).count();
        f.debug_struct("NamedGates")
            .field("closed", &closed)
            .finish()
    }
}

/// How an operation's gate stands at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateStatus {
    /// How many are let in at a time. `None`: there is no limit, as there has been no conflict.
    pub limit: Option<u32>,
    /// How many are inside. Those who went in before there was a limit are not counted.
    pub inside: u32,
    /// How many wait.
    pub waiting: usize,
}

/// A gate that is open until there is a conflict.
#[derive(Debug, Default)]
pub(crate) struct NamedGate {
    /// Read without the lock: an open gate costs this load.
    is_closed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    limit: u32,
    /// Counts the conflicts that were answered. Those who went in before such a conflict may have one with
    /// the same others.
    generation: u64,
    /// What the last conflict cost.
    cost: Duration,
    /// When the limit was changed.
    changed: Option<Instant>,
    /// When one had to wait.
    last_waited: Option<Instant>,
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The gate was open.
    Open,
    /// In this generation.
    Inside(u64),
    Waiting(Ticket),
}

impl NamedGate {
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    pub(crate) fn status(&self) -> GateStatus {
        let state = self.state();
        GateStatus {
            limit: self.is_closed().then_some(state.limit),
            inside: state.queue.inside(),
            waiting: state.queue.waiting(),
        }
    }

    pub(super) fn enter(&self, waker: &Waker, now: Instant) -> Entry {
        self.change(|gate, state| {
            if state.has_been_idle(now) {
                gate.is_closed.store(false, Relaxed);
            }
            if !gate.is_closed() {
                return (Entry::Open, ToWake::default());
            }
            let to_wake = state.let_in_more(now);
            if state.queue.enter(state.limit) {
                return (Entry::Inside(state.generation), to_wake);
            }
            state.last_waited = Some(now);
            (Entry::Waiting(state.queue.wait(waker)), to_wake)
        })
    }

    /// The generation in which it is in, if it is its turn.
    pub(super) fn claim(&self, ticket: Ticket, waker: &Waker, now: Instant) -> Option<u64> {
        self.change(|_, state| {
            state.last_waited = Some(now);
            let generation = state.generation;
            if state.queue.claim(ticket, waker) {
                return (Some(generation), ToWake::default());
            }
            let mut to_wake = state.let_in_more(now);
            to_wake.and(state.queue.give_up_on_missing(state.limit, now));
            let is_in = state.queue.claim(ticket, waker);
            (is_in.then_some(generation), to_wake)
        })
    }

    /// The generation in which it is in, if it goes in although it is not its turn.
    pub(super) fn let_pass(&self, ticket: Ticket, now: Instant) -> Option<u64> {
        let mut state = self.state();
        let cost = state.cost;
        let is_in = state.queue.let_pass(ticket, cost, now);
        is_in.then_some(state.generation)
    }

    pub(super) fn leave(&self) {
        self.change(|_, state| ((), state.queue.leave(state.limit)));
    }

    pub(super) fn cancel(&self, ticket: Ticket) {
        self.change(|_, state| ((), state.queue.cancel(ticket, state.limit)));
    }

    /// An attempt met a conflict after it had taken so long. Returns the new limit if this changes it.
    pub(super) fn conflict(
        &self,
        entry: Entry,
        took: Option<Duration>,
        now: Instant,
    ) -> Option<u32> {
        let mut state = self.state();
        let is_answered = match entry {
            Entry::Inside(generation) => generation != state.generation,
            Entry::Open | Entry::Waiting(_) => self.is_closed(),
        };
        if is_answered {
            return None;
        }
        state.limit = match self.is_closed() {
            true => (state.limit / 2).max(1),
            false => 1,
        };
        state.cost = took.unwrap_or(FIRST_COST);
        state.generation += 1;
        state.changed = Some(now);
        state.last_waited = Some(now);
        self.is_closed.store(true, Relaxed);
        Some(state.limit)
    }

    fn change<R>(&self, change: impl FnOnce(&Self, &mut State) -> (R, ToWake)) -> R {
        let mut state = self.state();
        let (result, to_wake) = change(self, &mut state);
        drop(state);
        to_wake.wake();
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One more, if the last change was long enough ago.
    fn let_in_more(&mut self, now: Instant) -> ToWake {
        let calm = self.cost.saturating_mul(CALM).min(LONGEST_CALM);
        if !self.changed.is_some_and(|then| has_passed(calm, then, now)) {
            return ToWake::default();
        }
        self.changed = Some(now);
        self.limit = self.limit.saturating_add(1);
        self.queue.call(self.limit)
    }

    fn has_been_idle(&self, now: Instant) -> bool {
        let is_idle = |then| has_passed(IDLE, then, now);
        self.queue.waiting() == 0 && self.last_waited.is_some_and(is_idle)
    }
}
