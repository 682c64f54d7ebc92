//! Operations without a transaction.

use super::tests::{
    OK, SPEC, Script, config, connect, errno, failed, fault, new_key, no_clock, own_error,
};
use super::*;
use crate::fault::FaultClass;
use crate::outcome::{Outcome, StopReason};
use crate::policy::RetryPolicy;
use crate::retry::Advice;

const ALL: [Dialect; 3] = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite];

const WITHOUT: Settings = Settings {
    without_transaction: true,
    ..Settings::NONE
};

const PLAIN: Spec<'static> = Spec {
    settings: WITHOUT,
    ..SPEC
};

const READ_ONLY: Spec<'static> = Spec {
    settings: Settings {
        read_only: true,
        ..WITHOUT
    },
    ..SPEC
};

const IDEMPOTENT: Spec<'static> = Spec {
    idempotent: true,
    ..PLAIN
};

fn script(dialect: Dialect) -> Script {
    let mut script = Script::new(dialect);
    script.settings = WITHOUT;
    script
}

/// Runs an operation, on connections from a source if `can_reconnect`, and returns its steps. Each
/// body is told the number of the attempt.
fn run(
    dialect: Dialect,
    spec: &Spec<'_>,
    can_reconnect: bool,
    body: impl Fn(u32) -> (BodyEnd, Option<u32>),
) -> (Vec<String>, Done) {
    let config = config(RetryPolicy::new().with_max_retries(2));
    let machine = Machine::new(dialect, &config, spec, can_reconnect, no_clock);
    let mut machine = machine.expect("valid settings");
    let (mut steps, mut attempt) = (Vec::new(), 0);
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => {
                steps.push("connect".to_owned());
                connect(&mut machine, new_key(), 0);
            }
            Step::Body => {
                attempt += 1;
                steps.push(format!("body {attempt}"));
                let (end, depth) = body(attempt);
                machine.body_done(end, depth);
            }
            Step::Batch(batch) => {
                steps.push(batch.sql.to_owned());
                _ = machine.batch_done(Ok(()));
            }
            Step::Report(event) => steps.push(format!("{:?}", event.kind())),
            Step::Pause(pause) => steps.push(format!("{:?}", pause.connection)),
            Step::Done(done) => return (steps, done),
            step => unreachable!("{step:?}"),
        }
    }
}

#[test]
fn nothing_is_sent_around_the_body() {
    for dialect in ALL {
        let mut script = script(dialect);
        let done = script.run(&[], |_| (BodyEnd::Ok, Some(0)));
        assert_eq!(script.steps, ["body 1", "Succeeded"], "{dialect}");
        assert_eq!(
            (done.outcome, done.stop, done.attempts),
            (Outcome::Committed, StopReason::Succeeded, 1)
        );
        assert!(!done.connection_broken);
    }
}

/// It is not known whether the statement that failed was the first.
#[test]
fn what_has_begun_is_not_tried_again_and_unknown() {
    for dialect in ALL {
        for class in [
            FaultClass::Deadlock,
            FaultClass::LockTimeout,
            FaultClass::ConnectionLost,
        ] {
            let (steps, done) = run(dialect, &PLAIN, true, |_| failed(fault(dialect, class), 0));
            assert_eq!(steps, ["connect", "body 1", "Failed"], "{dialect} {class}");
            assert_eq!(
                (done.outcome, done.stop),
                (Outcome::Unknown, StopReason::OutcomeUnknown)
            );
            assert!(matches!(done.answer, Answer::FirstError), "unchanged");
            assert!(!done.fallback_allowed);
            let is_lost = class == FaultClass::ConnectionLost;
            assert_eq!(done.connection_broken, is_lost, "{dialect} {class}");
        }
    }
}

#[test]
fn what_is_tried_again_nowhere_is_not_tried_again_here() {
    for spec in [&PLAIN, &READ_ONLY, &IDEMPOTENT] {
        let taken = fault(Dialect::Postgres, FaultClass::Constraint);
        let (steps, done) = run(Dialect::Postgres, spec, true, |_| failed(taken, 0));
        assert_eq!(steps, ["connect", "body 1", "Failed"]);
        assert_eq!(done.stop, StopReason::NotRetryable);
        let (steps, done) = run(Dialect::Postgres, spec, true, |_| own_error(0));
        assert_eq!(steps, ["connect", "body 1", "Returned"]);
        assert_eq!(done.stop, StopReason::OwnError);
        assert!(matches!(done.answer, Answer::FirstError));
        let undone = spec.settings.read_only;
        assert_eq!(done.outcome == Outcome::Undone, undone);
        assert_eq!(done.fallback_allowed, undone);
    }
}

/// An error's advice does not make it certain what has happened.
#[test]
fn an_error_that_asks_for_a_retry_does_not_get_one_without_a_promise() {
    let again = |_| {
        let end = BodyEnd::Failed {
            fault: None,
            advice: Advice::Retry,
        };
        (end, Some(0))
    };
    let (_, done) = run(Dialect::Mysql, &PLAIN, true, again);
    assert_eq!((done.attempts, done.stop), (1, StopReason::OutcomeUnknown));
    for spec in [&READ_ONLY, &IDEMPOTENT] {
        let (_, done) = run(Dialect::Mysql, spec, true, again);
        assert_eq!(
            (done.attempts, done.stop),
            (3, StopReason::RetriesExhausted)
        );
        assert!(matches!(done.answer, Answer::FirstError), "unchanged");
    }
}

#[test]
fn what_promises_to_write_nothing_or_the_same_is_tried_again() {
    for (spec, outcome) in [
        (&READ_ONLY, Outcome::Undone),
        (&IDEMPOTENT, Outcome::Unknown),
    ] {
        let deadlock = errno(1213);
        let (steps, done) = run(Dialect::Mysql, spec, false, |attempt| match attempt {
            1 => failed(deadlock, 0),
            _ => (BodyEnd::Ok, Some(0)),
        });
        assert_eq!(
            steps,
            [
                "connect",
                "body 1",
                "Retrying",
                "Keep",
                "body 2",
                "Succeeded"
            ]
        );
        assert_eq!(done.outcome, Outcome::Committed);
        let (_, done) = run(Dialect::Mysql, spec, false, |_| failed(deadlock, 0));
        assert_eq!(
            (done.attempts, done.stop),
            (3, StopReason::RetriesExhausted)
        );
        assert_eq!(done.outcome, outcome);
        assert!(matches!(done.answer, Answer::FirstError), "unchanged");
        assert_eq!(done.fallback_allowed, outcome == Outcome::Undone);
    }
}

#[test]
fn a_lost_connection_is_replaced_where_it_can_be() {
    let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
    for spec in [&READ_ONLY, &IDEMPOTENT] {
        // Diesel has noticed it, or not.
        for depth in [None, Some(0)] {
            let body = |attempt| match attempt {
                1 => (failed(lost, 0).0, depth),
                _ => (BodyEnd::Ok, Some(0)),
            };
            let (steps, done) = run(Dialect::Postgres, spec, true, body);
            assert_eq!(
                steps,
                [
                    "connect",
                    "body 1",
                    "Retrying",
                    "Discard",
                    "connect",
                    "body 2",
                    "Succeeded"
                ]
            );
            assert_eq!(done.outcome, Outcome::Committed);
            let (_, done) = run(Dialect::Postgres, spec, false, body);
            assert_eq!((done.attempts, done.stop), (1, StopReason::NeedsConnection));
            assert!(done.connection_broken);
        }
    }
}

#[test]
fn an_ok_over_a_dead_connection_is_an_error() {
    let (steps, done) = run(Dialect::Postgres, &PLAIN, true, |_| (BodyEnd::Ok, None));
    assert_eq!(steps, ["connect", "body 1", "Failed"]);
    assert_eq!(done.outcome, Outcome::Unknown);
    assert!(done.connection_broken && matches!(done.answer, Answer::FirstError));
}

#[test]
fn what_the_body_leaves_open_is_rolled_back() {
    for dialect in ALL {
        let (steps, done) = run(dialect, &PLAIN, true, |_| (BodyEnd::Ok, Some(2)));
        assert_eq!(
            steps,
            ["connect", "body 1", "ROLLBACK", "Failed"],
            "{dialect}"
        );
        assert!(matches!(done.answer, Answer::Own(error) if error.is_unbalanced()));
        assert_eq!(done.outcome, Outcome::Unknown);
        assert!(!done.connection_broken);
        // The error of the body is the first.
        let (steps, done) = run(dialect, &PLAIN, true, |_| own_error(1));
        assert_eq!(
            steps,
            ["connect", "body 1", "ROLLBACK", "Returned"],
            "{dialect}"
        );
        assert!(matches!(done.answer, Answer::FirstError));
        let (steps, done) = run(dialect, &PLAIN, true, |_| (BodyEnd::Panicked, Some(1)));
        assert_eq!(
            steps,
            ["connect", "body 1", "ROLLBACK", "Panicked"],
            "{dialect}"
        );
        assert_eq!(done.outcome, Outcome::Unknown);
    }
    let unknown = fault(Dialect::Mysql, FaultClass::Unknown);
    let done = script(Dialect::Mysql).run(&[Err(unknown)], |_| (BodyEnd::Ok, Some(1)));
    assert!(done.connection_broken, "it may still be open");
}

/// A panic in an earlier attempt's successor does not make the earlier one undone.
#[test]
fn a_panic_is_undone_only_where_nothing_is_written() {
    let panicked = |_| (BodyEnd::Panicked, Some(0));
    for (spec, outcome) in [
        (&PLAIN, Outcome::Unknown),
        (&IDEMPOTENT, Outcome::Unknown),
        (&READ_ONLY, Outcome::Undone),
    ] {
        let (_, done) = run(Dialect::Sqlite, spec, true, panicked);
        assert!(matches!(done.answer, Answer::Panic));
        assert_eq!(done.outcome, outcome);
    }
}

/// Whatever comes after it, what an attempt has perhaps done is not undone.
#[test]
fn an_attempt_that_has_perhaps_done_something_is_not_forgotten() {
    let deadlock = errno(1213);
    let (_, done) = run(Dialect::Mysql, &IDEMPOTENT, true, |attempt| match attempt {
        1 => failed(deadlock, 0),
        _ => own_error(0),
    });
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));
    assert!(matches!(done.answer, Answer::FirstError));
    // There is no connection for the second one.
    for (spec, outcome) in [
        (&IDEMPOTENT, Outcome::Unknown),
        (&READ_ONLY, Outcome::Undone),
    ] {
        let config = config(RetryPolicy::new().with_max_retries(1));
        let machine = Machine::new(Dialect::Postgres, &config, spec, true, no_clock);
        let mut machine = machine.expect("valid settings");
        let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
        let mut connections = 0;
        let done = loop {
            match machine.step(no_clock) {
                Step::Connect { .. } if connections == 0 => {
                    connections += 1;
                    connect(&mut machine, new_key(), 0);
                }
                Step::Connect { .. } => {
                    let refused = fault(Dialect::Postgres, FaultClass::Permanent);
                    _ = machine.connect_failed(refused, Advice::Judge, no_clock);
                }
                Step::Body => machine.body_done(failed(lost, 0).0, None),
                Step::Report(_) | Step::Pause(_) => {}
                Step::Done(done) => break done,
                step => unreachable!("{step:?}"),
            }
        };
        assert_eq!((done.outcome, done.attempts), (outcome, 2));
        match done.answer {
            Answer::Own(error) => assert!(error.is_outcome_unknown() || error.is_no_connection()),
            Answer::FirstError => assert_eq!(outcome, Outcome::Undone),
            answer => panic!("{answer:?}"),
        }
    }
}

/// Before its body has begun, nothing has happened.
#[test]
fn what_has_not_begun_is_begun_again() {
    let config = config(RetryPolicy::new());
    let machine = Machine::new(Dialect::Mysql, &config, &PLAIN, true, no_clock);
    let mut machine = machine.expect("valid settings");
    let mut refusals = 0;
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } if refusals < 2 => {
                refusals += 1;
                let refused = fault(Dialect::Mysql, FaultClass::NotConnected);
                _ = machine.connect_failed(refused, Advice::Judge, no_clock);
            }
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Body => machine.body_done(BodyEnd::Ok, Some(0)),
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => break done,
            step => unreachable!("{step:?}"),
        }
    };
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 3));
}

/// Tells the machine that it is connected, with this many transactions open.
fn connected_at(config: &RunnerConfig, spec: &Spec<'_>, depth: u32) -> Result<(), Error> {
    let machine = Machine::new(Dialect::Sqlite, config, spec, false, no_clock);
    let mut machine = machine.expect("valid settings");
    let placement = machine.place(new_key(), depth);
    machine.connected(placement, SavedPragmas::default())
}

#[test]
fn in_an_open_transaction_it_is_refused() {
    let config = config(RetryPolicy::new());
    assert!(connected_at(&config, &PLAIN, 0).is_ok());
    let best_effort = Spec {
        settings: Settings {
            best_effort: true,
            ..WITHOUT
        },
        ..SPEC
    };
    for spec in [&PLAIN, &best_effort] {
        let error = connected_at(&config, spec, 1).expect_err("a transaction is open");
        assert!(error.is_unsupported_setting());
        assert_eq!(
            error.to_string(),
            "without_transaction is not possible inside a transaction that is already open"
        );
    }
}

/// There every transaction is open, and the caller has said so.
#[test]
fn in_a_test_transaction_it_is_a_savepoint() {
    let mut config = config(RetryPolicy::new());
    config.set_defaults(|defaults| defaults.skip_what_open_transactions_refuse = true);
    let machine = Machine::new(Dialect::Postgres, &config, &PLAIN, false, no_clock);
    let mut machine = machine.expect("valid settings");
    connect(&mut machine, new_key(), 1);
    let Step::Report(event) = machine.step(no_clock) else {
        panic!("it is reported");
    };
    assert_eq!(
        event.kind(),
        EventKind::SettingSkipped(Setting::WithoutTransaction)
    );
    assert!(
        matches!(machine.step(no_clock), Step::Batch(batch) if batch.sql.contains("SAVEPOINT"))
    );
}

#[test]
fn what_finds_out_about_a_commit_is_refused() {
    let ledger = crate::Ledger::new();
    let config = config(RetryPolicy::new());
    for (resolution, name) in [
        (Resolution::Verify, "verify"),
        (Resolution::TransactionStatus, "transaction_status"),
        (Resolution::Ledger(&ledger), "ledger"),
    ] {
        let spec = Spec {
            resolution,
            ..PLAIN
        };
        let machine = Machine::new(Dialect::Postgres, &config, &spec, true, no_clock);
        let error = machine.expect_err("there is no commit");
        assert!(error.is_unsupported_setting());
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

/// It would travel with the BEGIN.
#[test]
fn sql_to_begin_with_is_refused() {
    let config = config(RetryPolicy::new());
    let spec = Spec {
        begin_with_sql: Some("SET LOCAL ROLE editor"),
        ..PLAIN
    };
    let machine = Machine::new(Dialect::Postgres, &config, &spec, true, no_clock);
    let error = machine.expect_err("there is no BEGIN");
    assert!(error.is_unsupported_setting());
    assert!(error.to_string().starts_with("begin_with_sql"), "{error}");
}

/// An operation in the body of another one without a transaction: how often its body can run.
#[test]
fn what_is_nested_is_a_transaction_of_its_own_and_shares_the_retries() {
    let config = config(RetryPolicy::new().with_max_retries(3));
    let key = new_key();
    let deadlock = errno(1213);
    let mut bodies = 0;
    let machine = Machine::new(Dialect::Mysql, &config, &IDEMPOTENT, false, no_clock);
    let mut outer = machine.expect("valid settings");
    let done = loop {
        match outer.step(no_clock) {
            Step::Connect { .. } => connect(&mut outer, key, 0),
            Step::Body => {
                for depth in [0, 1] {
                    let mut inner = Script::at(Dialect::Mysql, key, depth)
                        .with_policy(RetryPolicy::new().with_max_retries(2));
                    let inner_done = inner.run(&[], |_| {
                        bodies += 1;
                        failed(deadlock, depth + 1)
                    });
                    assert!(inner.steps[0] == "Begin");
                    assert_eq!(inner_done.outcome, Outcome::Undone);
                }
                outer.body_done(failed(deadlock, 0).0, Some(0));
            }
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => break done,
            step => unreachable!("{step:?}"),
        }
    };
    // 3 retries in all: two of the first step's, one of the outer operation's.
    assert_eq!(done.attempts, 2);
    assert_eq!(bodies, 3 + 1 + 1 + 1);
    assert_eq!(done.stop, StopReason::RetriesExhausted);
}

/// What it has lost is its own transaction, and not one around the next operation.
#[test]
fn an_operation_after_one_that_was_nested_is_not_refused() {
    let config = config(RetryPolicy::new());
    let key = new_key();
    let machine = Machine::new(Dialect::Mysql, &config, &PLAIN, false, no_clock);
    let mut outer = machine.expect("valid settings");
    connect(&mut outer, key, 0);
    assert!(matches!(outer.step(no_clock), Step::Body));
    for _ in 0..2 {
        let mut inner = Script::at(Dialect::Mysql, key, 0);
        let done = inner.run(&[], |_| (BodyEnd::Ok, Some(1)));
        assert_eq!(inner.steps, ["Begin", "body 1", "Commit", "Succeeded"]);
        assert_eq!(done.outcome, Outcome::Committed);
    }
    // So is one without a transaction.
    let mut inner = Script::at(Dialect::Mysql, key, 0);
    inner.settings = WITHOUT;
    inner.run(&[], |_| (BodyEnd::Ok, Some(0)));
    assert_eq!(inner.steps, ["body 1", "Succeeded"]);
    outer.body_done(BodyEnd::Ok, Some(0));
    assert!(
        matches!(outer.step(no_clock), Step::Report(event) if event.kind() == EventKind::Succeeded)
    );
}

/// Nor is the transaction around a step the operation's, if the body has begun it.
#[test]
fn a_loss_in_the_callers_transaction_inside_of_it_is_not_its_own() {
    let config = config(RetryPolicy::new());
    let key = new_key();
    let machine = Machine::new(Dialect::Mysql, &config, &PLAIN, false, no_clock);
    let mut outer = machine.expect("valid settings");
    connect(&mut outer, key, 0);
    assert!(matches!(outer.step(no_clock), Step::Body));
    let gone = Err(errno(1305));
    let mut step = Script::at(Dialect::Mysql, key, 1);
    let done = step.run(&[OK, gone], |_| failed(errno(1213), 2));
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(done.connection_broken, "the caller must not commit");
    outer.body_done(BodyEnd::Ok, Some(0));
    let is_done = |event: &Event| event.kind() == EventKind::Succeeded;
    assert!(matches!(outer.step(no_clock), Step::Report(event) if is_done(&event)));
}

/// The deadline of the operation around it is its own, too.
#[test]
fn what_is_nested_has_no_more_time() {
    let config = config(RetryPolicy::new());
    let key = new_key();
    let start = Instant::now();
    let spec = Spec {
        deadline: Some(Duration::from_secs(5)),
        ..PLAIN
    };
    let machine = Machine::new(Dialect::Postgres, &config, &spec, false, || start);
    let mut outer = machine.expect("valid settings");
    connect(&mut outer, key, 0);
    assert!(matches!(outer.step(|| start), Step::Body));
    let machine = Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock);
    let mut inner = machine.expect("valid settings");
    connect(&mut inner, key, 0);
    assert!(
        matches!(inner.step(|| start), Step::Batch(batch) if batch.sql.contains("'5000 ms'")),
        "the outer deadline"
    );
}

/// Keys that the operation around it holds would be waited for in vain.
#[test]
fn what_is_nested_does_not_wait_for_a_turn() {
    let keys = crate::Keys::new("autocommit", [1]);
    let spec = Spec {
        exclusive_by: Some(&keys),
        queues_with_connection: true,
        ..PLAIN
    };
    let config = config(RetryPolicy::new());
    let key = new_key();
    let now = Instant::now;
    let machine = Machine::new(Dialect::Sqlite, &config, &spec, false, now);
    let mut outer = machine.expect("valid settings");
    connect(&mut outer, key, 0);
    assert!(matches!(outer.step(now), Step::Queue));
    assert!(outer.queue(std::task::Waker::noop(), &now).is_none());
    assert!(matches!(outer.step(now), Step::Body));
    let machine = Machine::new(Dialect::Sqlite, &config, &spec, false, now);
    let mut inner = machine.expect("valid settings");
    connect(&mut inner, key, 0);
    assert!(
        matches!(inner.step(now), Step::Report(_)),
        "that is reported"
    );
    assert!(matches!(inner.step(now), Step::Body));
}

#[test]
fn whether_there_is_a_transaction_is_known_once_there_is_a_connection() {
    let config = config(RetryPolicy::new());
    for (spec, expected) in [(&PLAIN, true), (&SPEC, false)] {
        let machine = Machine::new(Dialect::Postgres, &config, spec, false, no_clock);
        let mut machine = machine.expect("valid settings");
        assert!(matches!(machine.step(no_clock), Step::Connect { .. }));
        connect(&mut machine, new_key(), 0);
        assert_eq!(machine.is_without_transaction(), expected);
    }
}
