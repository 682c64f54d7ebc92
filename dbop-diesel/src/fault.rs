//! A Diesel error as a fault. Extraction only: what it means is decided in dbop-core.

use dbop_core::{Dialect, ErrorKind, Extras, Fault, FaultClass, Reported};
use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};

use crate::error::diesel_error_in;
use crate::layers::quoted_in;

/// The fault in a Diesel error. `None` for normal answers: `NotFound`, `RollbackTransaction`, and one
/// of dbop's errors that an operation passed on.
///
/// ```
/// use dbop_diesel::{Dialect, FaultClass, fault_of};
/// use diesel::result::{DatabaseErrorKind, Error};
///
/// let message = Box::new(String::from("database is locked"));
/// let error = Error::DatabaseError(DatabaseErrorKind::Unknown, message);
/// let fault = fault_of(Dialect::Sqlite, &error).expect("a database error");
/// assert_eq!(fault.class(), FaultClass::Busy);
/// assert_eq!(fault_of(Dialect::Sqlite, &Error::NotFound), None);
/// ```
#[must_use]
pub fn fault_of(dialect: Dialect, error: &Error) -> Option<Fault> {
    match error {
        Error::DatabaseError(kind, information) => {
            Some(Fault::recognize(dialect, reported(kind, &**information)))
        }
        Error::RollbackErrorOnCommit { commit_error, .. } => fault_of(dialect, commit_error),
        Error::BrokenTransactionManager => {
            Some(Fault::from_class(dialect, FaultClass::ConnectionLost))
        }
        Error::NotFound | Error::RollbackTransaction => None,
        Error::QueryBuilderError(error) if error.is::<dbop_core::Error>() => None,
        // Errors of other crates: there can be a database error in them.
        Error::QueryBuilderError(error)
        | Error::DeserializationError(error)
        | Error::SerializationError(error) => match diesel_error_in(&**error) {
            Some(error) => fault_of(dialect, error),
            None => Some(Fault::from_class(dialect, FaultClass::Permanent)),
        },
        _ => Some(Fault::from_class(dialect, FaultClass::Permanent)),
    }
}

/// The database's text in an error. Empty if there is none.
pub(crate) fn database_message(error: &Error) -> &str {
    match error {
        Error::DatabaseError(_, information) => information.message(),
        Error::RollbackErrorOnCommit { commit_error, .. } => database_message(commit_error),
        Error::QueryBuilderError(error)
        | Error::DeserializationError(error)
        | Error::SerializationError(error) => {
            diesel_error_in(&**error).map_or("", database_message)
        }
        _ => "",
    }
}

/// The fault behind a database's message whose Diesel error was lost. `None` if the text is not known:
/// then it is an error of the caller's.
pub(crate) fn fault_of_message(dialect: Dialect, message: &str) -> Option<Fault> {
    fault_in_text(dialect, ErrorKind::Lost, message)
}

/// The fault that a text names, with or without what client libraries put around it.
pub(crate) fn fault_in_text(dialect: Dialect, kind: ErrorKind, text: &str) -> Option<Fault> {
    quoted_in(text)
        .map(|text| Fault::recognize(dialect, Reported::new(kind, text)))
        .find(|fault| fault.class() != FaultClass::Unknown)
}

/// What Diesel shows of a database error. Diesel 2.3 has no code; a version that has one is used
/// here, and nothing else changes.
fn reported<'a>(
    kind: &DatabaseErrorKind,
    information: &'a (dyn DatabaseErrorInformation + Send + Sync),
) -> Reported<'a> {
    Reported::new(kind_of(kind), information.message()).with_extras(Extras {
        details: information.details().is_some(),
        object: information.table_name().is_some()
            || information.column_name().is_some()
            || information.constraint_name().is_some(),
    })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn deadlock() -> Error {
        let text = "Deadlock found when trying to get lock; try restarting transaction";
        Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()))
    }

    #[test]
    fn a_database_error_in_one_of_diesels_boxes_is_found() {
        let class = |error: &Error| fault_of(Dialect::Mysql, error).map(|fault| fault.class());
        for error in [
            Error::QueryBuilderError(Box::new(deadlock())),
            Error::DeserializationError(Box::new(Arc::new(deadlock()))),
            Error::SerializationError(Box::new(std::io::Error::other(deadlock()))),
        ] {
            assert_eq!(class(&error), Some(FaultClass::Deadlock), "{error:?}");
        }
        let own = Error::QueryBuilderError("my own".into());
        assert_eq!(class(&own), Some(FaultClass::Permanent));
    }

    #[test]
    fn a_message_is_a_fault_only_if_it_is_known() {
        let class = |text| fault_of_message(Dialect::Sqlite, text).map(|fault| fault.class());
        assert_eq!(class("database is locked"), Some(FaultClass::Busy));
        let migration = "Failed to run 20260101_t with: database is locked";
        assert_eq!(class(migration), Some(FaultClass::Busy));
        assert_eq!(class("no money"), None);
        assert_eq!(class("report: database is locked by accounting"), None);
    }
}
