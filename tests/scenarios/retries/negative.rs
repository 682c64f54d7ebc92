//! What another attempt cannot cure is tried exactly once, at top level and in a savepoint. Nothing
//! of it is committed, its error arrives unchanged, and the log says ERROR for a database error
//! and DEBUG for a normal answer.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{OperationError, StopReason};
use dbop_tests::{Capture, InstantClock, Number};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_query;
use log::Level;

use super::money::{add, balance, set};
use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, backend, depth, helper,
    scenario,
};

/// Has the statement fail in an operation, at top level and in a savepoint, and hands back its
/// error.
#[helper]
async fn fails_once(bed: &Bed, conn: &mut Conn, statement: &str) -> Error {
    let bare: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| sql_query(statement).execute(conn).await)
        .await;
    let bare = bare.expect_err("what Diesel alone says");

    let log = Capture::new();
    let clock = InstantClock::new();
    let runner = Runner::default()
        .with_logger(log.clone())
        .with_clock(clock.clone());
    let bodies = AtomicU32::new(0);
    let step = async |conn: &mut Conn| {
        bodies.fetch_add(1, Ordering::Relaxed);
        set(conn, 3, 3).await?;
        sql_query(statement).execute(conn).await
    };

    let report = runner.run_report(conn, step).await;
    let error = report.result.expect_err("it fails");
    assert_eq!(format!("{error:?}"), format!("{bare:?}"), "unchanged");
    assert_eq!(
        (report.attempts, report.stop),
        (1, StopReason::NotRetryable)
    );
    assert_eq!(bodies.swap(0, Ordering::Relaxed), 1);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);

    let outer: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            let nested: QueryResult<usize> = runner.run(conn, step).await;
            let nested = nested.expect_err("it fails");
            assert_eq!(format!("{nested:?}"), format!("{bare:?}"), "unchanged");
            set(conn, 1, 1).await
        })
        .await;
    assert_eq!(outer, Ok(1), "the caller goes on");
    assert_eq!(bodies.load(Ordering::Relaxed), 1);
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 100)]);

    // A constraint that is violated is an answer.
    let is_answer = log.records()[0].keys["class"] == "constraint";
    let level = if is_answer {
        Level::Debug
    } else {
        Level::Error
    };
    assert_eq!(log.levels(), [level; 2]);
    assert!(clock.slept().is_empty());
    assert_eq!(depth(conn), Some(0));
    error
}

/// The same for an error that the operation returns by itself.
#[helper]
async fn is_a_normal_answer<E>(error: impl Fn() -> E + Send + Sync) -> E
where
    E: OperationError + Send + std::fmt::Debug,
{
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .with_clock(clock.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 3, 3).await?;
            Err::<(), E>(error())
        })
        .await;
    assert_eq!((report.attempts, report.stop), (1, StopReason::OwnError));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[2], (3, 100));
    assert_eq!(log.levels(), [Level::Debug]);
    assert!(clock.slept().is_empty());
    report.result.expect_err("it fails")
}

#[scenario]
async fn a_unique_violation() {
    let bed = Bed::new();
    let insert = "INSERT INTO accounts (id, balance) VALUES (1, 0)";
    let error = fails_once(&bed, &mut bed.connect(), insert).await;
    assert!(is_kind(&error, &DatabaseErrorKind::UniqueViolation));
}

#[scenario]
async fn a_foreign_key_violation() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(backend::OWNERS).await.expect("a table");
    let insert = "INSERT INTO owners (account) VALUES (99)";
    let error = fails_once(&bed, &mut conn, insert).await;
    assert!(is_kind(&error, &DatabaseErrorKind::ForeignKeyViolation));
}

#[scenario]
async fn a_null_where_none_may_be() {
    let bed = Bed::new();
    let insert = "INSERT INTO accounts (id, balance) VALUES (4, NULL)";
    let error = fails_once(&bed, &mut bed.connect(), insert).await;
    assert!(is_kind(&error, &DatabaseErrorKind::NotNullViolation));
}

#[scenario]
async fn a_syntax_error() {
    let bed = Bed::new();
    fails_once(&bed, &mut bed.connect(), backend::SYNTAX_ERROR).await;
}

#[scenario]
async fn a_missing_table() {
    let bed = Bed::new();
    fails_once(&bed, &mut bed.connect(), "DELETE FROM nowhere").await;
}

#[scenario]
async fn a_missing_column() {
    let bed = Bed::new();
    fails_once(&bed, &mut bed.connect(), "SELECT nothing FROM accounts").await;
}

#[scenario]
async fn an_error_of_the_data() {
    let bed = Bed::new();
    fails_once(&bed, &mut bed.connect(), backend::DATA_ERROR).await;
}

#[scenario]
async fn a_value_that_does_not_fit_its_type() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<Number> = Runner::default()
        .with_logger(log.clone())
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            sql_query("SELECT NULL AS n").get_result(conn).await
        })
        .await;
    assert!(matches!(result, Err(Error::DeserializationError(_))));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(log.levels(), [Level::Error]);
    assert_eq!(bed.balances()[0], (1, 100));
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn a_rollback_asked_for() {
    let error = is_a_normal_answer(|| Error::RollbackTransaction).await;
    assert_eq!(error, Error::RollbackTransaction);
}

#[scenario]
async fn a_row_not_found() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<i64> = Runner::default()
        .with_logger(log.clone())
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 1).await?;
            balance(conn, 99).await
        })
        .await;
    assert_eq!(result, Err(Error::NotFound));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(log.levels(), [Level::Debug]);
    assert_eq!(bed.balances()[0], (1, 100));
}

#[derive(Debug, thiserror::Error)]
enum TransferError {
    #[error("{missing} short")]
    NotEnough { missing: i64 },
    #[error("database")]
    Database(#[from] Error),
}

impl OperationError for TransferError {
    fn diesel_error(&self) -> Option<&Error> {
        dbop_diesel::diesel_error_in(self)
    }
}

#[scenario]
async fn an_error_of_the_users_own() {
    let error = is_a_normal_answer(|| TransferError::NotEnough { missing: 7 }).await;
    assert!(matches!(error, TransferError::NotEnough { missing: 7 }));
}

fn is_kind(error: &Error, expected: &DatabaseErrorKind) -> bool {
    matches!(error, Error::DatabaseError(kind, _) if format!("{kind:?}") == format!("{expected:?}"))
}
