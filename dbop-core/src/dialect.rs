//! The SQL of each database, as pure strings: options in, batches out.
//!
//! One batch opens a transaction with all its settings, and one batch closes it with all of them
//! restored, so that an operation costs as many round trips as a bare `BEGIN` and `COMMIT`. Nothing
//! is read back: until it is restored, the old value of a setting stays on the server in a variable
//! of dbop's.
//!
//! - `applied` decides which settings are really set, `unsupported` says why one is not.
//! - `engine` is which server it is, of those that speak a protocol, and what that understands.
//! - `sessions` is what a runner has learned of its sessions, so that they need not be looked at.
//! - `plan` and `proof` are what the texts are made from, `batches` makes each text once.
//! - `postgres`, `mysql`, `sqlite` and `ledger` have the SQL, `sql` joins statements.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::fault::{Code, Fault, FaultClass};
use crate::settings::{Defaults, Settings};

pub(crate) use applied::{Skipped, Timeout};
pub(crate) use batches::{Batches, BatchesOf, TokenQuestion, Undo};
pub use engine::Engine;
pub(crate) use engine::Profile;
pub(crate) use postgres::status::{CurrentTransaction, TransactionId, TransactionStatus};
pub(crate) use sessions::{Known, Needed, Sessions};
pub(crate) use unsupported::Unsupported;

mod applied;
mod batches;
mod engine;
pub(crate) mod ledger;
mod mysql;
mod plan;
mod postgres;
mod proof;
mod sessions;
mod sql;
mod sqlite;
mod unsupported;

/// A database's SQL and its rules. MySQL and MariaDB share one: where they differ, the SQL is in
/// comments that only one of them executes.
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

    /// Which old values have to be read, because SQL cannot keep them. Only SQLite's pragmas
    /// are read; that costs no round trip. `is_timed` means that there is a deadline, which can shorten
    /// the `busy_timeout`.
    #[must_use]
    pub const fn pragmas_to_read(
        self,
        settings: &Settings,
        defaults: &Defaults,
        is_timed: bool,
    ) -> PragmasToRead {
        let sets_any = !settings.without_transaction || defaults.skip_what_open_transactions_refuse;
        let reads = matches!(self, Self::Sqlite) && sets_any;
        PragmasToRead {
            busy_timeout: reads && (settings.lock_timeout.is_some() || is_timed),
            query_only: reads && (settings.read_only || defaults.read_only),
        }
    }

    /// A statement that fails exactly if the vanished transaction is known *not* to have been rolled
    /// back as a whole. Failing *is* the answer, so no rows have to be read. PostgreSQL needs none.
    pub(crate) const fn undone_check(self, profile: Profile) -> &'static str {
        match self {
            Self::Postgres => "",
            Self::Mysql if profile.may_set_session() => mysql::UNDONE_CHECK,
            Self::Mysql => mysql::UNDONE_CHECK_WITHOUT_VARIABLE,
            Self::Sqlite => sqlite::UNDONE_CHECK,
        }
    }

    /// What keeps the number of the last error for
    /// [`kept_diagnostics`](Self::kept_diagnostics): a batch that comes before the ROLLBACK. `None`
    /// where the server cannot be asked. It is kept in user variables.
    pub(crate) const fn keep_diagnostics(self, profile: Profile) -> Option<&'static str> {
        match self {
            Self::Mysql if profile.may_set_session() => Some(mysql::KEEP_DIAGNOSTICS),
            Self::Mysql | Self::Postgres | Self::Sqlite => None,
        }
    }

    /// The query for what was kept: one text, the number of the error, a space, and its message.
    pub(crate) const fn kept_diagnostics(self) -> &'static str {
        match self {
            Self::Mysql => mysql::KEPT_DIAGNOSTICS,
            Self::Postgres | Self::Sqlite => "",
        }
    }

    /// What to send when the server has dropped the transaction around a savepoint, so that nothing
    /// written after that is kept.
    pub(crate) const fn containment(self) -> Option<&'static str> {
        match self {
            Self::Postgres => None,
            Self::Mysql => Some("SET autocommit=0"),
            Self::Sqlite => Some("BEGIN"),
        }
    }

    /// Whether this is how a COMMIT fails whose transaction is not the one that has written the operation's row.
    pub(crate) fn is_of_lost_row(self, fault: &Fault) -> bool {
        self == Self::Mysql && fault.code() == Some(Code::Errno(mysql::IS_NOT_OURS))
    }

    /// Whether this error of a top-level COMMIT proves that nothing was committed. A transaction that
    /// it leaves open must then be ended by a ROLLBACK or with the connection.
    pub(crate) const fn commit_error_is_definite(self, fault: &Fault) -> bool {
        match (self, fault.recognized_class()) {
            (_, FaultClass::OutcomeUnknown | FaultClass::TransactionLost) => false,
            // An unknown text can be that of a pooler, which has lost the server in the COMMIT.
            (Self::Postgres, FaultClass::Unknown) => false,
            // Only FATAL errors are ambiguous, and they break the connection.
            (Self::Postgres, class) => class.leaves_connection_usable(),
            // The file is local.
            (Self::Sqlite, _) => true,
            // A node without a quorum refuses the RELEASE in front of what commits. It keeps the
            // transaction open and refuses to roll it back (measured). So the connection is discarded,
            // which ends the transaction.
            (Self::Mysql, FaultClass::ServerUnavailable) => {
                matches!(fault.code(), Some(Code::Errno(1047)))
            }
            // Diesel sends a command of its own behind the batch, and any other error can be the
            // answer to that.
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
    /// No transaction is open: the attempt is one, or has none.
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
    /// SQLite sets that one when it explains the statement that does so. Setting it makes all prepared
    /// statements expire, and explaining it does not.
    pub is_set_by_explain: bool,
}

impl SavedPragmas {
    /// A negative timeout means no wait, as zero does.
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
