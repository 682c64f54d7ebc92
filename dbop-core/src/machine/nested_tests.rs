//! The machine in an open transaction: its own, or the caller's.

use std::time::Duration;

use super::tests::{
    OK, SPEC, Script, config, connect, errno, failed, fault, new_key, no_clock, own_error,
};
use super::*;
use crate::fault::FaultClass;
use crate::nesting::locks_taken;
use crate::outcome::{Outcome, StopReason};
use crate::policy::RetryPolicy;
use crate::retry::Advice;

/// An outermost operation whose body runs `nested`, on the same connection.
fn enclosing(
    dialect: Dialect,
    depth: u32,
    mut nested: impl FnMut(usize, u32) -> (BodyEnd, Option<u32>),
) -> (Done, Vec<String>) {
    let key = new_key();
    let mut outer = Script::at(dialect, key, depth);
    let done = outer.run(&[], |attempt| nested(key, attempt));
    (done, outer.steps)
}

/// How often the outermost operation and the one nested in it run, if the nested one always fails.
fn runs_until_exhausted(fault: Fault) -> (u32, u32) {
    let mut bodies = 0;
    let (done, _) = enclosing(fault.dialect(), 0, |key, _| {
        let mut inner = Script::at(fault.dialect(), key, 1);
        let done = inner.run(&[], |_| {
            bodies += 1;
            failed(fault, 2)
        });
        assert_eq!(done.stop, StopReason::EnclosingTransaction);
        failed(fault, 1)
    });
    assert_eq!(done.stop, StopReason::RetriesExhausted);
    (done.attempts, bodies)
}

#[test]
fn a_savepoint_retries_a_lock_timeout_once_then_escalates() {
    // 5 retries for the two of them together: 2 bodies in each of the first attempts of the
    // outer one, until nothing is left.
    let timeout = fault(Dialect::Postgres, FaultClass::LockTimeout);
    assert_eq!(runs_until_exhausted(timeout), (3, 6));
}

/// The step of a caller's transaction fails like this, and its ROLLBACK TO by an error that says that
/// there is no savepoint.
fn without_its_savepoint(
    dialect: Dialect,
    answers: &[Result<(), Fault>],
    body: impl FnMut(u32) -> (BodyEnd, Option<u32>),
) -> (Done, Vec<String>) {
    let mut script = Script::at(dialect, new_key(), 1);
    script.policy = RetryPolicy::no_retries();
    let done = script.run(answers, body);
    (done, script.steps)
}

#[test]
fn a_savepoint_that_could_not_be_opened_is_contained_whatever_the_error() {
    let answers = [Err(errno(1064)), Err(errno(1305))];
    let (_, steps) = without_its_savepoint(Dialect::Mysql, &answers, |_| unreachable!());
    assert!(steps.contains(&"Contain".into()), "{steps:?}");
}

#[test]
fn nothing_more_is_sent_on_a_connection_that_is_lost() {
    let lost = Err(fault(Dialect::Mysql, FaultClass::ConnectionLost));
    let (done, steps) = without_its_savepoint(Dialect::Mysql, &[OK, lost], |_| own_error(2));
    assert!(done.connection_broken);
    assert!(!steps.contains(&"Contain".into()), "{steps:?}");
    // The question whether it was undone, after a lock timeout, meets the loss.
    let answers = [OK, Err(errno(1305)), lost];
    let timeout = || failed(errno(1205), 2);
    let (done, steps) = without_its_savepoint(Dialect::Mysql, &answers, |_| timeout());
    assert!(
        done.connection_broken && steps.contains(&"CheckUndone".into()),
        "{steps:?}"
    );
    assert!(!steps.contains(&"Contain".into()), "{steps:?}");
}

#[test]
fn where_there_is_nothing_to_contain_nothing_is_sent() {
    let gone = Err(fault(Dialect::Postgres, FaultClass::TransactionLost));
    let (_, steps) = without_its_savepoint(Dialect::Postgres, &[OK, gone], |_| own_error(2));
    assert!(!steps.contains(&"Contain".into()), "{steps:?}");
}

#[test]
fn what_could_not_be_contained_leaves_a_broken_connection() {
    for (contained, broken) in [(OK, false), (Err(errno(1064)), true)] {
        let mut inner_broken = None;
        enclosing(Dialect::Mysql, 0, |key, _| {
            let mut inner = Script::at(Dialect::Mysql, key, 1);
            let done = inner.run(&[OK, Err(errno(1305)), contained], |_| {
                failed(errno(1213), 2)
            });
            assert!(inner.steps.contains(&"Contain".into()), "{:?}", inner.steps);
            inner_broken = inner_broken.or(Some(done.connection_broken));
            own_error(1)
        });
        assert_eq!(inner_broken, Some(broken));
    }
}

/// What a nested operation has used is used, also while there is no connection.
#[test]
fn without_a_connection_no_retry_is_taken_that_a_nested_operation_has_used() {
    let config = config(RetryPolicy::new().with_max_retries(2));
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &SPEC, true, no_clock).expect("valid");
    let (key, mut connects) = (new_key(), 0);
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } if connects == 0 => {
                connects += 1;
                connect(&mut machine, key, 0);
            }
            Step::Connect { .. } => {
                connects += 1;
                let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
                _ = machine.connect_failed(refused, Advice::Judge, no_clock);
            }
            Step::Body => {
                let timeout = fault(Dialect::Postgres, FaultClass::LockTimeout);
                let mut inner = Script::at(Dialect::Postgres, key, 1);
                let done = inner.run(&[], |attempt| match attempt {
                    1 => failed(timeout, 2),
                    _ => (BodyEnd::Ok, Some(2)),
                });
                assert_eq!(done.attempts, 2);
                let (end, _) = failed(fault(Dialect::Postgres, FaultClass::ConnectionLost), 0);
                machine.body_done(end, None);
            }
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => break done,
            step => unreachable!("{step:?}"),
        }
    };
    assert_eq!((connects, done.attempts), (2, 2));
    assert_eq!(done.stop, StopReason::RetriesExhausted);
}

/// The transaction around it may hold locks, for which others would wait.
#[test]
fn a_savepoint_waits_for_no_other_attempt() {
    for (depth, expected) in [(0, false), (1, true)] {
        let config = config(RetryPolicy::new().with_jitter(crate::Jitter::None));
        let machine = Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock);
        let mut machine = machine.expect("valid");
        let key = new_key();
        let delay = loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, key, depth),
                Step::Body => {
                    let timeout = fault(Dialect::Postgres, FaultClass::LockTimeout);
                    let (end, _) = failed(timeout, depth + 1);
                    machine.body_done(end, Some(depth + 1));
                }
                Step::Batch(_) => _ = machine.batch_done(Ok(())),
                Step::Report(_) => {}
                Step::Pause(pause) => break pause.delay,
                step => unreachable!("{step:?}"),
            }
        };
        assert_eq!(delay.is_zero(), expected, "{depth} around it");
    }
}

#[test]
fn a_savepoint_never_retries_a_deadlock() {
    let deadlock = fault(Dialect::Postgres, FaultClass::Deadlock);
    assert_eq!(runs_until_exhausted(deadlock), (21, 21));
}

#[test]
fn mysql_deadlock_in_a_savepoint_restarts_the_outermost() {
    let (done, steps) = enclosing(Dialect::Mysql, 0, |key, attempt| {
        let mut inner = Script::at(Dialect::Mysql, key, 1);
        if attempt > 1 {
            inner.run(&[], |_| (BodyEnd::Ok, Some(2)));
            return (BodyEnd::Ok, Some(1));
        }
        // The ROLLBACK TO answers 1305: the savepoint went with the transaction.
        let done = inner.run(&[OK, Err(errno(1305))], |_| failed(errno(1213), 2));
        assert_eq!(
            inner.steps,
            ["Begin", "body 1", "Rollback", "Contain", "Escalated"]
        );
        assert_eq!(done.stop, StopReason::EnclosingTransaction);
        assert!(!done.fallback_allowed && !done.connection_broken);
        // Another operation after it, in the same lost transaction, is refused.
        let mut next = Script::at(Dialect::Mysql, key, 1);
        let done = next.run(&[], |_| panic!("must not run"));
        assert_eq!(next.steps, ["Escalated"]);
        assert_eq!(done.attempts, 0);
        assert!(matches!(done.answer, Answer::Own(error) if error.is_transaction_lost()));
        // The body swallows it all.
        (BodyEnd::Ok, Some(1))
    });
    assert_eq!(
        steps,
        [
            "Begin",
            "body 1",
            "Rollback",
            "Retrying",
            "pause",
            "Begin",
            "body 2",
            "Commit",
            "Succeeded"
        ]
    );
    assert_eq!(done.outcome, Outcome::Committed);
}

#[test]
fn in_the_callers_transaction_a_loss_breaks_the_connection() {
    let key = new_key();
    let mut script = Script::at(Dialect::Mysql, key, 1);
    let done = script.run(&[OK, Err(errno(1305))], |_| failed(errno(1213), 2));
    assert_eq!(
        script.steps,
        ["Begin", "body 1", "Rollback", "Contain", "Failed"]
    );
    assert!(done.connection_broken && !done.fallback_allowed);
    assert_eq!(done.outcome, Outcome::Undone);
}

#[test]
fn implicitly_committed_in_a_savepoint_is_unknown_for_the_outermost() {
    let (done, _) = enclosing(Dialect::Mysql, 0, |key, _| {
        let mut inner = Script::at(Dialect::Mysql, key, 1);
        // RELEASE answers 1305, and so does the ROLLBACK TO; no deadlock was seen.
        let done = inner.run(&[OK, Err(errno(1305)), Err(errno(1305))], |_| {
            (BodyEnd::Ok, Some(2))
        });
        assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
        own_error(1)
    });
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
}

#[test]
fn a_serialization_failure_goes_up() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let serialization = fault(dialect, FaultClass::SerializationFailure);
        let mut script = Script::at(dialect, new_key(), 1);
        let done = script.run(&[], |_| failed(serialization, 2));
        assert_eq!(done.attempts, 1);
        assert_eq!(done.stop, StopReason::EnclosingTransaction);
    }
}

#[test]
fn a_savepoint_whose_transaction_was_aborted_before_leaves_it_alone() {
    let aborted = fault(Dialect::Postgres, FaultClass::TransactionAborted);
    let mut script = Script::at(Dialect::Postgres, new_key(), 1);
    let done = script.run(&[Err(aborted), Err(aborted)], |_| panic!("must not run"));
    assert!(!done.connection_broken, "the caller still has to roll back");
    assert!(
        !done.fallback_allowed,
        "nothing in it can be committed any more"
    );
}

#[test]
fn sqlite_busy_in_a_savepoint_is_retried_only_under_begin_immediate() {
    let busy = fault(Dialect::Sqlite, FaultClass::Busy);
    let mut script = Script::at(Dialect::Sqlite, new_key(), 1);
    let done = script.run(&[], |_| failed(busy, 2));
    assert_eq!(done.stop, StopReason::EnclosingTransaction);
    enclosing(Dialect::Sqlite, 0, |key, _| {
        let mut inner = Script::at(Dialect::Sqlite, key, 1);
        let done = inner.run(&[], |attempt| match attempt {
            1 => failed(busy, 2),
            _ => (BodyEnd::Ok, Some(2)),
        });
        assert_eq!(done.attempts, 2);
        (BodyEnd::Ok, Some(1))
    });
}

#[test]
fn a_nested_operation_that_lost_the_connection_ends_the_outermost() {
    let lost = fault(Dialect::Mysql, FaultClass::ConnectionLost);
    let (done, steps) = enclosing(Dialect::Mysql, 0, |key, _| {
        let mut inner = Script::at(Dialect::Mysql, key, 1);
        let done = inner.run(&[OK, Err(lost)], |_| failed(lost, 2));
        assert!(done.connection_broken);
        // Its driver has put the transaction manager into its error state.
        (BodyEnd::Ok, None)
    });
    assert_eq!(steps, ["Begin", "body 1", "Failed"]);
    assert_eq!(done.outcome, Outcome::Undone);
    assert_eq!(done.stop, StopReason::NeedsConnection);
}

/// Within those of the operation around it.
#[test]
fn a_nested_operation_has_its_own_number_of_retries() {
    let busy = fault(Dialect::Sqlite, FaultClass::Busy);
    enclosing(Dialect::Sqlite, 0, |key, _| {
        let policy = RetryPolicy::new().with_max_retries(2);
        let mut inner = Script::at(Dialect::Sqlite, key, 1).with_policy(policy);
        assert_eq!(inner.run(&[], |_| failed(busy, 2)).attempts, 3);
        (BodyEnd::Ok, Some(1))
    });
}

#[test]
fn the_defaults_are_for_outermost_operations() {
    let key = new_key();
    let (none, mut ten_seconds) = (config(RetryPolicy::new()), config(RetryPolicy::new()));
    ten_seconds.set_defaults(|defaults| defaults.lock_timeout = Some(Duration::from_secs(10)));
    let outer = Machine::new(Dialect::Postgres, &none, &SPEC, false, no_clock);
    let mut outer = outer.expect("valid settings");
    connect(&mut outer, key, 0);
    let inner = Machine::new(Dialect::Postgres, &ten_seconds, &SPEC, false, no_clock);
    let mut inner = inner.expect("valid settings");
    connect(&mut inner, key, 1);
    let savepoint = "SAVEPOINT dbop_savepoint_1";
    let step = inner.step(no_clock);
    assert!(
        matches!(step, Step::Batch(batch) if batch.sql == savepoint),
        "{step:?}"
    );
    // In a transaction of the caller's there is none around it.
    let alone = Machine::new(Dialect::Postgres, &ten_seconds, &SPEC, false, no_clock);
    let mut alone = alone.expect("valid settings");
    connect(&mut alone, new_key(), 1);
    let step = alone.step(no_clock);
    let with_timeout = "SAVEPOINT dbop_savepoint_1; SELECT set_config('dbop.lock_timeout_1', ";
    assert!(
        matches!(step, Step::Batch(batch) if batch.sql.starts_with(with_timeout)),
        "{step:?}"
    );
}

#[test]
fn sqlite_is_asked_what_was_written_after_the_end_and_keeps_nothing_that_follows() {
    let full = fault(Dialect::Sqlite, FaultClass::ResourceExhausted);
    let gone = Err(fault(Dialect::Sqlite, FaultClass::TransactionLost));
    let mut script = Script::at(Dialect::Sqlite, new_key(), 1);
    let done = script.run(&[OK, gone], |_| failed(full, 2));
    assert_eq!(
        script.steps,
        [
            "Begin",
            "body 1",
            "Rollback",
            "CheckUndone",
            "Contain",
            "Failed"
        ]
    );
    assert_eq!(script.contained, ["BEGIN"]);
    assert!(done.connection_broken);
}

#[test]
fn what_was_lost_further_down_still_restores_the_settings() {
    let lost = Err(errno(1305));
    enclosing(Dialect::Mysql, 0, |key, attempt| {
        if attempt == 1 {
            let mut middle = Script::at(Dialect::Mysql, key, 1);
            middle.settings.lock_timeout = Some(Duration::from_secs(1));
            middle.run(&[], |_| {
                Script::at(Dialect::Mysql, key, 2).run(&[OK, lost], |_| failed(errno(1213), 3));
                (BodyEnd::Ok, Some(2))
            });
            assert!(middle.contained[0].contains("innodb_lock_wait_timeout=@dbop_lock_1"));
        }
        (BodyEnd::Ok, Some(1))
    });
}

#[test]
fn what_its_own_body_ended_still_restores_the_settings() {
    let mut script = Script::at(Dialect::Mysql, new_key(), 1);
    script.settings.lock_timeout = Some(Duration::from_secs(1));
    let done = script.run(&[], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(
        script.contained,
        ["SET SESSION innodb_lock_wait_timeout=@dbop_lock_1; SET autocommit=0"]
    );
    assert_eq!(done.outcome, Outcome::Unknown);
}

#[test]
fn another_operation_in_its_place_costs_the_connection() {
    let (done, _) = enclosing(Dialect::Postgres, 0, |key, _| {
        Script::at(Dialect::Postgres, key, 0).run(&[], |_| (BodyEnd::Ok, Some(1)));
        (BodyEnd::Ok, Some(1))
    });
    assert_eq!(done.outcome, Outcome::Unknown);
    assert!(done.connection_broken);
}

#[test]
fn each_operation_without_trouble_locks_the_table_of_connections_once() {
    let before = locks_taken();
    let (done, _) = enclosing(Dialect::Postgres, 0, |key, _| {
        for _ in 0..2 {
            let mut inner = Script::at(Dialect::Postgres, key, 1);
            let done = inner.run(&[], |_| (BodyEnd::Ok, Some(2)));
            assert_eq!(done.outcome, Outcome::Committed);
        }
        (BodyEnd::Ok, Some(1))
    });
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
    assert_eq!(locks_taken() - before, 3);
}

#[test]
fn a_release_that_is_busy_is_not_sent_again_alone() {
    let busy = Err(fault(Dialect::Sqlite, FaultClass::Busy));
    let mut script = Script::at(Dialect::Sqlite, new_key(), 1);
    script.run(&[OK, busy], |_| (BodyEnd::Ok, Some(2)));
    assert_eq!(script.steps[..4], ["Begin", "body 1", "Commit", "Rollback"]);
}

#[test]
fn an_error_that_wants_a_retry_gets_it_in_a_savepoint_too() {
    let wants = BodyEnd::Failed {
        fault: None,
        advice: Advice::Retry,
    };
    let mut script = Script::at(Dialect::Postgres, new_key(), 1);
    let done = script.run(&[], |attempt| match attempt {
        1 => (wants, Some(2)),
        _ => (BodyEnd::Ok, Some(2)),
    });
    assert_eq!((done.attempts, done.stop), (2, StopReason::Succeeded));
}

#[test]
fn an_operation_in_the_callers_look_does_not_take_the_place_of_the_one_around_it() {
    let config = config(RetryPolicy::new());
    let spec = Spec {
        resolution: Resolution::Verify,
        ..SPEC
    };
    let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
    let (mut key, mut bodies) = (0, 0);
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => {
                key = new_key();
                connect(&mut machine, key, 0);
            }
            Step::Batch(batch) => {
                let is_lost = batch.purpose == BatchPurpose::Commit && bodies == 1;
                _ = machine.batch_done(if is_lost { Err(lost) } else { Ok(()) });
            }
            Step::Body => {
                bodies += 1;
                let is_second = bodies == 2;
                // After the look it is still the one around what runs on its connection.
                assert!(!is_second || !machine.place(key, 1).is_outermost());
                machine.body_done(BodyEnd::Ok, Some(1));
            }
            Step::Verify => {
                let mut look = Script::at(Dialect::Postgres, key, 0);
                let done = look.run(&[], |_| (BodyEnd::Ok, Some(1)));
                assert_eq!(done.outcome, Outcome::Committed);
                machine.verify_done(Verified::Committed(false), Some(0));
            }
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => break assert_eq!(done.attempts, 2),
            step => unreachable!("{step:?}"),
        }
    }
}

#[test]
fn a_release_that_finds_the_transaction_gone_says_so() {
    let gone = fault(Dialect::Mysql, FaultClass::TransactionLost);
    let lost = fault(Dialect::Mysql, FaultClass::ConnectionLost);
    let mut script = Script::at(Dialect::Mysql, new_key(), 1);
    let done = script.run(&[OK, Err(gone), Err(lost)], |_| (BodyEnd::Ok, Some(2)));
    assert!(matches!(done.answer, Answer::Own(error) if error.is_transaction_lost()));
}

#[test]
fn a_loss_without_a_fault_is_that_of_the_transaction_around_the_step() {
    let lost = Err(fault(Dialect::Postgres, FaultClass::ConnectionLost));
    let (done, _) = enclosing(Dialect::Postgres, 1, |key, _| {
        let mut inner = Script::at(Dialect::Postgres, key, 2);
        inner.run(&[OK, lost], |_| own_error(3));
        (BodyEnd::Ok, Some(2))
    });
    assert_eq!(done.stop, StopReason::EnclosingTransaction);
    assert!(matches!(done.answer, Answer::Own(error) if error.is_transaction_lost()));
}
