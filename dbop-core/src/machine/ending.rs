//! The end: of an attempt that is undone, and of the operation.

use super::Machine;
use super::attempt::FailureAnswer;
use super::payment::Due;
use super::state::State;
use super::step::{Answer, Done};
use crate::error::{Error, Kind};
use crate::event::EventKind;
use crate::nesting::Seat;
use crate::outcome::{Outcome, StopReason};

/// What became of the transaction around an attempt that is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enclosing {
    /// It is still there, or there is none.
    Alive,
    Lost,
}

impl Machine<'_> {
    /// The attempt is certainly undone or, without a transaction, as it is, and everything that can be
    /// cleaned up is. What now?
    pub(super) fn undone(&mut self, enclosing: Enclosing) {
        if self.settle_at_key(enclosing) {
            return;
        }
        let Some(failure) = self.attempt.failure else {
            return debug_assert!(false, "a decision without a failure");
        };
        // The connection that has told what became of a lost COMMIT is well.
        self.history.fault = failure.fault.filter(|_| !self.attempt.is_resolved);
        let may_be_done = self.may_be_done(&failure);
        let outcome = match may_be_done || self.history.unsettled {
            true => Outcome::Unknown,
            false => Outcome::Undone,
        };
        if failure.answer == FailureAnswer::Panic {
            return self.finish_panicked(outcome);
        }
        self.tell_gate(&failure);
        let planned = self.plan_retry(&failure, enclosing);
        let stop = match planned.and_then(|pause| self.ask_before_retry(&failure, pause)) {
            Ok(pause) => {
                self.history.unsettled |= may_be_done;
                return self.try_again(pause);
            }
            Err(stop) => stop,
        };
        // Not even an error of the operation's own says that an attempt before this one is undone.
        if self.history.unsettled && !self.ran_without_transaction(&failure) {
            return self.finish_unknown();
        }
        let kind = match stop {
            StopReason::BudgetExhausted => EventKind::BudgetExhausted,
            _ if failure.is_own_error() && self.attempt.hides_a_failure => EventKind::HidFailure,
            _ if failure.is_own_error() => EventKind::Returned,
            StopReason::EnclosingTransaction if self.connection.is_nested() => EventKind::Escalated,
            _ => EventKind::Failed,
        };
        self.report(self.make_event(kind, Some(&failure)));
        let answer = match failure.answer {
            FailureAnswer::Own(kind) => Answer::Own(self.own_error(kind)),
            _ => Answer::FirstError,
        };
        let fallback_allowed = outcome == Outcome::Undone
            && !self.connection.is_broken
            && enclosing == Enclosing::Alive;
        // A source of connections can do without one that leads to the wrong server.
        self.connection.is_broken |= self.can_reconnect && self.wants_another_connection(&failure);
        self.finish(answer, outcome, stop, fallback_allowed);
    }

    pub(super) fn succeed(&mut self) {
        if self.is_watched || self.config.logging().takes_success(self.attempt.number) {
            self.report(self.make_event(EventKind::Succeeded, None));
        }
        self.finish_committed();
    }

    /// Whether the transaction was committed is not known, and is not going to be.
    pub(super) fn finish_unknown(&mut self) {
        let failure = self.attempt.failure;
        if failure.is_some_and(|failure| failure.answer == FailureAnswer::Panic) {
            return self.finish_panicked(Outcome::Unknown);
        }
        // The session can be in any state, with its tables locked, for example.
        self.connection.is_broken |= self.can_reconnect;
        self.report(self.make_event(EventKind::OutcomeUnknown, failure.as_ref()));
        let answer = Answer::Own(self.own_error(Kind::OutcomeUnknown));
        self.finish(answer, Outcome::Unknown, StopReason::OutcomeUnknown, false);
    }

    fn own_error(&self, kind: Kind) -> Error {
        Error::new(kind).with_budget_exhausted(self.retries.is_refused())
    }

    pub(super) fn finish_panicked(&mut self, outcome: Outcome) {
        let failure = self.attempt.failure;
        self.report(self.make_event(EventKind::Panicked, failure.as_ref()));
        self.finish(Answer::Panic, outcome, StopReason::Panicked, false);
    }

    pub(super) fn finish_committed(&mut self) {
        self.history.fault = None;
        // One that runs in the body of another is a part of that one's success.
        if !self.connection.seat().is_some_and(Seat::is_within_another) {
            self.retries.payment.due = Due::Success;
        }
        let stop = match self.hand_over_refusal() {
            true => StopReason::OwnError,
            false => StopReason::Succeeded,
        };
        self.finish(Answer::Value, Outcome::Committed, stop, false);
    }

    pub(super) fn finish(
        &mut self,
        answer: Answer,
        outcome: Outcome,
        stop: StopReason,
        fallback_allowed: bool,
    ) {
        self.turn.end();
        if let Some(entry) = self.entry.take() {
            entry.close(outcome);
        }
        let attempts = self.attempt.number;
        let answer = match answer {
            Answer::Own(error) => Answer::Own(error.after(attempts, stop)),
            other => other,
        };
        let hooks = match outcome {
            Outcome::Committed => self.committed_hooks(),
            Outcome::Undone | Outcome::Unknown => {
                self.discard_hooks();
                Vec::new()
            }
        };
        self.go_to(State::Done(Some(Done {
            answer,
            outcome,
            stop,
            attempts,
            connection_broken: self.connection.is_broken,
            fallback_allowed,
            hooks,
        })));
    }
}
