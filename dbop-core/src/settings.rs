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
    /// Log a setting that cannot be had instead of failing.
    pub best_effort: bool,
}

/// The timeouts of operations that ask for none.
///
/// # Default
///
/// - `lock_timeout`: 10 s
/// - `statement_timeout`: none
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultTimeouts {
    /// How long a statement may wait for a lock, unless the session is stricter already.
    pub lock_timeout: Option<Duration>,
    /// How long a statement may run, unless the session is stricter already.
    pub statement_timeout: Option<Duration>,
}

impl DefaultTimeouts {
    /// No timeouts: operations change nothing that they do not ask for.
    pub const NONE: Self = Self {
        lock_timeout: None,
        statement_timeout: None,
    };
}

impl Default for DefaultTimeouts {
    fn default() -> Self {
        Self {
            lock_timeout: Some(Duration::from_secs(10)),
            statement_timeout: None,
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

/// What is really set, for one backend and level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) read_only: bool,
    pub(crate) lock_timeout: Option<Timeout>,
    pub(crate) statement_timeout: Option<Timeout>,
    /// The first setting that was asked for with best effort and cannot be had.
    pub(crate) skipped: Option<Setting>,
}

impl Applied {
    /// Checks what was asked for. `defaults` are those of the runner, or none for an operation
    /// that is nested in another one: that one's are in force.
    pub(crate) fn resolve(
        dialect: Dialect,
        level: Level,
        settings: &Settings,
        defaults: &DefaultTimeouts,
    ) -> Result<Self, Error> {
        let in_savepoint = matches!(level, Level::Savepoint(_));
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
            skipped: None,
        };
        let refuse = |setting| {
            if settings.best_effort {
                return Ok(Some(setting));
            }
            Err(Error::new(Kind::UnsupportedSetting {
                setting,
                dialect,
                in_savepoint,
            }))
        };

        // MySQL and MariaDB know read-only per transaction only: inside one, every way to ask for
        // it is refused, ignored, or hits the next transaction instead (measured).
        if dialect == Dialect::Mysql && in_savepoint && applied.read_only {
            applied.skipped = refuse(Setting::ReadOnly)?;
            applied.read_only = false;
        }
        if dialect == Dialect::Sqlite {
            if let Some(Timeout::Exact(_)) = applied.statement_timeout {
                applied.skipped = refuse(Setting::StatementTimeout)?;
            }
            applied.statement_timeout = None;
            // SQLite's busy timeout is a property of the connection, 0 unless the application
            // sets it, and to change it for every operation it would have to be read first.
            if let Some(Timeout::AtMost(_)) = applied.lock_timeout {
                applied.lock_timeout = None;
            }
        }
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
    if value.is_zero() || value > LONGEST {
        return Err(Error::new(Kind::InvalidSetting { setting }));
    }
    Ok(Some(timeout))
}

const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(dialect: Dialect, level: Level, settings: Settings) -> Result<Applied, Error> {
        Applied::resolve(dialect, level, &settings, &DefaultTimeouts::default())
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
            let applied = resolve(dialect, level, lenient).expect("best effort");
            assert_eq!(applied.skipped, Some(setting));
            assert!(!applied.read_only && applied.statement_timeout.is_none());
        }
    }

    #[test]
    fn sqlite_skips_the_defaults_of_the_runner() {
        let defaults = DefaultTimeouts {
            statement_timeout: Some(Duration::from_secs(1)),
            ..DefaultTimeouts::default()
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
