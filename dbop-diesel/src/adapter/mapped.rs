//! Errors of types that `OperationError` cannot be implemented for.

use diesel::result::Error as DieselError;

use crate::error::OperationError;
use crate::report::{FailedAttempt, Report};

/// Finds Diesel's error in another one.
pub type Find<E> = fn(&E) -> Option<&DieselError>;

/// An error of a type without `OperationError`. dbop's own errors stay Diesel errors until the run is over.
#[derive(Debug)]
pub enum Mapped<E> {
    /// What the operation returned.
    Returned(E, Find<E>),
    /// What has not been turned into an `E` yet.
    Diesel(DieselError),
}

impl<E> From<DieselError> for Mapped<E> {
    fn from(error: DieselError) -> Self {
        Self::Diesel(error)
    }
}

#[diagnostic::do_not_recommend]
impl<E> OperationError for Mapped<E> {
    fn diesel_error(&self) -> Option<&DieselError> {
        match self {
            Self::Returned(error, find) => find(error),
            Self::Diesel(error) => Some(error),
        }
    }
}

impl<E> Mapped<E> {
    /// The caller's type.
    pub fn into_error(self, make: fn(DieselError) -> E) -> E {
        match self {
            Self::Returned(error, _) => error,
            Self::Diesel(error) => make(error),
        }
    }
}

/// The report in the caller's type.
pub fn report<T, E>(report: Report<T, Mapped<E>>, make: fn(DieselError) -> E) -> Report<T, E> {
    let failures = report.failures.into_iter();
    Report {
        result: report.result.map_err(|error| error.into_error(make)),
        failures: failures
            .map(|failure| FailedAttempt {
                error: failure.error.map(|error| error.into_error(make)),
                fault: failure.fault,
                rollback_error: failure.rollback_error,
                elapsed: failure.elapsed,
                connection_wait: failure.connection_wait,
                delay: failure.delay,
            })
            .collect(),
        replayed: report.replayed,
        attempts: report.attempts,
        stop: report.stop,
        outcome: report.outcome,
        elapsed: report.elapsed,
        paused: report.paused,
        queued: report.queued,
        connection_wait: report.connection_wait,
        last_elapsed: report.last_elapsed,
        last_connection_wait: report.last_connection_wait,
    }
}
