//! What is known of the work if the run is dropped in each of its steps.

use super::tests::{SPEC, config, connect, errno, fault, new_key, no_clock};
use super::*;
use crate::fault::FaultClass;
use crate::policy::RetryPolicy;
use crate::retry::Advice;

/// How an operation goes.
struct Course {
    dialect: Dialect,
    spec: Spec<'static>,
    depth: u32,
    /// With which faults its batches and its bodies are answered, in order. `None`: all is well.
    answers: Vec<Option<Fault>>,
    /// With which texts its queries are answered, in order.
    reads: Vec<&'static str>,
    /// The depth after a body.
    depth_after: Option<u32>,
}

impl Course {
    fn of(dialect: Dialect, answers: impl IntoIterator<Item = Option<Fault>>) -> Self {
        Self {
            dialect,
            spec: SPEC,
            depth: 0,
            answers: answers.into_iter().collect(),
            reads: Vec::new(),
            depth_after: Some(1),
        }
    }

    /// The steps, each with the outcome if it is dropped there.
    fn outcomes(self) -> Vec<String> {
        let config = config(RetryPolicy::new());
        let spec = self.spec;
        let mut machine =
            Machine::new(self.dialect, &config, &spec, true, no_clock).expect("valid settings");
        let mut answers = self.answers.into_iter();
        let mut reads = self.reads.into_iter();
        let mut next = || answers.next().flatten();
        let mut seen = Vec::new();
        loop {
            let step = match machine.step(no_clock) {
                Step::Batch(batch) => format!("{:?}", batch.purpose),
                Step::Connect { .. } => "Connect".into(),
                Step::Report(event) => format!("{:?}", event.kind()),
                Step::Done(_) => return seen,
                other => format!("{other:?}")
                    .split(['(', ' '])
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            };
            seen.push(format!("{step} {}", machine.outcome_if_dropped()));
            match &*step {
                "Connect" => connect(&mut machine, new_key(), self.depth),
                "Body" => {
                    let fault = next();
                    let end = fault.map_or(BodyEnd::Ok, |fault| BodyEnd::Failed {
                        fault: Some(fault),
                        advice: Advice::Judge,
                    });
                    machine.body_done(end, self.depth_after);
                }
                "Verify" => machine.verify_done(Verified::Committed(next().is_none()), Some(0)),
                "Read" => _ = machine.read_done(Ok(reads.next().map(Into::into))),
                "Diagnose" => machine.diagnosed(Ok(None), None),
                _ if step.starts_with(char::is_uppercase) && is_batch(&step) => {
                    _ = machine.batch_done(next().map_or(Ok(()), Err));
                }
                _ => {}
            }
        }
    }
}

fn is_batch(step: &str) -> bool {
    let purposes = [
        BatchPurpose::Begin,
        BatchPurpose::Commit,
        BatchPurpose::CommitAgain,
        BatchPurpose::Rollback,
        BatchPurpose::RollbackAgain,
        BatchPurpose::CheckUndone,
        BatchPurpose::Contain,
    ];
    purposes
        .iter()
        .any(|purpose| format!("{purpose:?}") == step)
}

fn postgres(class: FaultClass) -> Option<Fault> {
    Some(fault(Dialect::Postgres, class))
}

#[test]
fn only_a_commit_under_way_leaves_it_open() {
    let outcomes = Course::of(Dialect::Postgres, []).outcomes();
    assert_eq!(
        outcomes,
        [
            "Connect undone",
            "Begin undone",
            "Body undone",
            "Commit unknown",
            "Succeeded committed",
        ]
    );
}

#[test]
fn what_is_retried_was_undone() {
    let deadlock = postgres(FaultClass::Deadlock);
    let outcomes = Course::of(Dialect::Postgres, [None, deadlock]).outcomes();
    assert_eq!(
        outcomes[2..6],
        [
            "Body undone",
            "Rollback undone",
            "Retrying undone",
            "Pause undone"
        ]
    );
    // One that the server refuses.
    let refused = postgres(FaultClass::SerializationFailure);
    let outcomes = Course::of(Dialect::Postgres, [None, None, refused]).outcomes();
    assert_eq!(
        outcomes[3..7],
        [
            "Commit unknown",
            "Rollback undone",
            "Retrying undone",
            "Pause undone"
        ]
    );
}

#[test]
fn a_savepoint_ends_with_the_transaction_around_it() {
    let mut course = Course::of(Dialect::Postgres, []);
    (course.depth, course.depth_after) = (1, Some(2));
    assert_eq!(course.outcomes()[3], "Commit undone");
}

#[test]
fn what_is_read_only_is_undone_without_its_commit() {
    let mut course = Course::of(Dialect::Postgres, []);
    course.spec.settings.read_only = true;
    assert_eq!(course.outcomes()[3], "Commit undone");
}

#[test]
fn while_it_is_asked_what_became_of_a_commit_it_is_unknown() {
    let lost = postgres(FaultClass::ConnectionLost);
    let mut course = Course::of(Dialect::Postgres, [None, None, lost]);
    course.spec.resolution = Resolution::Verify;
    assert_eq!(
        course.outcomes()[3..],
        [
            "Commit unknown",
            "Asking unknown",
            "Pause unknown",
            "Connect unknown",
            "Verify unknown",
            "FoundCommitted committed",
        ]
    );
}

#[test]
fn what_was_found_undone_is_undone_before_the_next_attempt() {
    let lost = postgres(FaultClass::ConnectionLost);
    let mut course = Course::of(Dialect::Postgres, [None, None, lost]);
    course.spec.resolution = Resolution::TransactionStatus;
    course.reads = vec!["t 7 0", "aborted", "t 8 0"];
    assert_eq!(
        course.outcomes()[3..],
        [
            "Read undone",
            "Commit unknown",
            "Asking unknown",
            "Pause unknown",
            "Connect unknown",
            "Read unknown",
            "Retrying undone",
            "Pause undone",
            "Begin undone",
            "Body undone",
            "Read undone",
            "Commit unknown",
            "Succeeded committed",
        ]
    );
}

/// What is left of the caller's transaction is contained. What its COMMIT would have done is not known.
#[test]
fn what_was_lost_without_being_undone_is_unknown() {
    let (timeout, gone) = (errno(1205), errno(1305));
    let refused = Some(fault(Dialect::Mysql, FaultClass::Permanent));
    let mut course = Course::of(Dialect::Mysql, [None, Some(timeout), Some(gone), refused]);
    (course.depth, course.depth_after) = (1, Some(2));
    assert_eq!(
        course.outcomes()[3..],
        [
            "Rollback undone",
            "CheckUndone unknown",
            "Contain unknown",
            "OutcomeUnknown unknown",
        ]
    );
}

#[test]
fn an_attempt_of_unknown_outcome_is_not_forgotten() {
    let lost = postgres(FaultClass::ConnectionLost);
    let mut course = Course::of(Dialect::Postgres, [None, None, lost]);
    course.spec.idempotent = true;
    let outcomes = course.outcomes();
    assert!(outcomes.contains(&"Succeeded committed".into()));
    assert!(
        outcomes[4..outcomes.len() - 1]
            .iter()
            .all(|step| step.ends_with("unknown"))
    );
}

#[test]
fn an_answer_that_says_nothing_about_the_commit_leaves_it_open() {
    let unknown = Some(fault(Dialect::Mysql, FaultClass::Unknown));
    let outcomes = Course::of(Dialect::Mysql, [None, None, unknown]).outcomes();
    assert_eq!(outcomes[4], "Rollback unknown", "{outcomes:?}");
    let deadlock = Some(errno(1213));
    let outcomes = Course::of(Dialect::Mysql, [None, None, deadlock]).outcomes();
    assert_eq!(outcomes[4], "Rollback undone", "{outcomes:?}");
}

#[test]
fn a_busy_commit_was_not_carried_out() {
    let busy = Some(fault(Dialect::Sqlite, FaultClass::Busy));
    let outcomes = Course::of(Dialect::Sqlite, [None, None, busy]).outcomes();
    assert_eq!(
        outcomes[3..],
        [
            "Commit unknown",
            "Retrying undone",
            "Pause undone",
            "CommitAgain unknown",
            "Succeeded committed",
        ]
    );
}

#[test]
fn what_the_body_has_ended_itself_is_unknown() {
    let mut course = Course::of(Dialect::Postgres, []);
    course.depth_after = Some(0);
    let outcomes = course.outcomes();
    assert_eq!(
        outcomes[2..],
        ["Body undone", "Rollback unknown", "OutcomeUnknown unknown"]
    );
}

#[test]
fn whether_a_vanished_transaction_was_undone_is_open_while_it_is_asked() {
    let (timeout, gone) = (errno(1205), errno(1305));
    let outcomes = Course::of(Dialect::Mysql, [None, Some(timeout), Some(gone), None]).outcomes();
    assert!(
        outcomes.contains(&"CheckUndone unknown".into()),
        "{outcomes:?}"
    );
}

#[test]
fn without_a_transaction_each_statement_leaves_it_open() {
    let settings = Settings {
        without_transaction: true,
        ..Settings::NONE
    };
    for (read_only, outcome) in [(false, "unknown"), (true, "undone")] {
        let mut course = Course::of(Dialect::Postgres, []);
        course.depth_after = Some(1);
        course.spec = Spec {
            settings: Settings {
                read_only,
                ..settings
            },
            ..SPEC
        };
        let outcomes = course.outcomes();
        assert_eq!(
            outcomes,
            [
                "Connect undone".to_owned(),
                format!("Body {outcome}"),
                format!("Rollback {outcome}"),
                format!("Failed {outcome}"),
            ]
        );
    }
}
