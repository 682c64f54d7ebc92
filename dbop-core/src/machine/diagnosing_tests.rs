//! Errors whose text is not known, against scripts.

use super::reconnecting_tests::Given::{Fails, Fine, Reads};
use super::reconnecting_tests::{Script as Reconnecting, fault as fails, ledger, lost};
use super::tests::{
    OK, SPEC, Script, config, connect, errno, failed, fault, new_key, no_clock, own_error,
};
use super::*;
use crate::dialect::Engine;
use crate::fault::{Code, ErrorKind, FaultClass, Reported, SqlState};
use crate::outcome::{Outcome, Phase, StopReason};
use crate::policy::RetryPolicy;
use crate::retry::Advice;

fn unknown(dialect: Dialect) -> Fault {
    fault(dialect, FaultClass::Unknown)
}

#[test]
fn mysql_is_asked_for_the_number_of_an_unknown_error() {
    // A real deadlock has taken the savepoint along.
    let gone = Err(errno(1305));
    let mut script = Script::new(Dialect::Mysql);
    script.kept = Ok(Some("1213 un interblocage"));
    let done = script.run(&[OK, gone], |attempt| match attempt {
        1 => failed(unknown(Dialect::Mysql), 1),
        _ => (BodyEnd::Ok, Some(1)),
    });
    assert_eq!(
        script.steps[..7],
        [
            "Begin",
            "body 1",
            "Rollback",
            "diagnose",
            "RollbackAgain",
            "Retrying",
            "pause"
        ]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn a_number_of_another_error_is_not_believed() {
    for kept in [
        None,
        Some("1213 Deadlock found when trying to get lock"),
        Some("1213"),
        Some("x un interblocage"),
    ] {
        let mut script = Script::new(Dialect::Mysql);
        script.kept = Ok(kept);
        let done = script.run(&[], |_| failed(unknown(Dialect::Mysql), 1));
        assert_eq!(
            script.steps,
            ["Begin", "body 1", "Rollback", "diagnose", "Failed"]
        );
        assert_eq!(done.stop, StopReason::NotRetryable, "{kept:?}");
    }
}

#[test]
fn only_an_unknown_error_is_asked_about_and_only_on_mysql() {
    let asks = |dialect, end: (BodyEnd, Option<u32>)| {
        let mut script = Script::new(dialect).with_policy(RetryPolicy::no_retries());
        script.run(&[], |_| end);
        script.steps.contains(&"diagnose".into())
    };
    assert!(asks(Dialect::Mysql, failed(unknown(Dialect::Mysql), 1)));
    assert!(!asks(Dialect::Mysql, own_error(1)));
    assert!(!asks(Dialect::Mysql, failed(errno(1062), 1)));
    assert!(
        !asks(Dialect::Mysql, failed(errno(1030), 1)),
        "it has a number"
    );
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        assert!(!asks(dialect, failed(unknown(dialect), 1)));
    }
}

#[test]
fn it_is_asked_at_begin_at_commit_and_in_a_savepoint_too() {
    let unknown = Err(unknown(Dialect::Mysql));
    for (answers, depth, outcome) in [
        (&[unknown][..], 0, Outcome::Undone),
        (&[OK, unknown], 0, Outcome::Undone),
        (&[OK, unknown], 1, Outcome::Undone),
    ] {
        let mut script =
            Script::at(Dialect::Mysql, new_key(), depth).with_policy(RetryPolicy::no_retries());
        script.kept = Ok(Some("1205 un interblocage"));
        let done = script.run(answers, |_| (BodyEnd::Ok, Some(depth + 1)));
        assert!(
            script.steps.contains(&"diagnose".into()),
            "{:?}",
            script.steps
        );
        assert_eq!(done.outcome, outcome, "{:?}", script.steps);
    }
    // What is not diagnosed is not proven.
    let mut script = Script::new(Dialect::Mysql);
    let done = script.run(&[OK, unknown], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(done.outcome, Outcome::Unknown);
}

#[test]
fn an_unknown_error_whose_rollback_finds_the_connection_gone_was_its_loss() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let gone = Err(fault(dialect, FaultClass::ConnectionLost));
        let mut script = Script::new(dialect);
        let done = script.run(&[OK, gone], |_| failed(unknown(dialect), 1));
        assert_eq!(
            (done.outcome, done.stop),
            (Outcome::Undone, StopReason::NeedsConnection)
        );
        // At COMMIT it can have happened.
        let mut script = Script::new(dialect);
        let done = script.run(&[OK, Err(unknown(dialect)), gone], |_| {
            (BodyEnd::Ok, Some(1))
        });
        assert_eq!(done.outcome, Outcome::Unknown);
    }
    // With a source there is another attempt.
    let mut script = Reconnecting::new(Dialect::Postgres, Resolution::Nothing);
    let unknown = fails(Dialect::Postgres, FaultClass::Unknown);
    let done = script.run([Fine, Fine, unknown, lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn an_aborted_transaction_is_known_by_the_rollback_in_any_language() {
    let unknown = Err(unknown(Dialect::Postgres));
    for depth in [0, 1] {
        let mut script = Script::at(Dialect::Postgres, new_key(), depth);
        let done = script.run(&[OK, unknown], |_| (BodyEnd::Ok, Some(depth + 1)));
        assert_eq!(done.outcome, Outcome::Undone);
        assert!(matches!(done.answer, Answer::Own(error) if error.is_rolled_back()));
    }
}

#[test]
fn a_commit_refused_by_an_unknown_text_is_unknown() {
    let unknown_error = Err(unknown(Dialect::Postgres));
    let no_transaction = SqlState::new("25P01").map(Code::SqlState).expect("a state");
    let gone = Err(Fault::from_code(Dialect::Postgres, no_transaction));
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[OK, unknown_error, gone], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(
        script.steps,
        [
            "Begin",
            "body 1",
            "Commit",
            "Rollback",
            "RollbackAgain",
            "OutcomeUnknown"
        ]
    );
    assert_eq!(done.outcome, Outcome::Unknown);
    // A way to find out is used.
    let mut script = Reconnecting::new(Dialect::Mysql, ledger());
    let unknown = fails(Dialect::Mysql, FaultClass::Unknown);
    let done = script.run([Fine, Fine, Fine, unknown, Fine, Reads("0 x")]);
    assert!(
        script.steps.contains(&"Asking".into()),
        "{:?}",
        script.steps
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Undone, 1));
    assert!(matches!(done.answer, Answer::FirstError));
}

#[test]
fn a_body_that_crashes_its_server_does_so_twice() {
    for (limit, attempts) in [(2, 2), (1, 1), (4, 4)] {
        let mut script = Reconnecting::new(Dialect::Postgres, Resolution::Nothing);
        script.policy = script.policy.with_max_silent_losses(limit);
        let attempt = [Fine, Fine, lost()];
        let done = script.run(std::iter::repeat_n(attempt, 9).flatten());
        assert_eq!(
            (done.attempts, done.stop, done.outcome),
            (attempts, StopReason::RetriesExhausted, Outcome::Undone)
        );
    }
    // Diesel found the connection closed when the body sent its next statement.
    let mut script = Reconnecting::new(Dialect::Postgres, Resolution::Nothing);
    let closed = Fails(fault(Dialect::Postgres, FaultClass::NotConnected));
    let attempt = [Fine, Fine, closed];
    let done = script.run(std::iter::repeat_n(attempt, 9).flatten());
    assert_eq!(done.attempts, 2);
}

#[test]
fn a_connection_that_was_terminated_is_lost_as_often_as_the_policy_allows() {
    let code = |state| {
        let code = SqlState::new(state).map(Code::SqlState).expect("a state");
        Fails(Fault::from_code(Dialect::Postgres, code))
    };
    // A body that is too slow is going to be as slow again.
    for (state, attempts) in [("57P01", 6), ("57P02", 6), ("25P03", 2), ("25P04", 2)] {
        let mut script = Reconnecting::new(Dialect::Postgres, Resolution::Nothing);
        let attempt = [Fine, Fine, code(state)];
        let done = script.run(std::iter::repeat_n(attempt, 9).flatten());
        assert_eq!(
            (done.attempts, done.outcome),
            (attempts, Outcome::Undone),
            "{state}"
        );
    }
}

#[test]
fn a_database_that_takes_no_writes_is_tried_on_one_more_connection() {
    let read_only = Fault::from_code(Dialect::Sqlite, Code::Sqlite(8));
    let mut script = Reconnecting::new(Dialect::Sqlite, Resolution::Nothing);
    let attempt = [Fine, Fine, Fails(read_only), Fine];
    let done = script.run(std::iter::repeat_n(attempt, 9).flatten());
    assert_eq!((done.attempts, done.outcome), (2, Outcome::Undone));
    assert!(done.connection_broken, "it leaves the pool");
}

#[test]
fn a_rollback_that_only_failed_because_of_the_diagnosis_is_sent_without_it() {
    for depth in [0, 1] {
        let mut script = Script::at(Dialect::Mysql, new_key(), depth);
        let done = script.run(&[OK, Err(errno(1064))], |_| {
            failed(unknown(Dialect::Mysql), depth + 1)
        });
        assert_eq!(
            script.steps,
            ["Begin", "body 1", "Rollback", "RollbackAgain", "Failed"]
        );
        assert_eq!(done.outcome, Outcome::Undone);
        assert!(!done.connection_broken);
    }
}

#[test]
fn a_connection_that_is_lost_in_the_diagnosis_leaves_the_attempt_undone() {
    let lost = fault(Dialect::Mysql, FaultClass::ConnectionLost);
    let mut script = Script::new(Dialect::Mysql);
    script.kept = Err(lost);
    let done = script.run(&[], |_| failed(unknown(Dialect::Mysql), 1));
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(done.connection_broken);
    assert_eq!(done.stop, StopReason::NotRetryable);
}

/// A deadlock as it is known by its text.
fn said_to_be_a_deadlock() -> Fault {
    let text = "Deadlock found when trying to get lock; try restarting transaction";
    Fault::recognize(Dialect::Mysql, Reported::new(ErrorKind::Unknown, text))
}

#[test]
fn a_text_that_an_application_can_raise_is_confirmed_by_the_number() {
    let gone = Err(errno(1305));
    for depth in [0, 1] {
        for (kept, rollback, outcome, retried) in [
            // A real one, and GET_LOCK's on MariaDB, which leaves the transaction alone.
            (Some("1213 un interblocage"), gone, Outcome::Undone, true),
            (Some("1213 un interblocage"), OK, Outcome::Undone, true),
            // A SIGNAL, alone and in a procedure that had committed.
            (Some("1644 un interblocage"), OK, Outcome::Undone, false),
            (Some("1644 un interblocage"), gone, Outcome::Unknown, false),
            // What cannot be found out is believed.
            (None, gone, Outcome::Undone, true),
            (Some("1644 another one"), gone, Outcome::Undone, true),
        ] {
            let mut script =
                Script::at(Dialect::Mysql, new_key(), depth).with_policy(RetryPolicy::no_retries());
            script.kept = Ok(kept);
            let done = script.run(&[OK, rollback], |_| {
                failed(said_to_be_a_deadlock(), depth + 1)
            });
            let steps = &script.steps;
            assert_eq!(steps[1..4], ["body 1", "Rollback", "diagnose"]);
            assert_eq!(done.outcome, outcome, "{kept:?} {steps:?}");
            let wanted = match (outcome, retried, depth) {
                (Outcome::Unknown, ..) => StopReason::OutcomeUnknown,
                (_, true, 0) => StopReason::RetriesExhausted,
                (_, true, _) => StopReason::EnclosingTransaction,
                (_, false, _) => StopReason::NotRetryable,
            };
            assert_eq!(done.stop, wanted, "{kept:?} {steps:?}");
        }
    }
}

#[test]
fn what_no_application_can_raise_is_not_asked_for() {
    let asks = |fault, phase| {
        let mut script = Script::new(Dialect::Mysql).with_policy(RetryPolicy::no_retries());
        match phase {
            Phase::Begin => script.run(&[Err(fault)], |_| (BodyEnd::Ok, Some(1))),
            Phase::Commit => script.run(&[OK, Err(fault)], |_| (BodyEnd::Ok, Some(1))),
            _ => script.run(&[], |_| failed(fault, 1)),
        };
        script.steps.contains(&"diagnose".into())
    };
    let of = |kind, text| Fault::recognize(Dialect::Mysql, Reported::new(kind, text));
    assert!(asks(said_to_be_a_deadlock(), Phase::Body));
    assert!(!asks(said_to_be_a_deadlock(), Phase::Begin));
    assert!(!asks(said_to_be_a_deadlock(), Phase::Commit));
    // The kind is the number's.
    assert!(!asks(of(ErrorKind::SerializationFailure, ""), Phase::Body));
    // It is not retried anyway.
    let final_one = of(ErrorKind::Unknown, "Table 't' doesn't exist");
    assert!(!asks(final_one, Phase::Body));
    let lost = of(ErrorKind::Unknown, "MySQL server has gone away");
    assert!(!asks(lost, Phase::Body));
    // It takes as many round trips as without dbop.
    let locked = "Lock wait timeout exceeded; try restarting transaction";
    assert!(!asks(of(ErrorKind::Unknown, locked), Phase::Body));
}

#[test]
fn the_rollback_after_it_looks_whether_the_transaction_is_there() {
    let undo = |fault| {
        let config = config(RetryPolicy::new());
        let mut machine =
            Machine::new(Dialect::Mysql, &config, &SPEC, false, no_clock).expect("valid");
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => connect(&mut machine, new_key(), 0),
                Step::Batch(batch) if batch.purpose == BatchPurpose::Rollback => {
                    return batch.sql.to_owned();
                }
                Step::Batch(_) => _ = machine.batch_done(Ok(())),
                Step::Body => {
                    let (end, depth) = failed(fault, 1);
                    machine.body_done(end, depth);
                }
                step => unreachable!("{step:?}"),
            }
        }
    };
    let sql = undo(said_to_be_a_deadlock());
    assert!(sql.starts_with("GET DIAGNOSTICS "), "{sql}");
    assert!(
        sql.contains("; ROLLBACK TO SAVEPOINT dbop_alive; "),
        "{sql}"
    );
    let sql = undo(errno(1213));
    assert!(sql.starts_with("ROLLBACK"), "{sql}");
    assert!(!sql.contains("dbop_alive"), "{sql}");
}

/// Runs an operation on PostgreSQL that returns an error of its own, after a statement of it has failed.
/// Returns the batches that undo it, and what is reported.
fn hide(config: &RunnerConfig, name: &'static str, advice: Advice) -> (Vec<String>, EventKind) {
    let aborted = fault(Dialect::Postgres, FaultClass::TransactionAborted);
    let spec = Spec {
        name: Name::Given(name),
        ..SPEC
    };
    let mut machine =
        Machine::new(Dialect::Postgres, config, &spec, false, no_clock).expect("valid");
    let (mut undone, mut reported) = (Vec::new(), None);
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) if batch.purpose == BatchPurpose::Begin => {
                _ = machine.batch_done(Ok(()));
            }
            Step::Batch(batch) => {
                let is_probed = batch.sql.starts_with("SAVEPOINT");
                undone.push(batch.sql.to_owned());
                let slot = machine.batch_done(if is_probed { Err(aborted) } else { Ok(()) });
                // The report has no error of the ROLLBACK.
                assert_eq!(slot == ErrorSlot::Dropped, is_probed);
            }
            Step::Body => {
                let fault = None;
                machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
            }
            Step::Report(event) => reported = Some(event.kind()),
            Step::Done(done) => {
                assert_eq!(
                    (done.outcome, done.stop),
                    (Outcome::Undone, StopReason::OwnError)
                );
                return (undone, reported.expect("one report"));
            }
            step => unreachable!("{step:?}"),
        }
    }
}

#[test]
fn an_error_that_hides_a_failed_statement_is_reported_once_for_each_operation() {
    const PROBED: &str = "SAVEPOINT dbop; ROLLBACK AND CHAIN; ROLLBACK";
    const CHECKED: &str = "ROLLBACK AND CHAIN; ROLLBACK";

    let config = config(RetryPolicy::new());
    for name in ["pay", "refund"] {
        let (undone, reported) = hide(&config, name, Advice::Judge);
        assert_eq!(undone, [PROBED, CHECKED]);
        assert_eq!(reported, EventKind::HidFailure);
        let (undone, reported) = hide(&config.clone(), name, Advice::Judge);
        assert_eq!(undone, [CHECKED]);
        assert_eq!(reported, EventKind::Returned);
    }
    // An error that says what it is worth hides nothing.
    let (undone, reported) = hide(&config, "other", Advice::Never);
    assert_eq!(undone, [CHECKED]);
    assert_eq!(reported, EventKind::Returned);
}

#[test]
fn an_error_of_the_operations_own_hides_nothing_if_no_statement_has_failed() {
    for depth in [0, 1] {
        let mut script = Script::at(Dialect::Postgres, new_key(), depth);
        let done = script.run(&[], |_| own_error(depth + 1));
        assert_eq!(script.steps, ["Begin", "body 1", "Rollback", "Returned"]);
        assert_eq!(done.outcome, Outcome::Undone);
        // What ends its transaction is found out as before.
        let mut script = Script::at(Dialect::Postgres, new_key(), depth);
        let gone = Err(fault(Dialect::Postgres, FaultClass::TransactionLost));
        let done = script.run(&[OK, gone], |_| own_error(depth + 1));
        assert_eq!(done.outcome, Outcome::Unknown);
    }
    for dialect in [Dialect::Mysql, Dialect::Sqlite] {
        let mut script = Script::new(dialect);
        script.run(&[], |_| own_error(1));
        assert_eq!(script.steps, ["Begin", "body 1", "Rollback", "Returned"]);
    }
}

#[test]
fn what_the_number_confirms_is_not_judged_again() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let classifier = |_: &crate::classifier::Seen<'_>| {
        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(FaultClass::Permanent)
    };
    let config = config(RetryPolicy::new());
    let spec = Spec {
        classifier: Some(BorrowedClassifier(&classifier)),
        ..SPEC
    };
    let mut machine = Machine::new(Dialect::Mysql, &config, &spec, false, no_clock).expect("valid");
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Body => {
                let fault = Some(said_to_be_a_deadlock());
                let (fault, advice) = machine.judged_error(fault, Advice::Judge, "x");
                machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
            }
            Step::Diagnose(_) => machine.diagnosed(Ok(Some("1213 x".to_owned())), Some("x")),
            Step::Report(_) => {}
            Step::Done(done) => break assert_eq!(done.stop, StopReason::NotRetryable),
            step => unreachable!("{step:?}"),
        }
    }
    assert!(machine.reclassified().is_none());
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn a_known_error_stays_what_it_is_when_the_rollback_finds_the_connection_gone() {
    let mut script = Reconnecting::new(Dialect::Postgres, Resolution::Nothing);
    let taken = fails(Dialect::Postgres, FaultClass::Constraint);
    let done = script.run([Fine, Fine, taken, lost()]);
    assert_eq!((done.attempts, done.stop), (1, StopReason::NotRetryable));
    assert!(done.connection_broken);
}

/// Where there are no savepoints, the check is a query, which an aborted transaction refuses like any other.
#[test]
fn a_check_that_finds_the_transaction_aborted_is_no_error_of_the_rollback() {
    let mut config = config(RetryPolicy::no_retries());
    config.set_defaults(|defaults| defaults.engine = Some(Engine::AuroraDsql));
    let [constraint, aborted] = [FaultClass::Constraint, FaultClass::TransactionAborted]
        .map(|class| fault(Dialect::Postgres, class));
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock).expect("valid");
    let mut undone = Vec::new();
    let done = loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) if batch.purpose == BatchPurpose::Begin => {
                _ = machine.batch_done(Ok(()));
            }
            Step::Batch(batch) => {
                let is_check = batch.sql.starts_with("SELECT CASE");
                undone.push(batch.sql.to_owned());
                let slot = machine.batch_done(if is_check { Err(aborted) } else { Ok(()) });
                assert_eq!(slot == ErrorSlot::Dropped, is_check);
            }
            Step::Body => {
                let (end, depth) = failed(constraint, 1);
                machine.body_done(end, depth);
            }
            Step::Report(_) => {}
            Step::Done(done) => break done,
            other => panic!("not expected: {other:?}"),
        }
    };
    assert_eq!(undone.len(), 2, "{undone:?}");
    assert_eq!(undone[1], "ROLLBACK");
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(!done.connection_broken);
}
