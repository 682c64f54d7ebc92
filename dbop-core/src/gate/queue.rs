//! First come, first served.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::{RECHECK, has_passed};

/// Those who are inside, and those who wait for their turn.
///
/// An operation that leaves gives the turn to the one that has waited longest, and wakes it. It counts as
/// inside, also before it has [claimed](Self::claim) its turn.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inside: u32,
    waiting: VecDeque<Waiting>,
    /// Those who have got their turn and do not know it yet.
    called: Vec<Called>,
    next_ticket: u64,
    /// When one was let in whose patience had ended.
    last_let_pass: Option<Instant>,
}

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    waker: Waker,
}

#[derive(Debug)]
struct Called {
    waiting: Waiting,
    /// When another one first saw that it had not come.
    missed_since: Option<Instant>,
}

/// Whom to wake, once the lock is released.
#[derive(Debug, Default)]
#[must_use = "they wait until they are woken"]
pub(super) struct ToWake(Vec<Waker>);

impl ToWake {
    pub(super) fn and(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(super) fn wake(self) {
        for waker in self.0 {
            waker.wake();
        }
    }
}

impl Queue {
    /// Goes in, if there is room: those who wait have been called to what there was.
    pub(super) fn enter(&mut self, limit: u32) -> bool {
        let is_free = self.inside < limit;
        self.inside += u32::from(is_free);
        is_free
    }

    /// Waits at the end of the queue.
    pub(super) fn wait(&mut self, waker: &Waker) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.push_back(Waiting {
            ticket,
            waker: waker.clone(),
        });
        ticket
    }

    /// Goes in if it has got its turn; if not, this is whom to wake.
    pub(super) fn claim(&mut self, ticket: Ticket, waker: &Waker) -> bool {
        if self.take_turn(ticket) {
            return true;
        }
        if let Some(waiting) = self.waiting.iter_mut().find(|it| it.ticket == ticket) {
            waiting.waker.clone_from(waker);
        }
        false
    }

    /// Whether it has got its turn, which it takes.
    fn take_turn(&mut self, ticket: Ticket) -> bool {
        let is_called = |called: &Called| called.waiting.ticket == ticket;
        let at = self.called.iter().position(is_called);
        at.map(|at| self.called.swap_remove(at)).is_some()
    }

    /// Goes in although it is not its turn, unless another one has done so within `cost`: what such a one
    /// may cause must not be caused by all at once.
    pub(super) fn let_pass(&mut self, ticket: Ticket, cost: Duration, now: Instant) -> bool {
        // It may have got its turn since it asked.
        if self.take_turn(ticket) {
            return true;
        }
        let is_early = |last| !has_passed(cost, last, now);
        if self.last_let_pass.is_some_and(is_early) {
            return false;
        }
        self.last_let_pass = Some(now);
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        self.inside += 1;
        true
    }

    /// Leaves.
    pub(super) fn leave(&mut self, limit: u32) -> ToWake {
        self.inside = self.inside.saturating_sub(1);
        self.call(limit)
    }

    /// Does not want to wait any more. A turn that it has got goes to the next one.
    pub(super) fn cancel(&mut self, ticket: Ticket, limit: u32) -> ToWake {
        if self.take_turn(ticket) {
            return self.leave(limit);
        }
        self.waiting.retain(|waiting| waiting.ticket != ticket);
        ToWake::default()
    }

    /// Lets in as many as there is room for.
    pub(super) fn call(&mut self, limit: u32) -> ToWake {
        let mut to_wake = ToWake::default();
        while self.inside < limit {
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            self.inside += 1;
            to_wake.0.push(waiting.waker.clone());
            self.called.push(Called {
                waiting,
                missed_since: None,
            });
        }
        to_wake
    }

    /// An operation that got its turn and has not come since goes to the end of the queue, so that a future which
    /// is not polled does not stop all others.
    pub(super) fn give_up_on_missing(&mut self, limit: u32, now: Instant) -> ToWake {
        for called in &mut self.called {
            called.missed_since.get_or_insert(now);
        }
        let is_missing = |called: &Called| {
            let is_over = |since| has_passed(RECHECK, since, now);
            called.missed_since.is_some_and(is_over)
        };
        let called = std::mem::take(&mut self.called);
        let (missing, called): (Vec<_>, Vec<_>) = called.into_iter().partition(is_missing);
        self.called = called;
        for missing in missing {
            self.inside = self.inside.saturating_sub(1);
            self.waiting.push_back(missing.waiting);
        }
        self.call(limit)
    }

    /// How many are inside.
    pub(super) const fn inside(&self) -> u32 {
        self.inside
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether it can be forgotten.
    pub(super) fn is_unused(&self) -> bool {
        self.inside == 0 && self.waiting.is_empty()
    }
}
