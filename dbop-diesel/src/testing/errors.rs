//! The errors that are injected: each looks like the database's own.

use dbop_core::{Code, Dialect, Fault, FaultClass, SqlState};
use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};

use super::Failure;
use crate::fault::fault_of;

/// An error of a database's, with everything that Diesel shows of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InjectedError {
    kind: Kind,
    pub(crate) message: &'static str,
    details: Option<&'static str>,
    constraint: Option<&'static str>,
    /// MySQL's and MariaDB's number, for SIGNAL.
    pub(crate) errno: Option<u16>,
    pub(crate) fault: Fault,
}

/// The kinds that are used here. Diesel's own cannot be copied.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Closed,
    ReadOnly,
    Serialization,
    Unique,
    Unknown,
}

use Kind::{Closed, ReadOnly, Serialization, Unique, Unknown};

impl InjectedError {
    /// The error as Diesel has it.
    pub(crate) fn error(self) -> Error {
        let kind = match self.kind {
            Closed => DatabaseErrorKind::ClosedConnection,
            ReadOnly => DatabaseErrorKind::ReadOnlyTransaction,
            Serialization => DatabaseErrorKind::SerializationFailure,
            Unique => DatabaseErrorKind::UniqueViolation,
            Unknown => DatabaseErrorKind::Unknown,
        };
        Error::DatabaseError(kind, Box::new(self))
    }
}

impl DatabaseErrorInformation for InjectedError {
    fn message(&self) -> &str {
        self.message
    }

    fn details(&self) -> Option<&str> {
        self.details
    }

    fn hint(&self) -> Option<&str> {
        None
    }

    fn table_name(&self) -> Option<&str> {
        None
    }

    fn column_name(&self) -> Option<&str> {
        None
    }

    fn constraint_name(&self) -> Option<&str> {
        self.constraint
    }

    fn statement_position(&self) -> Option<i32> {
        None
    }
}

/// The error of this database's that is asked for. `Err`: it has none, in words.
pub(crate) fn injected_error(dialect: Dialect, failure: Failure) -> Result<InjectedError, String> {
    let is_asked_for = |error: &InjectedError| match failure {
        Failure::Class(class) => error.fault.class() == class,
        Failure::Code(code) => error.fault.code() == Some(code),
    };
    let mut errors = rows(dialect).iter().map(|row| injected(dialect, row));
    errors.find(is_asked_for).ok_or_else(|| {
        format!("dbop's `testing` has no error of {failure} for {dialect}: choose another one")
    })
}

/// The one for an operation that is to run twice.
pub(crate) fn twice_error(dialect: Dialect) -> Option<InjectedError> {
    let class = match dialect {
        Dialect::Postgres => FaultClass::SerializationFailure,
        Dialect::Mysql => FaultClass::Deadlock,
        _ => FaultClass::Busy,
    };
    injected_error(dialect, Failure::Class(class)).ok()
}

fn injected(dialect: Dialect, row: &Row) -> InjectedError {
    let &(code, class, kind, message) = row;
    let is_on_postgres = dialect == Dialect::Postgres;
    let error = InjectedError {
        kind,
        message,
        // PostgreSQL's own deadlock is told from a raised one by them.
        details: (is_on_postgres && class == C::Deadlock).then_some(DEADLOCK_DETAILS),
        constraint: (is_on_postgres && matches!(kind, Unique)).then_some("users_name_key"),
        errno: match code {
            Some(Code::Errno(errno)) => Some(errno),
            _ => None,
        },
        fault: Fault::from_class(dialect, class),
    };
    let fault = fault_of(dialect, &error.error()).unwrap_or(error.fault);
    InjectedError { fault, ..error }
}

const DEADLOCK_DETAILS: &str = "Process 4711 waits for ShareLock on transaction 815; blocked by process 4712.\n\
     Process 4712 waits for ShareLock on transaction 814; blocked by process 4711.";

/// Code, class, kind and text.
type Row = (Option<Code>, FaultClass, Kind, &'static str);

/// Those of a database. Of a class the first one is the usual one.
const fn rows(dialect: Dialect) -> &'static [Row] {
    match dialect {
        Dialect::Postgres => POSTGRES,
        Dialect::Mysql => MYSQL,
        _ => SQLITE,
    }
}

/// libpq's own errors have no code: "".
const fn state(code: &str) -> Option<Code> {
    match SqlState::new(code) {
        Some(state) => Some(Code::SqlState(state)),
        None => None,
    }
}

const fn errno(errno: u16) -> Option<Code> {
    Some(Code::Errno(errno))
}

const fn result(code: i32) -> Option<Code> {
    Some(Code::Sqlite(code))
}

use FaultClass as C;

#[rustfmt::skip] // One row, one line.
const POSTGRES: &[Row] = &[
    (state("40P01"), C::Deadlock, Unknown, "deadlock detected"),
    (state("40001"), C::SerializationFailure, Serialization, "could not serialize access due to concurrent update"),
    (state("55P03"), C::LockTimeout, Unknown, "canceling statement due to lock timeout"),
    (state(""), C::ConnectionLost, Closed, "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.\n"),
    (state("57P01"), C::ConnectionLost, Unknown, "terminating connection due to administrator command"),
    (state("25P03"), C::ConnectionLost, Unknown, "terminating connection due to idle-in-transaction timeout"),
    (state(""), C::NotConnected, Unknown, "no connection to the server\n"),
    (state("57P03"), C::ServerUnavailable, Unknown, "the database system is starting up"),
    (state("53300"), C::ServerUnavailable, Unknown, "sorry, too many clients already"),
    (state("25006"), C::ReadOnlyServer, ReadOnly, "cannot execute INSERT in a read-only transaction"),
    (state("0A000"), C::StalePlan, Unknown, "cached plan must not change result type"),
    (state("57014"), C::StatementTimeout, Unknown, "canceling statement due to statement timeout"),
    (state("57014"), C::Canceled, Unknown, "canceling statement due to user request"),
    (state("53200"), C::ResourceExhausted, Unknown, "out of shared memory"),
    (state("25P02"), C::TransactionAborted, Unknown, "current transaction is aborted, commands ignored until end of transaction block"),
    (state("23505"), C::Constraint, Unique, "duplicate key value violates unique constraint \"users_name_key\""),
    (state("3D000"), C::Permanent, Unknown, "database \"app\" does not exist"),
];

#[rustfmt::skip] // One row, one line.
const MYSQL: &[Row] = &[
    (errno(1213), C::Deadlock, Unknown, "Deadlock found when trying to get lock; try restarting transaction"),
    (errno(1020), C::SerializationFailure, Unknown, "Record has changed since last read in table 'users'"),
    (errno(1205), C::LockTimeout, Unknown, "Lock wait timeout exceeded; try restarting transaction"),
    (errno(3572), C::LockTimeout, Unknown, "Statement aborted because lock(s) could not be acquired immediately and NOWAIT is set."),
    (errno(1637), C::Busy, Unknown, "Too many active concurrent transactions"),
    (errno(2013), C::ConnectionLost, Unknown, "Lost connection to server during query"),
    (errno(2006), C::ConnectionLost, Unknown, "Server has gone away"),
    (errno(1927), C::ConnectionLost, Unknown, "Connection was killed"),
    (errno(2002), C::NotConnected, Unknown, "Can't connect to server on '127.0.0.1' (111)"),
    (errno(1040), C::ServerUnavailable, Unknown, "Too many connections"),
    (errno(1290), C::ReadOnlyServer, Unknown, "The MariaDB server is running with the --read-only option so it cannot execute this statement"),
    (errno(1615), C::StalePlan, Unknown, "Prepared statement needs to be re-prepared"),
    (errno(1412), C::StalePlan, Unknown, "Table definition has changed, please retry transaction"),
    (errno(1969), C::StatementTimeout, Unknown, "Query execution was interrupted (max_statement_time exceeded)"),
    (errno(3024), C::StatementTimeout, Unknown, "Query execution was interrupted, maximum statement execution time exceeded"),
    (errno(1317), C::Canceled, Unknown, "Query execution was interrupted"),
    (errno(1114), C::ResourceExhausted, Unknown, "The table 'users' is full"),
    (errno(1180), C::OutcomeUnknown, Unknown, "Got error 5 \"Input/output error\" during COMMIT"),
    (errno(1062), C::Constraint, Unique, "Duplicate entry 'Ada' for key 'name'"),
    (errno(1146), C::Permanent, Unknown, "Table 'app.users' doesn't exist"),
];

#[rustfmt::skip] // One row, one line.
const SQLITE: &[Row] = &[
    (result(5), C::Busy, Unknown, "database is locked"),
    (result(516), C::SerializationFailure, Unknown, "abort due to ROLLBACK"),
    (result(14), C::NotConnected, Unknown, "unable to open database file"),
    (result(8), C::ReadOnlyServer, Unknown, "attempt to write a readonly database"),
    (result(17), C::StalePlan, Unknown, "database schema has changed"),
    (result(9), C::Canceled, Unknown, "interrupted"),
    (result(13), C::ResourceExhausted, Unknown, "database or disk is full"),
    (result(10), C::ResourceExhausted, Unknown, "disk I/O error"),
    (result(7), C::ResourceExhausted, Unknown, "out of memory"),
    (result(19), C::Constraint, Unique, "UNIQUE constraint failed: users.name"),
    (result(11), C::Permanent, Unknown, "database disk image is malformed"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_recognised_as_what_it_stands_for() {
        for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
            for row in rows(dialect) {
                let fault = injected(dialect, row).fault;
                let &(code, class, _, message) = row;
                assert_eq!((fault.class(), fault.code()), (class, code), "{message}");
            }
        }
    }

    #[test]
    fn what_a_database_does_not_have_is_said() {
        let lost = Failure::Class(FaultClass::ConnectionLost);
        let error = injected_error(Dialect::Sqlite, lost).expect_err("it has no connection");
        assert!(error.contains("class connection_lost for"), "{error}");
        let code = Failure::Code(Code::Errno(1213));
        assert!(injected_error(Dialect::Postgres, code).is_err());
        assert!(injected_error(Dialect::Mysql, code).is_ok());
    }

    #[test]
    fn every_database_has_an_error_that_makes_an_operation_run_twice() {
        for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
            assert!(twice_error(dialect).is_some_and(|error| error.fault.class().is_transient()));
        }
    }
}
