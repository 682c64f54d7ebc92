//! The class that the user gives a fault.
//!
//! It decides about retries and is what records and reports show. What has happened on the server
//! is decided by the recognized class alone, wherever the machine asks for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
        let fault = match advice {
            Advice::As(class) => {
                // The server has nothing to do with it, so there is nothing to ask it for.
                let own = || Fault::from_class(self.dialect, FaultClass::Permanent);
                Some(fault.unwrap_or_else(own).judged_as(class))
            }
            _ => fault.map(|fault| self.judged(fault, message)),
        };
        (fault, advice)
    }

    /// The fault with which the present step has failed, as the user judges it. Only the first error
    /// of an attempt is judged: what is asked and undone after it is dbop's own. `message` is the
    /// database's text; it is used only if there is a [classifier](Self::has_classifier).
    #[must_use]
    pub fn judged(&self, fault: Fault, message: &str) -> Fault {
        match self.slot() {
            ErrorSlot::First => self.judge_fault(fault, self.failing_phase(&fault), message),
            ErrorSlot::Rollback | ErrorSlot::Dropped => fault,
        }
    }

    /// The phase that this fault of the present step belongs to.
    pub(super) fn failing_phase(&self, fault: &Fault) -> Phase {
        match self.state {
            State::Connect => Phase::Connect,
            State::Begin | State::BeginAgain(_) | State::BeginWithRow(_) => Phase::Begin,
            State::Commit | State::CommitAgain | State::CommitRefusal(_)
                if self.connection.is_savepoint() =>
            {
                Phase::Release
            }
            State::Commit | State::CommitAgain | State::CommitRefusal(_) => Phase::Commit,
            // As the COMMIT would have told.
            State::ReadId if fault.recognized_class() == FaultClass::TransactionAborted => {
                Phase::Commit
            }
            _ => Phase::Body,
        }
    }

    /// First what the policy says about the code, then the operation's classifier or, if it leaves
    /// the class alone, the runner's.
    pub(super) fn judge_fault(&self, fault: Fault, phase: Phase, message: &str) -> Fault {
        let known = fault
            .code()
            .and_then(|code| self.retries.policy().class_of(code));
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

    /// A fault that the machine itself has found out about, as the user judges it: first what the
    /// error says, then, where there is no other text to judge by, what the user has said about the
    /// error's own text, then the classifier.
    pub(super) fn judge_found(&mut self, fault: Fault, phase: Phase, message: &str) -> Fault {
        if let Some(Advice::As(class)) = self.attempt.failure.map(|failure| failure.advice) {
            return fault.judged_as(class);
        }
        let by_text = self.undiagnosed().and_then(|seen| seen.judged_class());
        if let Some(class) = by_text.filter(|_| message.is_empty()) {
            return fault.judged_as(class);
        }
        let judge = || self.judge_fault(fault, phase, message);
        catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|payload| {
            self.user_code_panicked(payload);
            fault
        })
    }

    /// The classifier, the function for the delays or a hook panicked with this. The panic continues when
    /// everything is cleaned up; until then nothing is tried again.
    pub fn user_code_panicked(&mut self, payload: Box<dyn Any + Send>) {
        self.user_panic.get_or_insert(payload);
    }

    /// What the classifier, the function for the delays or a hook panicked with.
    pub fn take_user_panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.user_panic.take()
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
        let policy = self.retries.policy();
        self.spec.classes.rule(class).or(policy.rule(class))
    }
}
