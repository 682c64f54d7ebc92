//! A Diesel error as a fault. Extraction only: what it means is decided in dbop-core.

use dbop_core::{Dialect, ErrorKind, Fault, FaultClass};
use diesel::result::{DatabaseErrorKind, Error};

/// The fault in a Diesel error. `None` for normal answers: `NotFound`, `RollbackTransaction`, and one
/// of dbop's errors that an operation passed on.
#[must_use]
pub fn fault_of(dialect: Dialect, error: &Error) -> Option<Fault> {
    match error {
        Error::DatabaseError(kind, information) => Some(Fault::recognize(
            dialect,
            kind_of(kind),
            information.message(),
        )),
        Error::RollbackErrorOnCommit { commit_error, .. } => fault_of(dialect, commit_error),
        Error::BrokenTransactionManager => {
            Some(Fault::from_class(dialect, FaultClass::ConnectionLost))
        }
        Error::NotFound | Error::RollbackTransaction => None,
        Error::QueryBuilderError(error) if error.is::<dbop_core::Error>() => None,
        _ => Some(Fault::from_class(dialect, FaultClass::Permanent)),
    }
}

const fn kind_of(kind: &DatabaseErrorKind) -> ErrorKind {
    match kind {
        DatabaseErrorKind::UniqueViolation => ErrorKind::UniqueViolation,
        DatabaseErrorKind::ForeignKeyViolation => ErrorKind::ForeignKeyViolation,
        DatabaseErrorKind::RestrictViolation => ErrorKind::RestrictViolation,
        DatabaseErrorKind::NotNullViolation => ErrorKind::NotNullViolation,
        DatabaseErrorKind::CheckViolation => ErrorKind::CheckViolation,
        DatabaseErrorKind::ExclusionViolation => ErrorKind::ExclusionViolation,
        DatabaseErrorKind::SerializationFailure => ErrorKind::SerializationFailure,
        DatabaseErrorKind::ReadOnlyTransaction => ErrorKind::ReadOnlyTransaction,
        DatabaseErrorKind::ClosedConnection => ErrorKind::ClosedConnection,
        DatabaseErrorKind::UnableToSendCommand => ErrorKind::UnableToSendCommand,
        _ => ErrorKind::Unknown,
    }
}
