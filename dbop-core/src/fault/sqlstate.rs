//! The five characters by which PostgreSQL and its relatives name an error.

use std::fmt;

/// An SQLSTATE: five digits or upper-case ASCII letters, the first two of which are what the SQL
/// standard calls the class.
///
/// The constants are the codes that this crate judges, with the names of PostgreSQL's manual,
/// appendix A, unless said otherwise. Any other code can be held as well.
///
/// ```
/// use dbop_core::SqlState;
///
/// assert_eq!(SqlState::new("40P01"), Some(SqlState::DEADLOCK_DETECTED));
/// assert_eq!(SqlState::new("4000"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// 08000: the connection failed, without saying how.
    pub const CONNECTION_EXCEPTION: Self = Self(*b"08000");
    /// 08001: the client could not connect.
    pub const UNABLE_TO_ESTABLISH_CONNECTION: Self = Self(*b"08001");
    /// 08003: there is no connection; nothing was sent.
    pub const CONNECTION_DOES_NOT_EXIST: Self = Self(*b"08003");
    /// 08004: the server rejected the connection.
    pub const REJECTED_CONNECTION: Self = Self(*b"08004");
    /// 08006: the connection broke.
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// 08007: the connection broke, and it is unknown how the transaction ended.
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self(*b"08007");
    /// 08P01: the two sides disagree about the protocol; PgBouncer uses it for nearly everything.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// 08S01: the connection broke, as ODBC and JDBC name it.
    pub const COMMUNICATION_LINK_FAILURE: Self = Self(*b"08S01");
    /// 0A000: a feature is not supported; also a cached plan whose result type changed.
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    /// 23001: a `RESTRICT` constraint was violated.
    pub const RESTRICT_VIOLATION: Self = Self(*b"23001");
    /// 23502: a `NOT NULL` constraint was violated.
    pub const NOT_NULL_VIOLATION: Self = Self(*b"23502");
    /// 23503: a foreign key constraint was violated.
    pub const FOREIGN_KEY_VIOLATION: Self = Self(*b"23503");
    /// 23505: a unique constraint was violated.
    pub const UNIQUE_VIOLATION: Self = Self(*b"23505");
    /// 23514: a `CHECK` constraint was violated.
    pub const CHECK_VIOLATION: Self = Self(*b"23514");
    /// 23P01: an exclusion constraint was violated.
    pub const EXCLUSION_VIOLATION: Self = Self(*b"23P01");
    /// 25006: the transaction may not write.
    pub const READ_ONLY_SQL_TRANSACTION: Self = Self(*b"25006");
    /// 25P01: the command needs a transaction and none is open.
    pub const NO_ACTIVE_SQL_TRANSACTION: Self = Self(*b"25P01");
    /// 25P02: an earlier statement failed; everything is refused until the rollback.
    pub const IN_FAILED_SQL_TRANSACTION: Self = Self(*b"25P02");
    /// 25P03: `idle_in_transaction_session_timeout` ended the session.
    pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: Self = Self(*b"25P03");
    /// 25P04: `transaction_timeout` (since PostgreSQL 17) ended the session.
    pub const TRANSACTION_TIMEOUT: Self = Self(*b"25P04");
    /// 26000: there is no prepared statement of that name.
    pub const INVALID_SQL_STATEMENT_NAME: Self = Self(*b"26000");
    /// 3B001: there is no savepoint of that name.
    pub const INVALID_SAVEPOINT_SPECIFICATION: Self = Self(*b"3B001");
    /// 40000: the transaction was rolled back.
    pub const TRANSACTION_ROLLBACK: Self = Self(*b"40000");
    /// 40001: the transaction cannot be ordered with the others.
    pub const SERIALIZATION_FAILURE: Self = Self(*b"40001");
    /// 40002: the transaction was rolled back because of a constraint.
    pub const TRANSACTION_INTEGRITY_CONSTRAINT_VIOLATION: Self = Self(*b"40002");
    /// 40003: it is not known whether the statement was completed. CockroachDB's "result is
    /// ambiguous".
    pub const STATEMENT_COMPLETION_UNKNOWN: Self = Self(*b"40003");
    /// 40P01: a deadlock was detected.
    pub const DEADLOCK_DETECTED: Self = Self(*b"40P01");
    /// 42P05: there is a prepared statement of that name already.
    pub const DUPLICATE_PREPARED_STATEMENT: Self = Self(*b"42P05");
    /// `duplicate_object`
    pub const DUPLICATE_OBJECT: Self = Self(*b"42710");
    /// `duplicate_schema`
    pub const DUPLICATE_SCHEMA: Self = Self(*b"42P06");
    /// `duplicate_table`
    pub const DUPLICATE_TABLE: Self = Self(*b"42P07");
    /// 53300: too many connections.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// 55P03: a lock was not obtained in time, or not at once.
    pub const LOCK_NOT_AVAILABLE: Self = Self(*b"55P03");
    /// 57014: the statement was cancelled, by a timeout or by another session.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// 57P01: an administrator ended the session.
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// 57P02: another server process crashed, so this session was ended.
    pub const CRASH_SHUTDOWN: Self = Self(*b"57P02");
    /// 57P03: the server starts up, shuts down or recovers.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// 57P04: the database was dropped under the session.
    pub const DATABASE_DROPPED: Self = Self(*b"57P04");
    /// 57P05: `idle_session_timeout` ended the session.
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    /// 58000: an error outside of PostgreSQL itself.
    pub const SYSTEM_ERROR: Self = Self(*b"58000");
    /// 58030: an I/O error.
    pub const IO_ERROR: Self = Self(*b"58030");
    /// 58C00: CockroachDB cannot reach a range of the data.
    pub const RANGE_UNAVAILABLE: Self = Self(*b"58C00");
    /// 58C01: a connection between two CockroachDB nodes failed.
    pub const INTERNAL_CONNECTION_FAILURE: Self = Self(*b"58C01");
    /// CR000: CockroachDB's retryable error before it used 40001.
    pub const COCKROACH_RETRY: Self = Self(*b"CR000");
    /// YB003: YugabyteDB's "Restart read required" before it used 40001.
    pub const YUGABYTE_READ_RESTART: Self = Self(*b"YB003");

    /// The code written in `code`, or `None` if that is not five digits or upper-case ASCII
    /// letters.
    #[must_use]
    pub const fn new(code: &str) -> Option<Self> {
        let &[a, b, c, d, e] = code.as_bytes() else {
            return None;
        };
        let code = [a, b, c, d, e];
        let mut i = 0;
        while i < code.len() {
            if !code[i].is_ascii_digit() && !code[i].is_ascii_uppercase() {
                return None;
            }
            i += 1;
        }
        Some(Self(code))
    }

    /// The five characters.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match std::str::from_utf8(&self.0) {
            Ok(code) => code,
            // Cannot happen: every constructor takes ASCII only.
            Err(_) => "",
        }
    }

    /// The first two characters, the class of the SQL standard: "08" is everything about
    /// connections, "23" every constraint.
    #[must_use]
    pub fn class_prefix(&self) -> &str {
        &self.as_str()[..2]
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlState").field(&self.as_str()).finish()
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_digits_or_capitals_and_nothing_else() {
        for good in ["40001", "0A000", "XXUUU", "00000"] {
            assert_eq!(
                SqlState::new(good).map(|s| s.to_string()),
                Some(good.into())
            );
        }
        for bad in [
            "",
            "4000",
            "400011",
            "40p01",
            "40 01",
            "4000\n",
            "4000\u{e9}",
            "é001",
        ] {
            assert_eq!(SqlState::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn prints_its_characters() {
        let state = SqlState::DEADLOCK_DETECTED;
        assert_eq!(state.to_string(), "40P01");
        assert_eq!(format!("{state:>7}"), "  40P01");
        assert_eq!(format!("{state:?}"), "SqlState(\"40P01\")");
        assert_eq!(state.class_prefix(), "40");
    }
}
