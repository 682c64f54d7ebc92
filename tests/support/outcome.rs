use std::fmt::Debug;

use dbop_diesel::{Error, OperationError, Outcome, Report};

/// Whether it is dbop's own error that the outcome is unknown.
pub fn is_unknown<E: OperationError>(error: &E) -> bool {
    error.dbop_error().is_some_and(Error::is_outcome_unknown)
}

/// Whether it is dbop's own error that everything was rolled back although the operation succeeded.
pub fn is_rolled_back<E: OperationError>(error: &E) -> bool {
    error.dbop_error().is_some_and(Error::is_rolled_back)
}

/// Whether it is dbop's own error that the transaction around the operation is lost.
pub fn is_lost<E: OperationError>(error: &E) -> bool {
    error.dbop_error().is_some_and(Error::is_transaction_lost)
}

/// The operation failed, and neither its error nor its report claims to know whether its work is
/// there.
///
/// # Panics
///
/// If it is otherwise.
#[track_caller]
pub fn assert_unknown<T: Debug, E: OperationError + Debug>(report: &Report<T, E>) {
    let error = report.result.as_ref().expect_err("the outcome is unknown");
    assert!(is_unknown(error), "{error:?}");
    assert_eq!(report.outcome, Outcome::Unknown);
}

/// The operation failed because it could not be committed, and all of it was rolled back.
///
/// # Panics
///
/// If it is otherwise.
#[track_caller]
pub fn assert_rolled_back<T: Debug, E: OperationError + Debug>(report: &Report<T, E>) {
    let error = report.result.as_ref().expect_err("it was rolled back");
    assert!(is_rolled_back(error), "{error:?}");
    assert_eq!(report.outcome, Outcome::Undone);
}

/// The operation failed because the transaction around it is lost, and its work with it.
///
/// # Panics
///
/// If it is otherwise.
#[track_caller]
pub fn assert_lost<T: Debug, E: OperationError + Debug>(report: &Report<T, E>) {
    let error = report.result.as_ref().expect_err("the transaction is lost");
    assert!(is_lost(error), "{error:?}");
    assert_eq!(report.outcome, Outcome::Undone);
}
