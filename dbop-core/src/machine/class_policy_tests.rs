//! Limits and delays of classes, and of the user's function, against scripts.

use std::time::Duration;

use super::reconnecting_tests::{self, Given};
use super::tests::{self, OK, Script, errno, failed, fault, new_key, own_error};
use super::*;
use crate::backoff::Jitter;
use crate::fault::FaultClass;
use crate::outcome::{Outcome, Phase, StopReason};
use crate::policy::{ClassPolicy, RetryContext, RetryPolicy};

use FaultClass::{Deadlock, LockTimeout, NotConnected, SerializationFailure};

const fn at_most(max_retries: u32) -> ClassPolicy {
    ClassPolicy::new().with_max_retries(max_retries)
}

/// All classes alike: 5 retries from 100 ms on.
const ALIKE: RetryPolicy = RetryPolicy::new()
    .with_max_retries(5)
    .with_initial_delay(Duration::from_millis(100));

/// An operation whose attempts fail by these classes in turn, over and over.
fn run(policy: RetryPolicy, classes: &[FaultClass]) -> Done {
    let mut script = Script::new(Dialect::Postgres).with_policy(policy);
    run_script(&mut script, classes)
}

fn run_script(script: &mut Script, classes: &[FaultClass]) -> Done {
    let mut classes = classes.iter().copied().cycle();
    script.run(&[], |_| {
        let class = classes.next().expect("classes");
        failed(fault(Dialect::Postgres, class), 1)
    })
}

fn attempts(policy: RetryPolicy, classes: &[FaultClass]) -> u32 {
    let done = run(policy, classes);
    assert_eq!(done.stop, StopReason::RetriesExhausted);
    assert_eq!(done.outcome, Outcome::Undone);
    done.attempts
}

#[test]
fn a_class_can_have_fewer_retries() {
    let policy = ALIKE.with_class_policy(LockTimeout, at_most(1));
    assert_eq!(attempts(policy, &[LockTimeout]), 2);
    assert_eq!(attempts(policy, &[Deadlock]), 6);
    // Those of other classes are not its own.
    assert_eq!(attempts(policy, &[Deadlock, LockTimeout]), 4);
    let none = RetryPolicy::new().with_class_policy(LockTimeout, at_most(0));
    assert_eq!(attempts(none, &[LockTimeout]), 1);
}

/// Until the user says how often: then that holds for them too.
#[test]
fn conflicts_are_retried_more_often_than_what_else_fails() {
    let policy = RetryPolicy::new();
    for class in [Deadlock, SerializationFailure] {
        assert_eq!(attempts(policy, &[class]), 21);
        assert_eq!(attempts(policy.with_max_retries(1), &[class]), 2);
        let own = policy.with_class_policy(class, at_most(3));
        assert_eq!(attempts(own, &[class]), 4);
    }
    assert_eq!(attempts(policy, &[LockTimeout]), 6);
    // What else fails counts, too.
    assert_eq!(attempts(policy, &[LockTimeout, Deadlock]), 7);
}

#[test]
fn a_class_can_have_more_retries_and_the_limits_do_not_add_up() {
    let policy = RetryPolicy::new()
        .with_max_retries(2)
        .with_class_policy(Deadlock, at_most(7))
        .with_class_policy(SerializationFailure, at_most(5));
    assert_eq!(attempts(policy, &[LockTimeout]), 3);
    assert_eq!(attempts(policy, &[Deadlock]), 8);
    assert_eq!(attempts(policy, &[SerializationFailure]), 6);
    // The seventh retry is the last one, whatever they were for.
    assert_eq!(
        attempts(policy, &[Deadlock, Deadlock, SerializationFailure]),
        6
    );
    assert_eq!(attempts(policy, &[Deadlock, LockTimeout]), 4);
    let only_deadlocks = RetryPolicy::no_retries().with_class_policy(Deadlock, at_most(3));
    assert_eq!(attempts(only_deadlocks, &[Deadlock]), 4);
    assert_eq!(attempts(only_deadlocks, &[LockTimeout]), 1);
}

#[test]
fn an_operations_own_number_of_retries_is_not_lifted() {
    for (own, expected) in [(0, 1), (2, 3), (9, 8)] {
        let mut script = Script::new(Dialect::Postgres)
            .with_policy(RetryPolicy::new().with_class_policy(Deadlock, at_most(7)));
        script.max_retries = Some(own);
        let done = run_script(&mut script, &[Deadlock]);
        assert_eq!(done.attempts, expected, "{own}");
    }
}

/// The default of the conflicts is no limit that anyone has asked for.
#[test]
fn an_operations_own_number_of_retries_holds_after_conflicts_too() {
    for class in [Deadlock, SerializationFailure] {
        for own in [0, 3, 30] {
            let mut script = Script::new(Dialect::Postgres).with_policy(RetryPolicy::new());
            script.max_retries = Some(own);
            assert_eq!(run_script(&mut script, &[class]).attempts, own + 1);
        }
    }
}

#[test]
fn an_enormous_limit_is_a_limit() {
    let policy = RetryPolicy::new().with_class_policy(Deadlock, at_most(u32::MAX));
    assert_eq!(attempts(policy, &[Deadlock]), 65536);
}

/// Retries of all operations and of each of the nested ones have limits; bodies are counted.
fn bodies_of_nested(outer: RetryPolicy, inner: RetryPolicy, class: FaultClass) -> (u32, u32) {
    let timeout = fault(Dialect::Sqlite, class);
    let (key, mut bodies) = (new_key(), 0);
    let mut script = Script::at(Dialect::Sqlite, key, 0).with_policy(outer);
    let done = script.run(&[], |_| {
        let mut step = Script::at(Dialect::Sqlite, key, 1).with_policy(inner);
        step.run(&[], |_| {
            bodies += 1;
            failed(timeout, 2)
        });
        failed(timeout, 1)
    });
    (done.attempts, bodies)
}

#[test]
fn attempts_of_nested_operations_do_not_multiply_whatever_the_limits_of_classes() {
    let plain = ALIKE;
    let more = plain.with_class_policy(FaultClass::Busy, at_most(20));
    let one = plain.with_class_policy(FaultClass::Busy, at_most(1));
    // SQLite's busy is retried in a savepoint under BEGIN IMMEDIATE as often as the limits allow.
    assert_eq!(bodies_of_nested(plain, plain, FaultClass::Busy), (1, 6));
    // A step has no more than the operation around it has for all classes.
    assert_eq!(bodies_of_nested(plain, more, FaultClass::Busy), (1, 6));
    assert_eq!(bodies_of_nested(plain, one, FaultClass::Busy), (3, 6));
    // The outermost operation may add those that only it has: 21 bodies, not 6 times 21.
    assert_eq!(bodies_of_nested(more, plain, FaultClass::Busy), (16, 21));
    assert_eq!(bodies_of_nested(more, more, FaultClass::Busy), (16, 21));
    assert_eq!(bodies_of_nested(one, plain, FaultClass::Busy), (1, 6));
    assert_eq!(bodies_of_nested(one, one, FaultClass::Busy), (2, 4));
}

#[test]
fn the_limit_of_a_class_holds_where_there_is_no_connection() {
    let refused = Given::Fails(fault(Dialect::Postgres, NotConnected));
    for (limit, expected) in [(0, 1), (1, 2), (5, 6), (9, 10)] {
        let mut script = reconnecting_tests::Script::new(Dialect::Postgres, Resolution::Nothing);
        script.policy = script
            .policy
            .with_class_policy(NotConnected, at_most(limit));
        let done = script.run([refused; 20]);
        assert_eq!(done.attempts, expected, "{limit}");
    }
}

fn delays(policy: RetryPolicy, answers: &[Given]) -> Vec<Duration> {
    let mut script = reconnecting_tests::Script::new(Dialect::Postgres, Resolution::Nothing);
    script.policy = policy.with_jitter(Jitter::None);
    script.run(answers.iter().copied());
    script.delays
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_class_with_a_policy_counts_its_own_retries_for_its_delays() {
    use Given::{Fails, Fine};

    let own = ClassPolicy::new()
        .with_initial_delay(7 * MS)
        .with_max_delay(20 * MS);
    let policy = ALIKE.with_class_policy(Deadlock, own);
    let of = |class| Fails(fault(Dialect::Postgres, class));
    let (deadlock, conflict) = (of(Deadlock), of(SerializationFailure));
    let mut answers = vec![
        Fine, Fine, conflict, Fine, Fine, deadlock, Fine, Fine, conflict,
    ];
    answers.extend([Fine, Fine, Fine, deadlock, Fine, Fine, Fine, deadlock]);
    let slept = delays(policy, &answers);
    assert_eq!(slept[..3], [100 * MS, 7 * MS, 400 * MS], "{slept:?}");
}

#[test]
fn a_failure_to_connect_is_waited_for_as_its_class_says() {
    let refused = Given::Fails(fault(Dialect::Postgres, NotConnected));
    let plain = delays(RetryPolicy::new(), &[refused]);
    assert_eq!(plain, [1000 * MS]);
    let own = ClassPolicy::new().with_max_delay(3000 * MS);
    let longer = RetryPolicy::new().with_class_policy(NotConnected, own);
    assert_eq!(delays(longer, &[refused]), [3000 * MS]);
    let own = own.with_initial_delay(10 * MS);
    let sooner = RetryPolicy::new().with_class_policy(NotConnected, own);
    assert_eq!(delays(sooner, &[refused, refused]), [10 * MS, 20 * MS]);
}

fn by_hand(retry: &RetryContext) -> Duration {
    assert_eq!(retry.phase(), Phase::Body);
    let class = match retry.class() {
        Some(Deadlock) => 1000,
        Some(_) => 2000,
        None => 3000,
    };
    let previous = retry.previous_delay().map_or(7 * MS, |delay| delay / 1000);
    class * MS
        + retry.class_retries() * 100 * MS
        + retry.attempt() * 10 * MS
        + previous
        + if retry.delay() >= 100 * MS {
            1000 * 1000 * MS
        } else {
            Duration::ZERO
        }
}

#[test]
fn a_function_sees_what_there_is_to_see_and_has_the_last_word() {
    use Given::{Fails, Fine, Wants};

    let of = |class| Fails(fault(Dialect::Postgres, class));
    let answers = [
        Fine,
        Fine,
        of(Deadlock),
        Fine, // connect, BEGIN, body, ROLLBACK
        Fine,
        Fine,
        of(Deadlock),
        Fine,
        Fine,
        Fine,
        of(SerializationFailure),
        Fine,
        Fine,
        Fine,
        Wants,
    ];
    let policy = ALIKE.with_backoff_fn(by_hand);
    let slept = delays(policy, &answers);
    let previous = |delay: u32| delay * MS / 1000;
    let expected = [
        1_001_017 * MS,
        1_001_120 * MS + previous(1_001_017),
        1_002_030 * MS + previous(1_001_120) + previous(1_001_017) / 1000,
    ];
    assert_eq!(slept[..3], expected, "{slept:?}");
    assert!(
        slept[3] > 1_003_040 * MS && slept[3] < 1_005_000 * MS,
        "{slept:?}"
    );
}

#[test]
fn a_function_that_panics_stops_the_operation_after_the_rollback() {
    fn panics(_: &RetryContext) -> Duration {
        panic!("in the function")
    }
    let policy = RetryPolicy::new().with_backoff_fn(panics);
    let config = tests::config(policy);
    for at_commit in [false, true] {
        let spec = tests::SPEC;
        let now = tests::no_clock;
        let machine = Machine::new(Dialect::Sqlite, &config, &spec, false, now);
        let (mut machine, mut purposes) = (machine.expect("valid"), Vec::new());
        let busy = fault(Dialect::Sqlite, FaultClass::Busy);
        let done = loop {
            match machine.step(now) {
                Step::Connect { .. } => tests::connect(&mut machine, new_key(), 0),
                Step::Body if at_commit => machine.body_done(BodyEnd::Ok, Some(1)),
                Step::Body => {
                    let (end, depth) = failed(busy, 1);
                    machine.body_done(end, depth);
                }
                Step::Batch(batch) => {
                    purposes.push(batch.purpose);
                    let is_commit = batch.purpose == BatchPurpose::Commit;
                    _ = machine.batch_done(if is_commit { Err(busy) } else { OK });
                }
                Step::Report(_) => {}
                Step::Done(done) => break done,
                step => unreachable!("{step:?}"),
            }
        };
        assert_eq!(purposes.last(), Some(&BatchPurpose::Rollback));
        assert_eq!((done.attempts, done.outcome), (1, Outcome::Undone));
        let payload = machine.take_user_panic().expect("a panic");
        assert_eq!(payload.downcast_ref(), Some(&"in the function"));
    }
}

/// The transaction around it may hold locks.
#[test]
fn a_function_is_not_asked_where_there_is_no_pause() {
    fn panics(_: &RetryContext) -> Duration {
        panic!("asked")
    }
    let mut script = Script::at(Dialect::Mysql, new_key(), 1)
        .with_policy(RetryPolicy::new().with_backoff_fn(panics));
    let done = script.run(&[], |attempt| match attempt {
        1 => failed(errno(1205), 2),
        _ => own_error(2),
    });
    assert_eq!((done.attempts, done.stop), (2, StopReason::OwnError));
}

#[test]
fn an_operation_can_have_a_policy_of_its_own() {
    const ONE: RetryPolicy = RetryPolicy::new().with_max_retries(1);
    const NEVER: RetryPolicy = RetryPolicy::new().without_retry_on(Deadlock);
    let deadlock = Given::Fails(errno(1213));
    for (own, attempts) in [(None, 21), (Some(&ONE), 2), (Some(&NEVER), 1)] {
        let mut script = reconnecting_tests::Script::new(Dialect::Mysql, Resolution::Nothing);
        script.spec.policy = own;
        let answers = [Given::Fine, Given::Fine, deadlock, Given::Fine];
        let done = script.run(answers.into_iter().cycle().take(100));
        assert_eq!(done.attempts, attempts);
    }
}
