//! A session that is stricter than the defaults of a runner says so once.

use std::time::Instant;

use super::super::tests::{SPEC, connect, fault, new_key, no_clock};
use crate::dialect::Dialect;
use crate::fault::{Fault, FaultClass};
use crate::machine::{
    Batch, BatchPurpose, BodyEnd, Done, Machine, RunnerConfig, Settings, Spec, Step,
};
use crate::outcome::{Outcome, StopReason};
use crate::retry::Advice;

const QUESTION: &str = "BEGIN NOT DEFERRABLE; SELECT \
     CASE WHEN current_setting('lock_timeout')::interval BETWEEN '1 ms' AND '10000 ms' \
     THEN current_setting('dbop.lock_timeout_is_stricter') END, \
     CASE WHEN current_setting('default_transaction_deferrable') = 'on' \
     THEN current_setting('dbop.default_transaction_deferrable_is_stricter') END; COMMIT; ";
const LAXER: &str = "BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 10000";
const STRICTER: &str = "BEGIN NOT DEFERRABLE";
const COMMIT: &str = "SAVEPOINT dbop; COMMIT";

/// In Japanese.
const ANSWER: &str = "設定パラメータ\"dbop.lock_timeout_is_stricter\"は不明です";
const DEFERRABLE: &str =
    "unrecognized configuration parameter \"dbop.default_transaction_deferrable_is_stricter\"";

/// Runs an operation whose batches get these answers, the last of them all that follow. Returns what it
/// sent, with the number of the attempt, and how it ended.
fn run(
    config: &RunnerConfig,
    spec: &Spec<'_>,
    answers: &[Result<(), &str>],
) -> (Vec<String>, Done) {
    let mut machine =
        Machine::new(Dialect::Postgres, config, spec, false, Instant::now).expect("valid");
    let mut answers = answers.iter();
    let mut sent = Vec::new();
    loop {
        let attempt = machine.advance(Instant::now);
        match machine.present_step() {
            Step::Batch(Batch { purpose, sql, .. }) => {
                sent.push(format!("{attempt} {purpose:?}: {sql}"));
                match answers.next().copied().unwrap_or(Ok(())) {
                    Err(message) if machine.is_answer_of_session(message) => {}
                    answer => {
                        let unknown = fault(Dialect::Postgres, FaultClass::Unknown);
                        _ = machine.batch_done(answer.map_err(|_| unknown));
                    }
                }
            }
            Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Report(event) => sent.push(format!("{:?}", event.kind())),
            Step::Done(done) => return (sent, done),
            other => panic!("not expected: {other:?}"),
        }
    }
}

fn of(begin: &str) -> Vec<String> {
    vec![
        format!("1 Begin: {begin}"),
        format!("1 Commit: {COMMIT}"),
        "Succeeded".into(),
    ]
}

#[test]
fn where_the_session_is_no_stricter_the_first_operation_asks_and_the_others_set_the_default() {
    let config = RunnerConfig::default();
    let (sent, _) = run(&config, &SPEC, &[]);
    assert_eq!(sent, of(&format!("{QUESTION}{LAXER}")));
    for config in [&config, &config.clone(), &config] {
        assert_eq!(run(config, &SPEC, &[]).0, of(LAXER));
    }
}

#[test]
fn where_it_is_stricter_the_same_attempt_begins_again_and_the_others_set_nothing() {
    let config = RunnerConfig::default();
    let (sent, done) = run(&config, &SPEC, &[Err(ANSWER)]);
    let expected = [
        format!("1 Begin: {QUESTION}{LAXER}"),
        format!(
            "1 BeginAgain: ROLLBACK; BEGIN NOT DEFERRABLE; SELECT {}; COMMIT; {STRICTER}",
            "CASE WHEN current_setting('default_transaction_deferrable') = 'on' \
             THEN current_setting('dbop.default_transaction_deferrable_is_stricter') END"
        ),
        format!("1 Commit: {COMMIT}"),
        "Succeeded".into(),
    ];
    assert_eq!(sent, expected, "no record but that of its success");
    assert_eq!((done.attempts, done.outcome), (1, Outcome::Committed));
    for _ in 0..3 {
        assert_eq!(run(&config, &SPEC, &[]).0, of(STRICTER));
    }
}

#[test]
fn a_session_that_is_deferrable_begins_deferrable() {
    let config = RunnerConfig::default();
    let (sent, _) = run(&config, &SPEC, &[Err(DEFERRABLE)]);
    assert!(sent[1].ends_with("COMMIT; BEGIN DEFERRABLE; SET LOCAL lock_timeout = 10000"));
    let begin = "BEGIN DEFERRABLE; SET LOCAL lock_timeout = 10000";
    assert_eq!(run(&config, &SPEC, &[]).0, of(begin));
    let (sent, _) = run(
        &RunnerConfig::default(),
        &SPEC,
        &[Err(ANSWER), Err(DEFERRABLE)],
    );
    assert_eq!(sent[2], "1 BeginAgain: ROLLBACK; BEGIN DEFERRABLE");
}

#[test]
fn where_both_are_met_every_session_is_looked_at_from_then_on() {
    let config = RunnerConfig::default();
    _ = run(&config, &SPEC, &[]);
    for _ in 1..997 {
        assert_eq!(run(&config, &SPEC, &[]).0, of(LAXER));
    }
    let (sent, done) = run(&config, &SPEC, &[Err(ANSWER)]);
    assert!(sent[0].contains("is_stricter"), "it asks again: {sent:?}");
    assert!(sent[1].ends_with(&format!("COMMIT; {STRICTER}")));
    assert_eq!(done.attempts, 1);
    for _ in 0..1001 {
        let (sent, _) = run(&config, &SPEC, &[]);
        assert!(sent[0].contains("set_config('lock_timeout', CASE WHEN"));
        assert!(!sent[0].contains("lock_timeout_is_stricter"));
        assert!(sent[1].contains("set_config('lock_timeout', coalesce("));
    }
}

#[test]
fn who_says_that_sessions_differ_has_each_looked_at() {
    let mut config = RunnerConfig::default();
    config.set_defaults(|defaults| defaults.sessions_differ = true);
    for _ in 0..3 {
        let (sent, _) = run(&config, &SPEC, &[]);
        assert!(sent[0].contains("set_config('lock_timeout', CASE WHEN"));
        assert!(!sent[0].contains("is_stricter"));
    }
}

/// The next one to ask is the next one that has to.
#[test]
fn other_defaults_are_another_question() {
    let config = RunnerConfig::default();
    _ = run(&config, &SPEC, &[]);
    let mut other = config.clone();
    other.set_defaults(|defaults| defaults.lock_timeout = Some(std::time::Duration::from_secs(5)));
    let (sent, _) = run(&other, &SPEC, &[]);
    assert!(sent[0].contains("BETWEEN '1 ms' AND '5000 ms'"), "{sent:?}");
    assert_eq!(run(&config, &SPEC, &[]).0, of(LAXER));
}

#[test]
fn any_other_error_is_a_failure_of_the_attempt_and_the_next_operation_asks() {
    let config = RunnerConfig::default();
    let (sent, done) = run(&config, &SPEC, &[Err("no such thing")]);
    let kinds: Vec<_> = sent.iter().map(|line| line.split(':').next()).collect();
    let expected = ["1 Begin", "1 Rollback", "Failed"].map(Some);
    assert_eq!(kinds, expected);
    assert_eq!((done.stop, done.attempts), (StopReason::NotRetryable, 1));
    let (sent, _) = run(&config, &SPEC, &[]);
    assert_eq!(sent, of(&format!("{QUESTION}{LAXER}")));
}

/// Nor is the word in an error of the body, or where nothing was asked.
#[test]
fn only_a_batch_that_asks_is_answered() {
    let config = RunnerConfig::default();
    _ = run(&config, &SPEC, &[]);
    let (sent, done) = run(&config, &SPEC, &[Err(ANSWER)]);
    assert_eq!(sent[0], format!("1 Begin: {LAXER}"));
    assert!(sent[1].starts_with("1 Rollback"));
    assert_eq!(done.outcome, Outcome::Undone);
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock).expect("valid");
    connect(&mut machine, new_key(), 0);
    assert!(matches!(machine.step(no_clock), Step::Batch(_)));
    _ = machine.batch_done(Ok(()));
    assert!(matches!(machine.step(no_clock), Step::Body));
    assert!(!machine.is_answer_of_session(ANSWER));
    // Of what follows a failure, too.
    let answers = [Err("no such thing"), Err(ANSWER)];
    let (sent, _) = run(&RunnerConfig::default(), &SPEC, &answers);
    let again = sent.iter().any(|line| line.contains("BeginAgain"));
    assert!(!again, "{sent:?}");
}

/// What the attempts of an operation begin with whose body loses two deadlocks. The first batch gets this
/// answer.
fn begins_of_three_attempts(config: &RunnerConfig, mut answer: Option<&str>) -> Vec<String> {
    let mut machine =
        Machine::new(Dialect::Postgres, config, &SPEC, false, no_clock).expect("valid");
    connect(&mut machine, new_key(), 0);
    let mut begins = Vec::new();
    let mut bodies = 0;
    let deadlock = Fault::from_class(Dialect::Postgres, FaultClass::Deadlock);
    loop {
        match machine.step(no_clock) {
            Step::Batch(Batch { purpose, sql, .. }) => {
                if matches!(purpose, BatchPurpose::Begin | BatchPurpose::BeginAgain) {
                    begins.push(sql.to_owned());
                }
                let is_answer = answer
                    .take()
                    .is_some_and(|it| machine.is_answer_of_session(it));
                if !is_answer {
                    _ = machine.batch_done(Ok(()));
                }
            }
            Step::Body if bodies < 2 => {
                bodies += 1;
                let end = BodyEnd::Failed {
                    fault: Some(deadlock),
                    advice: Advice::Judge,
                };
                machine.body_done(end, Some(1));
            }
            Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(_) => return begins,
            other => panic!("not expected: {other:?}"),
        }
    }
}

/// A retry of the operation that has asked relies on the answer.
#[test]
fn an_operation_asks_once() {
    let begins = begins_of_three_attempts(&RunnerConfig::default(), None);
    assert_eq!(begins, [&format!("{QUESTION}{LAXER}"), LAXER, LAXER]);
}

/// Each attempt can have another session. Once one was stricter, each looks, and the next operation, too.
#[test]
fn behind_a_pooler_each_attempt_asks() {
    let mut config = RunnerConfig::default();
    config.set_defaults(|defaults| defaults.pooler_safe = true);
    let question = format!("{QUESTION}{LAXER}");
    for _ in 0..2 {
        let begins = begins_of_three_attempts(&config, None);
        assert!(begins.iter().all(|begin| *begin == question), "{begins:?}");
        assert_eq!(begins.len(), 3);
    }
    let begins = begins_of_three_attempts(&config, Some(ANSWER));
    assert_eq!(begins[0], question);
    let looks = &begins[2];
    assert!(looks.contains("BEGIN NOT DEFERRABLE; SELECT set_config('lock_timeout', CASE WHEN"));
    assert!(looks.ends_with("ELSE '10000' END, true)"), "{looks}");
    assert_eq!(begins[1], format!("ROLLBACK; {looks}"));
    assert_eq!(&begins[3], looks);
    let begins = begins_of_three_attempts(&config, None);
    assert!(begins.iter().all(|begin| begin == looks), "{begins:?}");
}

/// In a savepoint and without a transaction. If something were asked there, the first operation would not
/// ask; if something were counted, the last one would.
#[test]
fn nothing_is_asked_and_nothing_counted_where_no_default_applies() {
    let alone = Spec {
        settings: Settings {
            without_transaction: true,
            ..Settings::NONE
        },
        ..SPEC
    };
    for (spec, depth, dialect) in [
        (&SPEC, 1, Dialect::Postgres),
        (&alone, 0, Dialect::Postgres),
        (&SPEC, 0, Dialect::Mysql),
        (&SPEC, 0, Dialect::Sqlite),
    ] {
        let config = RunnerConfig::default();
        let begin = || {
            let machine = Machine::new(dialect, &config, spec, false, no_clock);
            let mut machine = machine.expect("valid");
            connect(&mut machine, new_key(), depth);
            if let Step::Batch(batch) = machine.step(no_clock) {
                assert!(!batch.sql.contains("is_stricter"), "{dialect} {depth}");
                _ = machine.batch_done(Ok(()));
            }
        };
        begin();
        let first = of(&format!("{QUESTION}{LAXER}"));
        assert_eq!(run(&config, &SPEC, &[]).0, first);
        (2..997).for_each(|_| begin());
        assert_eq!(run(&config, &SPEC, &[]).0, of(LAXER));
    }
}
