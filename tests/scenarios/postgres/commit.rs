//! COMMIT tells the truth on PostgreSQL: a swallowed error is not a success, and what COMMIT itself
//! finds is definite.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, OperationError as _, Outcome, StopReason};
use dbop_tests::{Capture, is_rolled_back};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_query;
use log::Level;

use super::money::{insert, set};
use super::steps::opponent_commits;
use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, depth, helper, scenario,
};

/// A bed with a table whose rows are checked when the transaction is committed.
#[helper]
async fn with_tokens() -> Bed {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(
            "CREATE TABLE tokens (
                token INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED,
                account INTEGER REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED
            )",
        )
        .await
        .expect("a new table");
    bed
}

#[helper]
async fn take_token(conn: &mut Conn, token: i32, account: i32) -> QueryResult<usize> {
    sql_query(format!("INSERT INTO tokens VALUES ({token}, {account})"))
        .execute(conn)
        .await
}

#[scenario]
async fn a_swallowed_error_is_not_a_success() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 2, 2).await?;
            assert!(insert(conn, 1).await.is_err());
            Ok::<_, Error>("all is well")
        })
        .await;
    let error = report.result.expect_err("it is not");
    let own = error.dbop_error().expect("dbop's own");
    assert!(own.is_rolled_back(), "{own}");
    let cause = own.source().expect("what the server said").to_string();
    assert!(
        cause.starts_with("current transaction is aborted"),
        "{cause}"
    );
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(log.levels(), [Level::Error]);
    assert_eq!(log.records()[0].keys["class"], "transaction_aborted");
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(set(&mut conn, 3, 3).await, Ok(1), "usable");
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 3)]);
}

#[scenario]
async fn a_swallowed_error_in_a_savepoint_is_not_a_success_either() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let step: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 2, 2).await?;
                    assert!(insert(conn, 1).await.is_err());
                    Ok(())
                })
                .await;
            let error = step.expect_err("it is not");
            assert!(is_rolled_back(&error));
            assert_eq!(depth(conn), Some(1));
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1), "the caller goes on");
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

/// Nothing can be done in there any more, so the operation does not even begin.
#[scenario]
async fn in_a_transaction_that_the_caller_let_fail_nothing_is_begun() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            assert!(insert(conn, 1).await.is_err());
            let report = runner
                .operation("late")
                .fallback(())
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    set(conn, 2, 2).await?;
                    Ok(())
                })
                .await;
            assert_eq!(report.attempts, 1);
            assert_eq!(report.outcome, Outcome::Undone);
            let fault = report.failures[0].fault.expect("a database error");
            assert_eq!(fault.class(), FaultClass::TransactionAborted);
            report.result
        })
        .await;
    assert!(result.is_err(), "no fallback value hides it");
    assert_eq!(bodies.into_inner(), 0);
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(bed.balances()[..2], [(1, 100), (2, 100)]);
}

#[scenario]
async fn a_unique_violation_at_commit_is_definite() {
    let bed = with_tokens().await;
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            take_token(conn, 7, 1).await?;
            take_token(conn, 7, 2).await
        })
        .await;
    assert!(matches!(
        report.result,
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(report.outcome, Outcome::Undone);
    assert!(report.failures[0].rollback_error.is_none());
    assert_eq!(log.levels(), [Level::Debug]);
    assert_eq!(log.records()[0].keys["phase"], "commit");
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(set(&mut conn, 3, 3).await, Ok(1), "usable");
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 3)]);
}

#[scenario]
async fn a_foreign_key_violation_at_commit_can_be_replaced_by_a_fallback() {
    let bed = with_tokens().await;
    let mut conn = bed.connect();
    let result: QueryResult<usize> = Runner::default()
        .operation("token")
        .fallback(0)
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            take_token(conn, 7, 99).await
        })
        .await;
    assert_eq!(result, Ok(0));
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn a_deferred_check_that_has_to_wait_is_bounded_and_retried() {
    let bed = with_tokens().await;
    let opponent = Arc::new(bed.opponent());
    opponent.execute("BEGIN; SELECT * FROM accounts WHERE id = 1 FOR UPDATE");
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = Runner::default()
        .with_clock(opponent_commits(&opponent))
        .with_logger(log.clone())
        .operation("token")
        .lock_timeout(Duration::from_millis(50))
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 2, 2).await?;
            take_token(conn, 7, 1).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(log.records()[0].keys["phase"], "commit");
    assert_eq!(log.records()[0].keys["code"], "55P03");
    assert_eq!(bed.balances()[1], (2, 2));
}

#[scenario]
async fn a_deferred_check_that_has_to_wait_is_bounded_by_the_statement_timeout() {
    let bed = with_tokens().await;
    let opponent = bed.opponent();
    opponent.execute("BEGIN; SELECT * FROM accounts WHERE id = 1 FOR UPDATE");
    let mut conn = bed.connect();
    let report = Runner::default()
        .operation("token")
        .statement_timeout(Duration::from_millis(50))
        .run_report(&mut conn, async |conn: &mut Conn| {
            take_token(conn, 7, 1).await
        })
        .await;
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::StatementTimeout);
    assert_eq!(report.attempts, 1);
    assert_eq!(report.outcome, Outcome::Undone);
}

/// Diesel knows nothing of such a transaction, and a bare `conn.transaction` takes it over.
#[scenario]
async fn in_a_transaction_begun_in_sql_and_used_an_operation_is_refused() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("BEGIN; UPDATE accounts SET balance = 1 WHERE id = 1")
        .await
        .expect("allowed to");
    let result: QueryResult<()> = Runner::default()
        .run(&mut conn, async |_: &mut Conn| Ok(()))
        .await;
    let error = result
        .expect_err("it would commit what it has not begun")
        .to_string();
    assert!(error.contains("must be called before any query"), "{error}");
    assert_eq!(bed.balances()[0], (1, 100));
}

/// Nothing but the statement in front of the COMMIT can notice it there.
#[scenario]
async fn without_any_settings_a_swallowed_failure_is_noticed_too() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_default_lock_timeout(None);
    let result: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let swallowed = conn.batch_execute("SELECT 1 / 0").await;
            assert!(swallowed.is_err());
            Ok(())
        })
        .await;
    let error = result.expect_err("the server rolls back");
    assert!(is_rolled_back(&error));
    assert_eq!(bed.balances()[0], (1, 100));
    assert_eq!(depth(&mut conn), Some(0));
}
