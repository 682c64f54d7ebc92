//! What became of a commit whose answer was lost, against scripts.

use std::time::{Duration, Instant};

use super::reconnecting_tests::Given::{
    Exhausted, Finds, Fine, LeavesOpen, Panics, Reads, Refuses,
};
use super::reconnecting_tests::{Given, Script, fault, ledger, lost};
use super::tests::{SPEC, config, connect, new_key, no_clock};
use super::*;
use crate::fault::{Code, FaultClass};
use crate::outcome::Outcome;
use crate::policy::RetryPolicy;
use crate::retry::Advice;

#[test]
fn a_lost_commit_is_unknown_and_the_end() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!(
        script.steps,
        ["connect", "Begin", "body", "Commit", "OutcomeUnknown"]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert!(!done.fallback_allowed && done.connection_broken);
    let Answer::Own(error) = done.answer else {
        panic!("an error of dbop's: {:?}", done.answer);
    };
    assert_eq!((error.attempts(), error.stop()), (1, Some(done.stop)));
}

/// The server has begun another transaction in the middle, without a word: nothing is committed, and nothing has to
/// be asked.
#[test]
fn a_commit_that_does_not_find_its_row_is_undone_and_done_again() {
    let errno = Fault::from_code(Dialect::Mysql, Code::Errno(1242));
    let lost_row = Given::Fails(errno);
    let mut script = Script::new(Dialect::Mysql, ledger());
    let done = script.run([Fine, Fine, Fine, lost_row]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    assert!(
        !script.steps.contains(&"AskForToken".into()),
        "{:?}",
        script.steps
    );
    // Without a row it is an error like any other.
    let mut script = Script::new(Dialect::Mysql, Resolution::Nothing);
    let done = script.run([Fine, Fine, Fine, lost_row]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
}

#[test]
fn a_commit_that_was_never_sent_is_undone() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let done = script.run([
        Fine,
        Fine,
        Fine,
        fault(Dialect::Postgres, FaultClass::NotConnected),
    ]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn what_writes_nothing_is_free_to_be_done_again() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.spec.settings.read_only = true;
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn what_is_idempotent_is_done_again_but_never_called_undone() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.spec.idempotent = true;
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    // The second attempt is undone for certain, the first one is not.
    let constraint = fault(Dialect::Postgres, FaultClass::Constraint);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine, constraint]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));
    assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
    assert!(!done.fallback_allowed);
}

/// Nor by an error of the operation's own, which is about the second attempt alone.
#[test]
fn an_error_of_its_own_does_not_settle_what_went_before() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.spec.idempotent = true;
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine, Refuses]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));
    assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
    assert!(script.steps.contains(&"OutcomeUnknown".into()));

    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Finds(false), Fine, Refuses]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));

    // Nor by a panic.
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.spec.idempotent = true;
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine, Panics]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));
    assert!(matches!(done.answer, Answer::Panic));

    // The ledger's no is a proof.
    let mut script = Script::new(Dialect::Postgres, ledger());
    let asked = [Fine, Fine, Fine, Fine];
    let second = [Fine, Refuses];
    let done = script.run(
        [Fine, Fine, Fine, lost()]
            .into_iter()
            .chain(asked)
            .chain(second),
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Undone, 2));
    assert!(matches!(done.answer, Answer::FirstError));
}

#[test]
fn verify_says_what_became_of_it() {
    let lose = [Fine, Fine, Fine, lost(), Fine];
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run(lose.into_iter().chain([Finds(true)]));
    assert_eq!(
        script.steps[3..],
        [
            "Commit",
            "Asking",
            "Discard open",
            "connect",
            "verify",
            "FoundCommitted"
        ]
    );
    assert!(matches!(done.answer, Answer::Value));
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));

    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run(lose.into_iter().chain([Finds(false)]));
    assert_eq!(
        script.steps[6..],
        [
            "connect",
            "verify",
            "Retrying",
            "Keep settled",
            "Begin",
            "body",
            "Commit",
            "Succeeded"
        ],
        "on the fresh connection, at once"
    );
    assert_eq!(script.delays[1], Duration::ZERO);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn questions_share_the_retries_but_the_first_one_is_free() {
    let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
    let lose = [Fine, Fine, Fine, lost()];
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run(lose.into_iter().chain([refused; 100]));
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert_eq!(script.delays.len(), 6);

    script = Script::new(Dialect::Postgres, Resolution::Verify);
    script.policy = RetryPolicy::no_retries();
    let done = script.run(lose.into_iter().chain([Fine, Finds(false)]));
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
}

/// What is late can still arrive after a look: only the ledger and the server know better.
#[test]
fn a_no_of_verify_is_no_proof_and_others_are() {
    let constraint = fault(Dialect::Postgres, FaultClass::Constraint);
    let lose = [Fine, Fine, Fine, lost()];
    for (resolution, expected) in [
        (Resolution::Verify, Outcome::Unknown),
        (ledger(), Outcome::Undone),
    ] {
        let mut script = Script::new(Dialect::Postgres, resolution);
        let asked = match resolution {
            Resolution::Verify => vec![Fine, Finds(false)],
            _ => vec![Fine; 4],
        };
        let answers = lose.into_iter().chain(asked).chain([Fine, constraint]);
        let done = script.run(answers);
        assert_eq!(
            (done.outcome, done.attempts),
            (expected, 2),
            "{:?}",
            script.steps
        );
        assert!(!done.fallback_allowed || expected == Outcome::Undone);
    }
}

#[test]
fn a_panic_while_looking_leaves_it_unknown() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine]);
    assert!(matches!(done.answer, Answer::Panic));
    assert_eq!(done.outcome, Outcome::Unknown);
}

#[test]
fn the_transaction_status_is_asked_until_it_is_final() {
    let begin = [Fine, Fine, Fine, Reads("741"), lost(), Fine];
    for (status, attempts) in [("committed", 1), ("aborted", 2)] {
        let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
        let busy = Reads("in progress");
        let answers = [busy, Fine, busy, Fine, Reads(status)];
        let done = script.run(begin.into_iter().chain(answers));
        assert_eq!(
            (done.outcome, done.attempts),
            (Outcome::Committed, attempts)
        );
        let asked = script.steps.iter().filter(|step| *step == "status").count();
        assert_eq!(asked, 3);
    }
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let done = script.run(begin.into_iter().chain([Fine]));
    assert_eq!(done.outcome, Outcome::Unknown, "forgotten by the server");
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let done = script.run([Fine, Fine, Fine, Fine, lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    assert!(!script.steps.contains(&"status".into()), "it had no id");
}

#[test]
fn a_transaction_without_its_id_is_not_committed() {
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let aborted = fault(Dialect::Postgres, FaultClass::TransactionAborted);
    let done = script.run([Fine, Fine, Fine, aborted]);
    assert!(matches!(done.answer, Answer::Own(error) if error.is_rolled_back()));
    assert_eq!(done.outcome, Outcome::Undone);
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!(done.attempts, 2, "COMMIT was not sent");
}

/// Of another transaction, or perhaps only without its mark: what COMMIT says counts.
#[test]
fn the_id_of_another_transaction_is_not_asked_for() {
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let done = script.run([Fine, Fine, Fine, Finds(false)]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
    let done = script.run([Fine, Fine, Fine, Finds(false), lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    let gone = fault(Dialect::Postgres, FaultClass::TransactionLost);
    let done = script.run([Fine, Fine, Fine, Finds(false), gone]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
}

/// What is asked and answered after a COMMIT whose answer was lost, from the second connection on.
fn asked(dialect: Dialect, answers: &[Given]) -> (Script, Done) {
    let lost = fault(dialect, FaultClass::ConnectionLost);
    let mut script = Script::new(dialect, ledger());
    let lose = [Fine, Fine, Fine, lost, Fine];
    let done = script.run(lose.into_iter().chain(answers.iter().copied()));
    script.steps.drain(..6);
    (script, done)
}

#[test]
fn the_answer_of_the_ledger_counts_once_it_is_committed() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        for (state, last, outcome) in [
            ("1", "FoundCommitted", Outcome::Committed),
            // Committed by DDL, as far as it had come.
            ("0", "OutcomeUnknown", Outcome::Unknown),
            // What only a person can have written.
            ("7", "OutcomeUnknown", Outcome::Unknown),
        ] {
            let (script, done) = asked(dialect, &[Fine, Reads(state)]);
            let expected = ["connect", "Ask", "token", "CommitAnswer", last];
            assert_eq!(script.steps, expected, "{state}");
            assert_eq!((done.outcome, done.attempts), (outcome, 1));
        }
        let (script, done) = asked(dialect, &[Fine, Reads("2")]);
        assert_eq!(
            script.steps[4..],
            [
                "Retrying",
                "Keep settled",
                "Begin",
                "body",
                "Commit",
                "Succeeded"
            ]
        );
        assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    }
}

/// The token of the lost attempt is never committed, so the next one needs another.
#[test]
fn after_a_no_the_next_attempt_has_another_token() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let token = |sql: &str| {
            let opening = match dialect {
                Dialect::Postgres => "decode('64626f70', 'hex'), decode('",
                _ => "X'64626f70', X'",
            };
            let (_, rest) = sql.split_once(opening).expect("a token");
            rest[..32].to_owned()
        };
        let (script, _) = asked(dialect, &[]);
        let tokens: Vec<_> = script.opened.iter().map(|sql| token(sql)).collect();
        let [first, asked_for, second] = &tokens[..] else {
            panic!("{:?}", script.opened);
        };
        assert_eq!(first, asked_for);
        assert_ne!(first, second);
        // Another attempt for another reason keeps it: it is found where the first one has committed it.
        let mut script = Script::new(dialect, ledger());
        script.run([Fine, Fine, fault(dialect, FaultClass::ConnectionLost)]);
        assert_eq!(script.opened[0], script.opened[1]);
    }
}

/// Whatever is in the way of the question, nothing is claimed: it is asked again, from the beginning.
#[test]
fn what_is_in_the_way_of_the_question_is_no_answer() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let class = |class| fault(dialect, class);
        for (in_the_way, connects) in [
            (FaultClass::LockTimeout, 2),
            (FaultClass::Deadlock, 2),
            (FaultClass::SerializationFailure, 2),
            (FaultClass::StatementTimeout, 2),
            (FaultClass::ConnectionLost, 2),
            (FaultClass::ReadOnlyServer, 2),
            (FaultClass::OutcomeUnknown, 2),
            (FaultClass::TransactionLost, 2),
        ] {
            for step in 0..3 {
                let fails = [&[Fine; 2][..step], &[class(in_the_way)]].concat();
                let is_usable = in_the_way != FaultClass::ConnectionLost;
                let rolled_back = if is_usable { vec![Fine] } else { vec![] };
                let then = [Fine, Fine, Reads("1")];
                let what = format!("{dialect} {in_the_way:?} {step}");
                let answers = [&fails[..], &rolled_back, &then].concat();
                let (script, done) = asked(dialect, &answers);
                let count = |name| script.steps.iter().filter(|step| *step == name).count();
                assert_eq!(count("Asking"), 1, "{what}: {:?}", script.steps);
                assert_eq!(count("Rollback"), usize::from(is_usable), "{what}");
                assert_eq!(count("connect"), connects, "{what}");
                assert_eq!(done.outcome, Outcome::Committed, "{what}");
                assert_eq!(done.attempts, 1, "{what}");
                // Without another question, and with an answer that is not committed.
                let mut script = Script::new(dialect, ledger());
                script.policy = RetryPolicy::no_retries();
                let lose = [Fine, Fine, Fine, class(FaultClass::ConnectionLost), Fine];
                let done = script.run(lose.into_iter().chain(answers));
                assert_eq!(done.outcome, Outcome::Unknown, "{what}");
            }
        }
    }
}

/// A session that holds the token is waited for until there is no more time or no more retry, and a
/// connection on which no question could be asked is thrown away.
#[test]
fn asking_is_not_given_up_early_and_leaves_no_broken_connection() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let lost = fault(dialect, FaultClass::ConnectionLost);
        let lose = [Fine, Fine, Fine, lost, Fine];
        let slow = fault(dialect, FaultClass::StatementTimeout);
        let mut script = Script::new(dialect, ledger());
        let done = script.run(lose.into_iter().chain([slow]));
        assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));

        let standby = fault(dialect, FaultClass::ReadOnlyServer);
        // What the user calls it does not mend a connection.
        let class = Fault::from_class(dialect, FaultClass::ConnectionLost);
        let renamed = Given::Fails(class.judged_as(FaultClass::Deadlock));
        for in_the_way in [lost, standby, renamed] {
            let mut script = Script::new(dialect, ledger());
            script.run(lose.into_iter().chain([in_the_way]));
            let connects = script.steps.iter().filter(|step| *step == "connect");
            assert_eq!(connects.count(), 3, "another one for the next question");
        }
        for in_the_way in [lost, standby] {
            let mut script = Script::new(dialect, ledger());
            script.policy = RetryPolicy::no_retries();
            let done = script.run(lose.into_iter().chain([in_the_way]));
            assert_eq!(done.outcome, Outcome::Unknown);
            assert!(done.connection_broken);
        }
    }
}

/// Whatever the caller says about another attempt, and whatever the caller calls the fault.
#[test]
fn a_connection_that_a_look_has_found_lost_is_thrown_away() {
    let config = config(RetryPolicy::new());
    let spec = Spec {
        resolution: Resolution::Verify,
        ..SPEC
    };
    let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
    let renamed = lost.judged_as(FaultClass::Deadlock);
    for (found, advice, looks) in [(lost, Advice::Never, 1), (renamed, Advice::Judge, 6)] {
        let machine = Machine::new(Dialect::Postgres, &config, &spec, true, no_clock);
        let mut machine = machine.expect("valid");
        let (mut connects, mut looked) = (0, 0);
        let done = loop {
            match machine.step(no_clock) {
                Step::Connect { .. } => {
                    connects += 1;
                    connect(&mut machine, new_key(), 0);
                }
                Step::Batch(batch) => {
                    let is_lost = batch.purpose == BatchPurpose::Commit;
                    _ = machine.batch_done(if is_lost { Err(lost) } else { Ok(()) });
                }
                Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
                Step::Verify => {
                    looked += 1;
                    let fault = Some(found);
                    machine.verify_done(Verified::Failed { fault, advice }, Some(0));
                }
                Step::Report(_) | Step::Pause(_) => {}
                Step::Done(done) => break done,
                step => unreachable!("{step:?}"),
            }
        };
        assert_eq!(done.outcome, Outcome::Unknown);
        assert!(done.connection_broken);
        assert_eq!((looked, connects), (looks, looks + 1));
    }
}

/// A pool that had no connection has waited for one. What is asked is worth another wait.
#[test]
fn a_pool_without_a_connection_does_not_end_the_asking() {
    let mut script = Script::new(Dialect::Postgres, ledger());
    let done = script.run([Fine, Fine, Fine, lost(), Exhausted, Exhausted]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    let mut script = Script::new(Dialect::Postgres, ledger());
    let done = script.run([Exhausted]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Undone, 1));
}

#[test]
fn where_there_is_a_deadline_the_server_is_asked_until_then() {
    for resolution in [ledger(), Resolution::Verify] {
        let mut script = Script::new(Dialect::Postgres, resolution);
        script.policy = script.policy.with_max_retries(2);
        let now = Instant::now();
        script.spec.deadline = Some(Duration::from_secs(100_000));
        script.time = Some((now, Duration::from_millis(1)));
        let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
        let answers = [Fine, Fine, Fine, lost()].into_iter();
        let found = [Fine, Finds(true)];
        let done = script.run(answers.chain([refused; 99]).chain(found));
        let made = script
            .steps
            .iter()
            .filter(|step| *step == "connect")
            .count();
        assert_eq!(made, 101, "{resolution:?}");
        assert_ne!(done.outcome, Outcome::Unknown);
        // And no longer.
        script.spec.deadline = Some(Duration::from_secs(30));
        script.time = Some((now, Duration::from_millis(1)));
        let answers = [Fine, Fine, Fine, lost()].into_iter();
        let done = script.run(answers.chain([refused; 999]));
        assert_eq!(done.outcome, Outcome::Unknown);
    }
}

#[test]
fn a_question_takes_no_longer_than_what_is_left() {
    for (dialect, limit) in [
        (Dialect::Postgres, "statement_timeout"),
        (Dialect::Mysql, "innodb_lock_wait_timeout"),
    ] {
        let lost = fault(dialect, FaultClass::ConnectionLost);
        let mut script = Script::new(dialect, ledger());
        let now = Instant::now();
        script.spec.deadline = Some(Duration::from_secs(60));
        script.time = Some((now, Duration::from_secs(3)));
        script.run([Fine, Fine, Fine, lost]);
        let limits = |sql: &str| -> Vec<u32> {
            let (settings, _) = sql.split_once("INSERT INTO").expect("a token");
            assert!(settings.contains(limit), "{settings}");
            let numbers = settings.split(|letter: char| !letter.is_ascii_digit());
            numbers.filter_map(|number| number.parse().ok()).collect()
        };
        let [attempt, question] = [0, 1].map(|batch| limits(&script.opened[batch]));
        assert_ne!(attempt, question, "less is left");
    }
}

#[test]
fn a_commit_that_failed_without_an_answer_that_counts_is_asked_about() {
    let mut script = Script::new(Dialect::Mysql, ledger());
    let during_commit = fault(Dialect::Mysql, FaultClass::OutcomeUnknown);
    let done = script.run([Fine, Fine, Fine, during_commit]);
    assert_eq!(
        script.steps[3..],
        [
            "Commit",
            "Rollback",
            "Asking",
            "Discard open",
            "connect",
            "Ask",
            "token",
            "CommitAnswer",
            "Retrying",
            "Keep settled",
            "Begin",
            "body",
            "Commit",
            "Succeeded"
        ]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn ddl_is_not_settled_by_a_token_that_it_has_committed() {
    let mut script = Script::new(Dialect::Mysql, ledger());
    let gone = fault(Dialect::Mysql, FaultClass::TransactionLost);
    let done = script.run([Fine, Fine, Fine, gone]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
}

/// With an error of its own, which another look would have as well.
#[test]
fn a_look_that_fails_for_good_is_the_last_one() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let permanent = fault(Dialect::Postgres, FaultClass::Permanent);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, permanent]);
    assert_eq!(script.steps[7..], ["verify", "OutcomeUnknown"]);
    assert_eq!(done.outcome, Outcome::Unknown);
}

#[test]
fn a_look_that_leaves_a_transaction_open_costs_the_connection() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, LeavesOpen]);
    assert_eq!(
        script.steps[7..10],
        ["verify", "Retrying", "Discard settled"]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn a_question_that_cannot_be_rolled_back_costs_the_connection() {
    let blocked = fault(Dialect::Postgres, FaultClass::LockTimeout);
    let (script, done) = asked(Dialect::Postgres, &[blocked, lost()]);
    assert_eq!(
        script.steps[..5],
        ["connect", "Ask", "Rollback", "Asking", "Discard open"]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn a_token_that_is_there_before_it_is_written_leaves_it_unknown() {
    let there = fault(Dialect::Postgres, FaultClass::Constraint);
    for (resolution, outcome) in [
        (ledger(), Outcome::Unknown),
        (Resolution::Verify, Outcome::Undone),
    ] {
        let mut script = Script::new(Dialect::Postgres, resolution);
        assert_eq!(script.run([Fine, there]).outcome, outcome);
    }
}

#[test]
fn what_is_read_only_is_not_asked_for_its_id() {
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    script.spec.settings.read_only = true;
    script.run([]);
    assert_eq!(
        script.steps,
        ["connect", "Begin", "body", "Commit", "Succeeded"]
    );
}

#[test]
fn what_is_idempotent_is_looked_for_in_its_ledger_first() {
    let mut script = Script::new(Dialect::Postgres, ledger());
    script.spec.idempotent = true;
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    assert!(script.steps.contains(&"Asking".into()));
}

/// The error of an answer about the attempt is not that of the attempt.
#[test]
fn an_error_that_follows_the_first_one_is_dropped() {
    let config = config(RetryPolicy::new());
    let spec = Spec {
        resolution: Resolution::TransactionStatus,
        ..SPEC
    };
    let lost = || Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
    let mut slots = Vec::new();
    while slots.len() < 2 {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) if batch.purpose == BatchPurpose::Commit => {
                slots.push(machine.batch_done(Err(lost())));
            }
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
            Step::Read(query) if query.is_constant => {
                _ = machine.read_done(Ok(Some("t 7 0".into())));
            }
            Step::Read(_) => slots.push(machine.read_done(Err(lost()))),
            Step::Report(_) | Step::Pause(_) => {}
            step => unreachable!("{step:?}"),
        }
    }
    assert_eq!(slots, [ErrorSlot::First, ErrorSlot::Dropped]);
}

#[test]
fn a_look_that_lost_its_connection_is_taken_again_on_another_one() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, lost(), Fine, Finds(true)]);
    assert_eq!(done.outcome, Outcome::Committed);
    let looks: Vec<_> = script
        .steps
        .iter()
        .skip_while(|step| *step != "verify")
        .collect();
    assert_eq!(
        looks[..5],
        ["verify", "Asking", "Discard open", "connect", "verify"]
    );
}

#[test]
fn a_look_that_says_never_is_the_last_one() {
    let config = config(RetryPolicy::new());
    let spec = Spec {
        resolution: Resolution::Verify,
        ..SPEC
    };
    let lost = || Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, true, no_clock).expect("valid");
    let mut looks = 0;
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) if batch.purpose == BatchPurpose::Commit => {
                _ = machine.batch_done(Err(lost()));
            }
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
            Step::Verify => {
                looks += 1;
                let (fault, advice) = (Some(lost()), Advice::Never);
                machine.verify_done(Verified::Failed { fault, advice }, Some(0));
            }
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => break assert_eq!(done.outcome, Outcome::Unknown),
            step => unreachable!("{step:?}"),
        }
    }
    assert_eq!(looks, 1);
}

#[test]
fn an_unknown_outcome_costs_a_connection_that_can_be_replaced() {
    let gone = fault(Dialect::Mysql, FaultClass::TransactionLost);
    let mut script = Script::new(Dialect::Mysql, Resolution::Nothing);
    let done = script.run([Fine, Fine, Refuses, gone]);
    assert_eq!(done.outcome, Outcome::Unknown);
    assert!(done.connection_broken);
    // The caller's connection is the caller's.
    let mut script = tests::Script::new(Dialect::Mysql);
    let gone = Err(Fault::from_class(
        Dialect::Mysql,
        FaultClass::TransactionLost,
    ));
    let done = script.run(&[tests::OK, gone], |_| tests::own_error(1));
    assert_eq!(done.outcome, Outcome::Unknown);
    assert!(!done.connection_broken);
}
