//! What is known of the work of a run that is dropped half-way.

use super::Machine;
use super::state::State;
use crate::outcome::{Outcome, Phase};

impl Machine<'_> {
    /// What became of the work, if the run is dropped here and its connection takes no further
    /// transaction: undone, unless a COMMIT is under way or has an answer that says nothing.
    #[must_use]
    pub fn outcome_if_dropped(&self) -> Outcome {
        if let State::Done(Some(done)) = &self.state {
            return done.outcome;
        }
        if self.history.unsettled || self.may_be_committed() {
            Outcome::Unknown
        } else {
            Outcome::Undone
        }
    }

    /// Whether the work of the present attempt is perhaps committed.
    fn may_be_committed(&self) -> bool {
        match self.state {
            // Before it begins and after it was undone.
            _ if !self.attempt.is_under_way => false,
            State::Pause(pause, _) if pause.settled => false,
            // A savepoint ends with the transaction around it, which can no longer be committed.
            State::Commit | State::CommitAgain | State::CommitRefusal(_) => {
                self.is_entered && !self.connection.is_savepoint() && !self.cannot_have_written()
            }
            // Each of its statements commits.
            State::Body | State::Rollback(_) if self.connection.is_autocommit() => {
                !self.spec.settings.read_only
            }
            State::CheckUndone | State::RollbackAgain { gone: true } => true,
            _ => {
                let is_unsure = self.connection.loss().is_some_and(|loss| !loss.undone);
                is_unsure || self.attempt.body_ended_it || self.commit_may_have_happened()
            }
        }
    }

    /// The COMMIT has failed with an error that does not say whether it was carried out, which may be asked
    /// now.
    fn commit_may_have_happened(&self) -> bool {
        let fault = self.attempt.fault();
        self.attempt.failed_in(Phase::Commit)
            && !self.cannot_have_written()
            && !self.attempt.commit_not_reached
            && !fault.is_some_and(|fault| self.dialect.commit_error_is_definite(&fault))
    }

    /// The server makes sure that the attempt has written nothing, or says so.
    pub(super) fn cannot_have_written(&self) -> bool {
        self.connection.is_read_only() || self.attempt.transaction_id == Some(None)
    }
}
