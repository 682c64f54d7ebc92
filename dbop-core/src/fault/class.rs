//! The classes of faults.

use std::fmt;

/// The taxonomy: what kind of trouble an error is, and so what may be done about it.
///
/// Each class says whether the statement's work can have happened, because that, not the name,
/// decides whether a retry is safe. Which class may be retried in which scope is decided by
/// [`verdict`](crate::verdict).
///
/// ```
/// use dbop_core::FaultClass;
///
/// assert!(FaultClass::Deadlock.is_transient());
/// assert!(!FaultClass::Constraint.is_transient());
/// assert_eq!(FaultClass::SerializationFailure.to_string(), "serialization_failure");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultClass {
    /// The server broke a cycle of lock waits by failing this transaction. Its work is undone: on
    /// PostgreSQL back to the savepoint, on MySQL and MariaDB the *whole* transaction.
    Deadlock,
    /// The transaction's snapshot conflicts with what others have committed. A retry needs a new
    /// snapshot, and so a new transaction. MariaDB's 1020, TiDB's write conflicts and a conflict
    /// found by a replica or cluster at commit are here too.
    SerializationFailure,
    /// A lock was not obtained in time, or not at once (`NOWAIT`). Only the statement is undone,
    /// unless MySQL or MariaDB runs with `innodb_rollback_on_timeout`.
    LockTimeout,
    /// SQLite's "database is locked": another connection writes, or has written since this one read. Diesel
    /// shows one text for both. On MySQL and MariaDB: too many transactions at the same time (1637).
    Busy,
    /// The connection broke. What was in flight may or may not have happened; an open transaction
    /// is rolled back by the server.
    ConnectionLost,
    /// No connection could be opened. Nothing was sent.
    NotConnected,
    /// The server answers, but not now: it starts, shuts down, has too many connections, or a
    /// cluster node is not ready. Nothing was executed.
    ServerUnavailable,
    /// The server accepts no writes although the operation did not ask for read-only: a standby, or
    /// a former primary after a failover. Nothing was written.
    ReadOnlyServer,
    /// A cached plan no longer fits the schema. The statement was not executed.
    StalePlan,
    /// The statement ran longer than its statement timeout and is undone.
    StatementTimeout,
    /// The statement was cancelled by another session; it is undone.
    Canceled,
    /// Disk full, I/O error, out of memory, lock table full. The statement is undone; SQLite may
    /// have rolled back the whole transaction.
    ResourceExhausted,
    /// An earlier statement failed and its error was swallowed: PostgreSQL refuses everything
    /// until the rollback (25P02). Never the root cause.
    TransactionAborted,
    /// The savepoint or the transaction is not there any more: rolled back by the server, or
    /// committed implicitly by DDL. The code alone does not say which.
    TransactionLost,
    /// The server itself does not know whether the commit happened.
    OutcomeUnknown,
    /// A constraint was violated: a normal answer of the database.
    Constraint,
    /// Syntax, permission, data, configuration: a retry fails the same way.
    Permanent,
    /// Not recognized. Treated as permanent; if a commit was in progress, its outcome is unknown.
    Unknown,
}

impl FaultClass {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Unknown as usize + 1;

    /// The name used in log records, for example `serialization_failure`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::SerializationFailure => "serialization_failure",
            Self::LockTimeout => "lock_timeout",
            Self::Busy => "busy",
            Self::ConnectionLost => "connection_lost",
            Self::NotConnected => "not_connected",
            Self::ServerUnavailable => "server_unavailable",
            Self::ReadOnlyServer => "read_only_server",
            Self::StalePlan => "stale_plan",
            Self::StatementTimeout => "statement_timeout",
            Self::Canceled => "canceled",
            Self::ResourceExhausted => "resource_exhausted",
            Self::TransactionAborted => "transaction_aborted",
            Self::TransactionLost => "transaction_lost",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Constraint => "constraint",
            Self::Permanent => "permanent",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the same work may succeed later: the key `transient` of a log record. It does not
    /// say whether the work may be retried *here*.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Deadlock
                | Self::SerializationFailure
                | Self::LockTimeout
                | Self::Busy
                | Self::ConnectionLost
                | Self::NotConnected
                | Self::ServerUnavailable
                | Self::ReadOnlyServer
                | Self::StalePlan
        )
    }

    /// Whether what is in the way takes its time: a server that starts, is full, cannot be reached
    /// or takes no writes.
    #[must_use]
    pub(crate) const fn is_slow(self) -> bool {
        matches!(
            self,
            Self::NotConnected | Self::ServerUnavailable | Self::ReadOnlyServer
        )
    }

    /// Whether the connection can be used after it. `false` means that nothing more is sent on it
    /// and that pools must throw it away.
    #[must_use]
    pub(crate) const fn leaves_connection_usable(self) -> bool {
        !matches!(
            self,
            Self::ConnectionLost | Self::NotConnected | Self::ServerUnavailable
        )
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
