//! One operation's turn at its gate.

use std::task::Waker;
use std::time::{Duration, Instant};

use super::named::{Entry, GateStatus, NamedGate};
use super::queue::Ticket;
use super::{RECHECK, has_passed, keyed};

/// How long one waits at the gate of a name before it may go in although it is not its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an operation has to pass before each attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate<'a> {
    None,
    /// The hashes of its keys, sorted: an operation that has the first ones waits for the next one, and no two wait
    /// for each other.
    Keys(&'a [u64]),
    Named(&'a NamedGate),
}

/// Where an operation stands at its gate. Dropped, it leaves it.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    gate: Gate<'a>,
    /// How many of its keys it has.
    held: usize,
    /// How it came into the gate of its name.
    entry: Option<Entry>,
    /// Its place in a queue.
    ticket: Option<Ticket>,
    /// When it began to wait.
    waits_since: Option<Instant>,
    /// When it went into a closed gate.
    entered: Option<Instant>,
    /// An attempt met a conflict, which the gate does not know of.
    has_conflict: bool,
    /// An attempt has met a conflict.
    had_conflict: bool,
    /// The attempt is over.
    has_ended: bool,
}

/// Whether an operation has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It is in, and had to wait for so long.
    Over(Option<Duration>),
    /// At least until it is woken, or for so long.
    For(Duration),
}

impl<'a> Turn<'a> {
    pub(crate) const fn at(gate: Gate<'a>) -> Self {
        Self {
            gate,
            held: 0,
            entry: None,
            ticket: None,
            waits_since: None,
            entered: None,
            has_conflict: false,
            had_conflict: false,
            has_ended: false,
        }
    }

    /// Whether there is a gate.
    pub(crate) const fn has_gate(&self) -> bool {
        !matches!(self.gate, Gate::None)
    }

    /// How the gate of its name stands.
    pub(crate) fn status(&self) -> Option<GateStatus> {
        match self.gate {
            Gate::Named(gate) => Some(gate.status()),
            Gate::None | Gate::Keys(_) => None,
        }
    }

    /// Whether attempts should not wait for locks for long.
    pub(crate) const fn is_contended(&self) -> bool {
        match self.gate {
            Gate::None => false,
            Gate::Keys(_) => self.had_conflict,
            // Even while it is open: those who are in a deadlock then cannot be called back.
            Gate::Named(_) => true,
        }
    }

    /// Goes in, or waits. `patience`: how long one waits for a key before it may go in although it is not
    /// its turn.
    pub(crate) fn wait(
        &mut self,
        patience: Duration,
        waker: &Waker,
        now: &dyn Fn() -> Instant,
    ) -> Wait {
        let is_in = match self.gate {
            Gate::None => true,
            Gate::Keys(keys) => self.take_keys(keys, patience, waker, now),
            Gate::Named(gate) => self.pass(gate, waker, now),
        };
        if !is_in {
            return Wait::For(RECHECK);
        }
        let waited = |since: Instant| now().saturating_duration_since(since);
        Wait::Over(self.waits_since.take().map(waited))
    }

    fn take_keys(
        &mut self,
        keys: &[u64],
        patience: Duration,
        waker: &Waker,
        now: &dyn Fn() -> Instant,
    ) -> bool {
        while let Some(&key) = keys.get(self.held) {
            let is_in = match self.ticket {
                None => match keyed::enter(key, waker) {
                    Ok(()) => true,
                    Err(ticket) => {
                        self.ticket = Some(ticket);
                        self.waits_since.get_or_insert_with(now);
                        false
                    }
                },
                Some(ticket) => {
                    let now = now();
                    keyed::claim(key, ticket, waker, now)
                        || self.is_impatient(patience, now) && keyed::let_pass(key, ticket, now)
                }
            };
            if !is_in {
                return false;
            }
            self.ticket = None;
            self.held += 1;
        }
        true
    }

    fn pass(&mut self, gate: &NamedGate, waker: &Waker, now: &dyn Fn() -> Instant) -> bool {
        if self.ticket.is_none() && !gate.is_closed() {
            self.entry = Some(Entry::Open);
            return true;
        }
        let now = now();
        let entry = match self.ticket {
            None => gate.enter(waker, now),
            Some(ticket) => {
                let is_impatient = self.is_impatient(PATIENCE, now);
                let let_pass = || gate.let_pass(ticket, now);
                let generation = gate.claim(ticket, waker, now);
                match generation.or_else(|| is_impatient.then(let_pass).flatten()) {
                    Some(generation) => Entry::Inside(generation),
                    None => Entry::Waiting(ticket),
                }
            }
        };
        self.entry = Some(entry);
        self.ticket = match entry {
            Entry::Waiting(ticket) => Some(ticket),
            Entry::Open | Entry::Inside(_) => None,
        };
        match entry {
            Entry::Waiting(_) => _ = self.waits_since.get_or_insert(now),
            Entry::Open | Entry::Inside(_) => self.entered = Some(now),
        }
        self.ticket.is_none()
    }

    fn is_impatient(&self, patience: Duration, now: Instant) -> bool {
        let is_over = |since| has_passed(patience, since, now);
        self.waits_since.is_some_and(is_over)
    }

    /// The attempt met a deadlock, a serialization failure, or a lock that it would not wait for.
    pub(crate) const fn meet_conflict(&mut self) {
        self.has_conflict = true;
        self.had_conflict = true;
    }

    /// The attempt is over.
    pub(crate) const fn end(&mut self) {
        self.has_ended = true;
    }

    /// Whether there is something to [settle](Self::settle).
    pub(crate) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Does what the end of an attempt takes. Returns how many are let in from now on, if that has changed.
    pub(crate) fn settle(&mut self, now: impl FnOnce() -> Instant) -> Option<u32> {
        if !self.has_ended {
            return None;
        }
        self.has_ended = false;
        let limit = match (self.gate, self.entry) {
            (Gate::Named(gate), Some(entry)) if self.has_conflict => {
                let now = now();
                let took = |entered: Instant| now.saturating_duration_since(entered);
                gate.conflict(entry, self.entered.map(took), now)
            }
            _ => None,
        };
        self.has_conflict = false;
        self.leave();
        limit
    }

    /// Lets the next one in, and does not wait any more.
    pub(crate) fn leave(&mut self) {
        match self.gate {
            Gate::None => {}
            Gate::Keys(keys) => {
                if let (Some(ticket), Some(key)) = (self.ticket, keys.get(self.held)) {
                    keyed::cancel(*key, ticket);
                }
                for key in keys.iter().take(self.held) {
                    keyed::leave(*key);
                }
            }
            Gate::Named(gate) => match self.entry {
                Some(Entry::Inside(_)) => gate.leave(),
                Some(Entry::Waiting(ticket)) => gate.cancel(ticket),
                Some(Entry::Open) | None => {}
            },
        }
        self.held = 0;
        self.entry = None;
        self.ticket = None;
        self.entered = None;
        self.waits_since = None;
    }

    /// There is no gate here.
    pub(crate) fn give_up_gate(&mut self) {
        self.leave();
        self.gate = Gate::None;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
