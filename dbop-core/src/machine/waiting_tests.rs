//! Waiting for a server until the deadline, against scripts: no retry is taken for it.

use std::time::{Duration, Instant};

use super::reconnecting_tests::Given::{self, Finds, Fine};
use super::reconnecting_tests::{Script, fault};
use super::*;
use crate::backoff::Jitter;
use crate::hooks::RetryDecision;
use crate::outcome::{Outcome, StopReason};
use crate::policy::{ClassPolicy, RetryContext, RetryPolicy};

/// A second between two attempts, two retries, and so many seconds until the deadline.
fn script(seconds: Option<u64>) -> Script {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.policy = RetryPolicy::new()
        .with_jitter(Jitter::None)
        .with_initial_delay(Duration::from_secs(1))
        .with_max_silent_losses(100)
        .with_max_retries(2);
    script.spec.deadline = seconds.map(Duration::from_secs);
    script.time = Some((Instant::now(), Duration::ZERO));
    script
}

fn pg(class: FaultClass) -> Given {
    fault(Dialect::Postgres, class)
}

/// The answers of an attempt that meets no server, or loses it before COMMIT.
fn attempts_without_server() -> Vec<Vec<Given>> {
    let lost = pg(FaultClass::ConnectionLost);
    vec![
        vec![pg(FaultClass::NotConnected)],
        vec![pg(FaultClass::ServerUnavailable)],
        vec![pg(FaultClass::ReadOnlyServer)],
        vec![lost],
        vec![Fine, lost],
        vec![Fine, Fine, lost],
        vec![Fine, Fine, pg(FaultClass::ServerUnavailable)],
        vec![Fine, Fine, pg(FaultClass::ReadOnlyServer), Fine],
        // A standby can say so at COMMIT as well: nothing is committed.
        vec![Fine, Fine, Fine, pg(FaultClass::ReadOnlyServer), Fine],
    ]
}

#[test]
fn a_deadline_says_how_long_a_server_is_waited_for() {
    for attempt in attempts_without_server() {
        let times = |times| std::iter::repeat_n(attempt.clone(), times).flatten();
        let done = script(Some(100)).run(times(20));
        assert_eq!(
            (done.attempts, done.outcome),
            (21, Outcome::Committed),
            "{attempt:?}"
        );
        let done = script(Some(10)).run(times(100));
        assert_eq!(done.stop, StopReason::DeadlineExceeded, "{attempt:?}");
        assert!(done.attempts >= 10, "{}", done.attempts);
        let done = script(None).run(times(100));
        assert_eq!(
            (done.attempts, done.stop),
            (3, StopReason::RetriesExhausted),
            "{attempt:?}"
        );
    }
}

#[test]
fn the_retries_are_left_for_what_else_goes_wrong() {
    let mut script = script(Some(100));
    let down = std::iter::repeat_n(pg(FaultClass::NotConnected), 20);
    let deadlock = [Fine, Fine, pg(FaultClass::Deadlock), Fine];
    let done = script.run(down.chain([deadlock; 10].into_iter().flatten()));
    assert_eq!(
        (done.attempts, done.stop),
        (23, StopReason::RetriesExhausted)
    );
}

#[test]
fn only_a_policy_that_retries_and_waits_does_so() {
    let refused = [pg(FaultClass::NotConnected); 100];
    let one = ClassPolicy::new().with_max_retries(1);
    let policy = script(None).policy;
    for (policy, attempts) in [
        (policy.with_max_retries(0), 1),
        (policy.with_class_policy(FaultClass::NotConnected, one), 2),
        // Without a delay there would be a hundred thousand attempts.
        (policy.with_initial_delay(Duration::ZERO), 3),
    ] {
        let mut script = script(Some(1000));
        script.policy = policy;
        let done = script.run(refused);
        assert_eq!(
            (done.attempts, done.stop),
            (attempts, StopReason::RetriesExhausted)
        );
    }
}

/// Without a pause it would try as fast as it can, whether the policy or a hook says so.
#[test]
fn a_wait_of_no_time_takes_a_retry() {
    let at_once = |_: &RetryContext| Duration::ZERO;
    let one = ClassPolicy::new().with_max_retries(1);
    let mut own = script(Some(1000));
    own.policy = own.policy.with_backoff_fn(at_once);
    let mut once = script(Some(1000));
    once.policy = own.policy.with_class_policy(FaultClass::NotConnected, one);
    let mut hooked = script(Some(1000));
    hooked.spec.hooks.before_retry = Some(&|_| RetryDecision::After(Duration::ZERO));
    for (mut script, attempts) in [(own, 3), (once, 2), (hooked, 3)] {
        let done = script.run([pg(FaultClass::NotConnected); 100]);
        assert_eq!(
            (done.attempts, done.stop),
            (attempts, StopReason::RetriesExhausted)
        );
    }
}

#[test]
fn a_question_that_waits_for_no_time_takes_a_retry() {
    let mut script = script(Some(1000));
    script.policy = script.policy.with_initial_delay(Duration::ZERO);
    script.spec.resolution = Resolution::Verify;
    let down = std::iter::repeat_n(pg(FaultClass::NotConnected), 20);
    let begun = [Fine, Fine, Fine, pg(FaultClass::ConnectionLost)];
    let done = script.run(begun.into_iter().chain(down));
    assert_eq!(done.outcome, Outcome::Unknown);
    let connects = script.steps.iter().filter(|step| *step == "connect");
    assert_eq!(connects.count(), 4, "the attempt, and three questions");
}

/// A COMMIT was lost and found not to have happened: the server is there.
#[test]
fn another_attempt_after_a_lost_commit_takes_a_retry() {
    let mut script = script(Some(1000));
    script.spec.resolution = Resolution::Verify;
    let lost = pg(FaultClass::ConnectionLost);
    let first = [Fine, Fine, Fine, lost, Fine, Finds(false)];
    // The connection of the answer is good for the next attempt.
    let next = [Fine, Fine, lost, Fine, Finds(false)];
    let done = script.run(first.into_iter().chain([next; 20].into_iter().flatten()));
    assert_eq!(done.attempts, 3);
}

#[test]
fn a_look_waits_for_a_server_and_takes_retries_only_if_that_has_answered() {
    let lost = pg(FaultClass::ConnectionLost);
    let begun = [Fine, Fine, Fine, lost];
    let mut waits = script(Some(1000));
    waits.spec.resolution = Resolution::Verify;
    let down = std::iter::repeat_n(pg(FaultClass::NotConnected), 20);
    let answers = begun.into_iter().chain(down).chain([Fine, Finds(true)]);
    let done = waits.run(answers);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
    // Nor has a server answered that the connection is lost to.
    let mut cut = script(Some(1000));
    cut.spec.resolution = Resolution::Verify;
    let looks = std::iter::repeat_n([Fine, lost], 20).flatten();
    let done = cut.run(begun.into_iter().chain(looks).chain([Fine, Finds(true)]));
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
    let mut looks = script(Some(1000));
    looks.spec.resolution = Resolution::Verify;
    let locked = std::iter::repeat_n([Fine, pg(FaultClass::LockTimeout)], 20);
    let done = looks.run(begun.into_iter().chain(locked.flatten()));
    assert_eq!(done.outcome, Outcome::Unknown);
    let looked = looks.steps.iter().filter(|step| *step == "verify").count();
    assert!(looked <= 3, "{looked}");
}
