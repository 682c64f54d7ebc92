//! The deadline: nothing is begun after it, and nothing is waited for that would end after it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::{AfterPause, Aftermath, FailureAnswer, Machine, Pause, Phase, State};
use crate::old::error::Kind;

impl Machine<'_> {
    /// Whether the machine has to be told the time before every step.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        self.deadline.is_some()
    }

    /// Tells the time.
    pub const fn tell_time(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// How long it is until the deadline, if there is one. Zero once it has passed.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.deadline?.saturating_duration_since(self.now?))
    }

    /// Gives up where the next thing to do would come too late.
    pub(super) fn mind_the_deadline(&mut self) {
        let Some(left) = self.time_left().filter(|_| !self.late) else {
            return;
        };
        match self.state {
            // Once more before it is over: better soon than not at all.
            State::Pause(pause, AfterPause::Ask)
                if pause.delay >= left && !left.is_zero() && !self.hurried =>
            {
                self.hurried = true;
                let delay = left / 2;
                if let Some(event) = &mut self.event {
                    event.delay = Some(delay);
                }
                self.state = State::Pause(Pause { delay, ..pause }, AfterPause::Ask);
            }
            State::Pause(pause, after) if pause.delay >= left => {
                self.late = true;
                match after {
                    AfterPause::Begin => self.decide(Aftermath {
                        undone: true,
                        enclosing_alive: true,
                    }),
                    AfterPause::Commit => {
                        self.event = None;
                        self.state = State::Rollback;
                    }
                    AfterPause::Ask => self.finish_unknown(),
                }
            }
            // A connection may have come too late for the attempt that asked for it.
            State::Connect | State::Begin
                if left.is_zero() && (!self.in_attempt || matches!(self.state, State::Begin)) =>
            {
                self.late = true;
                let late = FailureAnswer::Own(Kind::DeadlineExceeded);
                self.failure = None;
                self.fail(Phase::Begin, None, late);
                self.decide(Aftermath {
                    undone: true,
                    enclosing_alive: true,
                });
            }
            // So may one for a question.
            State::Connect | State::ReadStatus | State::Probe(_) | State::Verify
                if left.is_zero() && self.asking =>
            {
                self.late = true;
                self.finish_unknown();
            }
            _ => {}
        }
    }

    /// Gives the attempt that begins its lock timeout, and no statement more time than is left.
    pub(super) fn fit_batches(&mut self) {
        let timeouts = self.terms.lock_timeouts;
        let last = timeouts.len().saturating_sub(1);
        let rung = usize::try_from(self.attempt.saturating_sub(1)).map_or(last, |n| n.min(last));
        let lock_timeout = timeouts.get(rung).copied();
        let left = self.time_left();
        if lock_timeout.is_none() && left.is_none() {
            return;
        }
        if let Some(fitting) = self.batches().for_attempt(lock_timeout, left) {
            self.batches = Some(Cow::Owned(fitting));
        }
    }
}
