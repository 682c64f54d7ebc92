//! Whatever a fault is called, what is known to have happened stays true.

use super::tests::{SPEC, config, connect, errno, new_key, no_clock};
use super::*;
use crate::classifier::{BorrowedClassifier, Classifier, Seen};
use crate::fault::FaultClass;
use crate::outcome::Outcome;
use crate::policy::{ClassRules, RetryPolicy};
use crate::retry::Advice;

const POLICY: RetryPolicy = RetryPolicy::new().with_max_retries(2);

#[test]
fn an_error_that_calls_itself_a_deadlock_ends_no_transaction() {
    // On MySQL a deadlock can have ended the transaction, so that one which is gone is undone.
    let gone = Err(errno(1305));
    let outcome = |fault: Option<Fault>, advice| {
        let config = config(RetryPolicy::new());
        let mut machine =
            Machine::new(Dialect::Mysql, &config, &SPEC, false, no_clock).expect("valid");
        let mut rollback = Some(gone);
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, new_key(), 0),
                Step::Batch(batch) if batch.purpose == BatchPurpose::Rollback => {
                    _ = machine.batch_done(rollback.take().unwrap_or(Ok(())));
                }
                Step::Batch(_) => _ = machine.batch_done(Ok(())),
                Step::Body => {
                    let (fault, advice) = machine.judged_error(fault, advice, "");
                    machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
                }
                Step::Report(_) => {}
                Step::Pause(_) => return None,
                Step::Done(done) => return Some(done.outcome),
                step => unreachable!("{step:?}"),
            }
        }
    };
    let named = Advice::As(FaultClass::Deadlock);
    assert_eq!(outcome(None, named), Some(Outcome::Unknown));
    assert_eq!(outcome(Some(errno(1064)), named), Some(Outcome::Unknown));
    // One that has really happened is retried.
    assert_eq!(outcome(Some(errno(1213)), Advice::Judge), None);
}

#[test]
fn a_connection_that_broke_in_the_body_is_judged_too() {
    let outcome = |classifier: Option<&Classifier<'_>>| {
        let config = config(POLICY.with_max_silent_losses(100));
        let spec = Spec {
            classifier: classifier.map(BorrowedClassifier),
            ..SPEC
        };
        let mut machine =
            Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, new_key(), 0),
                Step::Batch(_) => _ = machine.batch_done(Ok(())),
                Step::Body => machine.body_done(BodyEnd::Ok, None),
                Step::Report(_) => {}
                Step::Pause(pause) => assert_eq!(pause.connection, ConnectionAction::Discard),
                Step::Done(done) => return (done.attempts, done.connection_broken),
                step => unreachable!("{step:?}"),
            }
        }
    };
    assert_eq!(outcome(None), (3, true));
    assert_eq!(outcome(Some(&|_| Some(FaultClass::Permanent))), (1, true));
    assert_eq!(outcome(Some(&|_| Some(FaultClass::Deadlock))), (3, true));
}

/// Runs an operation on SQLite whose COMMIT fails with `class`. Returns how often the body ran.
fn bodies_with_commit(class: FaultClass, judged: FaultClass) -> u32 {
    let classifier = move |_: &Seen<'_>| Some(judged);
    let config = config(POLICY);
    let spec = Spec {
        classifier: Some(BorrowedClassifier(&classifier)),
        ..SPEC
    };
    let mut machine =
        Machine::new(Dialect::Sqlite, &config, &spec, false, no_clock).expect("valid");
    let mut bodies = 0;
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) => {
                let is_undo = matches!(batch.purpose, BatchPurpose::Begin | BatchPurpose::Rollback);
                let fault = Fault::from_class(Dialect::Sqlite, class);
                let answer = match is_undo {
                    true => Ok(()),
                    false => Err(machine.judged(fault, "")),
                };
                _ = machine.batch_done(answer);
            }
            Step::Body => {
                bodies += 1;
                machine.body_done(BodyEnd::Ok, Some(1));
            }
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(_) => return bodies,
            step => unreachable!("{step:?}"),
        }
    }
}

#[test]
fn only_a_commit_that_really_was_busy_is_sent_again_alone() {
    assert_eq!(bodies_with_commit(FaultClass::Busy, FaultClass::Busy), 1);
    assert_eq!(
        bodies_with_commit(FaultClass::Busy, FaultClass::Deadlock),
        1
    );
    assert_eq!(
        bodies_with_commit(FaultClass::Constraint, FaultClass::Busy),
        3
    );
}

#[test]
fn a_transaction_that_was_committed_early_is_not_done_again() {
    let deadlock: &Classifier<'_> = &|_| Some(FaultClass::Deadlock);
    let config = config(POLICY);
    let spec = Spec {
        classifier: Some(BorrowedClassifier(deadlock)),
        idempotent: true,
        ..SPEC
    };
    let mut machine = Machine::new(Dialect::Mysql, &config, &spec, true, no_clock).expect("valid");
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) if batch.purpose == BatchPurpose::Commit => {
                let fault = Fault::from_class(Dialect::Mysql, FaultClass::TransactionLost);
                let answer = Err(machine.judged(fault, ""));
                _ = machine.batch_done(answer);
            }
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
            Step::Report(_) => {}
            Step::Done(done) => break done,
            step => unreachable!("{step:?}"),
        }
    };
    assert_eq!((done.attempts, done.outcome), (1, Outcome::Unknown));
}

#[test]
fn a_token_that_is_there_already_is_one_whatever_it_is_called() {
    let deadlock: &Classifier<'_> = &|_| Some(FaultClass::Deadlock);
    let config = config(POLICY);
    let ledger = crate::ledger::Ledger::new();
    let spec = Spec {
        classifier: Some(BorrowedClassifier(deadlock)),
        resolution: Resolution::Ledger(&ledger),
        ..SPEC
    };
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) if batch.purpose == BatchPurpose::Begin => {
                let fault = Fault::from_class(Dialect::Postgres, FaultClass::Constraint);
                let answer = Err(machine.judged(fault, ""));
                _ = machine.batch_done(answer);
            }
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Report(_) => {}
            Step::Done(done) => break done,
            step => unreachable!("{step:?}"),
        }
    };
    assert_eq!((done.attempts, done.outcome), (1, Outcome::Unknown));
}

#[test]
fn a_transaction_that_was_aborted_is_told_from_a_failure_of_the_body_whatever_it_is_called() {
    let told = |class, judged| {
        let classifier = move |_: &Seen<'_>| Some(judged);
        let config = config(RetryPolicy::no_retries());
        let spec = Spec {
            classifier: Some(BorrowedClassifier(&classifier)),
            resolution: Resolution::TransactionStatus,
            ..SPEC
        };
        let mut machine =
            Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, new_key(), 0),
                Step::Batch(_) => _ = machine.batch_done(Ok(())),
                Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
                Step::Read(_) => {
                    let fault = Fault::from_class(Dialect::Postgres, class);
                    let answer = Err(machine.judged(fault, ""));
                    _ = machine.read_done(answer);
                }
                Step::Report(_) => {}
                Step::Done(done) => {
                    return matches!(done.answer, Answer::Own(error) if error.is_rolled_back());
                }
                step => unreachable!("{step:?}"),
            }
        }
    };
    assert!(told(FaultClass::TransactionAborted, FaultClass::Permanent));
    assert!(!told(FaultClass::Permanent, FaultClass::TransactionAborted));
}

/// Runs an operation on MySQL whose body fails with an unknown error that says `advice`, and which
/// the server then calls a deadlock. Returns how often the body ran, and the class that is shown.
fn bodies_until_diagnosed(advice: Advice, kept: &str) -> (u32, FaultClass) {
    let config = config(POLICY);
    let mut machine = Machine::new(Dialect::Mysql, &config, &SPEC, false, no_clock).expect("valid");
    let mut bodies = 0;
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Body => {
                bodies += 1;
                let unknown = Fault::from_class(Dialect::Mysql, FaultClass::Unknown);
                let (fault, advice) = machine.judged_error(Some(unknown), advice, "x");
                machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
            }
            Step::Diagnose(_) => machine.diagnosed(Ok(Some(kept.to_owned())), Some("x")),
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(_) => {
                let shown = machine.reclassified().map(|fault| fault.class());
                return (bodies, shown.expect("a diagnosis"));
            }
            step => unreachable!("{step:?}"),
        }
    }
}

#[test]
fn the_class_that_an_error_has_named_outlives_the_diagnosis() {
    let judged = bodies_until_diagnosed(Advice::Judge, "1213 x");
    assert_eq!(judged, (3, FaultClass::Deadlock));
    let named = |class| bodies_until_diagnosed(Advice::As(class), "1213 x");
    let permanent = FaultClass::Permanent;
    assert_eq!(named(permanent), (1, permanent));
    let named = |class| bodies_until_diagnosed(Advice::As(class), "1064 x");
    let deadlock = FaultClass::Deadlock;
    assert_eq!(named(deadlock), (3, deadlock));
}

/// The classifier is asked by the machine itself where the body hides what has happened.
#[test]
fn a_classifier_that_panics_in_the_machine_stops_the_operation() {
    let panics: &Classifier<'_> = &|_| panic!("in the classifier");
    let config = config(POLICY);
    let spec = Spec {
        classifier: Some(BorrowedClassifier(panics)),
        ..SPEC
    };
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Body => machine.body_done(BodyEnd::Ok, None),
            Step::Report(_) => {}
            Step::Done(done) => break done,
            step => unreachable!("{step:?}"),
        }
    };
    assert_eq!((done.attempts, done.connection_broken), (1, true));
    let payload = machine.take_user_panic().expect("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"in the classifier"));
    assert!(machine.take_user_panic().is_none());
}

/// The adapter asks the classifier where it has the message, and catches the panic.
#[test]
fn after_a_panic_of_the_classifier_nothing_is_tried_again_whatever_else_is_said() {
    let config = config(POLICY);
    let attempts = |dialect: Dialect, class: FaultClass, body_fails: bool| {
        let spec = Spec {
            classes: ClassRules::NONE.also(class),
            ..SPEC
        };
        let mut machine = Machine::new(dialect, &config, &spec, false, no_clock).expect("valid");
        let fault = Fault::from_class(dialect, class);
        let (mut bodies, mut commits) = (0, 0);
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, new_key(), 0),
                Step::Batch(batch) => {
                    let mut answer = Ok(());
                    if let BatchPurpose::Commit | BatchPurpose::CommitAgain = batch.purpose {
                        commits += 1;
                        machine.user_code_panicked(Box::new("in the classifier"));
                        answer = Err(fault);
                    }
                    _ = machine.batch_done(answer);
                }
                Step::Body => {
                    bodies += 1;
                    let end = if body_fails {
                        machine.user_code_panicked(Box::new("in the classifier"));
                        BodyEnd::Failed {
                            fault: Some(fault),
                            advice: Advice::Retry,
                        }
                    } else {
                        BodyEnd::Ok
                    };
                    machine.body_done(end, Some(1));
                }
                Step::Report(_) | Step::Pause(_) => {}
                Step::Done(done) => {
                    assert!(machine.take_user_panic().is_some());
                    assert_eq!(done.outcome, Outcome::Undone);
                    return (bodies, commits);
                }
                step => unreachable!("{step:?}"),
            }
        }
    };
    for class in [FaultClass::Deadlock, FaultClass::Permanent] {
        let bodies = attempts(Dialect::Postgres, class, true);
        assert_eq!(bodies, (1, 0), "{class}");
    }
    let commits = attempts(Dialect::Sqlite, FaultClass::Busy, false);
    assert_eq!(commits, (1, 1));
}

/// What is found without a text cannot be judged by it again.
#[test]
fn what_was_said_about_a_text_stays_when_more_is_found_without_one() {
    let named = |seen: &Seen<'_>| match seen.message() {
        "x" => Some(FaultClass::Permanent),
        // Asked again, it would say that it can be retried.
        "" => Some(FaultClass::Deadlock),
        _ => None,
    };
    // The body notices that the connection broke, or only the ROLLBACK does.
    let attempts = |message: &str, depth: Option<u32>| {
        let config = config(POLICY);
        let spec = Spec {
            classifier: Some(BorrowedClassifier(&named)),
            ..SPEC
        };
        let mut machine =
            Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, new_key(), 0),
                Step::Batch(batch) => {
                    let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
                    let answer = match batch.purpose {
                        BatchPurpose::Rollback => Err(lost),
                        _ => Ok(()),
                    };
                    _ = machine.batch_done(answer);
                }
                Step::Body => {
                    let unknown = Fault::from_class(Dialect::Postgres, FaultClass::Unknown);
                    let fault = Some(machine.judged(unknown, message));
                    let advice = Advice::Judge;
                    machine.body_done(BodyEnd::Failed { fault, advice }, depth);
                }
                Step::Report(_) | Step::Pause(_) => {}
                Step::Done(done) => return done.attempts,
                step => unreachable!("{step:?}"),
            }
        }
    };
    for depth in [Some(1), None] {
        assert_eq!(attempts("x", depth), 1, "{depth:?}");
        let as_often_as_a_silent_loss = 2;
        assert_eq!(attempts("y", depth), as_often_as_a_silent_loss, "{depth:?}");
    }
}
