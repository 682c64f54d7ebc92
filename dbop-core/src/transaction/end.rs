//! The end of an attempt: what is undone, what is lost, what is unknown, and what comes next.

use std::borrow::Cow;

use super::{
    Aftermath, Answer, CONNECTED, Done, Failure, FailureAnswer, Machine, Outcome, Phase, State,
    StopReason,
};
use crate::dialect::Undo;
use crate::error::Kind;
use crate::event::{Event, EventKind};
use crate::nesting::EnclosingLoss;
use crate::{Batches, Error, Fault, FaultClass, Level};

impl Machine<'_> {
    /// Nothing more can be sent. The server rolls back what was not committed.
    pub(super) fn connection_gone(&mut self) {
        self.connection_broken = true;
        if self.is_savepoint() {
            self.lose(true);
        } else if self.ended_by_body {
            self.finish_unknown();
        } else if self.failure.is_some_and(|failure| {
            // Not if the server has refused it, and only the ROLLBACK after that was lost.
            let is_definite = |fault: Fault| {
                fault.class() != FaultClass::Unknown
                    && self.dialect.commit_error_is_definite(&fault)
            };
            failure.phase == Phase::Commit && !failure.fault.is_some_and(is_definite)
        }) {
            self.commit_unknown();
        } else {
            self.decide(Aftermath {
                undone: true,
                enclosing_alive: false,
            });
        }
    }

    pub(super) fn rolled_back(&mut self, fault: Option<Fault>) {
        self.rollback_fault = fault;
        let Some(fault) = fault else {
            return self.decide_after_rollback(false);
        };
        if self.is_savepoint() {
            return self.savepoint_gone(fault);
        }
        if !fault.leaves_connection_usable() {
            return self.connection_gone();
        }
        let is_lost = fault.class() == FaultClass::TransactionLost;
        if self.is_checked() {
            // Lost, or the check itself is not understood.
            self.state = State::RollbackAgain { gone: is_lost };
        } else if is_lost && self.batches().has(Undo::BlindRollback) {
            self.state = State::RollbackAgain { gone: true };
        } else if is_lost {
            self.decide_after_rollback(true);
        } else {
            // The transaction may still be open: only throwing the connection away ends it.
            self.connection_gone();
        }
    }

    /// The savepoint could not be rolled back. Whatever the error, it cannot be relied on: the
    /// transaction is gone, or on PostgreSQL was aborted before the savepoint could be opened.
    pub(super) fn savepoint_gone(&mut self, fault: Fault) {
        let Some(failure) = self.failure else {
            return debug_assert!(false, "a rollback without a failure");
        };
        let aborted = failure
            .fault
            .is_some_and(|fault| fault.class() == FaultClass::TransactionAborted);
        if failure.phase == Phase::Begin && aborted {
            return self.decide(Aftermath {
                undone: true,
                enclosing_alive: false,
            });
        }
        if !fault.leaves_connection_usable() {
            self.connection_broken = true;
            return self.lose(true);
        }
        let asks = |fault: Fault| fault.must_ask_whether_undone();
        if failure.phase == Phase::Body && failure.fault.is_some_and(asks) {
            self.state = State::Ask;
        } else {
            self.lose(self.may_have_ended_transaction() || fault.may_end_transaction());
        }
    }

    /// `no`: the error by which the server said that something of it is perhaps kept.
    pub(super) fn asked_whether_undone(&mut self, no: Option<Fault>) {
        let undone = no.is_none();
        self.connection_broken |= no.is_some_and(|fault| !fault.leaves_connection_usable());
        if self.is_savepoint() {
            self.lose(undone);
        } else if undone {
            self.decide(Aftermath {
                undone,
                enclosing_alive: true,
            });
        } else {
            self.finish_unknown();
        }
    }

    /// The fault of this attempt can have ended the whole transaction on the server.
    pub(super) fn may_have_ended_transaction(&self) -> bool {
        let ends = |fault: Fault| fault.may_end_transaction();
        self.failure
            .and_then(|failure| failure.fault)
            .is_some_and(ends)
    }

    /// A ROLLBACK that checks whether the transaction is still there would fail, or could not
    /// change anything: after a COMMIT batch that got as far as the RELEASE, when nothing was
    /// opened, after a loss, and after a fault that ends the transaction for certain.
    pub(super) fn need_not_check(&self) -> bool {
        let certain = |fault: Fault| {
            let class = fault.class();
            matches!(
                class,
                FaultClass::Deadlock | FaultClass::SerializationFailure
            ) && fault.may_end_transaction()
        };
        self.lost().is_some()
            || self.failure.is_some_and(|failure| {
                failure.phase != Phase::Body || failure.fault.is_some_and(certain)
            })
    }

    /// The transaction around this savepoint is gone.
    pub(super) fn lose(&mut self, undone: bool) {
        let fault = self.failure.and_then(|failure| failure.fault);
        if let Some(membership) = &self.membership {
            membership.set_lost(EnclosingLoss {
                fault,
                undone,
                saved_values_overwritten: false,
            });
        }
        let containment = self.dialect.containment().unwrap_or_default();
        self.contain(if self.ended_by_body {
            // No ROLLBACK has restored the settings.
            Cow::Owned(format!("{}{containment}", self.batches().restoration()))
        } else {
            Cow::Borrowed(containment)
        });
    }

    /// Sends what is left to be done in a savepoint whose transaction is gone.
    pub(super) fn contain(&mut self, sql: Cow<'static, str>) {
        if self.connection_broken || sql.is_empty() {
            self.decide_lost();
        } else {
            self.sql = sql;
            self.state = State::Contain;
        }
    }

    pub(super) fn decide_lost(&mut self) {
        // In a transaction that an operation opened, that operation cleans up. In the caller's,
        // only a connection that refuses to commit keeps an Ok from the caller.
        if self
            .membership
            .as_ref()
            .is_some_and(|m| !m.owns_transaction())
        {
            self.connection_broken = true;
        }
        let undone = self.lost().is_none_or(|lost| lost.undone);
        self.decide(Aftermath {
            undone,
            enclosing_alive: false,
        });
    }

    /// `gone`: there was no transaction left to roll back.
    pub(super) fn decide_after_rollback(&mut self, gone: bool) {
        let Some(failure) = self.failure else {
            return debug_assert!(false, "a rollback without a failure");
        };
        if self.is_savepoint() {
            return self.decide(Aftermath {
                undone: true,
                enclosing_alive: true,
            });
        }
        let asks = |fault: Fault| fault.must_ask_whether_undone();
        let undone = match (failure.phase, failure.fault, self.lost()) {
            _ if self.ended_by_body => false,
            (_, _, Some(lost)) => lost.undone,
            (phase, Some(fault), _) if self.found_token(phase, fault) => false,
            (Phase::Begin, ..) => true,
            // What is gone was rolled back by the server or, if something follows the COMMIT in
            // its batch, committed.
            (Phase::Commit, Some(fault), _) => {
                self.dialect.commit_error_is_definite(&fault)
                    && (!gone || self.batches().commit_is_last())
            }
            _ if !gone => true,
            // Nobody can be asked any more.
            (_, Some(fault), _) if asks(fault) && self.connection_broken => false,
            (_, Some(fault), _) if asks(fault) => {
                self.state = State::Ask;
                return;
            }
            // Rolled back by the server, or committed by the body.
            _ => self.may_have_ended_transaction(),
        };
        if undone {
            self.decide(Aftermath {
                undone,
                enclosing_alive: true,
            });
        } else if failure.phase == Phase::Commit && !gone && !self.ended_by_body {
            match failure.fault.map(|fault| fault.class()) {
                // Committed behind our back, by DDL, as far as it had come.
                Some(FaultClass::TransactionLost) => self.finish_unknown(),
                _ => self.commit_unknown(),
            }
        } else {
            self.finish_unknown();
        }
    }

    /// The attempt has failed and everything that can be cleaned up is. What now?
    pub(super) fn decide(&mut self, aftermath: Aftermath) {
        let Some(failure) = self.failure else {
            return debug_assert!(false, "a decision without a failure");
        };
        if failure.answer == FailureAnswer::Panic {
            let outcome = if aftermath.undone && !self.unsettled {
                Outcome::Undone
            } else {
                Outcome::Unknown
            };
            self.event = Some(self.event(EventKind::Panicked, Some(&failure)));
            return self.finish(Answer::Panic, outcome, StopReason::Panicked, false);
        }
        if !aftermath.undone {
            return self.finish_unknown();
        }
        let stop = match self.verdict(&failure, aftermath) {
            Ok(pause) => return self.try_again(pause),
            Err(stop) => stop,
        };
        // Not even an error of the operation's own says that an attempt before this one is undone.
        if self.unsettled {
            return self.finish_unknown();
        }
        let kind = match stop {
            _ if failure.is_own_error() => EventKind::Returned,
            StopReason::EnclosingTransaction if self.is_nested() => EventKind::Escalated,
            _ => EventKind::Failed,
        };
        self.event = Some(self.event(kind, Some(&failure)));
        let answer = match failure.answer {
            FailureAnswer::Own(kind) => Answer::Own(Error::new(kind)),
            _ => Answer::FirstError,
        };
        let fallback_allowed = !self.connection_broken && aftermath.enclosing_alive;
        // A source of connections can do without one that leads to the wrong server.
        self.connection_broken |=
            self.terms.fresh_connections && self.wants_another_connection(&failure);
        self.finish(answer, Outcome::Undone, stop, fallback_allowed);
    }

    pub(super) fn succeed(&mut self) {
        self.event = Some(self.event(EventKind::Succeeded, None));
        self.finish(
            Answer::Value,
            Outcome::Committed,
            StopReason::Succeeded,
            false,
        );
    }

    pub(super) fn finish_unknown(&mut self) {
        let failure = self.failure;
        if failure.is_some_and(|failure| failure.answer == FailureAnswer::Panic) {
            self.event = Some(self.event(EventKind::Panicked, failure.as_ref()));
            return self.finish(Answer::Panic, Outcome::Unknown, StopReason::Panicked, false);
        }
        self.event = Some(self.event(EventKind::OutcomeUnknown, failure.as_ref()));
        self.finish(
            Answer::Own(Error::new(Kind::OutcomeUnknown)),
            Outcome::Unknown,
            StopReason::OutcomeUnknown,
            false,
        );
    }

    pub(super) fn finish(
        &mut self,
        answer: Answer,
        outcome: Outcome,
        stop: StopReason,
        fallback_allowed: bool,
    ) {
        self.state = State::Done(Some(Done {
            answer,
            outcome,
            stop,
            attempts: self.attempt,
            connection_broken: self.connection_broken,
            fallback_allowed,
        }));
    }

    pub(super) fn event(&self, kind: EventKind, failure: Option<&Failure>) -> Event {
        Event {
            kind,
            attempt: self.attempt.max(1),
            fault: failure.and_then(|failure| failure.fault),
            own: failure.and_then(|failure| match failure.answer {
                FailureAnswer::Own(kind) => Some(kind),
                _ => None,
            }),
            phase: failure.map_or(Phase::Body, |failure| failure.phase),
            delay: None,
            rollback_fault: self.rollback_fault,
        }
    }

    /// How the current attempt is rolled back.
    pub(super) fn how_to_undo(&self) -> Undo {
        let in_begin = self.failure.is_some_and(|f| f.phase == Phase::Begin);
        let batches = self.batches();
        if in_begin && batches.has(Undo::FailedBegin) {
            Undo::FailedBegin
        } else if self.need_not_check() && batches.has(Undo::BlindRollback) {
            Undo::BlindRollback
        } else if self.is_checked() {
            Undo::CheckedRollback
        } else {
            Undo::Rollback
        }
    }

    /// Whether the body can have ended the transaction unseen, and the ROLLBACK looks.
    fn is_checked(&self) -> bool {
        let in_body = self.failure.is_some_and(|f| f.phase == Phase::Body);
        let in_doubt = in_body && !self.ended_by_body && self.lost().is_none();
        in_doubt && self.batches().has(Undo::CheckedRollback)
    }

    pub(super) fn lost(&self) -> Option<EnclosingLoss> {
        self.membership.as_ref().and_then(|m| m.lost())
    }

    /// Another operation runs around this one on the same connection.
    pub(super) fn is_nested(&self) -> bool {
        self.membership.as_ref().is_some_and(|m| !m.is_outermost())
    }

    pub(super) fn batches(&self) -> &Batches {
        self.batches.as_deref().expect(CONNECTED)
    }

    /// The server makes sure that the attempt writes nothing.
    pub(super) fn is_read_only(&self) -> bool {
        self.batches.as_deref().is_some_and(Batches::is_read_only)
    }

    pub(super) fn is_savepoint(&self) -> bool {
        let is_savepoint = |batches: &Batches| matches!(batches.level(), Level::Savepoint(_));
        self.batches.as_deref().is_some_and(is_savepoint)
    }
}
