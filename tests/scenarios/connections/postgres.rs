//! `run_on` on PostgreSQL: a stale plan is no reason for another connection.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Advice, FaultClass, OperationError, RetryPolicy};
use diesel::QueryResult;
use diesel::result::Error;

use super::steps::{Sessions, session_id};
use super::{Bed, Conn, RunQueryDsl, Runner, helper, scenario, source};

diesel::table! {
    notes (id) {
        id -> Integer,
        word -> Text,
    }
}

const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, word VARCHAR(9) NOT NULL);
                     INSERT INTO notes VALUES (1, 'one')";
const OTHER_TYPE: &str = "ALTER TABLE notes ALTER COLUMN word TYPE TEXT";

#[derive(Debug)]
enum Failure {
    Again,
    Database(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl OperationError for Failure {
    fn diesel_error(&self) -> Option<&Error> {
        match self {
            Self::Again => None,
            Self::Database(error) => Some(error),
        }
    }

    fn advice(&self) -> Advice {
        match self {
            Self::Again => Advice::Retry,
            Self::Database(_) => Advice::Judge,
        }
    }
}

#[helper]
async fn words(conn: &mut Conn) -> QueryResult<Vec<(i32, String)>> {
    notes::table.load(conn).await
}

#[scenario]
async fn a_stale_plan_is_prepared_anew_on_the_same_session() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(NOTES);
    let source = source(bed.url());
    let (bodies, sessions) = (AtomicU32::new(0), Sessions::default());
    let policy = RetryPolicy::new().with_initial_delay(Duration::ZERO);
    let report = Runner::new(policy)
        .run_on_report(&source, async |conn: &mut Conn| {
            let attempt = bodies.fetch_add(1, Ordering::Relaxed);
            if attempt == 1 {
                opponent.execute(OTHER_TYPE);
            }
            sessions.add(session_id(conn).await);
            let words = words(conn).await?;
            match attempt {
                0 => Err(Failure::Again),
                _ => Ok(words),
            }
        })
        .await;
    assert_eq!(report.result.expect("prepared anew").len(), 1);
    assert_eq!(report.attempts, 3);
    let fault = report.failures[1].fault.expect("of the database");
    assert_eq!(fault.class(), FaultClass::StalePlan);
    let sessions = sessions.all();
    assert!(sessions.len() == 3 && sessions.iter().all(|it| *it == sessions[0]));
}
