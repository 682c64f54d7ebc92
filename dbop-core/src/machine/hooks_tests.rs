//! Which hooks count, and what a hook can decide, against scripts.

use std::time::{Duration, Instant};

use super::super::reconnecting_tests::{Given, Script as Reconnecting};
use super::super::tests::{
    OK, SPEC, Script, config, connect, errno, failed, fault, new_key, no_clock, own_error,
};
use super::super::*;
use super::*;
use crate::fault::FaultClass;
use crate::outcome::Outcome;
use crate::policy::RetryPolicy;
use crate::retry::Advice;

fn register(key: usize) {
    register_hook(key, Hook::sync(|| {})).expect("a body is running");
}

fn wants_another(depth: u32) -> (BodyEnd, Option<u32>) {
    let end = BodyEnd::Failed {
        fault: None,
        advice: Advice::Retry,
    };
    (end, Some(depth))
}

fn ok(depth: u32) -> (BodyEnd, Option<u32>) {
    (BodyEnd::Ok, Some(depth))
}

fn refusal(key: usize, hook: Hook) -> String {
    let error = register_hook(key, hook).expect_err("refused");
    assert!(error.is_hook_refused());
    error.to_string()
}

#[test]
fn only_those_of_the_attempt_that_counts_are_handed_over() {
    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        let mut script = Script::new(dialect);
        let key = script.key;
        let done = script.run(&[], |attempt| {
            for _ in 0..attempt {
                register(key);
            }
            if attempt < 3 {
                return wants_another(1);
            }
            ok(1)
        });
        assert_eq!((done.attempts, done.hooks.len()), (3, 3), "{dialect}");
        let done = Script::at(dialect, key, 0).run(&[], |_| ok(1));
        assert_eq!(done.hooks.len(), 0, "the next operation");
    }
}

#[test]
fn a_step_leaves_its_own_to_the_outermost_operation_and_takes_those_of_a_failed_attempt_along() {
    let mut outer = Script::new(Dialect::Postgres);
    let key = outer.key;
    let done = outer.run(&[], |_| {
        register(key);
        let failed = Script::at(Dialect::Postgres, key, 1).run(&[], |_| {
            register(key);
            own_error(2)
        });
        assert_eq!(failed.hooks.len(), 0);
        let step = Script::at(Dialect::Postgres, key, 1).run(&[], |attempt| {
            register(key);
            register(key);
            match attempt {
                1 => wants_another(2),
                _ => ok(2),
            }
        });
        assert_eq!((step.attempts, step.hooks.len()), (2, 0));
        ok(1)
    });
    assert_eq!(done.hooks.len(), 3);
}

#[test]
fn a_hook_is_refused_where_no_commit_would_be_seen() {
    use HookRefusal::{Async, CallersTransaction, OutsideOperation};

    let refused = |refusal| Error::new(Kind::HookRefused(refusal)).to_string();
    let mut script = Script::new(Dialect::Postgres);
    let key = script.key;
    assert_eq!(refusal(key, Hook::sync(|| {})), refused(OutsideOperation));
    script.run(&[], |_| {
        let hook = Hook::awaited(async || ());
        assert_eq!(refusal(key, hook), refused(Async), "the run is sync");
        ok(1)
    });
    assert_eq!(refusal(key, Hook::sync(|| {})), refused(OutsideOperation));
    Script::at(Dialect::Postgres, key, 1).run(&[], |_| {
        let in_callers = refused(CallersTransaction);
        assert_eq!(refusal(key, Hook::sync(|| {})), in_callers);
        Script::at(Dialect::Postgres, key, 2).run(&[], |_| {
            assert_eq!(refusal(key, Hook::sync(|| {})), in_callers);
            ok(3)
        });
        ok(2)
    });
}

#[test]
fn a_run_that_awaits_hooks_takes_both_kinds() {
    let (config, key) = (config(RetryPolicy::new()), new_key());
    let mut spec = SPEC;
    spec.awaits_hooks = true;
    let machine = Machine::new(Dialect::Postgres, &config, &spec, false, no_clock);
    let mut machine = machine.expect("valid settings");
    assert!(matches!(machine.step(no_clock), Step::Connect { .. }));
    connect(&mut machine, key, 0);
    assert!(matches!(machine.step(no_clock), Step::Batch(_)));
    _ = machine.batch_done(OK);
    assert!(matches!(machine.step(no_clock), Step::Body));
    register(key);
    register_hook(key, Hook::awaited(async || ())).expect("it is awaited");
}

/// A run that is dropped half-way, as an async one can be.
#[test]
fn what_was_registered_in_a_run_that_is_dropped_is_dropped_with_it() {
    let (config, key) = (config(RetryPolicy::new()), new_key());
    let owned = std::sync::Arc::new(());
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock).expect("valid");
    assert!(matches!(machine.step(no_clock), Step::Connect { .. }));
    connect(&mut machine, key, 0);
    _ = machine.step(no_clock);
    _ = machine.batch_done(OK);
    assert!(matches!(machine.step(no_clock), Step::Body));
    let hook = std::sync::Arc::clone(&owned);
    register_hook(key, Hook::sync(move || drop(hook))).expect("a body is running");
    assert_eq!(std::sync::Arc::strong_count(&owned), 2);
    drop(machine);
    assert_eq!(std::sync::Arc::strong_count(&owned), 1);
}

/// Its answer to the COMMIT is lost; then what was registered is out of the connection.
fn asked(found: bool) -> (Done, usize) {
    // A connection for each attempt, and one for the look.
    let (config, keys) = (config(RetryPolicy::new()), [(); 3].map(|()| new_key()));
    let spec = Spec {
        resolution: Resolution::Verify,
        ..SPEC
    };
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
    let mut bodies = 0;
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, keys[bodies], 0),
            Step::Batch(batch) => {
                let is_first = batch.purpose == BatchPurpose::Commit && bodies == 1;
                let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
                _ = machine.batch_done(if is_first { Err(lost) } else { OK });
            }
            Step::Body => {
                for _ in bodies..2 {
                    register(keys[bodies]);
                }
                bodies += 1;
                machine.body_done(BodyEnd::Ok, Some(1));
            }
            Step::Verify => {
                // The look is on a connection of its own, outside of a transaction.
                let hook = Hook::sync(|| {});
                assert!(register_hook(keys[bodies], hook).is_err(), "in a look");
                machine.verify_done(Verified::Committed(found), Some(0));
            }
            Step::Done(done) => return (done, bodies),
            _ => {}
        }
    }
}

#[test]
fn after_a_lost_commit_those_of_the_attempt_that_was_committed_are_handed_over() {
    let (done, bodies) = asked(true);
    assert_eq!(done.outcome, Outcome::Committed);
    assert_eq!((bodies, done.hooks.len()), (1, 2), "of the first attempt");
    let (done, bodies) = asked(false);
    assert_eq!(done.outcome, Outcome::Committed);
    assert_eq!((bodies, done.hooks.len()), (2, 1), "of the second attempt");
}

/// In an attempt with a new token. Later it could be the token of an attempt that was committed.
#[test]
fn a_constraint_of_the_operations_own_sql_is_no_token() {
    static LEDGER: crate::Ledger = crate::Ledger::new();
    let taken = fault(Dialect::Postgres, FaultClass::Constraint);
    let outcome = |sql, answers: &[Given]| {
        let mut script = Reconnecting::new(Dialect::Postgres, Resolution::Ledger(&LEDGER));
        script.spec.begin_with_sql = sql;
        let done = script.run(answers.iter().copied());
        (done.attempts, done.outcome)
    };
    let sql = Some("INSERT INTO t VALUES (1)");
    let first = [Given::Fine, Given::Fails(taken)];
    assert_eq!(outcome(sql, &first), (1, Outcome::Undone));
    assert_eq!(outcome(None, &first), (1, Outcome::Unknown));
    let fails = Given::Fails(taken);
    let second = [
        Given::Fine,
        Given::Fine,
        Given::Wants,
        Given::Fine,
        Given::Fine,
        fails,
    ];
    assert_eq!(outcome(sql, &second), (2, Outcome::Unknown));
    // The first attempt found no connection, so it has written nothing.
    let refused = Given::Fails(Fault::from_class(
        Dialect::Postgres,
        FaultClass::NotConnected,
    ));
    assert_eq!(
        outcome(sql, &[refused, Given::Fine, fails]),
        (2, Outcome::Undone)
    );
    // Lost, asked for, not committed: the next attempt has another token.
    let lost = Given::Fails(Fault::from_class(
        Dialect::Postgres,
        FaultClass::ConnectionLost,
    ));
    let asked = [[Given::Fine; 3].as_slice(), &[lost], &[Given::Fine; 4]].concat();
    let after = |answers: &[Given]| outcome(sql, &[&asked, answers].concat());
    assert_eq!(after(&[fails]), (2, Outcome::Undone));
    let wants = [Given::Fine, Given::Wants, Given::Fine, Given::Fine, fails];
    assert_eq!(after(&wants), (3, Outcome::Unknown));
}

/// What a lock timeout has ended is not known, in the operation's own SQL as in its body.
#[test]
fn after_a_lock_timeout_at_the_beginning_of_a_step_it_is_asked_what_is_left() {
    let mut script = Script::at(Dialect::Mysql, new_key(), 1);
    script.policy = RetryPolicy::no_retries();
    let answers = [Err(errno(1205)), Err(errno(1305))];
    script.run(&answers, |_| unreachable!("it does not begin"));
    assert_eq!(script.steps[..3], ["Begin", "Rollback", "CheckUndone"]);
}

/// Panics when it is dropped.
struct Loud;

impl Drop for Loud {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_panic_of_what_is_discarded_is_kept_for_the_end() {
    let (config, key) = (config(RetryPolicy::new()), new_key());
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock).expect("valid");
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, key, 0),
            Step::Batch(_) => _ = machine.batch_done(OK),
            Step::Body => {
                let loud = Loud;
                register_hook(key, Hook::sync(move || drop(loud))).expect("a body is running");
                let (end, depth) = own_error(1);
                machine.body_done(end, depth);
            }
            Step::Done(done) => break done,
            _ => {}
        }
    };
    assert_eq!(done.outcome, Outcome::Undone);
    let payload = machine.take_user_panic().expect("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"dropped"));
}

/// A run of attempts that all fail, with this hook before its retries.
fn retried(hook: &'static crate::RetryHook<'static>, max_retries: u32) -> (Done, Vec<Duration>) {
    let mut script = Reconnecting::new(Dialect::Postgres, Resolution::Nothing);
    script.policy = script.policy.with_max_retries(max_retries);
    script.spec.hooks.before_retry = Some(hook);
    let answers = [Given::Fine, Given::Fine, Given::Wants, Given::Fine];
    let answers = answers.into_iter().cycle().take(40);
    (script.run(answers), script.delays)
}

#[test]
fn a_retry_can_be_vetoed_and_its_delay_changed() {
    let (done, delays) = retried(
        &|retry| match retry.attempt() {
            1 => RetryDecision::AsPlanned,
            2 => RetryDecision::After(Duration::from_secs(7)),
            _ => RetryDecision::Veto,
        },
        5,
    );
    assert_eq!((done.stop, done.attempts), (StopReason::Vetoed, 3));
    assert!(matches!(done.answer, Answer::FirstError));
    let planned = RetryPolicy::new().with_jitter(crate::Jitter::None);
    let planned = planned.delays().next().expect("a delay");
    assert_eq!(delays, [planned, Duration::from_secs(7)]);
}

/// A pool has the connection back while a hook makes the operation wait for long.
#[test]
fn a_changed_delay_changes_what_becomes_of_the_connection() {
    use ConnectionAction::{ClearStatementCache, Discard, GiveBack, Keep};

    let config = config(RetryPolicy::new());
    let machine = Machine::new(Dialect::Postgres, &config, &SPEC, true, no_clock);
    let machine = machine.expect("valid settings");
    let (short, long) = (Duration::ZERO, Duration::from_secs(60));
    for (connection, settled, delay, expected) in [
        (Keep, true, short, Keep),
        (Keep, true, long, GiveBack),
        (GiveBack, true, short, Keep),
        (GiveBack, true, long, GiveBack),
        // The transaction is open.
        (Keep, false, long, Keep),
        (ClearStatementCache, true, long, ClearStatementCache),
        (Discard, true, short, Discard),
    ] {
        let pause = Pause {
            delay: Duration::from_secs(1),
            connection,
            settled,
        };
        let expected = Pause {
            delay,
            connection: expected,
            settled,
        };
        let actual = machine.pause_for(pause, delay);
        assert_eq!(format!("{actual:?}"), format!("{expected:?}"));
    }
}

#[test]
fn what_is_to_follow_the_commit_needs_a_commit_of_the_operations_own() {
    let hook = || {};
    let mut spec = SPEC;
    spec.hooks.after_commit = Some(&hook);
    let config = config(RetryPolicy::new());
    for (depth, is_taken) in [(0, true), (1, false)] {
        let machine = Machine::new(Dialect::Postgres, &config, &spec, false, no_clock);
        let mut machine = machine.expect("valid settings");
        assert!(matches!(machine.step(no_clock), Step::Connect { .. }));
        let placement = machine.place(new_key(), depth);
        let connected = machine.connected(placement, SavedPragmas::default());
        assert_eq!(connected.is_ok(), is_taken, "{connected:?}");
    }
}

#[test]
fn no_hook_is_asked_about_a_retry_that_is_not_left() {
    let (done, _) = retried(
        &|retry| panic!("asked after attempt {}", retry.attempt()),
        0,
    );
    assert_eq!(done.stop, StopReason::RetriesExhausted);
}

#[test]
fn a_retry_that_a_step_vetoes_is_left_to_the_operation_around_it() {
    let mut outer = Script::new(Dialect::Postgres);
    outer.policy = RetryPolicy::new().with_max_retries(1);
    let key = outer.key;
    let done = outer.run(&[], |attempt| {
        let config = config(RetryPolicy::new());
        let mut spec = SPEC;
        spec.hooks.before_retry = Some(&|_| RetryDecision::Veto);
        let machine = Machine::new(Dialect::Postgres, &config, &spec, false, no_clock);
        let mut machine = machine.expect("valid");
        let done = loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, key, 1),
                Step::Batch(_) => _ = machine.batch_done(OK),
                Step::Body => {
                    let (end, depth) = wants_another(2);
                    machine.body_done(end, depth);
                }
                Step::Done(done) => break done,
                _ => {}
            }
        };
        let expected = match attempt {
            1 => StopReason::Vetoed,
            _ => StopReason::RetriesExhausted,
        };
        assert_eq!((done.stop, done.attempts), (expected, 1));
        wants_another(1)
    });
    assert_eq!(done.attempts, 2);
}

/// At a gate, an attempt that would not wait for a lock is followed by one that takes no retry.
#[test]
fn a_veto_gives_back_no_retry_that_was_not_taken() {
    let mut config = RunnerConfig::default();
    config.set_policy(RetryPolicy::new().with_initial_delay(Duration::ZERO));
    let keys = crate::Keys::new("veto", [1]);
    let mut spec = Spec {
        exclusive_by: Some(&keys),
        ..SPEC
    };
    spec.hooks.before_retry = Some(&|retry| match retry.attempt() {
        1 => RetryDecision::AsPlanned,
        _ => RetryDecision::Veto,
    });
    let machine = Machine::new(Dialect::Postgres, &config, &spec, true, Instant::now);
    let mut machine = machine.expect("valid");
    let mut classes = [FaultClass::Deadlock, FaultClass::LockTimeout].into_iter();
    let done = loop {
        match machine.step(Instant::now) {
            Step::Queue => _ = machine.queue(std::task::Waker::noop(), &Instant::now),
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(_) => _ = machine.batch_done(OK),
            Step::Body => {
                let class = classes.next().expect("two attempts");
                let (end, depth) = failed(fault(Dialect::Postgres, class), 1);
                machine.body_done(end, depth);
            }
            Step::Done(done) => break done,
            _ => {}
        }
    };
    assert_eq!((done.stop, done.attempts), (StopReason::Vetoed, 2));
    assert_eq!(machine.retries_left(), 4, "of 5");
}

/// SQLite keeps the transaction open, and COMMIT alone would be tried again.
#[test]
fn a_veto_ends_the_tries_of_a_busy_commit_too() {
    let config = config(RetryPolicy::new());
    let mut spec = SPEC;
    spec.hooks.before_retry = Some(&|retry| {
        assert_eq!(retry.phase(), Phase::Commit);
        RetryDecision::Veto
    });
    let machine = Machine::new(Dialect::Sqlite, &config, &spec, false, no_clock);
    let mut machine = machine.expect("valid");
    let mut purposes = Vec::new();
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) => {
                let purpose = batch.purpose;
                purposes.push(purpose);
                let busy = fault(Dialect::Sqlite, FaultClass::Busy);
                _ = machine.batch_done(match purpose {
                    BatchPurpose::Commit => Err(busy),
                    _ => OK,
                });
            }
            Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
            Step::Done(done) => break done,
            _ => {}
        }
    };
    let expected = [
        BatchPurpose::Begin,
        BatchPurpose::Commit,
        BatchPurpose::Rollback,
    ];
    assert_eq!(purposes, expected);
    assert_eq!(
        (done.stop, done.outcome),
        (StopReason::Vetoed, Outcome::Undone)
    );
}

#[test]
fn the_deadline_holds_for_a_changed_delay() {
    let mut script = Reconnecting::new(Dialect::Postgres, Resolution::Nothing);
    script.spec.deadline = Some(Duration::from_secs(5));
    script.time = Some((Instant::now(), Duration::ZERO));
    script.spec.hooks.before_retry = Some(&|_| RetryDecision::After(Duration::from_secs(6)));
    let done = script.run([Given::Fine, Given::Fine, Given::Wants]);
    assert_eq!(
        (done.stop, done.attempts),
        (StopReason::DeadlineExceeded, 1)
    );
    assert_eq!(script.delays, []);
}

#[test]
fn after_a_panic_of_a_hook_there_is_no_further_attempt() {
    let panicked = |spec: &Spec<'_>| {
        let config = config(RetryPolicy::new());
        let machine = Machine::new(Dialect::Postgres, &config, spec, true, no_clock);
        let mut machine = machine.expect("valid");
        let (mut bodies, mut connects) = (0, 0);
        let done = loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => {
                    connects += 1;
                    connect(&mut machine, new_key(), 0);
                }
                Step::Batch(_) => _ = machine.batch_done(OK),
                Step::Body => {
                    bodies += 1;
                    let (end, depth) = wants_another(1);
                    machine.body_done(end, depth);
                }
                Step::Done(done) => break done,
                _ => {}
            }
        };
        assert!(machine.take_user_panic().is_some());
        assert_eq!(done.outcome, Outcome::Undone);
        (connects, bodies)
    };
    let mut spec = SPEC;
    spec.hooks.before_retry = Some(&|_| panic!("before a retry"));
    assert_eq!(panicked(&spec), (1, 1));
    let mut spec = SPEC;
    spec.hooks.before_attempt = Some(&|number| assert_eq!(number, 1, "before an attempt"));
    assert_eq!(panicked(&spec).1, 1);
    spec.hooks.before_attempt = Some(&|_| panic!("before an attempt"));
    assert_eq!(panicked(&spec), (0, 0), "nothing has begun");
}

#[test]
fn after_a_panic_before_the_attempt_nothing_runs_without_a_transaction_either() {
    let mut spec = SPEC;
    spec.settings.without_transaction = true;
    spec.hooks.before_attempt = Some(&|_| panic!("before an attempt"));
    let config = config(RetryPolicy::new());
    let machine = Machine::new(Dialect::Postgres, &config, &spec, false, no_clock);
    let mut machine = machine.expect("valid");
    let mut panics = 0;
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Report(event) => panics += u32::from(event.kind() == EventKind::Panicked),
            Step::Done(done) => break done,
            step => unreachable!("{step:?}"),
        }
    };
    assert_eq!((done.outcome, panics), (Outcome::Undone, 1));
}

#[test]
fn without_a_transaction_there_is_no_commit_to_wait_for() {
    let mut spec = SPEC;
    spec.settings.without_transaction = true;
    let config = config(RetryPolicy::new());
    let machine = Machine::new(Dialect::Postgres, &config, &spec, false, no_clock);
    let mut machine = machine.expect("valid");
    assert!(matches!(machine.step(no_clock), Step::Connect { .. }));
    let key = new_key();
    connect(&mut machine, key, 0);
    assert!(matches!(machine.step(no_clock), Step::Body));
    let error = register_hook(key, Hook::sync(|| {})).expect_err("refused");
    assert!(error.is_hook_refused());
    assert!(error.to_string().contains("no transaction"), "{error}");
}

#[test]
fn hooks_that_are_off_take_no_lock() {
    use crate::nesting::locks_taken;

    let mut script = Script::new(Dialect::Postgres);
    let before = locks_taken();
    script.run(&[], |_| ok(1));
    assert_eq!(locks_taken() - before, 1, "to take the seat");
}
