//! The class that the user gives a fault.
//!
//! It decides about retries and is what records and reports show. What has happened on the server
//! is decided by the recognized class alone, wherever the machine asks for it.

use super::Machine;
use super::state::State;
use super::step::ErrorSlot;
use crate::classifier::Seen;
use crate::fault::{Fault, FaultClass};
use crate::nesting::Seat;
use crate::outcome::Phase;
use crate::policy::ClassRule;
use crate::retry::{Advice, Scope};

impl Machine<'_> {
    /// Whether there is a classifier, which sees the database's messages.
    #[must_use]
    pub const fn has_classifier(&self) -> bool {
        self.spec.classifier.is_some() || self.config.has_classifier()
    }

    /// The fault in an error of the user's code and what the error says about itself, as
    /// [`judged`](Self::judged). A class that the error names is given to the fault.
    #[must_use]
    pub fn judged_error(
        &self,
        fault: Option<Fault>,
        advice: Advice,
        message: &str,
    ) -> (Option<Fault>, Advice) {
        match advice {
            Advice::As(class) => {
                // The server has nothing to do with it, so there is nothing to ask it for.
                let own = || Fault::from_class(self.dialect, FaultClass::Permanent);
                let fault = fault.unwrap_or_else(own).judged_as(class);
                (Some(fault), Advice::Judge)
            }
            _ => (fault.map(|fault| self.judged(fault, message)), advice),
        }
    }

    /// The fault with which the present step has failed, as the user judges it. Only the first error
    /// of an attempt is judged: what is asked and undone after it is dbop's own. `message` is the
    /// database's text; it is used only if there is a [classifier](Self::has_classifier).
    #[must_use]
    pub fn judged(&self, fault: Fault, message: &str) -> Fault {
        let phase = match self.state {
            _ if self.slot() != ErrorSlot::First => return fault,
            State::Connect => Phase::Connect,
            State::Begin => Phase::Begin,
            State::Commit | State::CommitAgain if self.connection.is_savepoint() => Phase::Release,
            State::Commit | State::CommitAgain => Phase::Commit,
            _ => Phase::Body,
        };
        self.judge_fault(fault, phase, message)
    }

    /// First what the policy says about the code, then the operation's classifier or, if it leaves
    /// the class alone, the runner's.
    pub(super) fn judge_fault(&self, fault: Fault, phase: Phase, message: &str) -> Fault {
        let known = fault
            .code()
            .and_then(|code| self.config.policy().class_of(code));
        let fault = known.map_or(fault, |class| fault.judged_as(class));
        let seen = Seen {
            fault,
            phase,
            scope: self.scope(),
            message,
        };
        let operation = self.spec.classifier.and_then(|own| (own.0)(&seen));
        let class = operation.or_else(|| self.config.classify(&seen));
        class.map_or(fault, |class| fault.judged_as(class))
    }

    /// Where the present attempt runs.
    pub(super) fn scope(&self) -> Scope {
        if self.connection.is_savepoint() {
            let immediate = self.connection.seat().is_some_and(Seat::is_immediate);
            Scope::Savepoint { immediate }
        } else {
            Scope::Transaction
        }
    }

    /// What the operation or else the policy says about a class.
    pub(super) fn rule(&self, class: FaultClass) -> Option<ClassRule> {
        let policy = self.config.policy();
        self.spec.classes.rule(class).or(policy.rule(class))
    }
}
