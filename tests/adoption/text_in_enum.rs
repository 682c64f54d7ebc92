//! An error type that keeps the text of Diesel's error and nothing else.

use dbop_diesel::{OperationError as _, operation_error};

use super::locked::Locked;
use super::money::{add, insert};
use super::{Bed, Conn, helper, scenario};

#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("database: {0}")]
    Database(String),
    #[error("internal")]
    Internal(#[source] dbop_diesel::Error),
}

impl From<diesel::result::Error> for ApiError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.to_string())
    }
}

operation_error!(ApiError {
    message: Database,
    dbop: Internal
});

#[helper]
async fn pay(conn: &mut Conn) -> Result<usize, ApiError> {
    add(conn, 1, -10).await?;
    Ok(add(conn, 2, 10).await?)
}

#[helper]
async fn open(conn: &mut Conn) -> Result<usize, ApiError> {
    Ok(insert(conn, 1).await?)
}

#[scenario]
async fn a_busy_lock_is_retried_and_a_duplicate_is_not() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let runner = locked.runner();
    let mut conn = bed.connect();
    let paid = runner.run(&mut conn, pay).await;
    assert_eq!(paid.expect("paid"), 1);
    assert_eq!(locked.attempts(), 2);
    assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);

    let opened = runner.run(&mut conn, open).await;
    let error = opened.expect_err("there is one");
    let text = "database: UNIQUE constraint failed: accounts.id";
    assert_eq!(error.to_string(), text);
    assert_eq!(locked.attempts(), 1);
}

#[scenario]
async fn an_error_of_dbops_has_its_own_variant() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = super::Runner::default();
    let timeout = std::time::Duration::from_secs(1);
    let paying = runner.operation("pay").statement_timeout(timeout);
    let paid = paying.run(&mut conn, pay).await;
    let error = paid.expect_err("SQLite has no statement timeout");
    assert!(matches!(error, ApiError::Internal(_)), "{error:?}");
    let error = error.dbop_error().expect("dbop's");
    assert!(error.is_unsupported_setting());
}
