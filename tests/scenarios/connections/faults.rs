//! Faults on demand: an injected fault looks, is judged, and leaves the database like a real one. At each
//! point of an attempt, on each database, with both adapters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use dbop_diesel::testing::{Failure, Faults, ManualClock, Point};
use dbop_diesel::{
    Code, Dialect, FaultClass, OperationError as _, Outcome, Report, RetryPolicy, SqlState,
    StopReason,
};
use dbop_tests::{Capture, assert_unknown, is_unknown};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};
use log::Level;

use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, backend, depth, helper, scenario, source};

/// One that does not wait.
fn runner(faults: &Faults) -> Runner {
    let policy = RetryPolicy::new().with_initial_delay(Duration::ZERO);
    Runner::new(policy).with_faults(faults)
}

/// Pays ten into account 1. Returns the report and how often the body ran.
#[helper]
async fn pay(bed: &Bed, runner: &Runner) -> (Report<usize, Error>, u32) {
    let bodies = AtomicU32::new(0);
    let report = runner
        .operation("pay")
        .run_on_report(&source(bed.url()), async |conn: &mut Conn| {
            bodies.fetch_add(1, Relaxed);
            add(conn, 1, 10).await
        })
        .await;
    (report, bodies.into_inner())
}

/// What passes in an attempt, and what passes at COMMIT, too.
fn classes_that_pass() -> (&'static [FaultClass], &'static [FaultClass]) {
    use FaultClass as C;

    match backend::DIALECT {
        Dialect::Postgres => (
            &[
                C::Deadlock,
                C::SerializationFailure,
                C::LockTimeout,
                C::ReadOnlyServer,
                C::StalePlan,
            ],
            &[C::Deadlock, C::SerializationFailure, C::LockTimeout],
        ),
        Dialect::Mysql => (
            &[
                C::Deadlock,
                C::SerializationFailure,
                C::LockTimeout,
                C::Busy,
                C::ReadOnlyServer,
                C::StalePlan,
            ],
            &[C::Deadlock, C::SerializationFailure, C::LockTimeout],
        ),
        _ => (
            &[
                C::Busy,
                C::SerializationFailure,
                C::ReadOnlyServer,
                C::StalePlan,
            ],
            &[C::Busy, C::SerializationFailure],
        ),
    }
}

const HAS_SERVER: bool = !matches!(backend::DIALECT, Dialect::Sqlite);

#[scenario]
async fn a_fault_that_passes_is_retried_wherever_it_happens() {
    let (anywhere, at_commit) = classes_that_pass();
    let points = [
        (Point::Begin, anywhere, 1),
        (Point::BeforeBody, anywhere, 1),
        (Point::AfterBody, anywhere, 2),
        (Point::Commit, at_commit, 2),
    ];
    for (point, classes, bodies) in points {
        for &class in classes {
            let (bed, faults, log) = (Bed::new(), Faults::new(), Capture::new());
            faults.operation("pay").fail(point, class);
            let runner = runner(&faults).with_logger(log.clone());
            let (report, ran) = pay(&bed, &runner).await;
            let case = format!("{point:?} {class}");
            assert_eq!(report.result, Ok(1), "{case}");
            assert_eq!(report.outcome, Outcome::Committed, "{case}");
            // SQLite's COMMIT is tried again alone while the database is busy.
            let commits_again = point == Point::Commit && class == FaultClass::Busy;
            let (attempts, ran_before) = match commits_again {
                true => (1, 1),
                false => (2, bodies),
            };
            assert_eq!((report.attempts, ran), (attempts, ran_before), "{case}");
            assert_eq!(faults.attempts("pay"), attempts, "{case}");
            let fault = report.failures[0].fault.expect("a database error");
            assert_eq!(fault.class(), class, "{case}");
            assert_eq!(log.levels()[0], Level::Warn, "{case}");
            assert_eq!(log.records()[0].keys["class"], class.as_str(), "{case}");
            assert_eq!(bed.balances()[0], (1, 110), "{case}: once");
            assert!(faults.unmet().is_empty(), "{case}");
        }
    }
}

#[scenario]
async fn a_fault_that_stays_is_returned_as_the_database_shows_it() {
    for point in [
        Point::Begin,
        Point::BeforeBody,
        Point::AfterBody,
        Point::Commit,
    ] {
        let (bed, faults) = (Bed::new(), Faults::new());
        faults.operation("pay").fail(point, FaultClass::Constraint);
        let (report, _) = pay(&bed, &runner(&faults)).await;
        let kind = DatabaseErrorKind::UniqueViolation;
        let is_it =
            |error: &Error| matches!(error, Error::DatabaseError(found, _) if *found == kind);
        assert!(report.result.as_ref().is_err_and(is_it), "{point:?}");
        assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
        assert_eq!(bed.balances()[0], (1, 100));
    }
}

/// Not without faults to inject, and not for operations of another name.
#[scenario]
async fn without_a_fault_nothing_changes_and_runs_are_listed() {
    let (bed, faults) = (Bed::new(), Faults::new());
    faults
        .operation("other")
        .fail(Point::Commit, FaultClass::Constraint);
    let (report, bodies) = pay(&bed, &runner(&faults)).await;
    assert_eq!((report.result, report.attempts, bodies), (Ok(1), 1, 1));
    let runs = faults.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].name.as_str(), runs[0].attempts), ("pay", 1));
    assert_eq!(runs[0].outcome, Some(Outcome::Committed));
    assert_eq!(
        faults.unmet(),
        ["other, attempt 1, Commit: class constraint"]
    );
    let bare = runner(&Faults::new());
    let (report, bodies) = pay(&bed, &bare).await;
    assert_eq!((report.result, report.attempts, bodies), (Ok(1), 1, 1));
    assert_eq!(bed.balances()[0], (1, 120));
}

#[scenario]
async fn no_connection_is_retried_and_said() {
    for attempts in [1, 6] {
        let (bed, faults) = (Bed::new(), Faults::new());
        faults
            .operation("pay")
            .attempts(..=attempts)
            .fail(Point::Connect, FaultClass::NotConnected);
        let clock = ManualClock::new();
        let runner = Runner::default()
            .with_faults(&faults)
            .with_clock(Arc::new(clock.clone()));
        let (report, bodies) = pay(&bed, &runner).await;
        let no_connection =
            |error: &Error| error.dbop_error().is_some_and(|own| own.is_no_connection());
        match attempts {
            1 => assert_eq!((report.result, report.attempts, bodies), (Ok(1), 2, 1)),
            _ => {
                assert!(report.result.as_ref().is_err_and(no_connection));
                assert_eq!((report.attempts, bodies), (6, 0));
            }
        }
        assert_eq!(clock.sleeps().len(), faults.attempts("pay") as usize - 1);
    }
}

#[scenario]
async fn a_code_is_injected_as_its_database_has_it() {
    let code = match backend::DIALECT {
        Dialect::Postgres => Code::SqlState(SqlState::TOO_MANY_CONNECTIONS),
        Dialect::Mysql => Code::Errno(1040),
        _ => Code::Sqlite(14),
    };
    let (bed, faults) = (Bed::new(), Faults::new());
    faults.operation("pay").fail(Point::Connect, code);
    let (report, _) = pay(&bed, &runner(&faults)).await;
    assert_eq!(report.result, Ok(1));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.code(), Some(code));
}

#[scenario]
async fn what_the_database_does_not_have_is_said() {
    let missing: Failure = match backend::DIALECT {
        Dialect::Postgres => FaultClass::Busy.into(),
        Dialect::Mysql => Code::Errno(4711).into(),
        _ => FaultClass::Deadlock.into(),
    };
    for point in [Point::Begin, Point::AfterBody] {
        let (bed, faults) = (Bed::new(), Faults::new());
        faults.operation("pay").fail(point, missing);
        let (report, _) = pay(&bed, &runner(&faults)).await;
        let error = report.result.expect_err("there is no such error");
        assert!(error.to_string().contains("has no error of"), "{error}");
        assert_eq!(report.attempts, 1);
        assert_eq!(bed.balances()[0], (1, 100));
    }
}

#[scenario]
async fn a_lost_connection_is_replaced() {
    if !HAS_SERVER {
        return;
    }
    for point in [Point::Begin, Point::BeforeBody, Point::AfterBody] {
        let (bed, faults) = (Bed::new(), Faults::new());
        faults
            .operation("pay")
            .fail(point, FaultClass::ConnectionLost);
        let connected = AtomicU32::new(0);
        let report = runner(&faults)
            .operation("pay")
            .run_on_report(
                &async || {
                    connected.fetch_add(1, Relaxed);
                    Conn::establish(bed.url()).await
                },
                async |conn: &mut Conn| add(conn, 1, 10).await,
            )
            .await;
        assert_eq!((report.result, report.attempts), (Ok(1), 2), "{point:?}");
        assert_eq!(connected.into_inner(), 2, "{point:?}");
        assert_eq!(bed.balances()[0], (1, 110));
    }
}

/// As after a real loss, its transaction is gone, so that it holds no lock.
#[scenario]
async fn the_callers_lost_connection_is_of_no_more_use() {
    if !HAS_SERVER {
        return;
    }
    let (bed, faults) = (Bed::new(), Faults::new());
    faults
        .operation("pay")
        .fail(Point::AfterBody, FaultClass::ConnectionLost);
    let mut conn = Conn::establish(bed.url()).await.expect("a connection");
    let report = runner(&faults)
        .operation("pay")
        .run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(depth(&mut conn), None);
    let (report, _) = pay(&bed, &runner(&faults)).await;
    assert_eq!((report.result, report.attempts), (Ok(1), 1), "no lock");
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn a_commit_without_an_answer_is_of_unknown_outcome() {
    if !HAS_SERVER {
        return;
    }
    for (is_done, balance) in [(true, 110), (false, 100)] {
        let (bed, faults) = (Bed::new(), Faults::new());
        match is_done {
            true => faults.operation("pay").lose_commit_answer(),
            false => faults
                .operation("pay")
                .fail(Point::Commit, FaultClass::ConnectionLost),
        }
        let (report, bodies) = pay(&bed, &runner(&faults)).await;
        assert_unknown(&report);
        assert_eq!((report.attempts, bodies), (1, 1));
        assert_eq!(bed.balances()[0], (1, balance));
        assert_eq!(faults.runs()[0].outcome, Some(Outcome::Unknown));
    }
}

/// Only a connection can lose it.
#[scenario]
async fn an_answer_is_not_lost_by_a_deadlock() {
    let class = match backend::DIALECT {
        Dialect::Sqlite => FaultClass::Busy,
        _ => FaultClass::Deadlock,
    };
    let (bed, faults) = (Bed::new(), Faults::new());
    faults.operation("pay").fail(Point::CommitAnswer, class);
    let (report, _) = pay(&bed, &runner(&faults)).await;
    assert!(report.result.is_err());
    assert_eq!(bed.balances()[0], (1, 100), "it was not sent");
}

#[scenario]
async fn a_step_in_an_operation_escalates() {
    let class = match backend::DIALECT {
        Dialect::Sqlite => FaultClass::SerializationFailure,
        _ => FaultClass::Deadlock,
    };
    for point in [Point::BeforeBody, Point::AfterBody] {
        let (bed, faults) = (Bed::new(), Faults::new());
        faults.operation("step").fail(point, class);
        let runner = runner(&faults);
        let result = runner
            .operation("order")
            .run_on(&source(bed.url()), async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                runner
                    .operation("step")
                    .run(conn, async |conn: &mut Conn| add(conn, 1, 10).await)
                    .await
            })
            .await;
        assert_eq!(result, Ok(1), "{point:?}");
        assert_eq!((faults.attempts("order"), faults.attempts("step")), (2, 2));
        assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)], "{point:?}");
    }
}

/// On MySQL and MariaDB, a caller's transaction is gone with it, and its connection of no more use. Elsewhere
/// the caller can roll back what it has begun.
#[scenario]
async fn the_step_of_a_deadlock_takes_the_whole_transaction_along() {
    let (class, left) = match backend::DIALECT {
        Dialect::Sqlite => (FaultClass::Busy, Some(0)),
        Dialect::Mysql => (FaultClass::Deadlock, None),
        _ => (FaultClass::Deadlock, Some(0)),
    };
    let (bed, faults) = (Bed::new(), Faults::new());
    faults.operation("step").fail(Point::AfterBody, class);
    let runner = runner(&faults);
    let mut conn = Conn::establish(bed.url()).await.expect("a connection");
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 2, 10).await?;
            runner
                .operation("step")
                .run(conn, async |conn: &mut Conn| add(conn, 1, 10).await)
                .await
        })
        .await;
    assert!(result.is_err());
    assert_eq!(faults.attempts("step"), 1);
    assert_eq!(depth(&mut conn), left);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn every_operation_runs_twice_and_its_work_is_done_once() {
    let (bed, faults) = (Bed::new(), Faults::new());
    faults.every_operation_twice();
    let runner = runner(&faults);
    for balance in [110, 120] {
        let (report, bodies) = pay(&bed, &runner).await;
        assert_eq!((report.result, report.attempts, bodies), (Ok(1), 2, 2));
        assert_eq!(bed.balances()[0], (1, balance));
    }
    // A step runs again with the operation around it.
    let bodies = AtomicU32::new(0);
    let result = runner
        .operation("order")
        .run_on(&source(bed.url()), async |conn: &mut Conn| {
            runner
                .operation("step")
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Relaxed);
                    add(conn, 1, 10).await
                })
                .await
        })
        .await;
    assert_eq!((result, bodies.into_inner()), (Ok(1), 2));
    assert_eq!((faults.attempts("order"), faults.attempts("step")), (2, 2));
    assert_eq!(bed.balances()[0], (1, 130));
}

/// There, nothing but the savepoint can be tried again.
#[scenario]
async fn in_the_callers_transaction_an_operation_runs_twice_in_place() {
    let (bed, faults) = (Bed::new(), Faults::new());
    faults.every_operation_twice();
    let runner = runner(&faults);
    let mut conn = Conn::establish(bed.url()).await.expect("a connection");
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 2, 10).await?;
            runner
                .operation("pay")
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Relaxed);
                    add(conn, 1, 10).await
                })
                .await
        })
        .await;
    assert_eq!((result, bodies.into_inner()), (Ok(1), 2));
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)]);
}

#[scenario]
async fn what_may_not_be_retried_does_not_run_twice() {
    let (bed, faults) = (Bed::new(), Faults::new());
    faults.every_operation_twice();
    let report = runner(&faults)
        .operation("pay")
        .max_retries(0)
        .run_on_report(&source(bed.url()), async |conn: &mut Conn| {
            add(conn, 1, 10).await
        })
        .await;
    assert_eq!((report.result, report.attempts), (Ok(1), 1));
}

/// Where the policy does not retry the class, the operation asks for it.
#[scenario]
async fn an_excluded_class_runs_twice_all_the_same() {
    let (bed, faults) = (Bed::new(), Faults::new());
    faults.every_operation_twice();
    let mut policy = RetryPolicy::new().with_initial_delay(Duration::ZERO);
    for class in [
        FaultClass::Busy,
        FaultClass::Deadlock,
        FaultClass::SerializationFailure,
    ] {
        policy = policy.without_retry_on(class);
    }
    let runner = Runner::new(policy).with_faults(&faults);
    let (report, bodies) = pay(&bed, &runner).await;
    assert_eq!((report.result, report.attempts, bodies), (Ok(1), 2, 2));
    assert_eq!(bed.balances()[0], (1, 110));
}

/// What the database itself has to say comes first.
#[scenario]
async fn an_unknown_outcome_is_not_said_of_a_commit_that_the_database_refuses() {
    if backend::DIALECT != Dialect::Postgres {
        return;
    }
    let (bed, faults) = (Bed::new(), Faults::new());
    faults.operation("pay").lose_commit_answer();
    let result = runner(&faults)
        .operation("pay")
        .run_on(&source(bed.url()), async |conn: &mut Conn| {
            // A failure that is swallowed aborts the transaction.
            _ = add(conn, 1, i64::MAX).await;
            QueryResult::Ok(())
        })
        .await;
    let error = result.expect_err("it is aborted");
    assert!(!is_unknown(&error), "{error}");
    assert!(error.dbop_error().is_some_and(|own| own.is_rolled_back()));
}
