//! Which place a source is told.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use diesel::prelude::*;

use super::*;
use crate::testing::{Faults, ManualClock, Point};
use crate::{FaultClass, Jitter, Outcome, RetryPolicy, Runner};

/// Each of its connections leads to another place. It remembers for what it was asked, and which place it was
/// told.
#[derive(Default)]
struct Places(RefCell<Vec<(Purpose, Option<usize>)>>);

struct At(usize, SqliteConnection);

impl Deref for At {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.1
    }
}

impl DerefMut for At {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.1
    }
}

impl Source for Places {
    type Conn = SqliteConnection;
    type Held = At;

    fn connect(&self, request: &Request<'_>) -> Result<At, ConnectError> {
        let mut asked = self.0.borrow_mut();
        asked.push((request.purpose, request.place));
        let conn = SqliteConnection::establish(":memory:").map_err(ConnectError::new)?;
        Ok(At(asked.len() - 1, conn))
    }

    fn place(&self, held: &At) -> Option<usize> {
        Some(held.0)
    }
}

/// The second attempt runs on the connection that has answered the question about the first.
#[test]
fn a_question_is_asked_where_the_commit_was_sent_on_a_connection_that_was_kept() {
    let (source, faults) = (Places::default(), Faults::new());
    faults
        .operation("pay")
        .attempts(1..=2)
        .fail(Point::Commit, FaultClass::ConnectionLost);
    // Each delay is long enough to give the connection back.
    let report = Runner::new(RetryPolicy::new().with_jitter(Jitter::None))
        .with_faults(&faults)
        .with_clock(Arc::new(ManualClock::new()))
        .operation("pay")
        .verify(|_conn: &mut SqliteConnection| QueryResult::Ok(false))
        .run_on_report(&source, |_conn| QueryResult::Ok(()));
    assert_eq!((report.attempts, report.outcome), (3, Outcome::Committed));
    let told = [
        (Purpose::Work, None),
        (Purpose::Question, Some(0)),
        (Purpose::Question, Some(1)),
    ];
    assert_eq!(source.0.into_inner(), told);
}
