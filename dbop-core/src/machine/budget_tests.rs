//! The machine with a budget, against scripts with a clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reconnecting_tests::Given::{self, Fails, Fine};
use super::reconnecting_tests::Script;
use super::tests::{self, failed, new_key};
use super::*;
use crate::backoff::Jitter;
use crate::budget::RetryBudget;
use crate::fault::FaultClass;
use crate::outcome::{Outcome, StopReason};
use crate::policy::RetryPolicy;

const SECOND: Duration = Duration::from_secs(1);

/// So many retries, and no more.
fn retries(count: u32) -> Arc<RetryBudget> {
    Arc::new(RetryBudget::token_bucket(5 * count))
}

fn script(budget: &Arc<RetryBudget>) -> Script {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.budget = Some(Arc::clone(budget));
    script.time = Some((Instant::now(), Duration::ZERO));
    script.policy = script.policy.with_max_retries(5);
    script
}

fn left(budget: &RetryBudget) -> u32 {
    budget.retries_left(Instant::now())
}

fn deadlocks() -> impl Iterator<Item = Given> {
    let deadlock = fault(FaultClass::Deadlock);
    [Fine, Fine, deadlock, Fine].into_iter().cycle().take(400)
}

fn fault(class: FaultClass) -> Given {
    Fails(Fault::from_class(Dialect::Postgres, class))
}

#[test]
fn a_spent_budget_stops_the_operation_at_once_with_its_own_error() {
    let budget = retries(2);
    let mut script = script(&budget);
    let done = script.run(deadlocks());
    assert_eq!((done.attempts, done.stop), (3, StopReason::BudgetExhausted));
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(matches!(done.answer, Answer::FirstError));
    assert!(done.fallback_allowed && !done.connection_broken);
    assert_eq!(script.delays.len(), 2);
    let end = &script.steps[script.steps.len() - 2..];
    assert_eq!(end, ["Rollback", "BudgetExhausted"]);
    // Of the next one the first attempt is not refused.
    let done = script.run(deadlocks());
    assert_eq!((done.attempts, done.stop), (1, StopReason::BudgetExhausted));
    let done = script.run([]);
    assert_eq!(done.stop, StopReason::Succeeded);
}

#[test]
fn an_error_of_dbops_own_says_that_the_budget_was_spent() {
    let refused = fault(FaultClass::NotConnected);
    for (count, exhausted) in [(0, true), (100, false)] {
        let done = script(&retries(count)).run([refused; 20]);
        let Answer::Own(error) = done.answer else {
            panic!("{done:?}");
        };
        assert!(error.is_no_connection());
        assert_eq!(error.is_budget_exhausted(), exhausted);
    }
}

/// It may have been done, and is not done again, so nothing more is known.
#[test]
fn an_idempotent_operation_whose_outcome_is_unknown_stays_unknown() {
    let mut script = script(&retries(0));
    script.spec.idempotent = true;
    let lost = fault(FaultClass::ConnectionLost);
    let done = script.run([Fine, Fine, Fine, lost]);
    assert_eq!((done.attempts, done.outcome), (1, Outcome::Unknown));
    assert!(matches!(done.answer, Answer::Own(error)
        if error.is_outcome_unknown() && error.is_budget_exhausted()));
}

#[test]
fn a_success_is_paid_in_once_and_a_retry_paid_for_once() {
    let budget = Arc::new(RetryBudget::token_bucket(100));
    _ = script(&budget).run(deadlocks());
    assert_eq!(left(&budget), 15, "five retries");
    _ = script(&budget).run([]);
    assert_eq!(left(&budget), 15);
    for _ in 0..4 {
        _ = script(&budget).run([]);
    }
    assert_eq!(left(&budget), 16, "five successes");
    let done = script(&budget).run(deadlocks().take(4));
    assert_eq!((done.attempts, done.stop), (2, StopReason::Succeeded));
    assert_eq!(left(&budget), 16, "what its retry has cost is back");
}

#[test]
fn a_retry_that_the_deadline_forbids_costs_nothing() {
    let budget = retries(10);
    let mut script = script(&budget);
    script.policy = script.policy.with_initial_delay(10 * SECOND);
    script.policy = script.policy.with_max_delay(10 * SECOND);
    script.spec.deadline = Some(5 * SECOND);
    let done = script.run(deadlocks());
    assert_eq!(done.stop, StopReason::DeadlineExceeded);
    assert_eq!(left(&budget), 10);
}

/// The record of the retry takes until then.
#[test]
fn a_retry_that_comes_too_late_after_all_is_given_back() {
    let budget = retries(10);
    let mut script = script(&budget);
    script.spec.deadline = Some(5 * SECOND);
    // connect, BEGIN, body, ROLLBACK, Retrying
    script.slow_from = Some((5, 10 * SECOND));
    let done = script.run(deadlocks());
    assert_eq!(script.steps[4], "Retrying");
    assert_eq!(
        (done.attempts, done.stop),
        (1, StopReason::DeadlineExceeded)
    );
    assert_eq!(left(&budget), 10);
}

#[test]
fn asking_what_became_of_a_commit_costs_nothing() {
    let budget = retries(1);
    let mut script = script(&budget);
    script.spec.resolution = Resolution::Verify;
    let lost = fault(FaultClass::ConnectionLost);
    // connect, BEGIN, body, COMMIT; connect, look; connect, look
    let answers = [Fine, Fine, Fine, lost, Fine, lost, Fine, Given::Finds(true)];
    let done = script.run(answers);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
    assert_eq!(left(&budget), 1);
}

#[test]
fn a_busy_commit_is_paid_for_too() {
    let busy = Err(tests::fault(Dialect::Sqlite, FaultClass::Busy));
    for (count, stop, attempts) in [
        (0, StopReason::BudgetExhausted, 1),
        (1, StopReason::Succeeded, 1),
    ] {
        let mut script = tests::Script::new(Dialect::Sqlite);
        script.budget = Some(retries(count));
        let done = script.run(&[tests::OK, busy], |_| (BodyEnd::Ok, Some(1)));
        assert_eq!(
            (done.stop, done.attempts),
            (stop, attempts),
            "{:?}",
            script.steps
        );
        let last = script.steps.last().map(String::as_str);
        assert_eq!(last == Some("BudgetExhausted"), count == 0);
    }
}

/// Runs a step in an operation; all attempts of both fail. Returns the attempts of the outermost one, and
/// the bodies of the step.
fn nested(budget: &Arc<RetryBudget>, class: FaultClass) -> (Done, u32) {
    let (key, mut bodies) = (new_key(), 0);
    let fault = tests::fault(Dialect::Sqlite, class);
    let policy = RetryPolicy::new().with_max_retries(5);
    let mut outer = tests::Script::at(Dialect::Sqlite, key, 0).with_policy(policy);
    outer.budget = Some(Arc::clone(budget));
    let done = outer.run(&[], |_| {
        let mut step = tests::Script::at(Dialect::Sqlite, key, 1).with_policy(policy);
        step.budget = Some(Arc::clone(budget));
        step.run(&[], |_| {
            bodies += 1;
            failed(fault, 2)
        });
        failed(fault, 1)
    });
    (done, bodies)
}

#[test]
fn each_retry_of_nested_operations_is_paid_for_once() {
    // A deadlock is escalated, so the outermost operation is retried; SQLite's busy is retried by the
    // step.
    for (class, attempts) in [(FaultClass::Deadlock, 6), (FaultClass::Busy, 1)] {
        let budget = retries(100);
        let (done, bodies) = nested(&budget, class);
        assert_eq!((done.attempts, bodies), (attempts, 6));
        assert_eq!(left(&budget), 95, "{class}");
        let budget = retries(2);
        let (done, bodies) = nested(&budget, class);
        assert_eq!(
            (done.stop, bodies),
            (StopReason::BudgetExhausted, 3),
            "{class}"
        );
    }
}

#[test]
fn only_the_outermost_operation_is_a_success() {
    let budget = Arc::new(RetryBudget::share_of_successes(100, 10 * SECOND, 0));
    let (key, ok) = (new_key(), |depth| (BodyEnd::Ok, Some(depth)));
    let mut outer = tests::Script::at(Dialect::Postgres, key, 0);
    outer.budget = Some(Arc::clone(&budget));
    outer.run(&[], |_| {
        for _ in 0..3 {
            let mut step = tests::Script::at(Dialect::Postgres, key, 1);
            step.budget = Some(Arc::clone(&budget));
            step.run(&[], |_| ok(2));
        }
        ok(1)
    });
    assert_eq!(left(&budget), 1);
    // In a transaction of the caller's it is the step.
    let mut step = tests::Script::at(Dialect::Postgres, new_key(), 1);
    step.budget = Some(Arc::clone(&budget));
    step.run(&[], |_| ok(2));
    assert_eq!(left(&budget), 2);
}

/// A thousand operations begin, one each 100 ms, while the server is down. Each is retried up to 5 times.
fn retries_in_an_outage(budget: Option<Arc<RetryBudget>>) -> u32 {
    let start = Instant::now();
    let at = |number: u32| start + number * Duration::from_millis(100);
    let run = |number, answers: &[Given]| {
        let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
        script.policy = RetryPolicy::new()
            .with_jitter(Jitter::None)
            .with_initial_delay(Duration::ZERO);
        script.budget.clone_from(&budget);
        script.time = Some((at(number), Duration::ZERO));
        script.run(answers.iter().copied())
    };
    for number in 0..1000 {
        let done = run(number, &[]);
        assert_eq!(done.outcome, Outcome::Committed);
    }
    let refused = fault(FaultClass::NotConnected);
    let outage = (1000..2000).map(|number| run(number, &[refused; 10]).attempts - 1);
    let retries = outage.sum();
    // The server is back.
    assert_eq!(run(2000, &[]).outcome, Outcome::Committed);
    retries
}

#[test]
fn what_retries_add_to_the_load_in_an_outage_is_bounded() {
    assert_eq!(retries_in_an_outage(None), 5000);
    // 20 % of the 100 successes within 10 s, and 1 per second for 100 s, in windows of 9 s at least.
    let share = Arc::new(RetryBudget::share_of_successes(20, 10 * SECOND, 1));
    let added = retries_in_an_outage(Some(share));
    assert!((100..=20 + 12 * 10).contains(&added), "{added}");
    // 500 tokens, 10 for each.
    let tokens = Arc::new(RetryBudget::token_bucket(500));
    assert_eq!(retries_in_an_outage(Some(tokens)), 50);
}
