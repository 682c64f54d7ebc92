//! What an operation asks of its transaction, checked against what a backend can give.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::{Dialect, Level};

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
    /// How much of what others do at the same time the transaction may see.
    pub isolation: Option<IsolationLevel>,
    /// PostgreSQL: wait for a snapshot that can never fail.
    pub deferrable: bool,
    /// SQLite: which lock to begin with.
    pub begin_mode: Option<BeginMode>,
    /// Log a setting that cannot be had instead of failing.
    pub best_effort: bool,
}

/// How much of what others do at the same time a transaction may see: the levels of the SQL
/// standard. What each of them means is the server's to say; PostgreSQL gives more than asked for
/// at the first and third one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IsolationLevel {
    /// Also what others have not committed. PostgreSQL treats it as the next one.
    ReadUncommitted,
    /// Each statement sees what was committed when it began. PostgreSQL's default.
    ReadCommitted,
    /// All statements see the same. MySQL's and MariaDB's default.
    RepeatableRead,
    /// As if there were nobody else. SQLite's only one.
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

    /// As it is written in SQL.
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
    /// Without a lock. The first write takes one; it fails at once if somebody else has written
    /// since the first read.
    Deferred,
    /// With the write lock, waiting for it as long as `busy_timeout` says. The default of
    /// operations that are not read-only.
    Immediate,
    /// With the write lock, keeping out readers as well unless the database is in WAL mode.
    Exclusive,
}

/// The settings of operations that do not ask for something else.
///
/// # Default
///
/// - `lock_timeout`: 10 s
/// - `statement_timeout`: none
/// - `read_only`: no
/// - `isolation`: none, that of the session
/// - `begin_mode`: none: immediate, or deferred for what is read-only
/// - `deadline`: none
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// How long an operation may take, all attempts together.
    pub deadline: Option<Duration>,
}

impl Defaults {
    /// No defaults: operations change nothing that they do not ask for.
    pub const NONE: Self = Self {
        lock_timeout: None,
        statement_timeout: None,
        read_only: false,
        isolation: None,
        begin_mode: None,
        deadline: None,
    };
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            lock_timeout: Some(Duration::from_secs(10)),
            ..Self::NONE
        }
    }
}

/// The name of a setting, for errors and log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// `read_only`
    ReadOnly,
    /// `lock_timeout`
    LockTimeout,
    /// `statement_timeout`
    StatementTimeout,
    /// `isolation`
    Isolation,
    /// `deferrable`
    Deferrable,
    /// `begin_mode`
    BeginMode,
    /// `deadline`
    Deadline,
    /// `transaction_status`
    TransactionStatus,
}

impl Setting {
    /// The name of the builder method that asks for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::LockTimeout => "lock_timeout",
            Self::StatementTimeout => "statement_timeout",
            Self::Isolation => "isolation",
            Self::Deferrable => "deferrable",
            Self::BeginMode => "begin_mode",
            Self::Deadline => "deadline",
            Self::TransactionStatus => "transaction_status",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A timeout and whether it may make the session's own value looser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// The operation asked for it: set as told.
    Exact(Duration),
    /// A default: it applies only where the session is not stricter already.
    AtMost(Duration),
}

/// An isolation level and whether it may be weaker than the session's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// The operation asked for it.
    Exact(IsolationLevel),
    /// A default.
    AtLeast(IsolationLevel),
}

/// What is really set, for one backend and level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) read_only: bool,
    pub(crate) lock_timeout: Option<Timeout>,
    pub(crate) statement_timeout: Option<Timeout>,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) deferrable: bool,
    pub(crate) begin_mode: Option<BeginMode>,
    pub(crate) skipped: Skipped,
}

/// The settings that were asked for with best effort and cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped([Option<Setting>; 5]);

impl Skipped {
    pub(crate) const NONE: Self = Self([None; 5]);

    fn add(&mut self, setting: Setting) {
        if let Some(free) = self.0.iter_mut().find(|known| known.is_none()) {
            *free = Some(setting);
        }
    }

    /// Takes one out, in the order in which they were put in.
    pub(crate) fn take(&mut self) -> Option<Setting> {
        self.0.iter_mut().find_map(Option::take)
    }
}

impl Applied {
    /// Checks what was asked for. `defaults` are those of the runner, or none for an operation
    /// that is nested in another one: that one's are in force.
    pub(crate) fn resolve(
        dialect: Dialect,
        level: Level,
        settings: &Settings,
        defaults: &Defaults,
    ) -> Result<Self, Error> {
        let in_savepoint = matches!(level, Level::Savepoint(_));
        let at_least = defaults.isolation.map(Isolation::AtLeast);
        let mut applied = Self {
            read_only: settings.read_only,
            lock_timeout: timeout(
                Setting::LockTimeout,
                settings.lock_timeout,
                defaults.lock_timeout,
            )?,
            statement_timeout: timeout(
                Setting::StatementTimeout,
                settings.statement_timeout,
                defaults.statement_timeout,
            )?,
            isolation: settings.isolation.map(Isolation::Exact).or(at_least),
            deferrable: settings.deferrable,
            begin_mode: settings.begin_mode,
            skipped: Skipped::NONE,
        };
        let deferrable = Some(IsolationLevel::Serializable);
        if settings.deferrable && !(settings.read_only && settings.isolation == deferrable) {
            return Err(Error::new(Kind::DeferrableAlone));
        }
        let mut skipped = Skipped::NONE;
        let mut refuse = |setting| {
            if settings.best_effort {
                skipped.add(setting);
                return Ok(());
            }
            Err(Error::new(Kind::UnsupportedSetting {
                setting,
                dialect,
                in_savepoint,
            }))
        };

        // A transaction that is already open has a level and a lock.
        if in_savepoint {
            if let Some(Isolation::Exact(_)) = applied.isolation {
                refuse(Setting::Isolation)?;
            }
            applied.isolation = None;
        }
        if applied.begin_mode.is_some() && (in_savepoint || dialect != Dialect::Sqlite) {
            refuse(Setting::BeginMode)?;
            applied.begin_mode = None;
        }
        if applied.deferrable && (in_savepoint || dialect != Dialect::Postgres) {
            refuse(Setting::Deferrable)?;
            applied.deferrable = false;
        }
        // MySQL and MariaDB know read-only per transaction only: inside one, every way to ask for
        // it is refused, ignored, or hits the next transaction instead (measured).
        if dialect == Dialect::Mysql && in_savepoint {
            if applied.read_only {
                refuse(Setting::ReadOnly)?;
            }
            applied.read_only = false;
        } else {
            applied.read_only |= defaults.read_only;
        }
        if dialect == Dialect::Sqlite {
            match applied.isolation.take() {
                None | Some(Isolation::AtLeast(_)) => {}
                Some(Isolation::Exact(IsolationLevel::Serializable)) => {}
                Some(Isolation::Exact(_)) => refuse(Setting::Isolation)?,
            }
            applied.begin_mode = applied.begin_mode.or(defaults.begin_mode);
            if let Some(Timeout::Exact(_)) = applied.statement_timeout {
                refuse(Setting::StatementTimeout)?;
            }
            applied.statement_timeout = None;
            // SQLite's busy timeout is a property of the connection, 0 unless the application
            // sets it, and to change it for every operation it would have to be read first.
            if let Some(Timeout::AtMost(_)) = applied.lock_timeout {
                applied.lock_timeout = None;
            }
        }
        applied.skipped = skipped;
        Ok(applied)
    }
}

fn timeout(
    setting: Setting,
    asked: Option<Duration>,
    default: Option<Duration>,
) -> Result<Option<Timeout>, Error> {
    let timeout = match (asked, default) {
        (Some(asked), _) => Timeout::Exact(asked),
        (None, Some(default)) => Timeout::AtMost(default),
        (None, None) => return Ok(None),
    };
    let (Timeout::Exact(value) | Timeout::AtMost(value)) = timeout;
    // Zero means "no limit" on PostgreSQL and "do not wait" on MariaDB; what is longer than
    // PostgreSQL and SQLite can hold, SQLite would take for zero (measured).
    check_duration(setting, value)?;
    Ok(Some(timeout))
}

/// Checks that a deadline can be kept.
///
/// # Errors
///
/// If it is zero or longer than 2147483647 ms.
#[doc(hidden)]
pub fn check_deadline(deadline: Duration) -> Result<(), Error> {
    check_duration(Setting::Deadline, deadline)
}

pub(crate) fn check_duration(setting: Setting, value: Duration) -> Result<(), Error> {
    if value.is_zero() || value > LONGEST {
        return Err(Error::new(Kind::InvalidSetting { setting }));
    }
    Ok(())
}

const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(dialect: Dialect, level: Level, settings: Settings) -> Result<Applied, Error> {
        Applied::resolve(dialect, level, &settings, &Defaults::default())
    }

    const NESTED: Level = Level::Savepoint(std::num::NonZeroU32::MIN);

    #[test]
    fn an_operation_s_own_timeout_is_exact_a_default_is_not() {
        let asked = Settings {
            lock_timeout: Some(Duration::from_secs(3)),
            ..Settings::default()
        };
        let own = resolve(Dialect::Postgres, Level::Transaction, asked).expect("valid");
        assert_eq!(
            own.lock_timeout,
            Some(Timeout::Exact(Duration::from_secs(3)))
        );
        let default =
            resolve(Dialect::Postgres, Level::Transaction, Settings::default()).expect("valid");
        assert_eq!(
            default.lock_timeout,
            Some(Timeout::AtMost(Duration::from_secs(10)))
        );
        assert_eq!(default.statement_timeout, None);
    }

    #[test]
    fn zero_and_absurd_timeouts_are_refused() {
        for bad in [
            Duration::ZERO,
            LONGEST + Duration::from_nanos(1),
            Duration::MAX,
        ] {
            for settings in [
                Settings {
                    lock_timeout: Some(bad),
                    ..Settings::default()
                },
                Settings {
                    statement_timeout: Some(bad),
                    ..Settings::default()
                },
            ] {
                let error =
                    resolve(Dialect::Mysql, Level::Transaction, settings).expect_err("refused");
                assert!(error.is_invalid_setting(), "{error}");
            }
        }
    }

    #[test]
    fn what_cannot_be_had_is_an_error_unless_best_effort() {
        let read_only = Settings {
            read_only: true,
            ..Settings::default()
        };
        let statement = Settings {
            statement_timeout: Some(Duration::from_secs(1)),
            ..Settings::default()
        };
        for (dialect, level, settings, setting) in [
            (Dialect::Mysql, NESTED, read_only, Setting::ReadOnly),
            (
                Dialect::Sqlite,
                Level::Transaction,
                statement,
                Setting::StatementTimeout,
            ),
            (
                Dialect::Sqlite,
                NESTED,
                statement,
                Setting::StatementTimeout,
            ),
        ] {
            let error = resolve(dialect, level, settings).expect_err("refused");
            assert!(error.is_unsupported_setting(), "{error}");
            let lenient = Settings {
                best_effort: true,
                ..settings
            };
            let mut applied = resolve(dialect, level, lenient).expect("best effort");
            assert_eq!(applied.skipped.take(), Some(setting));
            assert_eq!(applied.skipped.take(), None);
            assert!(!applied.read_only && applied.statement_timeout.is_none());
        }
    }

    #[test]
    fn sqlite_skips_the_defaults_of_the_runner() {
        let defaults = Defaults {
            statement_timeout: Some(Duration::from_secs(1)),
            ..Defaults::default()
        };
        let applied = Applied::resolve(
            Dialect::Sqlite,
            Level::Transaction,
            &Settings::default(),
            &defaults,
        )
        .expect("skipped, not refused");
        assert_eq!(applied, Applied::default());
    }
}
