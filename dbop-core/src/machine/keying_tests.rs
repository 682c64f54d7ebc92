//! What is met at a key, against scripts.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::super::tests::{config, connect, new_key};
use super::super::{
    Answer, BatchPurpose, BodyEnd, Done, ErrorSlot, Machine, Name, Resolution, Spec, Step,
};
use super::*;
use crate::key::{Answers, FoundAnswer};
use crate::ledger::Ledger;
use crate::nesting::{Seat, UserCode};
use crate::policy::RetryPolicy;
use crate::retry::Advice;

const SECOND: Duration = Duration::from_secs(1);

/// An operation with a key, and what it was told to do.
struct Script {
    dialect: Dialect,
    key: usize,
    depth: u32,
    deadline: Option<Duration>,
    request: Option<[u8; 32]>,
    begin_with_sql: Option<&'static str>,
    /// How long each batch takes.
    takes: Duration,
    answers: Answers,
    steps: Vec<String>,
    sql: Vec<String>,
    /// What the errors are that the queries for a row were answered with.
    slots: Vec<ErrorSlot>,
}

/// What a batch is answered with.
#[derive(Clone, Copy)]
enum Says {
    Fine,
    Fails(FaultClass),
    /// In PostgreSQL's words, which are dbop's.
    Word(&'static str),
}

use Says::{Fails, Fine, Word};

impl Script {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            key: new_key(),
            depth: 0,
            deadline: None,
            request: None,
            begin_with_sql: None,
            takes: Duration::ZERO,
            answers: Answers::default(),
            steps: Vec::new(),
            sql: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Each batch has the next answer, `Fine` when they run out, each query for the row the next row. The
    /// body leaves this and ends so.
    fn run(
        &mut self,
        says: &[Says],
        rows: &[Option<&str>],
        leaves: Option<BodyAnswer>,
        end: BodyEnd,
    ) -> Done {
        let (ledger, config) = (Ledger::new(), config(RetryPolicy::new()));
        let key = Key {
            request: self.request,
            answers: Some(&self.answers),
            ..Key::new(b"k")
        };
        let mut spec = Spec::new(Name::Given("pay"));
        spec.resolution = Resolution::Ledger(&ledger);
        spec.key = Some(&key);
        spec.deadline = self.deadline;
        spec.begin_with_sql = self.begin_with_sql;
        spec.settings.lock_timeout = Some(3 * SECOND);
        let (begun, passed) = (Instant::now(), Cell::new(Duration::ZERO));
        let now = || begun + passed.get();
        let machine = Machine::new(self.dialect, &config, &spec, false, now);
        let mut machine = machine.expect("valid");
        let (mut says, mut rows) = (says.iter(), rows.iter());
        let fault = |class| Fault::from_class(self.dialect, class);
        loop {
            match machine.step(now) {
                Step::Connect { .. } => connect(&mut machine, self.key, self.depth),
                Step::Batch(batch) => {
                    self.steps.push(format!("{:?}", batch.purpose));
                    self.sql.push(batch.sql.to_owned());
                    passed.set(passed.get() + self.takes);
                    _ = match says.next().copied().unwrap_or(Fine) {
                        Fine => machine.batch_done(Ok(())),
                        Fails(class) => machine.batch_done(Err(fault(class))),
                        Word(word) => {
                            assert!(!machine.is_answer_of_session(word));
                            machine.batch_done(Err(fault(FaultClass::Permanent)))
                        }
                    };
                }
                Step::Read(query) => {
                    assert!(query.sql.contains("FROM dbop_ledger"), "{query:?}");
                    self.steps.push("row".into());
                    let row = rows.next().expect("a row").map(Into::into);
                    let result = match row.as_deref() {
                        Some("busy") => Err(fault(FaultClass::Busy)),
                        Some("absent") => Err(fault(FaultClass::Permanent)),
                        Some("lost") => Err(fault(FaultClass::ConnectionLost)),
                        _ => Ok(row),
                    };
                    let slot = machine.read_done(result);
                    self.slots.push(slot);
                }
                Step::Body => {
                    self.steps.push("body".into());
                    self.answers.body_ended(leaves.clone());
                    machine.body_done(end, Some(self.depth + 1));
                }
                Step::Report(event) => self.steps.push(format!("{:?}", event.kind())),
                Step::Pause(_) => self.steps.push("pause".into()),
                Step::Done(done) => return done,
                step => panic!("{step:?}"),
            }
        }
    }

    fn take(&mut self, says: &[Says], rows: &[Option<&str>]) -> Done {
        self.run(says, rows, None, BodyEnd::Ok)
    }

    fn found(&self) -> Option<FoundAnswer> {
        self.answers.take_found()
    }
}

fn own(done: &Done) -> &Error {
    match &done.answer {
        Answer::Own(error) => error,
        other => panic!("{other:?}"),
    }
}

const DONE: &str = "1 1700000000000000 - 37";

#[test]
fn what_is_done_is_not_done_again_and_its_answer_is_found() {
    for (dialect, says) in [
        (Dialect::Postgres, Word("unbekannt: \"dbop.key_is_taken\"")),
        (Dialect::Mysql, Fails(FaultClass::Unknown)),
        (Dialect::Sqlite, Fails(FaultClass::Constraint)),
    ] {
        for depth in [0, 1] {
            let mut script = Script::new(dialect);
            script.depth = depth;
            let done = script.take(&[says], &[Some(DONE)]);
            assert_eq!(
                script.steps,
                ["Begin", "Rollback", "row", "Returned"],
                "{dialect}"
            );
            assert!(own(&done).is_already_done() && own(&done).done_at().is_some());
            assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
            assert_eq!(done.stop, StopReason::AlreadyDone);
            assert!(!done.fallback_allowed && !done.connection_broken);
            let found = script.found().expect("an answer");
            assert_eq!((found.bytes, found.is_replayed), (vec![b'7'], true));
        }
    }
}

#[test]
fn another_request_has_another_answer() {
    let known = format!("1 1 {} 37", "07".repeat(32));
    for (request, row, is_other) in [
        (Some([7; 32]), &*known, false),
        (None, &*known, false),
        (Some([8; 32]), &*known, true),
        (Some([7; 32]), DONE, true),
    ] {
        let mut script = Script::new(Dialect::Postgres);
        script.request = request;
        let done = script.take(&[Word(IS_TAKEN)], &[Some(row)]);
        assert_eq!(own(&done).is_other_request(), is_other, "{request:?} {row}");
        assert_eq!(script.found().is_none(), is_other);
        let outcome = if is_other {
            Outcome::Undone
        } else {
            Outcome::Committed
        };
        assert_eq!(done.outcome, outcome);
    }
}

/// In a savepoint, its own transaction has it; elsewhere, a part of the work was committed.
#[test]
fn a_row_that_is_not_completed_is_the_transactions_own_or_half_done() {
    let row = Some("0 1 - -");
    let mut nested = Script::new(Dialect::Postgres);
    nested.depth = 1;
    let done = nested.take(&[Word(IS_TAKEN)], &[row]);
    assert!(own(&done).is_nested_key());
    assert_eq!(done.outcome, Outcome::Undone);
    let done = Script::new(Dialect::Postgres).take(&[Word(IS_TAKEN)], &[row]);
    assert!(own(&done).is_outcome_unknown());
    assert_eq!(done.outcome, Outcome::Unknown);
}

#[test]
fn who_holds_it_is_waited_for_once_or_until_the_deadline() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        for class in [FaultClass::LockTimeout, FaultClass::StatementTimeout] {
            let mut script = Script::new(dialect);
            let done = script.take(&[Fails(class)], &[]);
            assert_eq!(script.steps, ["Begin", "Rollback", "Failed"]);
            assert!(own(&done).is_under_way());
            assert_eq!(
                (done.attempts, done.stop),
                (1, StopReason::RetriesExhausted)
            );
            assert_eq!(done.outcome, Outcome::Undone);
        }
        let mut script = Script::new(dialect);
        script.deadline = Some(10 * SECOND);
        script.takes = 2 * SECOND;
        let held = [Fails(FaultClass::LockTimeout), Fine].repeat(9);
        let done = script.take(&held, &[]);
        assert_eq!(
            script.steps.iter().filter(|step| *step == "Begin").count(),
            3
        );
        assert!(own(&done).is_under_way());
        assert_eq!(
            (done.attempts, done.stop),
            (1, StopReason::DeadlineExceeded)
        );
        // It is let go in time.
        script.steps.clear();
        let done = script.take(&held[..2], &[]);
        assert_eq!(
            script.steps,
            ["Begin", "Rollback", "Begin", "body", "Commit", "Succeeded"]
        );
        assert_eq!((done.attempts, done.outcome), (1, Outcome::Committed));
    }
}

#[test]
fn the_next_attempt_waits_for_the_key_anew() {
    let conflict = Fails(FaultClass::SerializationFailure);
    let mut script = Script::new(Dialect::Postgres);
    script.takes = SECOND;
    // Missed, then taken, then the body fails: two of the three seconds of the lock timeout each time.
    let says = [conflict, Fine, Fine, Fine].repeat(30);
    let fault = Fault::from_class(Dialect::Postgres, FaultClass::SerializationFailure);
    let end = BodyEnd::Failed {
        fault: Some(fault),
        advice: Advice::Judge,
    };
    let done = script.run(&says, &[], None, end);
    assert!(matches!(done.answer, Answer::FirstError), "{done:?}");
    assert_eq!(
        (done.attempts, done.stop),
        (21, StopReason::RetriesExhausted)
    );
}

/// The batch that takes the key has failed at something else.
#[test]
fn what_is_not_met_at_the_key_is_retried_as_ever() {
    for (dialect, sql) in [
        (Dialect::Postgres, Some("SELECT 1")),
        (Dialect::Mysql, Some("SELECT 1")),
        (Dialect::Sqlite, None),
    ] {
        let mut script = Script::new(dialect);
        script.begin_with_sql = sql;
        let done = script.take(&[Fails(FaultClass::LockTimeout)], &[]);
        assert_eq!((done.attempts, done.outcome), (2, Outcome::Committed));
    }
    // Nor waited for where the transaction around it is gone.
    let mut script = Script::new(Dialect::Mysql);
    script.depth = 1;
    let says = [
        Fails(FaultClass::LockTimeout),
        Fails(FaultClass::TransactionLost),
    ];
    let done = script.take(&says, &[]);
    let begun = script.steps.iter().filter(|step| *step == "Begin").count();
    assert_eq!((begun, done.attempts), (1, 1), "{:?}", script.steps);
    assert_eq!(done.stop, StopReason::EnclosingTransaction);
}

/// On InnoDB others who wait get a deadlock when the row vanishes. Then it is written as a vacant one, once.
#[test]
fn a_deadlock_at_the_key_is_a_wait_and_no_attempt() {
    let mut script = Script::new(Dialect::Mysql);
    let deadlock = [Fails(FaultClass::Deadlock), Fine];
    let done = script.take(&deadlock.repeat(9), &[]);
    assert_eq!((done.attempts, done.outcome), (1, Outcome::Committed));
    assert!(
        !script.steps.contains(&"pause".into()),
        "{:?}",
        script.steps
    );
    let vacate = |sql: &&String| sql.contains("INSERT IGNORE INTO dbop_ledger");
    let vacated = script.sql.iter().filter(vacate).count();
    assert_eq!(vacated, 1);
    assert!(
        script.sql[2].contains("INSERT IGNORE"),
        "after the first one"
    );
    // In a transaction of its own, which does not take the key.
    assert_eq!(script.sql[2].matches("INSERT INTO dbop_ledger").count(), 1);
    // For as long as a lock timeout.
    let mut script = Script::new(Dialect::Mysql);
    script.takes = SECOND;
    let done = script.take(&deadlock.repeat(9), &[]);
    assert!(own(&done).is_under_way());
    assert_eq!(
        script.steps.iter().filter(|step| *step == "Begin").count(),
        2
    );
    // In a savepoint the whole transaction is gone, and on PostgreSQL it was another lock.
    for (dialect, depth) in [(Dialect::Mysql, 1), (Dialect::Postgres, 0)] {
        let mut script = Script::new(dialect);
        script.depth = depth;
        script.take(&[Fails(FaultClass::Deadlock), Fine], &[]);
        assert!(!script.sql.iter().any(|sql| sql.contains("INSERT IGNORE")));
        assert!(
            script.steps[2..].contains(&if depth == 0 { "pause" } else { "Escalated" }.into())
                || depth == 1
        );
    }
}

#[test]
fn a_snapshot_that_is_older_than_the_wait_is_left() {
    for says in [
        Word(WAS_WAITED_FOR),
        Fails(FaultClass::SerializationFailure),
    ] {
        let mut script = Script::new(Dialect::Postgres);
        let done = script.take(&[says], &[]);
        let steps = ["Begin", "Rollback", "Begin", "body", "Commit", "Succeeded"];
        assert_eq!(script.steps, steps);
        assert_eq!((done.attempts, done.outcome), (1, Outcome::Committed));
        // Not for ever.
        let mut script = Script::new(Dialect::Postgres);
        script.takes = SECOND;
        let done = script.take(&[says, Fine].repeat(9), &[]);
        assert!(own(&done).is_under_way());
        // In a savepoint the snapshot is the transaction's.
        let mut script = Script::new(Dialect::Postgres);
        script.depth = 1;
        let done = script.take(&[Fails(FaultClass::SerializationFailure)], &[]);
        assert_eq!(done.stop, StopReason::EnclosingTransaction);
    }
}

#[test]
fn a_row_that_has_vanished_is_taken_and_in_the_end_not_what_was_in_the_way() {
    for row in [None, Some("2 1 - -")] {
        let mut script = Script::new(Dialect::Postgres);
        let done = script.take(&[Word(IS_TAKEN)], &[row]);
        assert_eq!((done.attempts, done.outcome), (1, Outcome::Committed));
        let mut script = Script::new(Dialect::Mysql);
        let says = [Fails(FaultClass::Permanent), Fine].repeat(9);
        let done = script.take(&says, &[row; 4]);
        assert!(matches!(done.answer, Answer::FirstError));
        assert_eq!(
            (done.outcome, done.stop),
            (Outcome::Undone, StopReason::NotRetryable)
        );
    }
}

#[test]
fn an_answer_travels_with_the_commit() {
    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        for depth in [0, 1] {
            let mut script = Script::new(dialect);
            script.depth = depth;
            let leaves = Some(BodyAnswer::Value(b"OK!".to_vec()));
            let done = script.run(&[], &[], leaves, BodyEnd::Ok);
            assert!(matches!(done.answer, Answer::Value));
            assert!(script.sql[1].contains("4f4b21"), "{}", script.sql[1]);
            assert_eq!(script.steps, ["Begin", "body", "Commit", "Succeeded"]);
            assert!(script.found().is_none());
        }
    }
}

#[test]
fn a_refusal_is_committed_without_the_body() {
    let refuses = |class: Option<FaultClass>| BodyEnd::Failed {
        fault: class.map(|class| Fault::from_class(Dialect::Postgres, class)),
        advice: Advice::Judge,
    };
    let refusal = || Some(BodyAnswer::Refusal(b"NO!".to_vec()));
    for class in [None, Some(FaultClass::Constraint)] {
        for (depth, behind) in [(0, "dbop_alive"), (1, "dbop_key_1")] {
            let mut script = Script::new(Dialect::Postgres);
            script.depth = depth;
            let done = script.run(&[], &[], refusal(), refuses(class));
            assert_eq!(script.steps, ["Begin", "body", "Commit", "Returned"]);
            let undo = format!("ROLLBACK TO SAVEPOINT {behind}; INSERT INTO dbop_ledger");
            assert!(script.sql[1].starts_with(&undo), "{}", script.sql[1]);
            assert!(script.sql[1].contains("4e4f21"));
            assert_eq!(
                (done.outcome, done.stop),
                (Outcome::Committed, StopReason::OwnError)
            );
            let found = script.found().expect("an answer");
            assert_eq!((found.bytes, found.is_replayed), (b"NO!".to_vec(), false));
        }
    }
    // What is retried is not remembered.
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[], &[], refusal(), refuses(Some(FaultClass::Deadlock)));
    assert_eq!((done.outcome, done.attempts), (Outcome::Undone, 21));
    assert!(script.found().is_none());
    assert!(!script.sql.iter().any(|sql| sql.contains("4e4f21")));
    // Nor what is not committed.
    let mut script = Script::new(Dialect::Postgres);
    let says = [Fine, Fails(FaultClass::Constraint)];
    let done = script.run(&says, &[], refusal(), refuses(None));
    assert_eq!(
        script.steps,
        ["Begin", "body", "Commit", "Rollback", "Failed"]
    );
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(script.found().is_none());
}

/// A row that cannot be read for now says nothing.
#[test]
fn a_row_that_is_not_read_is_read_in_another_attempt() {
    let mut script = Script::new(Dialect::Sqlite);
    let taken = Fails(FaultClass::Constraint);
    let done = script.take(&[taken, Fine, taken], &[Some("busy"), Some(DONE)]);
    assert!(own(&done).is_already_done());
    assert_eq!(done.attempts, 2);
    let mut script = Script::new(Dialect::Sqlite);
    let done = script.take(&[taken, Fine], &[Some("absent")]);
    assert!(matches!(done.answer, Answer::FirstError));
    assert_eq!((done.outcome, done.attempts), (Outcome::Undone, 1));
}

/// In a savepoint of PostgreSQL, a query that fails leaves nothing to go on with.
#[test]
fn a_query_for_the_row_that_fails_ends_what_it_ends() {
    use ErrorSlot::{Dropped, First};
    use StopReason::{EnclosingTransaction, NotRetryable, Succeeded};

    for (dialect, depth, row, slot, stop, attempts) in [
        (Dialect::Postgres, 0, "busy", First, Succeeded, 2),
        (Dialect::Mysql, 0, "busy", First, Succeeded, 2),
        (Dialect::Mysql, 1, "busy", First, EnclosingTransaction, 1),
        (Dialect::Postgres, 1, "busy", Dropped, NotRetryable, 1),
        (Dialect::Postgres, 1, "lost", First, EnclosingTransaction, 1),
        (Dialect::Postgres, 0, "absent", Dropped, NotRetryable, 1),
        (Dialect::Mysql, 1, "absent", Dropped, NotRetryable, 1),
        (Dialect::Postgres, 1, "absent", Dropped, NotRetryable, 1),
    ] {
        let says = match dialect {
            Dialect::Postgres => Word(IS_TAKEN),
            _ => Fails(FaultClass::Permanent),
        };
        let mut script = Script::new(dialect);
        script.depth = depth;
        let done = script.take(&[says], &[Some(row)]);
        let case = format!("{dialect} {depth} {row}: {:?}", script.steps);
        assert_eq!(script.slots, [slot], "{case}");
        assert_eq!((done.stop, done.attempts), (stop, attempts), "{case}");
    }
}

/// PostgreSQL's transaction is aborted by a query that fails outside of the savepoint.
#[test]
fn what_is_around_a_query_that_fails_is_lost_on_postgresql() {
    for (dialect, says, is_lost) in [
        (Dialect::Postgres, Word(IS_TAKEN), true),
        (Dialect::Mysql, Fails(FaultClass::Permanent), false),
    ] {
        let mut script = Script::new(dialect);
        let outer = Seat::join(script.key, 0, 5);
        outer.set_user_code(UserCode::Body);
        script.depth = 1;
        script.take(&[says], &[Some("absent")]);
        assert_eq!(outer.lost().is_some(), is_lost, "{dialect}");
    }
    // Where nothing is around it, nothing is lost.
    let mut script = Script::new(Dialect::Postgres);
    let done = script.take(&[Word(IS_TAKEN)], &[Some("absent")]);
    assert_eq!(
        (done.stop, done.outcome),
        (StopReason::NotRetryable, Outcome::Undone)
    );
}

#[test]
fn a_row_that_the_snapshot_around_does_not_have_ends_the_transaction_around() {
    use StopReason::{EnclosingTransaction, NotRetryable, Succeeded};

    for (dialect, sql, stop) in [
        (Dialect::Mysql, None, EnclosingTransaction),
        (Dialect::Mysql, Some("SELECT 1"), NotRetryable),
        (Dialect::Postgres, None, Succeeded),
    ] {
        let says = match dialect {
            Dialect::Postgres => Word(IS_TAKEN),
            _ => Fails(FaultClass::Permanent),
        };
        let mut script = Script::new(dialect);
        (script.depth, script.begin_with_sql) = (1, sql);
        let done = script.take(&[says], &[None]);
        assert_eq!(done.stop, stop, "{dialect} {sql:?}: {:?}", script.steps);
    }
}

#[test]
fn after_a_no_the_key_has_another_token() {
    let (ledger, config) = (Ledger::new(), config(RetryPolicy::new()));
    let key = Key::new(b"k");
    let mut spec = Spec::new(Name::Given("pay"));
    spec.resolution = Resolution::Ledger(&ledger);
    spec.key = Some(&key);
    let now = Instant::now;
    let machine = Machine::new(Dialect::Postgres, &config, &spec, true, now);
    let mut machine = machine.expect("valid");
    let (mut begun, mut asked) = (Vec::new(), 0);
    let done = loop {
        match machine.step(now) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) => {
                let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
                let is_first = begun.len() == 1;
                let mut result = Ok(());
                match batch.purpose {
                    BatchPurpose::Begin => begun.push(batch.sql.to_owned()),
                    BatchPurpose::Commit if is_first => result = Err(lost),
                    BatchPurpose::Ask => asked += 1,
                    _ => {}
                }
                _ = machine.batch_done(result);
            }
            // Its row is vacant, or another call's.
            Step::Read(_) => _ = machine.read_done(Ok(Some("2".into()))),
            Step::Body => machine.body_done(BodyEnd::Ok, Some(1)),
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => break done,
            step => panic!("{step:?}"),
        }
    };
    assert_eq!((done.attempts, done.outcome), (2, Outcome::Committed));
    assert_eq!((begun.len(), asked), (2, 1));
    assert_ne!(begun[0], begun[1]);
}

/// The server says nothing until the deadline is over: the COMMIT of a remembered refusal may have been done, as
/// any other, and is asked about until there is an answer.
#[test]
fn the_commit_of_a_refusal_is_asked_about_although_the_deadline_is_over() {
    let (ledger, mut config) = (Ledger::new(), config(RetryPolicy::new()));
    config.set_defaults(|defaults| defaults.grace_period = Some(SECOND));
    let answers = Answers::default();
    let key = Key {
        answers: Some(&answers),
        ..Key::new(b"k")
    };
    let mut spec = Spec::new(Name::Given("pay"));
    spec.resolution = Resolution::Ledger(&ledger);
    spec.key = Some(&key);
    spec.deadline = Some(SECOND);
    let (begun, passed) = (Instant::now(), Cell::new(Duration::ZERO));
    let now = || begun + passed.get();
    let machine = Machine::new(Dialect::Postgres, &config, &spec, true, now);
    let mut machine = machine.expect("valid");
    let mut asked = 0;
    let done = loop {
        match machine.step(now) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) if batch.purpose == BatchPurpose::Commit => {
                passed.set(2 * SECOND);
                machine.run_out_of_patience();
                let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
                _ = machine.batch_done(Err(lost));
            }
            Step::Batch(batch) if batch.purpose == BatchPurpose::Ask => {
                asked += 1;
                let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
                _ = machine.batch_done(if asked == 1 { Err(lost) } else { Ok(()) });
            }
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            // Completed by this call.
            Step::Read(_) => _ = machine.read_done(Ok(Some("1".into()))),
            Step::Body => {
                answers.body_ended(Some(BodyAnswer::Refusal(b"NO!".to_vec())));
                let (fault, advice) = (None, Advice::Judge);
                machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
            }
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => break done,
            step => panic!("{step:?}"),
        }
    };
    assert_eq!((done.outcome, asked), (Outcome::Committed, 2));
}
