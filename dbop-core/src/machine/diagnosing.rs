//! An error whose text is not known, or can be an application's: what else tells what it was?
//!
//! On MySQL and MariaDB the server itself keeps the number of the last error. A statement before
//! the ROLLBACK, in its batch, saves it from being forgotten (MySQL's ROLLBACK clears it, measured),
//! and one SELECT reads it. That takes a round trip only after an error that is not known, or that is
//! retried and known by its text alone, and none on a connection that may be lost. On PostgreSQL, and
//! for a lost connection everywhere, the answer to the ROLLBACK tells enough.

use super::Machine;
use super::attempt::FailureAnswer;
use super::keying::AtKey;
use super::state::State;
use crate::dialect::{Dialect, Undo};
use crate::error::Kind;
use crate::fault::{Code, Fault, FaultClass};
use crate::outcome::Phase;

impl Machine<'_> {
    /// Undoes the attempt, and has the server keep what it knows about an unknown error.
    pub(super) fn roll_back(&mut self) {
        let undo = self.how_to_undo();
        let keep = self
            .dialect
            .keep_diagnostics(self.config.defaults().profile());
        // What it was, the row of the key tells.
        let is_at_key = self.attempt.at_key != AtKey::Nothing;
        let wants_number = !is_at_key && (self.undiagnosed().is_some() || self.may_be_raised());
        let state = match keep.filter(|_| wants_number) {
            Some(keep) => {
                let undo_sql = self.connection.batches().undo(undo);
                State::DiagnosingRollback(undo, format!("{keep}; {undo_sql}"))
            }
            None => State::Rollback(undo),
        };
        self.go_to(state);
    }

    /// The error that the server reported, if its text is not known.
    pub(super) fn undiagnosed(&self) -> Option<Fault> {
        let is_unknown = |fault: &Fault| {
            fault.recognized_class() == FaultClass::Unknown && fault.code().is_none()
        };
        self.attempt.fault().filter(is_unknown)
    }

    /// The body failed with the text of an error that is retried, and a SIGNAL can have raised it. At
    /// BEGIN and COMMIT none can.
    pub(super) fn may_be_raised(&self) -> bool {
        let may_be_raised = |fault: Fault| fault.may_be_raised();
        self.attempt.failed_in(Phase::Body) && self.attempt.fault().is_some_and(may_be_raised)
    }

    pub(super) fn rolled_back_undiagnosed(&mut self, undo: Undo, fault: Option<Fault>) {
        match fault {
            Some(fault) if !fault.leaves_connection_usable() => {
                self.rolled_back(undo, Some(fault));
            }
            // Unless the transaction was not there, the server may not know the statement before the
            // ROLLBACK, as behind a proxy that parses SQL.
            Some(fault) if fault.recognized_class() != FaultClass::TransactionLost => {
                self.go_to(State::UndiagnosedRollback(undo));
            }
            fault => self.go_to(State::Diagnose(undo, fault)),
        }
    }

    /// What the server has kept was read: the number of an error, a space, and its message.
    /// `message` is that of the first error of the attempt. What was kept can be about another one:
    /// the body may have sent statements after it.
    pub fn diagnosed(&mut self, result: Result<Option<String>, Fault>, message: Option<&str>) {
        let State::Diagnose(undo, rollback) = self.state else {
            return debug_assert!(false, "no diagnosis was asked for");
        };
        match result {
            Ok(kept) => {
                let known = self.attempt.fault().and_then(|fault| fault.code());
                match errno_of(kept.as_deref(), message) {
                    Some((errno, message)) if known != Some(Code::Errno(errno)) => {
                        self.reclassify(Fault::of_errno(self.dialect, errno, message), message);
                    }
                    _ => {}
                }
                self.rolled_back(undo, rollback);
            }
            Err(fault) => {
                // What the ROLLBACK has answered stays true.
                self.connection.is_broken |= !fault.leaves_connection_usable();
                self.rolled_back(undo, rollback);
            }
        }
    }

    /// What the fault was is known now, and the user judges it again.
    fn reclassify(&mut self, fault: Fault, message: &str) {
        let Some(failure) = self.attempt.failure else {
            return;
        };
        let fault = self.of_lost_row(fault, failure.phase);
        let fault = self.judge_found(fault, failure.phase, message);
        if let Some(failure) = &mut self.attempt.failure {
            failure.fault = Some(fault);
            self.attempt.is_reclassified = true;
        }
        if !fault.leaves_connection_usable() {
            // The session has outlived it, but is not going to be of use.
            self.connection.is_broken = true;
        }
    }

    /// The fault of the present attempt, where more is known about it by now than its text told.
    #[must_use]
    pub fn reclassified(&self) -> Option<Fault> {
        self.attempt
            .fault()
            .filter(|_| self.attempt.is_reclassified)
    }

    /// The ROLLBACK has found the connection gone. An unknown error before that, in front of the
    /// COMMIT, was the connection's loss.
    pub(super) fn explain_by_lost_connection(&mut self) {
        if self.undiagnosed().is_some() && !self.attempt.failed_in(Phase::Commit) {
            let lost = Fault::from_class(self.dialect, FaultClass::ConnectionLost);
            self.reclassify(lost, "");
        }
    }

    /// PostgreSQL: the batch that ends with COMMIT failed with an unknown error, and the transaction
    /// was still there for the ROLLBACK. So the batch did not get as far as the COMMIT, because the
    /// server had refused the transaction: after a COMMIT that is refused, there is none. The same in
    /// a savepoint, where nothing but such a refusal fails the RELEASE.
    pub(super) fn commit_was_not_reached(&mut self) {
        self.attempt.commit_not_reached = true;
        if self.connection.batches().only_checks_before_commit() {
            if let Some(failure) = &mut self.attempt.failure {
                failure.answer = FailureAnswer::Own(Kind::RolledBack);
            }
            let aborted = Fault::from_class(self.dialect, FaultClass::TransactionAborted);
            self.reclassify(aborted, "");
        }
    }

    /// Whether the answer to the ROLLBACK tells if the COMMIT before it was reached.
    pub(super) fn asks_whether_commit_was_reached(&self) -> bool {
        let closing =
            self.attempt.failed_in(Phase::Commit) || self.attempt.failed_in(Phase::Release);
        self.dialect == Dialect::Postgres && closing && self.undiagnosed().is_some()
    }
}

/// The number in what was kept and the message, if it is about the error with this message.
fn errno_of<'m>(kept: Option<&str>, message: Option<&'m str>) -> Option<(u16, &'m str)> {
    let (errno, text) = kept?.split_once(' ')?;
    let message = message?.trim_end();
    let errno = errno.parse().ok().filter(|_| text == message)?;
    Some((errno, message))
}
