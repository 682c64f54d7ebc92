//! What the scenarios with fresh connections share.

use std::error::Error as StdError;
use std::sync::Mutex;
use std::sync::PoisonError;

use dbop_diesel::{Error, OperationError as _};
use dbop_tests::{Capture, Number};
use diesel::sql_query;

use super::{Conn, RunQueryDsl, backend, helper};

/// The session's id on the server.
#[helper]
pub(super) async fn session_id(conn: &mut Conn) -> i64 {
    let row: Number = sql_query(backend::SESSION_ID)
        .get_result(conn)
        .await
        .expect("an id");
    row.n
}

/// The sessions that an operation ran on, one for each attempt.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Vec<i64>>);

impl Sessions {
    /// Adds that of an attempt. How many attempts have there been?
    pub(super) fn add(&self, session: i64) -> usize {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push(session);
        sessions.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<i64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// dbop's own error that there is no connection, with its cause.
pub(super) fn no_connection<T: std::fmt::Debug>(result: &diesel::QueryResult<T>) -> &Error {
    let error = result.as_ref().expect_err("no connection");
    let error = error.dbop_error().expect("an error of dbop's own");
    assert!(error.is_no_connection(), "{error:?}");
    assert!(error.source().is_some(), "it has a cause");
    error
}

/// The class in each record, without those that have none.
pub(super) fn classes(log: &Capture) -> Vec<String> {
    let records = log.records();
    let classes = records.iter().filter_map(|record| record.keys.get("class"));
    classes.cloned().collect()
}
