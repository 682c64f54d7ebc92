//! The deadline: nothing is begun after it, and nothing is waited for that would end after it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::Machine;
use super::attempt::FailureAnswer;
use super::ending::Enclosing;
use super::state::{AfterPause, State};
use super::step::Pause;
use crate::dialect::{Dialect, Timeout};
use crate::error::{Error, Kind};
use crate::nesting::Seat;
use crate::outcome::Phase;
use crate::settings::check_deadline;

/// When to give up.
#[derive(Debug)]
pub(super) struct Deadline {
    /// By its own deadline, the runner's default, or that of an operation around it.
    at: Option<Instant>,
    /// What the operation itself asked for. The default is not for nested operations: they have
    /// that of the operation around them.
    own: Option<Instant>,
    /// There is no time for another attempt.
    pub(super) is_late: bool,
}

impl Deadline {
    pub(super) fn check(own: Option<Duration>, default: Option<Duration>) -> Result<(), Error> {
        own.or(default).map_or(Ok(()), check_deadline)
    }

    pub(super) fn new(
        own: Option<Duration>,
        default: Option<Duration>,
        now: impl FnOnce() -> Instant,
    ) -> Self {
        let deadline = own.or(default);
        let at = deadline.and_then(|deadline| now().checked_add(deadline));
        Self {
            at,
            own: own.and(at),
            is_late: false,
        }
    }

    pub(super) const fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// How long it is until the deadline, if there is one. Zero once it has passed.
    pub(super) fn left(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        Some(self.at?.saturating_duration_since(now()))
    }

    /// Hands it down to what is nested in the operation, and takes over an earlier one.
    pub(super) fn join(&mut self, seat: &Seat) {
        let own = if seat.is_outermost() {
            self.at
        } else {
            self.own
        };
        self.at = seat.join_deadline(own);
    }
}

impl Machine<'_> {
    /// How long it is until the operation has to give up. What became of a lost COMMIT is asked for at least the
    /// grace period, however late the COMMIT was lost.
    pub(super) fn left_at(&mut self, time: Instant) -> Option<Duration> {
        let left = self.deadline.left(|| time)?;
        let Some(question) = &mut self.question else {
            return Some(left);
        };
        let grace = self.config.defaults().grace_period;
        let at_least = || time.checked_add(left.max(grace.unwrap_or_default()));
        let until = question.until.or_else(at_least)?;
        question.until = Some(until);
        Some(until.saturating_duration_since(time))
    }

    /// How long the present step may wait for the server or for the body, if there is a deadline: until then, and
    /// for the grace period after it. SQLite has no server.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        let grace = self.config.defaults().grace_period;
        let grace = grace.filter(|_| self.dialect != Dialect::Sqlite)?;
        Some(self.left?.saturating_add(grace))
    }

    /// The present step has not been answered within that time. Its answer is that the connection is lost.
    pub fn run_out_of_patience(&mut self) {
        // What became of a COMMIT is still to be asked.
        let commits = matches!(self.state, State::Commit | State::CommitRefusal(_));
        let is_to_be_asked = self.question.is_some() || commits;
        self.deadline.is_late |= !is_to_be_asked;
    }

    /// Gives up where the next thing to do would come too late.
    pub(super) fn give_up_if_late(&mut self, left: Option<Duration>) {
        let Some(left) = left.filter(|_| !self.deadline.is_late) else {
            return;
        };
        let gives_up_key = self.gives_up_key();
        match (&self.state, &mut self.question) {
            (&State::Pause(pause, after), question) if pause.delay >= left => {
                match (after, question) {
                    // Once more before it is over: better soon than not at all.
                    (AfterPause::Ask, Some(question)) if !left.is_zero() && !question.hurried => {
                        question.hurried = true;
                        self.shorten(pause, left / 2);
                    }
                    _ => self.give_up_waiting(after),
                }
            }
            (State::Begin | State::BeginWithRow(_), None) if left.is_zero() && gives_up_key => {
                self.deadline.is_late = true;
                self.finish_under_way();
            }
            // A connection may have come too late for the attempt that asked for it.
            (State::Connect | State::Begin, None) if left.is_zero() => {
                self.deadline.is_late = true;
                self.attempt.failure = None;
                let late = FailureAnswer::Own(Kind::DeadlineExceeded);
                self.attempt.fail(Phase::Begin, None, late);
                self.undone(Enclosing::Alive);
            }
            // So may one for a question.
            (
                State::Connect | State::ReadStatus(_) | State::AskForToken | State::Verify,
                Some(_),
            ) if left.is_zero() => {
                self.deadline.is_late = true;
                self.finish_unknown();
            }
            _ => {}
        }
    }

    fn shorten(&mut self, pause: Pause, delay: Duration) {
        if let Some(event) = &mut self.reports.event {
            event.delay = Some(delay);
        }
        self.state = State::Pause(Pause { delay, ..pause }, AfterPause::Ask);
    }

    fn give_up_waiting(&mut self, after: AfterPause) {
        self.deadline.is_late = true;
        self.stop_waiting(after);
    }

    /// What the pause was for will not be done.
    pub(super) fn stop_waiting(&mut self, after: AfterPause) {
        if let (AfterPause::Begin | AfterPause::Commit, Some(failure)) =
            (after, self.attempt.failure)
        {
            self.return_retry(&failure);
        }
        match after {
            AfterPause::Begin => self.undone(Enclosing::Alive),
            AfterPause::Commit => {
                self.reports.event = None;
                self.roll_back();
            }
            AfterPause::Ask => self.finish_unknown(),
        }
    }

    /// Gives the attempt that begins its lock timeout, and no statement more time than is left.
    pub(super) fn fit_batches(&mut self, left: Option<Duration>) {
        let timeouts = self.spec.lock_timeouts;
        let last = timeouts.len().saturating_sub(1);
        let rung = usize::try_from(self.attempt.number.saturating_sub(1));
        let rung = rung.map_or(last, |rung| rung.min(last));
        let lock_timeout = match timeouts.get(rung) {
            Some(timeout) => Some(Timeout::Exact(*timeout)),
            None => self.hurry(),
        };
        if lock_timeout.is_none() && left.is_none() {
            return;
        }
        if let Some(fitting) = self.connection.batches().for_attempt(lock_timeout, left) {
            self.connection.set_batches(Cow::Owned(Box::new(fitting)));
        }
    }
}
