//! The user has the last word on what a database error is: by a classifier on the runner or on the
//! operation, by the class of a code, by classes that are never retried, or by the error itself. It
//! decides about retries, and is what records and reports show.

use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use dbop_diesel::{
    Advice, Code, FaultClass, OperationError, Outcome, Phase, Report, RetryPolicy, Scope, Seen,
    StopReason, diesel_error_in,
};
use dbop_tests::{Capture, InstantClock};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};
use log::Level;

use super::money::{insert, set};
use super::{Bed, Conn, Connection as _, Operation, Runner, caught, depth, helper, scenario};

const POLICY: RetryPolicy = RetryPolicy::new().with_max_retries(2);

fn runner(policy: RetryPolicy) -> Runner {
    Runner::new(policy).with_clock(InstantClock::new())
}

/// Calls a unique violation a serialization failure.
fn conflict(seen: &Seen<'_>) -> Option<FaultClass> {
    let is_duplicate = seen.class() == FaultClass::Constraint;
    is_duplicate.then_some(FaultClass::SerializationFailure)
}

/// Opens an account that exists.
#[helper]
async fn duplicate(operation: Operation<'_>, conn: &mut Conn) -> Report<usize, Error> {
    operation
        .run_report(conn, async |conn: &mut Conn| {
            set(conn, 2, 2).await?;
            insert(conn, 1).await
        })
        .await
}

fn assert_attempts(report: &Report<usize, Error>, attempts: u32) {
    assert!(report.result.is_err());
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.attempts, attempts);
    let stop = match attempts {
        1 => StopReason::NotRetryable,
        _ => StopReason::RetriesExhausted,
    };
    assert_eq!(report.stop, stop);
}

#[scenario]
async fn a_runners_classifier_decides_and_is_seen() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let runner = runner(POLICY)
        .with_logger(log.clone())
        .with_classifier(move |seen| {
            let quotes = !seen.message().is_empty();
            let about = (seen.class(), seen.phase(), seen.scope(), quotes);
            notes.lock().expect("no panic").push(about);
            conflict(seen)
        });
    let report = duplicate(runner.operation("open"), &mut conn).await;
    assert_attempts(&report, 3);
    assert_eq!(report.failures.len(), 3);
    for failure in &report.failures {
        let fault = failure.fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::SerializationFailure);
        assert_eq!(fault.recognized_class(), FaultClass::Constraint);
    }
    let expected = (
        FaultClass::Constraint,
        Phase::Body,
        Scope::Transaction,
        true,
    );
    assert_eq!(*seen.lock().expect("no panic"), [expected; 3]);

    assert_eq!(log.levels(), [Level::Warn, Level::Warn, Level::Error]);
    for record in log.records() {
        assert_eq!(record.keys["class"], "serialization_failure");
        assert_eq!(record.keys["recognized"], "constraint");
        assert_eq!(record.keys["transient"], "true");
        // That the classifier saw the message does not put it there.
        assert!(!record.keys.contains_key("error"), "{record:?}");
        assert!(!record.text.contains("accounts"), "{record:?}");
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn an_operations_classifier_comes_first_and_is_for_it_alone() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let permanent = |_: &Seen<'_>| Some(FaultClass::Permanent);
    let silent = |_: &Seen<'_>| None;
    let runner = runner(POLICY).with_classifier(conflict);
    let open = runner.operation("open");
    assert_attempts(&duplicate(open.classify(&permanent), &mut conn).await, 1);
    assert_attempts(&duplicate(open.classify(&silent), &mut conn).await, 3);
    assert_attempts(&duplicate(open, &mut conn).await, 3);
    let plain = self::runner(POLICY);
    let open = plain.operation("open");
    assert_attempts(&duplicate(open.classify(&conflict), &mut conn).await, 3);
    assert_attempts(&duplicate(open, &mut conn).await, 1);
}

#[scenario]
async fn where_the_class_stays_nothing_is_said_of_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = runner(POLICY)
        .with_logger(log.clone())
        .with_classifier(|seen| Some(seen.class()));
    let report = duplicate(runner.operation("open"), &mut conn).await;
    assert_attempts(&report, 1);
    let records = log.records();
    assert_eq!(records[0].keys["class"], "constraint");
    assert!(!records[0].keys.contains_key("recognized"));
}

#[scenario]
async fn a_code_has_the_class_that_the_policy_gives_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = duplicate(runner(POLICY).operation("open"), &mut conn).await;
    assert_attempts(&report, 1);
    let fault = report.failures[0].fault.expect("a database error");
    let code = fault.code().expect("its code");
    let policy = POLICY.with_class_of(code, FaultClass::LockTimeout);
    let report = duplicate(runner(policy).operation("open"), &mut conn).await;
    assert_attempts(&report, 3);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert_eq!(fault.recognized_class(), FaultClass::Constraint);
    // Another one has not.
    let policy = POLICY.with_class_of(Code::Errno(1), FaultClass::LockTimeout);
    assert_attempts(
        &duplicate(runner(policy).operation("open"), &mut conn).await,
        1,
    );
}

#[scenario]
async fn classes_can_be_added_and_excluded_by_policy_and_by_operation() {
    const CLASS: FaultClass = FaultClass::Constraint;
    let bed = Bed::new();
    let mut conn = bed.connect();
    let with = runner(POLICY.with_retry_on(CLASS));
    let open = with.operation("open");
    assert_attempts(&duplicate(open, &mut conn).await, 3);
    assert_attempts(&duplicate(open.never_retry_on(CLASS), &mut conn).await, 1);
    let without = runner(POLICY.without_retry_on(CLASS));
    let open = without.operation("open");
    assert_attempts(&duplicate(open, &mut conn).await, 1);
    assert_attempts(&duplicate(open.also_retry_on(CLASS), &mut conn).await, 3);
    // It is the class by the user's judgement that is excluded.
    let judged = FaultClass::SerializationFailure;
    let open = with.operation("open").classify(&conflict);
    assert_attempts(&duplicate(open.never_retry_on(judged), &mut conn).await, 1);
    assert_attempts(&duplicate(open.never_retry_on(CLASS), &mut conn).await, 3);
}

/// Has lost the database's error on its way, or hides it, and says what it was.
#[derive(Debug, thiserror::Error)]
enum Named {
    #[error("{0}")]
    Text(String),
    #[error("database")]
    Database(#[from] Error),
}

impl OperationError for Named {
    fn diesel_error(&self) -> Option<&Error> {
        diesel_error_in(self)
    }

    fn advice(&self) -> Advice {
        Advice::As(match self {
            Self::Text(_) => FaultClass::LockTimeout,
            Self::Database(_) => FaultClass::Deadlock,
        })
    }
}

#[scenario]
async fn an_error_can_name_its_class() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = runner(POLICY).with_logger(log.clone());
    let bodies = AtomicU32::new(0);
    let report: Report<usize, Named> = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 2, 2).await?;
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Named::Text("the lock was not free".into())),
                1 => Ok(insert(conn, 1).await?),
                _ => Ok(7),
            }
        })
        .await;
    assert_eq!(report.result.expect("at the third attempt"), 7);
    let classes: Vec<_> = report
        .failures
        .iter()
        .map(|failure| failure.fault)
        .collect();
    let classes = classes.iter().map(|fault| {
        let fault = fault.expect("a class");
        (fault.class(), fault.recognized_class())
    });
    assert_eq!(
        classes.collect::<Vec<_>>(),
        [
            (FaultClass::LockTimeout, FaultClass::Permanent),
            (FaultClass::Deadlock, FaultClass::Constraint),
        ]
    );
    let records = log.records();
    assert_eq!(records[0].keys["class"], "lock_timeout");
    assert_eq!(records[0].keys["recognized"], "permanent");
    assert_eq!(records[1].keys["class"], "deadlock");
    assert_eq!(bed.balances(), [(1, 100), (2, 2), (3, 100)]);
}

/// Has one variant for the database's errors and one for dbop's.
#[derive(Debug, thiserror::Error)]
enum Separate {
    #[error("dbop")]
    Dbop(#[source] dbop_diesel::Error),
    #[error("database")]
    Database(#[from] Error),
}

impl OperationError for Separate {
    fn diesel_error(&self) -> Option<&Error> {
        match self {
            Self::Dbop(error) => error.source()?.downcast_ref(),
            Self::Database(error) => Some(error),
        }
    }

    fn from_dbop(error: dbop_diesel::Error) -> Self {
        Self::Dbop(error)
    }

    fn dbop_error(&self) -> Option<&dbop_diesel::Error> {
        match self {
            Self::Dbop(error) => Some(error),
            Self::Database(_) => None,
        }
    }
}

/// The body has run another operation, elsewhere. What that died of did not happen here.
#[scenario]
async fn the_cause_of_another_operations_error_is_not_this_ones() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report: Report<usize, Separate> = runner(POLICY)
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 2, 2).await?;
            let lost = Box::new(String::from("lost"));
            let lost = Error::DatabaseError(DatabaseErrorKind::ClosedConnection, lost);
            let other = dbop_diesel::Error::no_connection(lost.into());
            Err(Separate::from_dbop(other))
        })
        .await;
    let error = report.result.expect_err("the body's");
    assert!(error.dbop_error().is_some());
    assert_eq!((report.attempts, report.stop), (1, StopReason::OwnError));
    assert_eq!(report.outcome, Outcome::Undone);
    // The connection is as good as before.
    assert_eq!(bed.balances()[1], (2, 100));
    assert!(set(&mut conn, 2, 2).await.is_ok());
}

/// In a step the judgement is that of the step's own runner and operation; what it does not retry is
/// judged again around it.
#[scenario]
async fn a_step_and_the_operation_around_it_judge_for_themselves() {
    for (inner, outer, bodies) in [(true, false, 1), (false, true, 3)] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        let runner = runner(POLICY);
        let count = AtomicU32::new(0);
        let silent = |_: &Seen<'_>| None;
        let operation = |name: &'static str, judges: bool| {
            let operation = runner.operation(name);
            match judges {
                true => operation.classify(&conflict),
                false => operation.classify(&silent),
            }
        };
        let (step, whole) = (operation("step", inner), operation("whole", outer));
        let result: QueryResult<usize> = whole
            .run(&mut conn, async |conn: &mut Conn| {
                step.run(conn, async |conn: &mut Conn| {
                    count.fetch_add(1, Ordering::Relaxed);
                    insert(conn, 1).await
                })
                .await
            })
            .await;
        assert!(result.is_err());
        // A serialization failure needs a new transaction, so the step does not try again.
        assert_eq!(count.into_inner(), bodies, "inner {inner}, outer {outer}");
    }
}

#[scenario]
async fn a_classifier_that_panics_leaves_nothing_behind() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = runner(POLICY).with_classifier(|_| panic!("cannot tell"));
    let result = caught(async || duplicate(runner.operation("open"), &mut conn).await.result).await;
    let payload = result.expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"cannot tell"));
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(bed.balances()[1], (2, 100));
    let next: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| set(conn, 2, 2).await)
        .await;
    assert_eq!(next, Ok(1));
}
