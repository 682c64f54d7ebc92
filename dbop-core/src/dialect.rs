//! The SQL of each database, as pure strings: options in, batches out.
//!
//! A transaction is opened with everything that belongs to it in one batch and closed with
//! everything undone in one batch, so that an operation costs as many round trips as a bare
//! `BEGIN` and `COMMIT`. Nothing is read back: the old value of a setting stays on the server, in
//! a variable of ours, until it is restored.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::fault::{Code, Fault, FaultClass};
use crate::settings::{Defaults, Settings};

pub(crate) use applied::Skipped;
pub use batches::Batches;
pub(crate) use batches::Undo;
pub(crate) use postgres::status::TransactionStatus;
pub use postgres::status::{CurrentTransaction, TransactionId};
pub(crate) use unsupported::Unsupported;

mod applied;
mod batches;
pub(crate) mod ledger;
mod mysql;
mod plan;
mod postgres;
mod proof;
mod sql;
mod sqlite;
mod unsupported;

/// A database's SQL and its rules. MySQL and MariaDB share one: what differs is said in comments
/// that only the right one executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// PostgreSQL and what speaks its protocol.
    Postgres,
    /// MySQL, MariaDB and what speaks their protocol.
    Mysql,
    /// SQLite.
    Sqlite,
}

impl Dialect {
    /// How many dialects there are: for tables with one entry each, indexed by `self as usize`.
    pub(crate) const COUNT: usize = 3;

    /// The name used in log records: `postgresql`, `mysql` or `sqlite`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// Which old values have to be handed to [`Batches::new`], because SQL cannot keep them. Only
    /// SQLite's pragmas are so; reading them costs no round trip. `is_timed`: there is a deadline,
    /// which can make one of them shorter.
    #[must_use]
    pub const fn pragmas_to_read(
        self,
        settings: &Settings,
        defaults: &Defaults,
        is_timed: bool,
    ) -> PragmasToRead {
        let is_sqlite = matches!(self, Self::Sqlite);
        PragmasToRead {
            busy_timeout: is_sqlite && (settings.lock_timeout.is_some() || is_timed),
            query_only: is_sqlite && (settings.read_only || defaults.read_only),
        }
    }

    /// What fails if a transaction that is gone is known *not* to be undone as a whole: no answer has
    /// to be read.
    ///
    /// MySQL and MariaDB: if a lock timeout does not end it. (A subquery of two rows is an error,
    /// 1242, if it is evaluated.) SQLite: if the last statement that could write has written; one
    /// that has failed and ended the transaction has not. Earlier writes, and DDL, cannot be seen. A
    /// read that has failed so does not count, and the write in front of it does. (2^63 is an integer
    /// overflow.)
    pub(crate) const fn undone_check(self) -> &'static str {
        match self {
            Self::Mysql => {
                "SET @dbop_ends = IF(@@innodb_rollback_on_timeout, 1, (SELECT 1 UNION SELECT 2))"
            }
            Self::Sqlite => "SELECT CASE WHEN changes() > 0 THEN abs(-9223372036854775807 - 1) END",
            Self::Postgres => "",
        }
    }

    /// What to send when the server has dropped the transaction under a savepoint, so that
    /// nothing written from then on sticks.
    pub(crate) const fn containment(self) -> Option<&'static str> {
        match self {
            Self::Postgres => None,
            Self::Mysql => Some("SET autocommit=0"),
            Self::Sqlite => Some("BEGIN"),
        }
    }

    /// Whether an error to a top-level COMMIT proves that nothing was committed, given that what it
    /// leaves open is ended by a ROLLBACK, or with the connection.
    pub(crate) const fn commit_error_is_definite(self, fault: &Fault) -> bool {
        match (self, fault.class()) {
            (_, FaultClass::OutcomeUnknown | FaultClass::TransactionLost) => false,
            // Only FATAL errors are ambiguous, and they break the connection.
            (Self::Postgres, class) => class.leaves_connection_usable(),
            // The file is local.
            (Self::Sqlite, _) => true,
            // Refused by a node without a quorum, which does not refuse the SET that follows the
            // COMMIT. It keeps the transaction open (all measured), and refuses to roll it back: the
            // connection is thrown away, and takes the transaction with it.
            (Self::Mysql, FaultClass::ServerUnavailable) => {
                matches!(fault.code(), Some(Code::Errno(1047)))
            }
            // A statement follows the COMMIT in its batch, so an error that is not known to come
            // from the COMMIT can have come after it.
            (Self::Mysql, class) => matches!(
                class,
                FaultClass::Deadlock
                    | FaultClass::SerializationFailure
                    | FaultClass::LockTimeout
                    | FaultClass::ReadOnlyServer
                    | FaultClass::Constraint
            ),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No transaction is open: the attempt is one.
    Transaction,
    /// A transaction of this depth is open: the attempt is a savepoint in it.
    Savepoint(NonZeroU32),
}

impl Level {
    /// The level for a connection with this many transactions and savepoints open.
    #[must_use]
    pub const fn at_depth(depth: u32) -> Self {
        match NonZeroU32::new(depth) {
            None => Self::Transaction,
            Some(depth) => Self::Savepoint(depth),
        }
    }

    /// How many transactions and savepoints are open around an attempt here.
    #[must_use]
    pub const fn outside(self) -> u32 {
        match self {
            Self::Transaction => 0,
            Self::Savepoint(depth) => depth.get(),
        }
    }

    /// How many are open within the attempt, its own included.
    #[must_use]
    pub const fn inside(self) -> u32 {
        self.outside() + 1
    }
}

/// The old values of settings that SQL itself cannot keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedPragmas {
    /// SQLite's `PRAGMA busy_timeout`, in milliseconds.
    pub busy_timeout: i64,
    /// SQLite's `PRAGMA query_only`.
    pub query_only: bool,
}

impl SavedPragmas {
    /// A negative one means no wait, as zero does.
    fn busy_timeout_ms(self) -> u128 {
        u128::try_from(self.busy_timeout).unwrap_or(0)
    }
}

/// Which of these values have to be read before an operation begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PragmasToRead {
    /// [`SavedPragmas::busy_timeout`]
    pub busy_timeout: bool,
    /// [`SavedPragmas::query_only`]
    pub query_only: bool,
}

/// Whole milliseconds, rounded up: less than one would mean "no limit" to PostgreSQL.
fn milliseconds(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000)
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests;
