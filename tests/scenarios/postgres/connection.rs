//! A connection that the server ends. What was not committed is undone, nothing more is sent, the
//! connection refuses further transactions, and only while COMMIT was in flight nobody knows.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, OperationError as _, Outcome, StopReason};
use dbop_tests::{Capture, InstantClock};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};
use log::Level;

use super::money::{balance, insert, set};
use super::steps::session_id;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, depth, helper, scenario};

/// Ends the session of whoever commits a row of this table.
const FATAL: &str = "
    CREATE TABLE fatal (n INTEGER);
    CREATE FUNCTION fatal() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_terminate_backend(pg_backend_pid());
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER fatal AFTER INSERT ON fatal
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fatal()";

/// It takes a new connection to go on.
#[helper]
async fn refuses_everything(conn: &mut Conn) {
    assert_eq!(depth(conn), None);
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let next: QueryResult<()> = runner
        .run(conn, async |_: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .await;
    assert!(next.is_err());
    let bare: QueryResult<()> = conn
        .transaction(async |_: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .await;
    assert!(matches!(bare, Err(Error::BrokenTransactionManager)));
    assert_eq!(bodies.into_inner(), 0);
}

#[scenario]
async fn in_the_operation_it_is_undone_and_needs_a_new_connection() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let log = Capture::new();
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .with_clock(clock.clone())
        .operation("read")
        .fallback(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            bed.kill(session);
            balance(conn, 1).await
        })
        .await;
    let error = report.result.expect_err("no fallback value hides it");
    assert!(matches!(error, Error::DatabaseError(..)), "{error:?}");
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.outcome, Outcome::Undone);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::ConnectionLost);
    assert_eq!(log.levels(), [Level::Error]);
    assert_eq!(log.records()[0].keys["transient"], "true");
    assert!(clock.slept().is_empty());
    assert_eq!(bed.balances()[0], (1, 100));
    refuses_everything(&mut conn).await;
}

#[scenario]
async fn lost_before_begin_the_body_never_runs() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    bed.kill(session);
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await
        })
        .await;
    assert!(matches!(report.result, Err(Error::DatabaseError(..))));
    assert_eq!((report.attempts, bodies.into_inner()), (1, 0));
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(log.records()[0].keys["class"], "connection_lost");
    assert_eq!(log.records()[0].keys["phase"], "begin");
    refuses_everything(&mut conn).await;
}

#[scenario]
async fn hidden_by_the_operation_it_is_an_error_all_the_same() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .operation("hide")
        .fallback("all is well")
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            bed.kill(session);
            assert!(conn.batch_execute("SELECT 1").await.is_err());
            QueryResult::Ok("all is well")
        })
        .await;
    assert!(report.result.is_err());
    let expected = if super::LOSS_IS_NOTICED {
        (StopReason::NeedsConnection, Outcome::Undone)
    } else {
        // The COMMIT fails, and might have been sent.
        (StopReason::OutcomeUnknown, Outcome::Unknown)
    };
    assert_eq!((report.stop, report.outcome), expected);
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 100));
    refuses_everything(&mut conn).await;
}

/// Diesel itself finds out with the COMMIT only, which was not sent. libpq says so where it knows;
/// otherwise that is hard to tell from one that was.
#[scenario]
async fn hidden_by_the_operation_even_from_diesel_it_is_never_a_success() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .operation("hide")
        .fallback("all is well")
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            bed.kill(session);
            assert!(balance(conn, 1).await.is_err());
            QueryResult::Ok("all is well")
        })
        .await;
    assert!(report.result.is_err());
    let expected = if super::LOSS_IS_NOTICED {
        (StopReason::NeedsConnection, Outcome::Undone)
    } else {
        (StopReason::OutcomeUnknown, Outcome::Unknown)
    };
    assert_eq!((report.stop, report.outcome), expected);
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 100));
    refuses_everything(&mut conn).await;
}

#[scenario]
async fn before_the_rollback_it_leaves_the_first_error_in_its_place() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let log = Capture::new();
    let report = Runner::default()
        .with_logger(log.clone())
        .operation("open")
        .fallback(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 2, 2).await?;
            let duplicate = insert(conn, 1).await;
            bed.kill(session);
            duplicate
        })
        .await;
    assert!(matches!(
        report.result,
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
    assert!(report.failures[0].rollback_error.is_some(), "attached");
    assert_eq!(report.attempts, 1);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(log.levels(), [Level::Error]);
    assert_eq!(log.records()[0].keys["class"], "constraint");
    assert_eq!(log.records()[0].keys["rollback"], "connection_lost");
    refuses_everything(&mut conn).await;
}

#[scenario]
async fn in_a_nested_operation_it_goes_up_to_the_outermost() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let runner = Runner::default();
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            let step = runner
                .operation("step")
                .fallback(0)
                .run_report(conn, async |conn: &mut Conn| {
                    inner.fetch_add(1, Ordering::Relaxed);
                    bed.kill(session);
                    balance(conn, 1).await
                })
                .await;
            assert_eq!(step.stop, StopReason::EnclosingTransaction);
            step.result
        })
        .await;
    assert!(report.result.is_err(), "no fallback value hides it");
    assert_eq!((outer.into_inner(), inner.into_inner()), (1, 1));
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bed.balances()[0], (1, 100));
    refuses_everything(&mut conn).await;
}

#[scenario]
async fn in_a_nested_operation_that_is_swallowed_it_is_an_error_all_the_same() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let runner = Runner::default();
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let step: QueryResult<i64> = runner
                .run(conn, async |conn: &mut Conn| {
                    bed.kill(session);
                    balance(conn, 1).await
                })
                .await;
            assert!(step.is_err());
            QueryResult::Ok("all is well")
        })
        .await;
    assert!(report.result.is_err());
    assert_eq!(report.attempts, 1);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bed.balances()[0], (1, 100));
    refuses_everything(&mut conn).await;
}

#[scenario]
async fn in_the_callers_transaction_the_caller_is_told() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let step: QueryResult<i64> = runner
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    bed.kill(session);
                    balance(conn, 1).await
                })
                .await;
            assert!(step.is_err());
            Ok(())
        })
        .await;
    assert!(result.is_err(), "even if the caller swallows it");
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 100));
    refuses_everything(&mut conn).await;
}

#[scenario]
async fn while_committing_nobody_knows() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(FATAL).await.expect("a trigger");
    let log = Capture::new();
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .with_clock(clock.clone())
        .operation("commit")
        .fallback(())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            conn.batch_execute("INSERT INTO fatal VALUES (1)").await
        })
        .await;
    let error = report.result.expect_err("nobody knows");
    let own = error.dbop_error().expect("dbop's own");
    assert!(own.is_outcome_unknown(), "{own}");
    assert!(std::error::Error::source(own).is_some(), "with its cause");
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(log.levels(), [Level::Error]);
    assert_eq!(log.records()[0].keys["phase"], "commit");
    assert!(clock.slept().is_empty());
    refuses_everything(&mut conn).await;
}
