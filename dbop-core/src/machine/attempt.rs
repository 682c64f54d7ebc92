//! One attempt: its number, and what went wrong in it.

use super::keying::AtKey;
use crate::dialect::TransactionId;
use crate::error::Kind;
use crate::fault::{Fault, FaultClass};
use crate::outcome::Phase;
use crate::retry::Advice;

/// What holds for one attempt. Replaced as a whole when the next one begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    /// Counted from 1. 0 before the first attempt.
    pub(super) number: u32,
    /// It has begun and is not yet over.
    pub(super) is_under_way: bool,
    /// The first thing that went wrong.
    pub(super) failure: Option<Failure>,
    /// What the ROLLBACK answered, if that was an error.
    pub(super) rollback_fault: Option<Fault>,
    /// The body committed or rolled back a transaction that it had not begun.
    pub(super) body_ended_it: bool,
    /// Its fault was recognised by more than the text of the error.
    pub(super) is_reclassified: bool,
    /// A statement of the body failed, and the error that the body returned does not show it.
    pub(super) hides_a_failure: bool,
    /// The retry after it was taken from those that are left.
    pub(super) has_taken_retry: bool,
    /// The retry after it waits for a server, and was taken from none.
    pub(super) waits: bool,
    /// The operation's hook wants no retry after it.
    pub(super) is_vetoed: bool,
    /// The batch that ends with COMMIT failed before the COMMIT.
    pub(super) commit_not_reached: bool,
    /// It waits for locks for a shorter time than the operation may.
    pub(super) is_hurried: bool,
    /// Its outcome was unknown, and it was found to be undone. That took time enough: the next
    /// attempt does not wait, and the connection of the answer is good for it.
    pub(super) is_resolved: bool,
    /// PostgreSQL's id of the transaction, once it is known. A transaction has none while it has
    /// written nothing.
    pub(super) transaction_id: Option<Option<TransactionId>>,
    /// What the batch that begins it has met at the operation's key.
    pub(super) at_key: AtKey,
}

impl Attempt {
    /// The next attempt, in which nothing has gone wrong yet.
    #[inline(never)]
    pub(super) fn begin_next(&mut self) {
        // What has not begun has nothing to be forgotten.
        if self.number > 0 || self.failure.is_some() {
            *self = Self {
                number: self.number,
                ..Self::default()
            };
        }
        self.number = self.number.saturating_add(1);
        self.is_under_way = true;
    }

    /// It begins once more: nothing has gone wrong yet.
    pub(super) fn begin_anew(&mut self) {
        *self = Self {
            number: self.number,
            is_under_way: self.is_under_way,
            ..Self::default()
        };
    }

    /// Records what went wrong, unless something had gone wrong before.
    pub(super) fn fail(&mut self, phase: Phase, fault: Option<Fault>, answer: FailureAnswer) {
        self.failure
            .get_or_insert(Failure::of(phase, fault, answer));
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.failure?.fault
    }

    pub(super) fn failed_in(&self, phase: Phase) -> bool {
        self.failure.is_some_and(|failure| failure.phase == phase)
    }

    /// The fault of this attempt can have ended the whole transaction on the server.
    pub(super) fn may_have_ended_transaction(&self) -> bool {
        self.fault()
            .is_some_and(|fault| fault.may_end_transaction())
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) phase: Phase,
    pub(super) fault: Option<Fault>,
    pub(super) advice: Advice,
    pub(super) answer: FailureAnswer,
}

impl Failure {
    pub(super) const fn of(phase: Phase, fault: Option<Fault>, answer: FailureAnswer) -> Self {
        Self {
            phase,
            fault,
            advice: Advice::Judge,
            answer,
        }
    }

    pub(super) fn class(&self) -> Option<FaultClass> {
        self.fault.map(|fault| fault.class())
    }

    /// The body returned an error that the database has nothing to do with.
    pub(super) fn is_own_error(&self) -> bool {
        self.fault.is_none() && self.answer == FailureAnswer::FirstError
    }

    /// It is about the transaction around this operation, which was lost.
    pub(super) fn is_loss(&self) -> bool {
        self.answer == FailureAnswer::Own(Kind::TransactionLost)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureAnswer {
    /// The error of the body or of the batch, as it is.
    FirstError,
    Own(Kind),
    Panic,
}
