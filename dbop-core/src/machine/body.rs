//! From BEGIN through the body to COMMIT, and what goes wrong on the way.

use super::Machine;
use super::attempt::FailureAnswer;
use super::state::State;
use super::step::BodyEnd;
use crate::dialect::{CurrentTransaction, Dialect, Undo};
use crate::error::Kind;
use crate::fault::{Fault, FaultClass};
use crate::nesting::{EnclosingLoss, UserCode};
use crate::outcome::Phase;
use crate::spec::Resolution;

impl Machine<'_> {
    pub(super) fn begun(&mut self, result: Result<(), Fault>) {
        match result {
            Ok(()) => {
                self.learn_of_laxer_session();
                self.key_is_taken();
                self.go_to(State::Body);
            }
            Err(fault) => self.batch_failed(fault),
        }
    }

    pub(super) fn committed(&mut self, result: Result<(), Fault>) {
        match result {
            Ok(()) => self.succeed(),
            Err(fault) if !self.connection.is_savepoint() && self.commit_again(fault) => {}
            Err(fault) => self.batch_failed(fault),
        }
    }

    /// The body has ended. `depth` is the number of transactions and savepoints now open on the
    /// connection, `None` if its transaction manager is in an error state.
    pub fn body_done(&mut self, end: BodyEnd, depth: Option<u32>) {
        debug_assert!(matches!(self.state, State::Body), "no body was asked for");
        self.connection.set_user_code(UserCode::Nothing);
        match end {
            BodyEnd::Ok => {}
            BodyEnd::Failed { fault, advice } => {
                self.attempt
                    .fail(Phase::Body, fault, FailureAnswer::FirstError);
                if let Some(failure) = &mut self.attempt.failure {
                    failure.advice = advice;
                }
            }
            BodyEnd::Panicked => self.attempt.fail(Phase::Body, None, FailureAnswer::Panic),
        }
        if self.take_answer(&end, depth) {
            return self.commit_refusal();
        }
        if self.connection.is_autocommit() {
            return self.statements_done(depth);
        }
        if let Some(loss) = self.connection.loss() {
            self.connection.is_broken |= depth.is_none() || loss.saved_values_overwritten;
            return self.enclosing_lost(loss);
        }
        let inside = self.connection.level().inside();
        match depth {
            None => self.broke_in_body(),
            // Diesel has noticed that SQLite dropped the transaction. On the others only the body
            // can have done that.
            Some(depth)
                if depth < inside
                    && self.dialect == Dialect::Sqlite
                    && self.attempt.may_have_ended_transaction() =>
            {
                self.roll_back();
            }
            Some(depth) if depth < inside => self.body_ended_transaction(),
            Some(depth) if depth > inside && self.attempt.failure.is_none() => {
                let unbalanced = FailureAnswer::Own(Kind::Unbalanced);
                self.attempt.fail(Phase::Body, None, unbalanced);
                self.roll_back();
            }
            Some(_) if self.attempt.failure.is_some() => self.roll_back(),
            Some(_) if self.needs_transaction_id() => self.go_to(State::ReadId),
            Some(_) => self.go_to(State::Commit),
        }
    }

    /// The id of the transaction was read.
    pub(super) fn id_read(&mut self, result: Result<Option<String>, Fault>) {
        match result {
            Ok(answer) => {
                let CurrentTransaction { is_ours, id } =
                    CurrentTransaction::from_answer(answer.as_deref());
                // The id of another transaction says nothing. COMMIT tells what the body has done.
                self.attempt.transaction_id = is_ours.then_some(id);
                self.go_to(State::Commit);
            }
            Err(fault) => self.batch_failed(fault),
        }
    }

    fn needs_transaction_id(&self) -> bool {
        matches!(self.spec.resolution, Resolution::TransactionStatus)
            && self.dialect == Dialect::Postgres
            && !self.connection.is_savepoint()
            && !self.connection.is_read_only()
    }

    pub(super) fn batch_failed(&mut self, fault: Fault) {
        let phase = self.failing_phase(&fault);
        let fault = self.of_lost_row(fault, phase);
        self.note_at_key(phase, &fault);
        let answer = match (phase, fault.recognized_class()) {
            // The body said Ok although the server had refused its transaction.
            (Phase::Commit | Phase::Release, FaultClass::TransactionAborted) => {
                FailureAnswer::Own(Kind::RolledBack)
            }
            (Phase::Release, FaultClass::TransactionLost) => {
                FailureAnswer::Own(Kind::TransactionLost)
            }
            _ => FailureAnswer::FirstError,
        };
        self.attempt.fail(phase, Some(fault), answer);
        if !fault.leaves_connection_usable() {
            return self.connection_gone();
        }
        let undo = self.how_to_undo();
        if undo == Undo::FailedBegin && self.connection.batches().undo(undo).is_empty() {
            return self.decide_after_rollback(false);
        }
        self.roll_back();
    }

    /// The row of the operation is gone, and with it what was written before.
    pub(super) fn of_lost_row(&self, fault: Fault, phase: Phase) -> Fault {
        let closes = matches!(phase, Phase::Commit | Phase::Release);
        let is_checked = closes && self.connection.batches().has_token();
        match is_checked && self.dialect.is_of_lost_row(&fault) {
            true => fault.as_deadlock(),
            false => fault,
        }
    }

    /// A nested operation found that the server had dropped the transaction around it.
    fn enclosing_lost(&mut self, loss: EnclosingLoss) {
        // What the body made of that, even an Ok, does not matter; but its error stays the one
        // that is reported.
        let lost = FailureAnswer::Own(Kind::TransactionLost);
        let seen = self.attempt.fault();
        let fault = match loss.fault {
            // The body has handed it on, and it was judged by its message.
            Some(fault) if seen.is_some_and(|seen| seen.as_recognized() == fault) => seen,
            Some(fault) => Some(self.judge_found(fault, Phase::Body, "")),
            None => None,
        };
        self.attempt.fail(Phase::Body, fault, lost);
        if let Some(failure) = &mut self.attempt.failure {
            if failure.answer != FailureAnswer::Panic {
                failure.fault = fault.or(failure.fault);
            }
        }
        if self.connection.is_savepoint() {
            // There is nothing to roll back, but the settings are still ours.
            let restoration = self.connection.batches().restoration().to_owned();
            self.contain(restoration.into());
        } else if self.connection.is_broken {
            self.decide_after_rollback(true);
        } else {
            self.roll_back();
        }
    }

    /// The connection broke in the body, and the transaction with it.
    fn broke_in_body(&mut self) {
        self.note_broken_in_body();
        self.connection_gone();
    }

    pub(super) fn note_broken_in_body(&mut self) {
        let lost = Fault::from_class(self.dialect, FaultClass::ConnectionLost);
        let lost = self.judge_found(lost, Phase::Body, "");
        self.attempt
            .fail(Phase::Body, Some(lost), FailureAnswer::FirstError);
        if let Some(failure) = &mut self.attempt.failure {
            let hidden = |fault: Fault| fault.leaves_connection_usable();
            if failure.fault.is_none_or(hidden) {
                // The body hid it behind an error of its own, or behind an Ok.
                failure.fault = Some(lost);
            }
        }
    }

    /// The body committed or rolled back what it had not begun.
    fn body_ended_transaction(&mut self) {
        let unknown = FailureAnswer::Own(Kind::OutcomeUnknown);
        self.attempt.fail(Phase::Body, None, unknown);
        self.attempt.body_ended_it = true;
        if self.connection.is_savepoint() {
            self.lose(false);
        } else {
            // For the settings: the transaction is no longer ours to undo.
            self.roll_back();
        }
    }
}
