//! What an adapter has to know to make attempts fail for the tests of an application.

use std::time::Instant;

use super::Machine;
use super::attempt::{Failure, FailureAnswer};
use crate::fault::Fault;
use crate::outcome::Phase;
use crate::retry::{Advice, Verdict};

impl Machine<'_> {
    /// Whether another operation runs around this one on the same connection.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        self.connection.is_nested()
    }

    /// Whether another attempt on the same connection would follow if the body failed now: with this
    /// fault or, without one, with an error that asks for it.
    #[must_use]
    pub fn would_retry(&self, fault: Option<Fault>, now: Instant) -> bool {
        let failure = Failure {
            phase: Phase::Body,
            fault,
            advice: match fault {
                Some(_) => Advice::Judge,
                None => Advice::Retry,
            },
            answer: FailureAnswer::FirstError,
        };
        let budget = self.config.retry_budget();
        self.judge(&failure) == Verdict::Retry
            && self.retries_left() > 0
            && self.retries.allows(failure.class())
            && budget.is_none_or(|budget| budget.retries_left(now) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SPEC, config, connect, fault, new_key, no_clock};
    use super::*;
    use std::sync::Arc;

    use crate::budget::RetryBudget;
    use crate::dialect::Dialect;
    use crate::fault::FaultClass;
    use crate::machine::{RunnerConfig, Step};
    use crate::policy::{ClassPolicy, RetryPolicy};

    /// Whether it would be tried again, with a fault of this class or with an error that asks for it, at
    /// this depth.
    fn would_retry(retries: u32, depth: u32, class: Option<FaultClass>) -> bool {
        let policy = RetryPolicy::new().with_max_retries(retries);
        may_retry(&config(policy), depth, class)
    }

    fn may_retry(config: &RunnerConfig, depth: u32, class: Option<FaultClass>) -> bool {
        let machine = Machine::new(Dialect::Postgres, config, &SPEC, false, no_clock);
        let mut machine = machine.expect("valid settings");
        connect(&mut machine, new_key(), depth);
        assert!(!machine.is_nested());
        let fault = class.map(|class| fault(Dialect::Postgres, class));
        machine.would_retry(fault, Instant::now())
    }

    #[test]
    fn without_retries_left_there_is_no_other_attempt() {
        for class in [None, Some(FaultClass::SerializationFailure)] {
            assert!(would_retry(1, 0, class));
            assert!(!would_retry(0, 0, class));
        }
    }

    #[test]
    fn what_the_policy_and_the_budget_forbid_is_no_other_attempt() {
        let class = FaultClass::SerializationFailure;
        let never = ClassPolicy::new().with_max_retries(0);
        let policy = RetryPolicy::new().with_class_policy(class, never);
        assert!(!may_retry(&config(policy), 0, Some(class)));
        assert!(may_retry(&config(policy), 0, None));
        let mut config = config(RetryPolicy::new());
        config.set_retry_budget(Arc::new(RetryBudget::token_bucket(0)));
        assert!(!may_retry(&config, 0, None));
        config.set_retry_budget(Arc::new(RetryBudget::token_bucket(100)));
        assert!(may_retry(&config, 0, None));
    }

    #[test]
    fn an_operation_within_another_is_nested() {
        let (config, key) = (config(RetryPolicy::new()), new_key());
        let begin = |depth| {
            let machine = Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock);
            let mut machine = machine.expect("valid settings");
            assert!(matches!(machine.step(no_clock), Step::Connect { .. }));
            connect(&mut machine, key, depth);
            machine
        };
        let mut outer = begin(0);
        assert!(!outer.is_nested());
        assert!(matches!(outer.step(no_clock), Step::Batch(_)));
        _ = outer.batch_done(Ok(()));
        assert!(matches!(outer.step(no_clock), Step::Body));
        assert!(begin(1).is_nested());
    }

    #[test]
    fn what_is_escalated_is_not_tried_again_in_place() {
        assert!(!would_retry(1, 1, Some(FaultClass::SerializationFailure)));
        assert!(would_retry(1, 1, None));
        assert!(!would_retry(1, 0, Some(FaultClass::ConnectionLost)));
        assert!(!would_retry(1, 0, Some(FaultClass::Constraint)));
    }
}
