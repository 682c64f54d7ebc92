//! The whole story of an operation.

use std::time::Duration;

use dbop_core::{Fault, Outcome, StopReason};

/// What happened in a run: its result and how it came about. From `run_report`.
#[derive(Debug)]
#[must_use = "the result of the operation is in the report"]
pub struct Report<T, E> {
    /// What `run` would have returned.
    pub result: Result<T, E>,
    /// The failed attempts, in order, with their errors. The error of the last attempt is in
    /// `result`, unless a fallback value replaced it. What a successful attempt survived is here
    /// too: a lost answer to a COMMIT that was found to have happened, and on SQLite a busy one.
    pub failures: Vec<FailedAttempt<E>>,
    /// How many attempts were begun. 0 if the operation was refused before it began.
    pub attempts: u32,
    /// Why there was no further attempt.
    pub stop: StopReason,
    /// Whether the work is certainly committed, certainly undone, or neither.
    pub outcome: Outcome,
    /// How long it took, delays included.
    pub elapsed: Duration,
}

/// An attempt that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedAttempt<E> {
    /// Its first error. `None` for the last attempt, whose error is the report's result, and for
    /// an attempt that failed although nothing reported an error.
    pub error: Option<E>,
    /// The database error in it, as a code and a class.
    pub fault: Option<Fault>,
    /// The error of the ROLLBACK that followed, if it failed too.
    pub rollback_error: Option<diesel::result::Error>,
}
