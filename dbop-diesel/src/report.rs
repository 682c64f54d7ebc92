//! What happened in a run, attempt by attempt.

use std::fmt;
use std::time::Duration;

use dbop_core::{Fault, Outcome, StopReason};

/// What happened in a run: its result and how it came about. From `run_report` and `run_on_report`.
///
/// ```
/// use dbop_diesel::{Outcome, Runner, StopReason};
/// use diesel::prelude::*;
///
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// let report = Runner::default().run_report(&mut conn, |conn| {
///     diesel::sql_query("DELETE FROM no_such_table").execute(conn)
/// });
/// assert!(report.result.is_err());
/// assert_eq!((report.attempts, report.failures.len()), (1, 1));
/// assert_eq!(report.stop, StopReason::NotRetryable);
/// assert_eq!(report.outcome, Outcome::Undone);
/// assert!(report.failures[0].elapsed <= report.elapsed);
/// # Ok::<(), diesel::ConnectionError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "the result of the operation is in the report"]
pub struct Report<T, E> {
    /// What `run` would have returned.
    pub result: Result<T, E>,
    /// The failed attempts, in order, with their errors. The error of the last attempt is in
    /// `result`, unless a fallback value replaced it. This list also has what a successful attempt
    /// survived: a COMMIT that was confirmed after its answer was lost, and on SQLite a COMMIT that
    /// was busy at first.
    pub failures: Vec<FailedAttempt<E>>,
    /// The result is the answer of another call with the operation's idempotency key: the operation was not
    /// run.
    pub replayed: bool,
    /// How many attempts were begun. 0 if the operation was refused before its first one.
    pub attempts: u32,
    /// Why there was no further attempt.
    pub stop: StopReason,
    /// Whether the work is certainly committed, certainly undone, or unknown.
    pub outcome: Outcome,
    /// How long it took, delays included. Zero if it was refused before anything was done.
    pub elapsed: Duration,
    /// How much of that were delays between attempts, and between questions about a COMMIT.
    pub paused: Duration,
    /// How much of that was spent waiting for turns at gates.
    pub queued: Duration,
    /// How much of that was spent waiting for connections from the source, in all attempts together. Zero
    /// for an operation on a connection of the caller.
    pub connection_wait: Duration,
    /// How long the last attempt took, whether it succeeded or not, its wait for a connection included.
    pub last_elapsed: Duration,
    /// How long the last attempt waited for its connection.
    pub last_connection_wait: Duration,
}

impl<T, E> Report<T, E> {
    /// In which attempt the operation succeeded. `None` if it did not; a fallback value is no success.
    ///
    /// ```
    /// # use dbop_diesel::Runner;
    /// # use diesel::prelude::*;
    /// # let mut conn = SqliteConnection::establish(":memory:")?;
    /// let report = Runner::default().run_report(&mut conn, |_| QueryResult::Ok("done"));
    /// assert_eq!(report.succeeded_after(), Some(1));
    /// # Ok::<(), diesel::ConnectionError>(())
    /// ```
    #[must_use]
    pub const fn succeeded_after(&self) -> Option<u32> {
        match self.stop {
            StopReason::Succeeded => Some(self.attempts),
            _ => None,
        }
    }
}

/// In one line, without values and errors: for example `committed in attempt 3 after 1.2s`, or
/// `undone after 6 attempts and 1.8s, retries_exhausted`.
impl<T, E> fmt::Display for Report<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outcome, elapsed) = (self.outcome, self.elapsed);
        match (self.succeeded_after(), self.attempts) {
            (Some(attempt), _) => write!(f, "{outcome} in attempt {attempt} after {elapsed:.1?}"),
            (None, 1) => write!(
                f,
                "{outcome} after 1 attempt and {elapsed:.1?}, {}",
                self.stop
            ),
            (None, attempts) => write!(
                f,
                "{outcome} after {attempts} attempts and {elapsed:.1?}, {}",
                self.stop
            ),
        }
    }
}

/// An attempt that failed.
///
/// ```
/// use dbop_diesel::{Advice, OperationError, RetryPolicy, Runner};
/// use diesel::prelude::*;
///
/// #[derive(Debug)]
/// struct Changed;
///
/// impl From<diesel::result::Error> for Changed {
///     fn from(_: diesel::result::Error) -> Self {
///         Self
///     }
/// }
///
/// impl OperationError for Changed {
///     fn diesel_error(&self) -> Option<&diesel::result::Error> {
///         None
///     }
///
///     fn advice(&self) -> Advice {
///         Advice::Retry
///     }
/// }
///
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// let policy = RetryPolicy::new().with_initial_delay(std::time::Duration::ZERO);
/// let report = Runner::new(policy).run_report(&mut conn, |_| Err::<(), _>(Changed));
/// assert_eq!(report.failures.len(), 6);
/// assert!(report.failures[0].error.is_some());
/// assert!(report.failures[5].error.is_none()); // it is in `report.result`
/// # Ok::<(), diesel::ConnectionError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedAttempt<E> {
    /// Its first error. `None` for the last attempt, whose error is the report's `result`, and for
    /// an attempt that failed without any error.
    pub error: Option<E>,
    /// The database error in that error, as a code and a class.
    pub fault: Option<Fault>,
    /// The error of the ROLLBACK that followed, if the ROLLBACK failed too.
    pub rollback_error: Option<diesel::result::Error>,
    /// How long it took: connecting, the operation and the ROLLBACK, without the delay that followed.
    pub elapsed: Duration,
    /// How much of that was spent waiting for a connection from the source.
    pub connection_wait: Duration,
    /// The delay that followed. Zero for the last attempt.
    pub delay: Duration,
}
