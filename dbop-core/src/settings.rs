//! What an operation asks of its transaction.

use std::fmt;
use std::time::Duration;

use crate::dialect::{Engine, Profile};
use crate::error::{Error, Kind};

/// The settings that belong to one operation.
///
/// # Default
///
/// Nothing is asked for: the runner's defaults apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Refuse writes.
    pub read_only: bool,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Option<Duration>,
    /// How long a statement may run.
    pub statement_timeout: Option<Duration>,
    /// How much of the work of concurrent transactions the transaction may see.
    pub isolation: Option<IsolationLevel>,
    /// PostgreSQL: wait for a snapshot that cannot lead to a serialization failure.
    pub deferrable: bool,
    /// SQLite: which lock to begin with.
    pub begin_mode: Option<BeginMode>,
    /// PostgreSQL: what the COMMIT waits for.
    pub synchronous_commit: Option<SynchronousCommit>,
    /// Open no transaction.
    pub without_transaction: bool,
    /// Skip and log an unsupported setting instead of failing.
    pub best_effort: bool,
}

impl Settings {
    /// Nothing is asked for.
    pub const NONE: Self = Self {
        read_only: false,
        lock_timeout: None,
        statement_timeout: None,
        isolation: None,
        deferrable: false,
        begin_mode: None,
        synchronous_commit: None,
        without_transaction: false,
        best_effort: false,
    };
}

/// How much of the work of concurrent transactions a transaction may see: the levels of the SQL
/// standard. The server defines what each of them means. PostgreSQL isolates more than the standard
/// requires at `ReadUncommitted` and `RepeatableRead`.
///
/// ```
/// use dbop_core::IsolationLevel;
///
/// assert!(IsolationLevel::Serializable > IsolationLevel::ReadCommitted);
/// assert_eq!(IsolationLevel::RepeatableRead.as_str(), "REPEATABLE READ");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IsolationLevel {
    /// Even uncommitted changes are visible. PostgreSQL treats it as [`ReadCommitted`](Self::ReadCommitted).
    ReadUncommitted,
    /// Each statement sees what was committed when it began. PostgreSQL's default.
    ReadCommitted,
    /// All statements see the same snapshot. MySQL's and MariaDB's default.
    RepeatableRead,
    /// As if transactions ran one after another. SQLite's only level.
    Serializable,
}

impl IsolationLevel {
    /// From the weakest to the strictest.
    const ALL: [Self; 4] = [
        Self::ReadUncommitted,
        Self::ReadCommitted,
        Self::RepeatableRead,
        Self::Serializable,
    ];

    /// The levels that are stricter, from the weakest.
    pub(crate) fn stricter(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |level| *level > self)
    }

    /// The level as SQL spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "READ UNCOMMITTED",
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        }
    }
}

/// How a transaction begins on SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BeginMode {
    /// Without a lock. The first write takes the write lock; it fails at once if another connection
    /// has written since the first read.
    Deferred,
    /// With the write lock, waiting for it up to the `busy_timeout`. The default of operations that
    /// are not read-only.
    Immediate,
    /// With the write lock, keeping out readers as well unless the database is in WAL mode.
    Exclusive,
}

/// What a COMMIT waits for on PostgreSQL, from the least to the most: the values of its setting
/// `synchronous_commit`.
///
/// ```
/// use dbop_core::SynchronousCommit;
///
/// assert!(SynchronousCommit::Off < SynchronousCommit::On);
/// assert_eq!(SynchronousCommit::RemoteApply.as_str(), "remote_apply");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SynchronousCommit {
    /// For nothing. A crash of the server can lose what was committed within the last moments (three times
    /// `wal_writer_delay`, so 600 ms by default), as if it had never run. It cannot leave half of it.
    Off,
    /// Until the server itself has it on disk.
    Local,
    /// Until the synchronous standbys have also received it. A crash of their operating systems can lose it
    /// there.
    RemoteWrite,
    /// Until the synchronous standbys also have it on disk. The server's default. Without synchronous
    /// standbys it is the same as `Local`.
    On,
    /// Until queries on the synchronous standbys also see it.
    RemoteApply,
}

impl SynchronousCommit {
    /// The value as PostgreSQL spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Local => "local",
            Self::RemoteWrite => "remote_write",
            Self::On => "on",
            Self::RemoteApply => "remote_apply",
        }
    }
}

/// The settings that apply unless an operation asks for others.
///
/// # Default
///
/// - `lock_timeout`: 10 s
/// - `statement_timeout`: none
/// - `read_only`: no
/// - `isolation`: none, that of the session
/// - `begin_mode`: none: immediate, or deferred for what is read-only
/// - `deadline`: none
/// - `grace_period`: 1 s
/// - `sessions_differ`: no
/// - `engine`: that after which the dialect is named
/// - `pooler_safe`: no
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defaults {
    /// How long a statement may wait for a lock, unless the session is stricter already.
    pub lock_timeout: Option<Duration>,
    /// How long a statement may run, unless the session is stricter already.
    pub statement_timeout: Option<Duration>,
    /// Refuse writes.
    pub read_only: bool,
    /// The weakest isolation level, unless the session is stricter already.
    pub isolation: Option<IsolationLevel>,
    /// SQLite: which lock to begin with.
    pub begin_mode: Option<BeginMode>,
    /// How long an operation may take, including all its attempts and the delays between them.
    pub deadline: Option<Duration>,
    /// For how long after the deadline an async operation waits for a server that does not answer, and a lost
    /// COMMIT is asked about at least.
    pub grace_period: Option<Duration>,
    /// Skip the settings that are refused only because the caller's transaction is already open.
    pub skip_what_open_transactions_refuse: bool,
    /// PostgreSQL: look at each session before a default applies, for they have values of their own that
    /// differ.
    pub sessions_differ: bool,
    /// Which server it is. `None`: the one after which the dialect is named.
    pub engine: Option<Engine>,
    /// Set nothing on a session that others may use.
    pub pooler_safe: bool,
}

impl Defaults {
    /// No defaults: operations change only what they ask for.
    pub const NONE: Self = Self {
        lock_timeout: None,
        statement_timeout: None,
        read_only: false,
        isolation: None,
        begin_mode: None,
        deadline: None,
        grace_period: None,
        skip_what_open_transactions_refuse: false,
        sessions_differ: false,
        engine: None,
        pooler_safe: false,
    };

    /// Those of an operation that is nested in another one, whose defaults are in force.
    pub(crate) const fn of_nested(&self) -> Self {
        Self {
            engine: self.engine,
            pooler_safe: self.pooler_safe,
            ..Self::NONE
        }
    }

    /// Where the operations go.
    pub(crate) const fn profile(&self) -> Profile {
        Profile {
            engine: self.engine,
            pooler_safe: self.pooler_safe,
        }
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            lock_timeout: Some(Duration::from_secs(10)),
            grace_period: Some(Duration::from_secs(1)),
            ..Self::NONE
        }
    }
}

/// The name of a setting, for errors and log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// `without_transaction`
    WithoutTransaction,
    /// `isolation`
    Isolation,
    /// `begin_mode`
    BeginMode,
    /// `deferrable`
    Deferrable,
    /// `synchronous_commit`
    SynchronousCommit,
    /// `read_only`
    ReadOnly,
    /// `statement_timeout`
    StatementTimeout,
    /// `lock_timeout`
    LockTimeout,
    /// `deadline`
    Deadline,
    /// `transaction_status`
    TransactionStatus,
    /// `verify`
    Verify,
    /// `ledger`
    Ledger,
    /// `begin_with_sql`
    BeginWithSql,
    /// `exclusive_by`
    ExclusiveBy,
    /// `with_engine` of the runner
    Engine,
}

impl Setting {
    /// In the order of their declaration.
    pub(crate) const ALL: [Self; 15] = [
        Self::WithoutTransaction,
        Self::Isolation,
        Self::BeginMode,
        Self::Deferrable,
        Self::SynchronousCommit,
        Self::ReadOnly,
        Self::StatementTimeout,
        Self::LockTimeout,
        Self::Deadline,
        Self::TransactionStatus,
        Self::Verify,
        Self::Ledger,
        Self::BeginWithSql,
        Self::ExclusiveBy,
        Self::Engine,
    ];

    /// The name of the builder method that asks for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WithoutTransaction => "without_transaction",
            Self::Isolation => "isolation",
            Self::BeginMode => "begin_mode",
            Self::Deferrable => "deferrable",
            Self::SynchronousCommit => "synchronous_commit",
            Self::ReadOnly => "read_only",
            Self::StatementTimeout => "statement_timeout",
            Self::LockTimeout => "lock_timeout",
            Self::Deadline => "deadline",
            Self::TransactionStatus => "transaction_status",
            Self::Verify => "verify",
            Self::Ledger => "ledger",
            Self::BeginWithSql => "begin_with_sql",
            Self::ExclusiveBy => "exclusive_by",
            Self::Engine => "engine",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Checks that a deadline is valid.
///
/// # Errors
///
/// If the deadline is zero or longer than 2147483647 ms.
pub(crate) fn check_deadline(deadline: Duration) -> Result<(), Error> {
    check_duration(Setting::Deadline, deadline)
}

/// Zero means "no limit" on PostgreSQL and "do not wait" on MariaDB. PostgreSQL and SQLite cannot hold
/// more than the longest one, and SQLite would take it for zero (measured).
pub(crate) fn check_duration(setting: Setting, value: Duration) -> Result<(), Error> {
    if value.is_zero() || value > LONGEST {
        return Err(Error::new(Kind::InvalidSetting { setting }));
    }
    Ok(())
}

pub(crate) const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_duration_is_accepted_and_nothing_beyond_it() {
        let check = |value| check_duration(Setting::LockTimeout, value);
        for accepted in [Duration::from_nanos(1), LONGEST] {
            assert!(check(accepted).is_ok(), "{accepted:?}");
        }
        for refused in [Duration::ZERO, LONGEST + Duration::from_nanos(1)] {
            let error = check(refused).expect_err("no such timeout");
            assert!(error.is_invalid_setting());
            assert_eq!(
                error.to_string(),
                "lock_timeout must be between 1 ns and 2147483647 ms"
            );
        }
    }
}
