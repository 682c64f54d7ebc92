//! What the operation pays into the budget and takes from it.
//!
//! A retry is paid for when its pause is about to begin: by then the deadline has allowed it. What a deadline
//! forbids after all, because the time has passed since, is given back.

use std::time::Instant;

use super::Machine;
use super::attempt::Failure;
use super::state::{AfterPause, State};
use crate::budget::{Cost, RetryBudget, is_costly};

/// How the operation stands with the budget.
#[derive(Debug, Default)]
pub(super) struct Payment {
    pub(super) due: Due,
    /// What the last retry has cost.
    last: Option<Cost>,
    /// There was not enough for a retry.
    pub(super) is_refused: bool,
}

/// What there is to be settled at the next step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Due {
    #[default]
    Nothing,
    /// A retry is to be paid for.
    Retry,
    /// A retry is paid for, and its pause has not begun.
    Paid(Cost),
    /// The operation has succeeded.
    Success,
}

impl Machine<'_> {
    /// Whether there is something to settle with a budget, which takes the time.
    pub(super) fn settles_with_budget(&self) -> bool {
        self.retries.payment.due != Due::Nothing && self.config.retry_budget().is_some()
    }

    pub(super) fn settle_with_budget(&mut self, now: Option<Instant>) {
        let (Some(budget), Some(now)) = (self.config.retry_budget(), now) else {
            return;
        };
        let after = match self.state {
            State::Pause(_, after) => Some(after),
            _ => None,
        };
        let payment = &mut self.retries.payment;
        match (std::mem::take(&mut payment.due), after) {
            (Due::Success, _) => budget.deposit(payment.last, now),
            (Due::Retry, Some(after)) => self.pay_for_retry(budget, after, now),
            (paid @ Due::Paid(_), Some(_)) => payment.due = paid,
            // The deadline has forbidden the retry.
            (Due::Paid(cost), None) => budget.give_back(cost, now),
            (Due::Retry, None) | (Due::Nothing, _) => {}
        }
    }

    fn pay_for_retry(&mut self, budget: &RetryBudget, after: AfterPause, now: Instant) {
        let costly = |failure: Failure| is_costly(failure.class(), failure.phase);
        let is_costly = self.attempt.failure.is_some_and(costly);
        let payment = &mut self.retries.payment;
        if let Some(cost) = budget.withdraw(is_costly, now) {
            payment.last = Some(cost);
            payment.due = Due::Paid(cost);
        } else {
            payment.is_refused = true;
            self.stop_waiting(after);
        }
    }
}
