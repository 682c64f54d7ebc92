//! What went wrong: a database's error as a code, and the class that decides what may be done.
//!
//! An adapter only extracts: it hands what a Diesel error shows to [`Fault::recognize`]. Which code that is, and what the code means, is decided here, once for
//! every adapter. Codes and texts come from the servers' manuals and from measurements on
//! PostgreSQL 15 and 18, MariaDB 10.11 and 11.8, MySQL 9.7 and SQLite 3.40.

use std::fmt;

use crate::dialect::Dialect;

pub use class::FaultClass;
pub use reported::{Extras, Reported};
pub use sqlstate::SqlState;

mod class;
mod format;
mod hash;
mod mysql;
mod postgres;
mod reported;
mod sqlite;
mod sqlstate;
mod text;

/// A database error, reduced to what decides about a retry.
///
/// ```
/// use dbop_core::{Dialect, Fault, FaultClass};
///
/// let fault = Fault::from_class(Dialect::Sqlite, FaultClass::Busy);
/// assert_eq!(fault.class(), FaultClass::Busy);
/// assert_eq!((fault.dialect(), fault.code()), (Dialect::Sqlite, None));
/// assert!(fault.leaves_connection_usable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    dialect: Dialect,
    code: Option<Code>,
    /// As recognized.
    class: FaultClass,
    /// The class that the user gave it, if that is another one.
    judged: Option<FaultClass>,
    /// The code is that of the text, which an application can raise as well.
    is_of_text: bool,
}

impl Fault {
    /// The fault behind an error that a client library reported.
    ///
    /// The kind decides where it is exact; otherwise the text is looked up in the table of the
    /// dialect. An unknown text gives [`FaultClass::Unknown`] and no code. So does the text of a
    /// fault whose other facts show that an application raised it.
    #[must_use]
    pub fn recognize(dialect: Dialect, reported: Reported<'_>) -> Self {
        let Reported { kind, message, .. } = reported;
        let (code, class) = match dialect {
            Dialect::Postgres => postgres::recognize(kind, message),
            Dialect::Mysql => mysql::recognize(kind, message),
            Dialect::Sqlite => sqlite::recognize(kind, message),
        };
        let fault = Self {
            dialect,
            code,
            class,
            judged: None,
            is_of_text: matches!(kind, ErrorKind::Unknown | ErrorKind::Lost),
        };
        match reported.is_imitation(&fault) {
            true => Self::from_class(dialect, FaultClass::Unknown),
            false => fault,
        }
    }

    /// The same fault, met while connecting: what is not known there counts as not connected, and so does
    /// a connection that is lost before it can be used.
    #[must_use]
    pub const fn while_connecting(self) -> Self {
        match self.class {
            FaultClass::Unknown => Self::from_class(self.dialect, FaultClass::NotConnected),
            FaultClass::ConnectionLost => Self {
                class: FaultClass::NotConnected,
                ..self
            },
            _ => self,
        }
    }

    /// The same fault, of a transaction that the server has rolled back without saying so.
    pub(crate) const fn as_deadlock(self) -> Self {
        Self {
            class: FaultClass::Deadlock,
            ..self
        }
    }

    /// The fault that a code stands for.
    #[must_use]
    pub fn from_code(dialect: Dialect, code: Code) -> Self {
        Self {
            dialect,
            code: Some(code),
            class: code.class(),
            judged: None,
            is_of_text: false,
        }
    }

    /// The fault behind a number of MySQL's or MariaDB's that came with its message.
    pub(crate) fn of_errno(dialect: Dialect, errno: u16, message: &str) -> Self {
        Self {
            class: mysql::class_of(errno, message),
            ..Self::from_code(dialect, Code::Errno(errno))
        }
    }

    /// A fault of a known class that came without a code, such as a broken connection that the
    /// client library itself noticed.
    #[must_use]
    pub const fn from_class(dialect: Dialect, class: FaultClass) -> Self {
        Self {
            dialect,
            code: None,
            class,
            judged: None,
            is_of_text: false,
        }
    }

    /// The database that reported it.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The error code, if one is known.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        self.code
    }

    /// The same, for values that borrow from it.
    pub(crate) const fn code_ref(&self) -> Option<&Code> {
        self.code.as_ref()
    }

    /// The class that decides whether and when to retry, and that records show: the one that a
    /// classifier, the policy or the error itself has given it, or the recognized one.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        match self.judged {
            Some(class) => class,
            None => self.class,
        }
    }

    /// The class that dbop has recognized, whatever it was judged to be. What is known about the
    /// transaction and the connection after the fault follows from this one alone.
    #[must_use]
    pub const fn recognized_class(&self) -> FaultClass {
        self.class
    }

    /// The same fault, judged to be of this class.
    ///
    /// ```
    /// use dbop_core::{Dialect, Fault, FaultClass};
    ///
    /// let fault = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
    /// let judged = fault.judged_as(FaultClass::Deadlock);
    /// assert_eq!(judged.class(), FaultClass::Deadlock);
    /// assert_eq!(judged.recognized_class(), FaultClass::ConnectionLost);
    /// assert!(!judged.leaves_connection_usable());
    /// ```
    #[must_use]
    pub const fn judged_as(self, class: FaultClass) -> Self {
        let judged = if class as u32 == self.class as u32 {
            None
        } else {
            Some(class)
        };
        Self { judged, ..self }
    }

    /// The class that the user gave it, if that is another one.
    pub(crate) const fn judged_class(&self) -> Option<FaultClass> {
        self.judged
    }

    /// The same fault as dbop has recognized it.
    pub(crate) const fn as_recognized(self) -> Self {
        self.judged_as(self.class)
    }

    /// Whether an error like this one can have ended the whole transaction on the server, so that
    /// a transaction found gone afterwards was rolled back, not committed.
    ///
    /// MySQL and MariaDB roll back the whole transaction at a deadlock (1213), at "record has
    /// changed" (1020) and, with `innodb_rollback_on_timeout=ON`, at a lock wait timeout (1205);
    /// SQLite does at a full disk, an I/O error, out of memory, an interrupted write and
    /// `ON CONFLICT ROLLBACK` (measured). PostgreSQL never does: it keeps the transaction open,
    /// aborted.
    #[must_use]
    pub fn may_end_transaction(&self) -> bool {
        match self.dialect {
            Dialect::Postgres => false,
            Dialect::Mysql => mysql::may_end_transaction(self.code, self.class),
            Dialect::Sqlite => sqlite::may_end_transaction(self.code, self.class),
        }
    }
}

impl Fault {
    /// Whether what is in the way passes at once, if ever: where another session of PostgreSQL's has
    /// created the same object (23505 on a system catalog, and what says that it exists), and MySQL's
    /// 1412.
    pub(crate) fn is_worth_one_more(&self) -> bool {
        match self.code {
            Some(Code::SqlState(state)) => {
                let exists = [
                    SqlState::UNIQUE_VIOLATION,
                    SqlState::DUPLICATE_OBJECT,
                    SqlState::DUPLICATE_SCHEMA,
                    SqlState::DUPLICATE_TABLE,
                ];
                self.class == FaultClass::SerializationFailure && exists.contains(&state)
            }
            Some(Code::Errno(errno)) => errno == 1412,
            _ => false,
        }
    }

    /// Whether another connection is worth only one more attempt: if the server closed this one because
    /// the operation itself was too slow (25P03 between two statements, 25P04 as a whole), and if SQLite
    /// may not write, which passes only if the file was replaced under the connection.
    pub(crate) fn is_worth_one_more_connection(&self) -> bool {
        match self.code {
            Some(Code::SqlState(state)) => ["25P03", "25P04"].contains(&state.as_str()),
            Some(Code::Sqlite(_)) => self.class == FaultClass::ReadOnlyServer,
            _ => false,
        }
    }

    /// Whether the connection broke, or was found broken, and the server did not say why.
    pub(crate) const fn is_silent_loss(&self) -> bool {
        use FaultClass::{ConnectionLost, NotConnected};

        matches!(self.class, ConnectionLost | NotConnected)
            && matches!(self.code, None | Some(Code::Errno(2006 | 2013)))
    }

    /// Whether an application can have raised it, with the text of an error that is retried. On MySQL and
    /// MariaDB the server knows better: it keeps the number, which is another one then (SIGNAL has 1644
    /// unless it names one). A lock timeout is believed: it is frequent, and to ask would take the round
    /// trips that a transaction without dbop does not need.
    pub(crate) fn may_be_raised(&self) -> bool {
        self.dialect == Dialect::Mysql
            && self.is_of_text
            && self.code.is_some()
            && self.class.is_transient()
            && self.class != FaultClass::LockTimeout
            && self.class.leaves_connection_usable()
    }

    /// Whether it takes a question to know that a transaction which is gone after it was undone: on
    /// MySQL and MariaDB it depends on `innodb_rollback_on_timeout` whether a lock wait timeout ends
    /// it; on SQLite, where nothing keeps an operation from writing on, those later writes are kept.
    pub(crate) fn needs_undone_check(&self) -> bool {
        match self.dialect {
            Dialect::Postgres => false,
            Dialect::Mysql => self.class == FaultClass::LockTimeout && self.may_end_transaction(),
            Dialect::Sqlite => self.may_end_transaction(),
        }
    }

    /// Whether the connection can be used after it. `false` means that nothing more is sent on it
    /// and that pools must throw it away. SQLite has no connection that could break.
    #[must_use]
    pub fn leaves_connection_usable(&self) -> bool {
        self.dialect == Dialect::Sqlite || self.class.leaves_connection_usable()
    }
}

/// What the client library already knows about an error: Diesel's `DatabaseErrorKind`, without
/// Diesel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A unique or primary key constraint was violated.
    UniqueViolation,
    /// A foreign key constraint was violated.
    ForeignKeyViolation,
    /// A `RESTRICT` constraint was violated.
    RestrictViolation,
    /// A `NOT NULL` constraint was violated.
    NotNullViolation,
    /// A `CHECK` constraint was violated.
    CheckViolation,
    /// An exclusion constraint was violated.
    ExclusionViolation,
    /// Diesel calls PostgreSQL's 40001 and, on MySQL's prepared path, 1213 so.
    SerializationFailure,
    /// The statement would write, the transaction may not.
    ReadOnlyTransaction,
    /// The connection was found closed.
    ClosedConnection,
    /// The client library could not send or encode the command, or lost the connection.
    UnableToSendCommand,
    /// The client library has no kind for it.
    Unknown,
    /// The kind was lost on the way: only the text is left.
    Lost,
}

/// An error code as its database writes it.
///
/// ```
/// use dbop_core::{Code, FaultClass, SqlState};
///
/// let code = Code::SqlState(SqlState::QUERY_CANCELED);
/// assert_eq!(code.to_string(), "57014");
/// assert_eq!(Code::Errno(1213).class(), FaultClass::Deadlock);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// PostgreSQL: five characters.
    SqlState(SqlState),
    /// MySQL, MariaDB and their client libraries: a number.
    Errno(u16),
    /// SQLite: an extended result code.
    Sqlite(i32),
}

impl Code {
    /// The class this code belongs to.
    #[must_use]
    pub fn class(self) -> FaultClass {
        match self {
            Self::SqlState(state) => postgres::class(state),
            Self::Errno(errno) => mysql::class(errno),
            Self::Sqlite(code) => sqlite::class(code),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SqlState(state) => fmt::Display::fmt(state, f),
            Self::Errno(errno) => fmt::Display::fmt(errno, f),
            Self::Sqlite(code) => fmt::Display::fmt(code, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_its_message_has_the_class_of_both() {
        let of = |message| Fault::of_errno(Dialect::Mysql, 1305, message);
        assert_eq!(
            of("SAVEPOINT q inconnu").class(),
            FaultClass::TransactionLost
        );
        assert_eq!(of("PROCEDURE q inconnue").class(), FaultClass::Permanent);
        assert_eq!(of("").code(), Some(Code::Errno(1305)));
    }

    #[test]
    fn what_is_not_known_while_connecting_is_not_connected() {
        let unknown = Fault::from_class(Dialect::Mysql, FaultClass::Unknown);
        assert_eq!(unknown.while_connecting().class(), FaultClass::NotConnected);
        let refused = Fault::from_code(Dialect::Mysql, Code::Errno(1045));
        assert_eq!(refused.while_connecting(), refused);
        let lost = Fault::from_code(Dialect::Mysql, Code::Errno(2013)).while_connecting();
        assert_eq!(lost.class(), FaultClass::NotConnected);
        assert_eq!(lost.code(), Some(Code::Errno(2013)));
    }

    #[test]
    fn every_class_has_a_name_and_is_transient_slow_or_neither() {
        use FaultClass as C;

        for (class, name, transient, slow) in [
            (C::Deadlock, "deadlock", true, false),
            (
                C::SerializationFailure,
                "serialization_failure",
                true,
                false,
            ),
            (C::LockTimeout, "lock_timeout", true, false),
            (C::Busy, "busy", true, false),
            (C::ConnectionLost, "connection_lost", true, false),
            (C::NotConnected, "not_connected", true, true),
            (C::ServerUnavailable, "server_unavailable", true, true),
            (C::ReadOnlyServer, "read_only_server", true, true),
            (C::StalePlan, "stale_plan", true, false),
            (C::StatementTimeout, "statement_timeout", false, false),
            (C::Canceled, "canceled", false, false),
            (C::ResourceExhausted, "resource_exhausted", false, false),
            (C::TransactionAborted, "transaction_aborted", false, false),
            (C::TransactionLost, "transaction_lost", false, false),
            (C::OutcomeUnknown, "outcome_unknown", false, false),
            (C::Constraint, "constraint", false, false),
            (C::Permanent, "permanent", false, false),
            (C::Unknown, "unknown", false, false),
        ] {
            assert_eq!(class.to_string(), name);
            assert_eq!(class.is_transient(), transient, "{name}");
            assert_eq!(class.is_slow(), slow, "{name}");
        }
    }

    #[test]
    fn a_code_is_shown_as_its_database_writes_it() {
        let state = SqlState::new("40P01").expect("five characters");
        assert_eq!(Code::SqlState(state).to_string(), "40P01");
        assert_eq!(Code::Errno(1213).to_string(), "1213");
        assert_eq!(Code::Sqlite(517).to_string(), "517");
    }
}
