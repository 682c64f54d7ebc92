//! What happened in a run, attempt by attempt.

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
    /// How many attempts were begun. 0 if the operation was rejected before it began.
    pub attempts: u32,
    /// Why there was no further attempt.
    pub stop: StopReason,
    /// Whether the work is certainly committed, certainly undone, or unknown.
    pub outcome: Outcome,
    /// How long it took, delays included.
    pub elapsed: Duration,
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
    /// The delay that followed. Zero for the last attempt.
    pub delay: Duration,
}
