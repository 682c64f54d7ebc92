//! The user's word on a fault: it decides about retries, and never about what has happened.

use std::sync::Mutex;

use super::tests::{SPEC, config, connect, errno, new_key, no_clock};
use super::*;
use crate::classifier::{BorrowedClassifier, Classifier, Seen};
use crate::fault::{Code, FaultClass};
use crate::outcome::{Outcome, Phase, StopReason};
use crate::policy::{ClassRules, RetryPolicy};
use crate::retry::{Advice, Scope};

/// Runs an operation whose bodies fail with `fault` and say `advice`.
fn run(
    policy: RetryPolicy,
    change: impl FnOnce(&mut Spec<'_>),
    fault: Option<Fault>,
    advice: Advice,
) -> (Done, Option<Event>) {
    let config = config(policy);
    let mut spec = SPEC;
    change(&mut spec);
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, false, no_clock).expect("valid");
    let mut event = None;
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Body => {
                let (fault, advice) = machine.judged_error(fault, advice, "text");
                machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
            }
            Step::Report(report) => event = Some(report),
            Step::Pause(_) => {}
            Step::Done(done) => return (done, event),
            step => unreachable!("{step:?}"),
        }
    }
}

fn class(class: FaultClass) -> Option<Fault> {
    Some(Fault::from_class(Dialect::Postgres, class))
}

/// Attempts with a default policy whose retries are two.
fn attempts(
    change: impl FnOnce(&mut Spec<'_>),
    fault: Option<Fault>,
    advice: Advice,
) -> (u32, StopReason) {
    let (done, _) = run(POLICY, change, fault, advice);
    (done.attempts, done.stop)
}

const POLICY: RetryPolicy = RetryPolicy::new().with_max_retries(2);

#[test]
fn the_operation_has_the_first_word_then_the_runner_then_the_policy() {
    let deadlock: &Classifier<'_> = &|_| Some(FaultClass::Deadlock);
    let silent: &Classifier<'_> = &|_| None;
    let permanent = |_: &Seen<'_>| Some(FaultClass::Permanent);
    let code = Code::Errno(7);
    let policy = POLICY.with_class_of(code, FaultClass::LockTimeout);
    let fault = Fault::from_code(Dialect::Mysql, code);
    let judge = |own: Option<&Classifier<'_>>, shared: bool| {
        let mut config = config(policy);
        if shared {
            config.set_classifier(std::sync::Arc::new(permanent));
        }
        let spec = Spec {
            classifier: own.map(BorrowedClassifier),
            ..SPEC
        };
        let machine = Machine::new(Dialect::Mysql, &config, &spec, false, no_clock).expect("valid");
        assert_eq!(machine.has_classifier(), own.is_some() || shared);
        let judged = machine.judged(fault, "");
        assert_eq!(judged.recognized_class(), FaultClass::Unknown);
        judged.class()
    };
    assert_eq!(judge(None, false), FaultClass::LockTimeout);
    assert_eq!(judge(None, true), FaultClass::Permanent);
    assert_eq!(judge(Some(silent), true), FaultClass::Permanent);
    assert_eq!(judge(Some(silent), false), FaultClass::LockTimeout);
    assert_eq!(judge(Some(deadlock), true), FaultClass::Deadlock);
}

#[test]
fn a_classifier_sees_where_the_first_error_came_from_and_nothing_else() {
    let seen = Mutex::new(Vec::new());
    let classifier = |it: &Seen<'_>| {
        let about = (it.phase(), it.scope(), it.class(), it.message().to_owned());
        seen.lock().expect("no panic").push(about);
        None
    };
    for phase in [Phase::Begin, Phase::Body, Phase::Commit] {
        for depth in [0, 1] {
            let config = config(RetryPolicy::no_retries());
            let spec = Spec {
                classifier: Some(BorrowedClassifier(&classifier)),
                ..SPEC
            };
            let mut machine =
                Machine::new(Dialect::Postgres, &config, &spec, false, no_clock).expect("valid");
            loop {
                let fault = Fault::from_class(Dialect::Postgres, FaultClass::Constraint);
                match machine.step(no_clock) {
                    Step::Connect { .. } => connect(&mut machine, new_key(), depth),
                    Step::Batch(batch) => {
                        let fails = match batch.purpose {
                            BatchPurpose::Begin => phase == Phase::Begin,
                            BatchPurpose::Commit => phase == Phase::Commit,
                            // The ROLLBACK fails, and is not for the classifier.
                            _ => true,
                        };
                        let answer = match fails {
                            true => Err(machine.judged(fault, "text")),
                            false => Ok(()),
                        };
                        _ = machine.batch_done(answer);
                    }
                    Step::Body if phase == Phase::Body => {
                        let advice = Advice::Judge;
                        let (fault, advice) = machine.judged_error(Some(fault), advice, "text");
                        machine.body_done(BodyEnd::Failed { fault, advice }, Some(depth + 1));
                    }
                    Step::Body => machine.body_done(BodyEnd::Ok, Some(depth + 1)),
                    Step::Report(_) => {}
                    Step::Done(_) => break,
                    step => unreachable!("{step:?}"),
                }
            }
        }
    }
    let savepoint = Scope::Savepoint { immediate: false };
    let expected = [
        (Phase::Begin, Scope::Transaction),
        (Phase::Begin, savepoint),
        (Phase::Body, Scope::Transaction),
        (Phase::Body, savepoint),
        (Phase::Commit, Scope::Transaction),
        (Phase::Release, savepoint),
    ];
    let expected = expected.map(|(phase, scope)| {
        let text = String::from("text");
        (phase, scope, FaultClass::Constraint, text)
    });
    assert_eq!(*seen.lock().expect("no panic"), expected);
}

#[test]
fn a_class_that_is_excluded_is_not_retried_whatever_else_is_said() {
    let deadlock = class(FaultClass::Deadlock);
    let never = |spec: &mut Spec<'_>| spec.classes = ClassRules::NONE.never(FaultClass::Deadlock);
    let also = |spec: &mut Spec<'_>| spec.classes = ClassRules::NONE.also(FaultClass::Deadlock);
    let given_up = (1, StopReason::NotRetryable);
    assert_eq!(attempts(never, deadlock, Advice::Judge), given_up);
    assert_eq!(attempts(never, deadlock, Advice::Retry), given_up);
    let timeout = class(FaultClass::LockTimeout);
    let retried = (3, StopReason::RetriesExhausted);
    assert_eq!(attempts(never, timeout, Advice::Judge), retried);

    let policy = POLICY.without_retry_on(FaultClass::Deadlock);
    let (done, _) = run(policy, |_| {}, deadlock, Advice::Judge);
    assert_eq!((done.attempts, done.stop), given_up);
    // The operation knows better.
    let (done, _) = run(policy, also, deadlock, Advice::Judge);
    assert_eq!((done.attempts, done.stop), retried);
    let policy = POLICY.with_retry_on(FaultClass::Deadlock);
    let (done, _) = run(policy, never, deadlock, Advice::Judge);
    assert_eq!((done.attempts, done.stop), given_up);
}

#[test]
fn a_class_can_be_added_for_one_operation() {
    let canceled = class(FaultClass::Canceled);
    let also = |spec: &mut Spec<'_>| spec.classes = ClassRules::NONE.also(FaultClass::Canceled);
    let given_up = (1, StopReason::NotRetryable);
    assert_eq!(attempts(|_| {}, canceled, Advice::Judge), given_up);
    let retried = (3, StopReason::RetriesExhausted);
    assert_eq!(attempts(also, canceled, Advice::Judge), retried);
}

#[test]
fn an_error_can_name_its_class() {
    let advice = Advice::As(FaultClass::SerializationFailure);
    let retried = (3, StopReason::RetriesExhausted);
    assert_eq!(attempts(|_| {}, None, advice), retried);
    // It has the word before every classifier.
    let permanent: &Classifier<'_> = &|_| Some(FaultClass::Permanent);
    let judge = |spec: &mut Spec<'_>| spec.classifier = Some(BorrowedClassifier(permanent));
    let deadlock = class(FaultClass::Deadlock);
    assert_eq!(attempts(judge, deadlock, advice), retried);
    let given_up = (1, StopReason::NotRetryable);
    assert_eq!(attempts(judge, deadlock, Advice::Judge), given_up);
    // What is said of the class is said of the error.
    let never = |spec: &mut Spec<'_>| {
        spec.classes = ClassRules::NONE.never(FaultClass::SerializationFailure);
    };
    assert_eq!(attempts(never, deadlock, advice), given_up);

    let (_, event) = run(POLICY, |_| {}, None, advice);
    let fault = event.and_then(|event| event.fault()).expect("a class");
    assert_eq!(fault.class(), FaultClass::SerializationFailure);
    assert_eq!(fault.recognized_class(), FaultClass::Permanent);
}

#[test]
fn an_outermost_operation_judges_the_loss_of_a_nested_one_for_itself() {
    let permanent: &Classifier<'_> = &|_| Some(FaultClass::Permanent);
    let attempts = |outer: Option<&Classifier<'_>>, inner: Option<&Classifier<'_>>, hides: bool| {
        let key = new_key();
        let config = config(POLICY);
        let spec = |own: Option<&'static str>, classifier| Spec {
            classifier,
            name: Name::Given(own.unwrap_or("outer")),
            ..SPEC
        };
        let outer = spec(None, outer.map(BorrowedClassifier));
        let inner = spec(Some("inner"), inner.map(BorrowedClassifier));
        let mut machine =
            Machine::new(Dialect::Mysql, &config, &outer, false, no_clock).expect("valid");
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, key, 0),
                Step::Batch(_) => _ = machine.batch_done(Ok(())),
                Step::Body => {
                    lose(key, &config, &inner);
                    // The body hands the deadlock on, or hides it.
                    let fault = (!hides).then(|| errno(1213));
                    let (fault, advice) = machine.judged_error(fault, Advice::Judge, "text");
                    machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
                }
                Step::Report(_) | Step::Pause(_) => {}
                Step::Done(done) => return done.attempts,
                step => unreachable!("{step:?}"),
            }
        }
    };
    for hides in [false, true] {
        assert_eq!(attempts(None, Some(permanent), hides), 3, "hidden: {hides}");
        assert_eq!(attempts(Some(permanent), None, hides), 1, "hidden: {hides}");
    }
    // By its message, if it is there.
    let by_message: &Classifier<'_> =
        &|seen| (seen.message() == "text").then_some(FaultClass::Permanent);
    assert_eq!(attempts(Some(by_message), None, false), 1);
    assert_eq!(attempts(Some(by_message), None, true), 3);
}

/// A nested operation meets a deadlock, with which MySQL drops the transaction.
fn lose(key: usize, config: &RunnerConfig, spec: &Spec<'_>) {
    let mut machine = Machine::new(Dialect::Mysql, config, spec, false, no_clock).expect("valid");
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, key, 1),
            Step::Batch(batch) => {
                let is_rollback = batch.purpose == BatchPurpose::Rollback;
                let answer = if is_rollback {
                    Err(errno(1305))
                } else {
                    Ok(())
                };
                _ = machine.batch_done(answer);
            }
            Step::Body => {
                let (fault, advice) = machine.judged_error(Some(errno(1213)), Advice::Judge, "");
                machine.body_done(BodyEnd::Failed { fault, advice }, Some(2));
            }
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(_) => return,
            step => unreachable!("{step:?}"),
        }
    }
}

#[test]
fn a_busy_commit_is_left_alone_if_the_class_is_excluded() {
    let commits = |classes| {
        let config = config(POLICY);
        let spec = Spec { classes, ..SPEC };
        let mut machine =
            Machine::new(Dialect::Sqlite, &config, &spec, false, no_clock).expect("valid");
        let mut commits = 0;
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, new_key(), 0),
                Step::Batch(batch) => {
                    let is_commit = matches!(
                        batch.purpose,
                        BatchPurpose::Commit | BatchPurpose::CommitAgain
                    );
                    commits += u32::from(is_commit);
                    let busy = Fault::from_class(Dialect::Sqlite, FaultClass::Busy);
                    _ = machine.batch_done(if is_commit { Err(busy) } else { Ok(()) });
                }
                Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
                Step::Report(_) | Step::Pause(_) => {}
                Step::Done(done) => return (commits, done.outcome),
                step => unreachable!("{step:?}"),
            }
        }
    };
    assert_eq!(commits(ClassRules::NONE), (3, Outcome::Undone));
    let never = ClassRules::NONE.never(FaultClass::Busy);
    assert_eq!(commits(never), (1, Outcome::Undone));
}

#[test]
fn an_excluded_class_does_not_keep_dbop_from_asking_what_became_of_a_commit() {
    let lost = || Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
    let locked = || Fault::from_class(Dialect::Postgres, FaultClass::LockTimeout);
    let config = config(POLICY);
    let ledger = crate::ledger::Ledger::new();
    let spec = Spec {
        classes: ClassRules::NONE
            .never(FaultClass::ConnectionLost)
            .never(FaultClass::LockTimeout),
        resolution: Resolution::Ledger(&ledger),
        ..SPEC
    };
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
    let mut questions = 0;
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) => {
                let answer = match batch.purpose {
                    BatchPurpose::Commit => Err(machine.judged(lost(), "")),
                    BatchPurpose::Ask => {
                        questions += 1;
                        // The first question finds it locked.
                        if questions == 1 {
                            Err(locked())
                        } else {
                            Ok(())
                        }
                    }
                    _ => Ok(()),
                };
                _ = machine.batch_done(answer);
            }
            Step::Read(_) => _ = machine.read_done(Ok(Some("1".into()))),
            Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => break done,
            step => unreachable!("{step:?}"),
        }
    };
    assert_eq!((questions, done.outcome), (2, Outcome::Committed));
}

#[test]
fn a_classifier_is_told_that_there_is_no_connection() {
    let phases = Mutex::new(Vec::new());
    let classifier = |it: &Seen<'_>| {
        phases.lock().expect("no panic").push(it.phase());
        None
    };
    let config = config(RetryPolicy::no_retries());
    let spec = Spec {
        classifier: Some(BorrowedClassifier(&classifier)),
        ..SPEC
    };
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
    assert!(matches!(machine.step(no_clock), Step::Connect { .. }));
    let fault = Fault::from_class(Dialect::Postgres, FaultClass::NotConnected);
    assert_eq!(machine.judged(fault, ""), fault);
    assert_eq!(*phases.lock().expect("no panic"), [Phase::Connect]);
}

#[test]
fn what_a_default_makes_read_only_is_no_failover_either() {
    let stop = |read_only| {
        let mut config = config(POLICY);
        config.set_defaults(|defaults| defaults.read_only = read_only);
        let mut machine =
            Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock).expect("valid");
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, new_key(), 0),
                Step::Batch(_) => _ = machine.batch_done(Ok(())),
                Step::Body => {
                    let (fault, advice) = (class(FaultClass::ReadOnlyServer), Advice::Judge);
                    machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
                }
                Step::Report(_) => {}
                Step::Done(done) => return done.stop,
                step => unreachable!("{step:?}"),
            }
        }
    };
    assert_eq!(stop(true), StopReason::NotRetryable);
    assert_eq!(stop(false), StopReason::NeedsConnection);
}
