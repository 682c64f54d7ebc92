//! After a ROLLBACK: what is undone, what is lost, and what is unknown.

use std::borrow::Cow;

use super::Machine;
use super::attempt::Failure;
use super::ending::Enclosing;
use super::state::State;
use crate::dialect::{Batches, Dialect, Undo};
use crate::fault::{Fault, FaultClass};
use crate::nesting::EnclosingLoss;
use crate::outcome::Phase;
use crate::retry::Advice;

impl Machine<'_> {
    /// How the current attempt is rolled back.
    pub(super) fn how_to_undo(&self) -> Undo {
        let batches = self.connection.batches();
        if self.attempt.failed_in(Phase::Begin) && batches.has(Undo::FailedBegin) {
            Undo::FailedBegin
        } else if self.attempt.failed_in(Phase::Begin) && batches.has(Undo::IfOpened) {
            Undo::IfOpened
        } else if self.need_not_check() && batches.has(Undo::BlindRollback) {
            Undo::BlindRollback
        } else if self.may_hide_a_failure() && batches.has(Undo::ProbedRollback) {
            Undo::ProbedRollback
        } else if (self.body_may_have_ended_it() || self.asks_whether_commit_was_reached())
            && batches.has(Undo::CheckedRollback)
        {
            Undo::CheckedRollback
        } else {
            Undo::Rollback
        }
    }

    /// A ROLLBACK that checks whether the transaction is still there would fail, or could not
    /// change anything: after a COMMIT batch that got as far as the RELEASE, when nothing was
    /// opened, after a loss, and after a fault that ends the transaction for certain. A fault that can
    /// have been raised does not.
    fn need_not_check(&self) -> bool {
        let certain = |fault: Fault| {
            let class = fault.recognized_class();
            matches!(
                class,
                FaultClass::Deadlock | FaultClass::SerializationFailure
            ) && fault.may_end_transaction()
                && !fault.may_be_raised()
        };
        self.connection.loss().is_some()
            || self.attempt.failure.is_some_and(|failure| {
                failure.phase != Phase::Body || failure.fault.is_some_and(certain)
            })
    }

    /// Whether the body can have ended the transaction unseen.
    fn body_may_have_ended_it(&self) -> bool {
        self.attempt.failed_in(Phase::Body)
            && !self.attempt.body_ended_it
            && self.connection.loss().is_none()
    }

    /// The body returned an error of its own, which says nothing about itself, and this has not been
    /// reported of the operation before.
    fn may_hide_a_failure(&self) -> bool {
        let is_silent =
            |failure: Failure| failure.is_own_error() && failure.advice == Advice::Judge;
        self.attempt.failed_in(Phase::Body)
            && self.attempt.failure.is_some_and(is_silent)
            && self.body_may_have_ended_it()
            && self.config.hidden_failures().is_new(self.spec.name)
    }

    pub(super) fn rolled_back(&mut self, undo: Undo, fault: Option<Fault>) {
        if undo == Undo::LeftOpen {
            return self.left_open_rolled_back(fault);
        }
        let is_aborted = |fault: Fault| fault.recognized_class() == FaultClass::TransactionAborted;
        if undo == Undo::ProbedRollback && fault.is_some_and(is_aborted) {
            self.attempt.hides_a_failure = self.config.hidden_failures().add(self.spec.name);
            let undo = match self.connection.batches().has(Undo::CheckedRollback) {
                true => Undo::CheckedRollback,
                false => Undo::Rollback,
            };
            return self.go_to(State::UndiagnosedRollback(undo));
        }
        if undo == Undo::CheckedRollback && fault.is_some_and(is_aborted) {
            // Where the check is a query, it finds the transaction as the failed statement has left it.
            if self.asks_whether_commit_was_reached() {
                self.commit_was_not_reached();
            }
            return self.go_to(State::UndiagnosedRollback(Undo::Rollback));
        }
        self.attempt.rollback_fault = fault;
        let Some(fault) = fault else {
            let is_checked = undo.is_checked() || self.connection.is_savepoint();
            if is_checked && self.asks_whether_commit_was_reached() {
                self.commit_was_not_reached();
            }
            return self.decide_after_rollback(false);
        };
        if !fault.leaves_connection_usable() {
            self.explain_by_lost_connection();
        }
        if self.connection.is_savepoint() {
            return self.savepoint_gone(fault);
        }
        if !fault.leaves_connection_usable() {
            return self.connection_gone();
        }
        let class = fault.recognized_class();
        let gone = class == FaultClass::TransactionLost;
        // Another Galera node has won meanwhile.
        let is_beaten = class == FaultClass::Deadlock && self.dialect == Dialect::Mysql;
        let is_blind = gone && self.connection.batches().has(Undo::BlindRollback);
        // Gone, or the check itself is not understood.
        if undo.is_checked() || is_blind || is_beaten {
            self.go_to(State::RollbackAgain { gone });
        } else if gone {
            self.decide_after_rollback(gone);
        } else {
            // The transaction may still be open: only throwing the connection away ends it.
            self.connection_gone();
        }
    }

    pub(super) fn rolled_back_again(&mut self, gone: bool, succeeded: bool) {
        self.connection.is_broken |= !succeeded;
        self.decide_after_rollback(gone);
    }

    /// Nothing more can be sent. The server rolls back what was not committed.
    pub(super) fn connection_gone(&mut self) {
        self.connection.is_broken = true;
        // Not if the server has refused the COMMIT, and only the ROLLBACK after that was lost.
        let is_refusal = |fault: Fault| self.dialect.commit_error_is_definite(&fault);
        if self.connection.is_savepoint() {
            self.lose(true);
        } else if self.attempt.body_ended_it {
            self.finish_unknown();
        } else if self.attempt.failed_in(Phase::Commit)
            && !self.attempt.fault().is_some_and(is_refusal)
        {
            self.commit_unknown();
        } else {
            self.undone(Enclosing::Lost);
        }
    }

    /// The savepoint could not be rolled back. Whatever the error, it cannot be relied on: the
    /// transaction is gone, or on PostgreSQL was aborted before the savepoint could be opened.
    fn savepoint_gone(&mut self, fault: Fault) {
        let failed_with = self.attempt.fault();
        let aborted = |fault: Fault| fault.recognized_class() == FaultClass::TransactionAborted;
        let needs_check = |fault: Fault| fault.needs_undone_check();
        // The body's, or the operation's own at the beginning.
        let is_statements =
            self.attempt.failed_in(Phase::Body) || self.attempt.failed_in(Phase::Begin);
        if self.attempt.failed_in(Phase::Begin) && failed_with.is_some_and(aborted) {
            self.undone(Enclosing::Lost);
        } else if !fault.leaves_connection_usable() {
            self.connection.is_broken = true;
            self.lose(true);
        } else if is_statements && failed_with.is_some_and(needs_check) {
            self.go_to(State::CheckUndone);
        } else {
            self.lose(self.attempt.may_have_ended_transaction() || fault.may_end_transaction());
        }
    }

    /// `no`: the error by which the server said that something of it is perhaps kept.
    pub(super) fn undone_checked(&mut self, no: Option<Fault>) {
        let undone = no.is_none();
        self.connection.is_broken |= no.is_some_and(|fault| !fault.leaves_connection_usable());
        if self.connection.is_savepoint() {
            self.lose(undone);
        } else if undone {
            self.undone(Enclosing::Alive);
        } else {
            self.finish_unknown();
        }
    }

    /// The transaction around this savepoint is gone.
    pub(super) fn lose(&mut self, undone: bool) {
        if let Some(seat) = self.connection.seat() {
            seat.set_lost(EnclosingLoss {
                // The operations around this one judge it for themselves.
                fault: self.attempt.fault().map(Fault::as_recognized),
                undone,
                saved_values_overwritten: false,
            });
        }
        let containment = self.dialect.containment().unwrap_or_default();
        self.contain(if self.attempt.body_ended_it {
            // No ROLLBACK has restored the settings.
            let restoration = self.connection.batches().restoration();
            Cow::Owned(format!("{restoration}{containment}"))
        } else {
            Cow::Borrowed(containment)
        });
    }

    /// Sends what is left to be done in a savepoint whose transaction is gone.
    pub(super) fn contain(&mut self, sql: Cow<'static, str>) {
        if self.connection.is_broken || sql.is_empty() {
            self.decide_lost();
        } else {
            self.go_to(State::Contain(sql));
        }
    }

    pub(super) fn contained(&mut self, succeeded: bool) {
        self.connection.is_broken |= !succeeded;
        self.decide_lost();
    }

    fn decide_lost(&mut self) {
        // In a transaction that an operation opened, that operation cleans up. In the caller's,
        // only a connection that refuses to commit keeps an Ok from the caller.
        self.connection.is_broken |= self.connection.is_in_callers_transaction();
        if self.connection.loss().is_none_or(|loss| loss.undone) {
            self.undone(Enclosing::Lost);
        } else {
            self.finish_unknown();
        }
    }

    /// `gone`: there was no transaction left to roll back.
    pub(super) fn decide_after_rollback(&mut self, gone: bool) {
        if self.connection.is_savepoint() {
            return self.undone(Enclosing::Alive);
        }
        match self.rolled_back_facts(gone).decide() {
            AfterRollback::Undone => self.undone(Enclosing::Alive),
            AfterRollback::Unknown => self.finish_unknown(),
            AfterRollback::CheckUndone => self.go_to(State::CheckUndone),
            AfterRollback::Resolve => self.commit_unknown(),
        }
    }

    fn rolled_back_facts(&self, gone: bool) -> RolledBack {
        let fault = self.attempt.fault();
        let phase = self.attempt.failure.map(|failure| failure.phase);
        RolledBack {
            phase: match phase {
                Some(Phase::Begin) => FailedPhase::Begin,
                Some(Phase::Commit) => FailedPhase::Commit,
                _ => FailedPhase::Body,
            },
            gone,
            body_ended_it: self.attempt.body_ended_it,
            lost: self.connection.loss().is_some(),
            loss_undone: self.connection.loss().is_some_and(|loss| loss.undone),
            token_found: fault.is_some_and(|fault| self.found_token(&fault)),
            commit_refused: self.attempt.commit_not_reached
                || fault.is_none_or(|fault| self.dialect.commit_error_is_definite(&fault)),
            commit_is_last: self.connection.batches().commit_is_last(),
            committed_early: fault
                .is_some_and(|fault| fault.recognized_class() == FaultClass::TransactionLost),
            needs_check: fault.is_some_and(|fault| fault.needs_undone_check()),
            connection_broken: self.connection.is_broken,
            server_may_have_ended_it: self.attempt.may_have_ended_transaction(),
        }
    }
}

/// How a transaction is undone without looking whether it is still there.
pub(super) fn undo_unchecked(batches: &Batches) -> Undo {
    match batches.has(Undo::BlindRollback) {
        true => Undo::BlindRollback,
        false => Undo::Rollback,
    }
}

/// What is known after the ROLLBACK of a transaction.
#[derive(Clone, Copy, Debug)]
struct RolledBack {
    phase: FailedPhase,
    /// There was no transaction left to roll back.
    gone: bool,
    body_ended_it: bool,
    /// A nested operation found that this transaction had gone,
    lost: bool,
    /// and that it was undone.
    loss_undone: bool,
    /// The token of this operation was there before it was written.
    token_found: bool,
    /// The error to the COMMIT proves that it was not carried out.
    commit_refused: bool,
    /// Nothing follows the COMMIT in its batch.
    commit_is_last: bool,
    /// The COMMIT found that the transaction had been committed before it, by DDL.
    committed_early: bool,
    /// It takes a question to know whether the server has undone the transaction.
    needs_check: bool,
    connection_broken: bool,
    /// The fault can have made the server end the transaction.
    server_may_have_ended_it: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailedPhase {
    Begin,
    Body,
    Commit,
}

/// What the ROLLBACK of a transaction says about the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterRollback {
    Undone,
    Unknown,
    /// The server is asked whether it has undone the transaction that is gone.
    CheckUndone,
    /// It is unknown whether the COMMIT happened; the operation may have a way to find out.
    Resolve,
}

impl RolledBack {
    fn decide(&self) -> AfterRollback {
        let rule = RULES.iter().find(|(applies, _)| applies(self));
        rule.map_or(AfterRollback::Unknown, |(_, then)| *then)
    }
}

type Rule = (fn(&RolledBack) -> bool, AfterRollback);

/// The first rule that applies decides.
const RULES: [Rule; 13] = {
    use AfterRollback::{CheckUndone, Resolve, Undone, Unknown};
    use FailedPhase::{Begin, Commit};

    [
        // By its COMMIT or its ROLLBACK: that is not seen.
        (|it| it.body_ended_it, Unknown),
        // What the nested operation has found out holds.
        (|it| it.lost && it.loss_undone, Undone),
        (|it| it.lost, Unknown),
        // An attempt that seemed to be undone was committed, as far as it had come.
        (|it| it.phase == Begin && it.token_found, Unknown),
        (|it| it.phase == Begin, Undone),
        // What is gone was rolled back by the server or, if something follows the COMMIT in its
        // batch, committed.
        (
            |it| it.phase == Commit && it.commit_refused && (!it.gone || it.commit_is_last),
            Undone,
        ),
        (|it| it.phase == Commit && it.committed_early, Unknown),
        (|it| it.phase == Commit, Resolve),
        // The body failed, and its transaction was there to be rolled back.
        (|it| !it.gone, Undone),
        (|it| it.needs_check && it.connection_broken, Unknown),
        (|it| it.needs_check, CheckUndone),
        // Rolled back by the server, or committed by the body.
        (|it| it.server_may_have_ended_it, Undone),
        (|_| true, Unknown),
    ]
};

#[cfg(test)]
#[path = "rollback_tests.rs"]
mod tests;
