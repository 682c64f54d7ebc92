//! Operations without a transaction: each statement is committed by itself.
//!
//! What a statement has done is done, and how many of them there were is not known. So a body that has
//! failed is undone only if it promised to write nothing, and is tried again only if that or its being
//! idempotent was promised.

use super::Machine;
use super::attempt::{Failure, FailureAnswer};
use super::ending::Enclosing;
use super::state::State;
use crate::dialect::Undo;
use crate::error::Kind;
use crate::fault::Fault;
use crate::nesting::UserCode;
use crate::outcome::Phase;

impl Machine<'_> {
    /// Whether the attempts have no transaction.
    #[must_use]
    pub fn is_without_transaction(&self) -> bool {
        self.connection.is_autocommit()
    }

    /// Nothing is sent: the body comes first.
    pub(super) fn begin_without_transaction(&mut self) {
        self.state = State::Body;
        self.connection.set_user_code(UserCode::Autocommit);
    }

    /// The body has ended, with its failure recorded.
    pub(super) fn statements_done(&mut self, depth: Option<u32>) {
        match depth {
            None => {
                self.note_broken_in_body();
                self.connection.is_broken = true;
                self.undone(Enclosing::Alive);
            }
            Some(0) if self.attempt.failure.is_none() => self.succeed(),
            Some(0) => {
                let is_lost = |fault: Fault| !fault.leaves_connection_usable();
                self.connection.is_broken |= self.attempt.fault().is_some_and(is_lost);
                self.undone(Enclosing::Alive);
            }
            Some(_) => {
                let left_open = FailureAnswer::Own(Kind::LeftOpen);
                self.attempt.fail(Phase::Body, None, left_open);
                self.go_to(State::Rollback(Undo::LeftOpen));
            }
        }
    }

    /// What the body has left open was rolled back, or not: then only discarding the connection ends it.
    pub(super) fn left_open_rolled_back(&mut self, fault: Option<Fault>) {
        self.attempt.rollback_fault = fault;
        self.connection.is_broken |= fault.is_some();
        self.undone(Enclosing::Alive);
    }

    /// Whether something that the failed attempt has done may be there for good.
    pub(super) fn may_be_done(&self, failure: &Failure) -> bool {
        self.ran_without_transaction(failure) && !self.spec.settings.read_only
    }

    /// Whether the attempt has failed in a body that had no transaction.
    pub(super) fn ran_without_transaction(&self, failure: &Failure) -> bool {
        self.connection.is_autocommit() && failure.phase == Phase::Body
    }
}
