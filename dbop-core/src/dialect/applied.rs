//! What is really set: the settings that an operation asks for and the runner's defaults, checked
//! against what a dialect and level support.

use std::time::Duration;

use super::engine::{Profile, ReadOnly};
use super::unsupported::Unsupported;
use super::{Dialect, Level};
use crate::error::{Error, Kind};
use crate::settings::{
    BeginMode, Defaults, IsolationLevel, Setting, Settings, SynchronousCommit, check_duration,
};

/// A timeout and whether it may make the session's own value looser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// The operation asked for it: set as told.
    Exact(Duration),
    /// A default: it applies only where the session is not stricter already.
    AtMost(Duration),
}

impl Timeout {
    pub(super) const fn duration(self) -> Duration {
        let (Self::Exact(duration) | Self::AtMost(duration)) = self;
        duration
    }
}

/// An isolation level and whether it may be weaker than the session's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// The operation asked for it.
    Exact(IsolationLevel),
    /// A default: it applies only where the session is not stricter already.
    AtLeast(IsolationLevel),
}

/// What is really set, for one dialect and level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) read_only: bool,
    pub(super) lock_timeout: Option<Timeout>,
    pub(super) statement_timeout: Option<Timeout>,
    pub(super) isolation: Option<Isolation>,
    pub(super) deferrable: bool,
    pub(super) begin_mode: Option<BeginMode>,
    pub(super) synchronous_commit: Option<SynchronousCommit>,
    /// There is no transaction, so nothing of this is set.
    pub(super) autocommit: bool,
    pub(super) skipped: Skipped,
}

impl Applied {
    /// Checks what was asked for. `defaults` are those of the runner, or none for an operation
    /// that is nested in another one, whose defaults are in force.
    pub(super) fn resolve(
        dialect: Dialect,
        level: Level,
        settings: &Settings,
        defaults: &Defaults,
    ) -> Result<Self, Error> {
        let lock_timeout = timeout(
            Setting::LockTimeout,
            settings.lock_timeout,
            defaults.lock_timeout,
        )?;
        let statement_timeout = timeout(
            Setting::StatementTimeout,
            settings.statement_timeout,
            defaults.statement_timeout,
        )?;
        check_deferrable(settings)?;
        let mut request = Request {
            dialect,
            in_savepoint: matches!(level, Level::Savepoint(_)),
            profile: defaults.profile(),
            settings,
            defaults,
            skipped: Skipped::NONE,
        };
        request.check_savepoints()?;
        if request.is_without_transaction()? {
            request.refuse_all()?;
            return Ok(Self {
                autocommit: true,
                skipped: request.skipped,
                ..Self::default()
            });
        }
        Ok(Self {
            isolation: request.isolation()?,
            begin_mode: request.begin_mode()?,
            deferrable: request.deferrable()?,
            synchronous_commit: request.synchronous_commit()?,
            autocommit: false,
            read_only: request.read_only()?,
            statement_timeout: request.statement_timeout(statement_timeout)?,
            lock_timeout: request.lock_timeout(lock_timeout)?,
            skipped: request.skipped,
        })
    }
}

impl Applied {
    /// What the transaction of a question about a COMMIT takes over. At a higher level, PostgreSQL would
    /// not show it what was committed while it waited.
    pub(super) fn ask(&mut self, dialect: Dialect) {
        if dialect == Dialect::Postgres {
            self.isolation = Some(Isolation::Exact(IsolationLevel::ReadCommitted));
        }
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
    check_duration(setting, timeout.duration())?;
    Ok(Some(timeout))
}

fn check_deferrable(settings: &Settings) -> Result<(), Error> {
    let serializable = Some(IsolationLevel::Serializable);
    let has_what_it_needs = settings.read_only && settings.isolation == serializable;
    if settings.deferrable && !has_what_it_needs {
        return Err(Error::new(Kind::DeferrableAlone));
    }
    Ok(())
}

/// What is asked for, and where. Each method decides about one setting. A setting that is not
/// supported is an error or, with best effort, skipped; a default that is not supported is ignored.
struct Request<'a> {
    dialect: Dialect,
    in_savepoint: bool,
    profile: Profile,
    settings: &'a Settings,
    defaults: &'a Defaults,
    skipped: Skipped,
}

impl Request<'_> {
    fn refuse(&mut self, unsupported: Unsupported) -> Result<(), Error> {
        let is_let_through = self.defaults.skip_what_open_transactions_refuse
            && unsupported.is_because_transaction_is_open();
        if self.settings.best_effort || is_let_through {
            self.skipped.add(unsupported.setting());
            return Ok(());
        }
        Err(Error::new(Kind::UnsupportedSetting(unsupported)))
    }

    /// Refuses what the engine does not have.
    fn refuse_on_engine(&mut self, setting: Setting) -> Result<(), Error> {
        let Some(engine) = self.profile.engine else {
            return Ok(());
        };
        self.refuse(Unsupported::not_on(engine, setting))
    }

    /// Nothing else could be undone alone, so there is no best effort.
    fn check_savepoints(&self) -> Result<(), Error> {
        match self.profile.engine {
            Some(engine) if self.in_savepoint && !self.profile.has_savepoints() => {
                let unsupported = Unsupported::no_savepoints(engine);
                Err(Error::new(Kind::UnsupportedSetting(unsupported)))
            }
            _ => Ok(()),
        }
    }

    /// An operation that must not run in a transaction is never let into one for best effort. In a test
    /// transaction, which is always open, it is a savepoint.
    fn is_without_transaction(&mut self) -> Result<bool, Error> {
        if !self.settings.without_transaction || !self.in_savepoint {
            return Ok(self.settings.without_transaction);
        }
        if !self.defaults.skip_what_open_transactions_refuse {
            let unsupported = Unsupported::runs_in_transaction();
            return Err(Error::new(Kind::UnsupportedSetting(unsupported)));
        }
        self.skipped.add(Setting::WithoutTransaction);
        Ok(false)
    }

    /// There is no transaction that a setting could end with, and no batch that it could travel with.
    /// Read-only is the caller's promise.
    fn refuse_all(&mut self) -> Result<(), Error> {
        let settings = self.settings;
        for (setting, is_asked_for) in [
            (Setting::Isolation, settings.isolation.is_some()),
            (Setting::BeginMode, settings.begin_mode.is_some()),
            (Setting::Deferrable, settings.deferrable),
            (
                Setting::SynchronousCommit,
                settings.synchronous_commit.is_some(),
            ),
            (
                Setting::StatementTimeout,
                settings.statement_timeout.is_some(),
            ),
            (Setting::LockTimeout, settings.lock_timeout.is_some()),
        ] {
            if is_asked_for {
                self.refuse(Unsupported::without_transaction(setting))?;
            }
        }
        Ok(())
    }

    fn isolation(&mut self) -> Result<Option<Isolation>, Error> {
        // A transaction that is already open has its level, and SQLite has only one.
        let has_levels =
            !self.in_savepoint && self.dialect != Dialect::Sqlite && self.profile.has_levels();
        let asked = match self.settings.isolation {
            Some(asked) => asked,
            None if has_levels => return Ok(self.defaults.isolation.map(Isolation::AtLeast)),
            None => return Ok(None),
        };
        if self.dialect == Dialect::Sqlite && asked != IsolationLevel::Serializable {
            self.refuse(Unsupported::sqlite_isolation(asked))?;
        } else if self.in_savepoint {
            self.refuse(Unsupported::in_open_transaction(Setting::Isolation))?;
        } else if !self.profile.has_levels() {
            self.refuse_on_engine(Setting::Isolation)?;
        }
        Ok(has_levels.then_some(Isolation::Exact(asked)))
    }

    fn begin_mode(&mut self) -> Result<Option<BeginMode>, Error> {
        let is_sqlite = self.dialect == Dialect::Sqlite;
        if is_sqlite && !self.in_savepoint {
            return Ok(self.settings.begin_mode.or(self.defaults.begin_mode));
        }
        if self.settings.begin_mode.is_some() {
            self.refuse(match is_sqlite {
                true => Unsupported::in_open_transaction(Setting::BeginMode),
                false => Unsupported::only_on(Dialect::Sqlite, Setting::BeginMode, self.dialect),
            })?;
        }
        Ok(None)
    }

    fn deferrable(&mut self) -> Result<bool, Error> {
        let is_postgres = self.dialect == Dialect::Postgres;
        if is_postgres && !self.in_savepoint {
            return Ok(self.settings.deferrable);
        }
        if self.settings.deferrable {
            self.refuse(match is_postgres {
                true => Unsupported::in_open_transaction(Setting::Deferrable),
                false => Unsupported::only_on(Dialect::Postgres, Setting::Deferrable, self.dialect),
            })?;
        }
        Ok(false)
    }

    /// In a savepoint it would be that of the whole transaction.
    fn synchronous_commit(&mut self) -> Result<Option<SynchronousCommit>, Error> {
        let is_postgres = self.dialect == Dialect::Postgres;
        if is_postgres && !self.in_savepoint {
            return Ok(self.settings.synchronous_commit);
        }
        if self.settings.synchronous_commit.is_some() {
            let setting = Setting::SynchronousCommit;
            self.refuse(match is_postgres {
                true => Unsupported::in_open_transaction(setting),
                false => Unsupported::only_on(Dialect::Postgres, setting, self.dialect),
            })?;
        }
        Ok(None)
    }

    /// MySQL and MariaDB support read-only per transaction only: inside one, every way to ask for it
    /// is refused, ignored, or hits the next transaction instead (measured).
    fn read_only(&mut self) -> Result<bool, Error> {
        let Self {
            settings, defaults, ..
        } = self;
        if self.profile.read_only() == ReadOnly::Refused {
            if settings.read_only {
                self.refuse_on_engine(Setting::ReadOnly)?;
            }
            return Ok(false);
        }
        if self.dialect != Dialect::Mysql || !self.in_savepoint {
            return Ok(settings.read_only || defaults.read_only);
        }
        if settings.read_only {
            self.refuse(Unsupported::mysql_read_only())?;
        }
        Ok(false)
    }

    fn statement_timeout(&mut self, timeout: Option<Timeout>) -> Result<Option<Timeout>, Error> {
        let is_exact = matches!(timeout, Some(Timeout::Exact(_)));
        if self.is_variable_of_shared_session() {
            if is_exact {
                self.refuse_on_shared_session(Setting::StatementTimeout)?;
            }
            return Ok(None);
        }
        if self.dialect != Dialect::Sqlite {
            return Ok(timeout);
        }
        if is_exact {
            self.refuse(Unsupported::sqlite_statement_timeout())?;
        }
        Ok(None)
    }

    /// On MySQL and MariaDB a timeout can only be a variable of the session.
    fn is_variable_of_shared_session(&self) -> bool {
        self.dialect == Dialect::Mysql && !self.profile.may_set_session()
    }

    fn refuse_on_shared_session(&mut self, setting: Setting) -> Result<(), Error> {
        match self.profile.pooler_safe {
            true => self.refuse(Unsupported::on_shared_session(setting)),
            false => self.refuse_on_engine(setting),
        }
    }

    /// SQLite's busy timeout is a property of the connection, 0 unless the application sets it. To
    /// apply a default, each operation would have to read it first.
    fn lock_timeout(&mut self, timeout: Option<Timeout>) -> Result<Option<Timeout>, Error> {
        let is_exact = matches!(timeout, Some(Timeout::Exact(_)));
        if !self.profile.has_locks() || self.is_variable_of_shared_session() {
            match self.profile.has_locks() {
                _ if !is_exact => {}
                true => self.refuse_on_shared_session(Setting::LockTimeout)?,
                false => self.refuse_on_engine(Setting::LockTimeout)?,
            }
            return Ok(None);
        }
        let is_sqlite = self.dialect == Dialect::Sqlite;
        Ok(timeout.filter(|_| !is_sqlite || is_exact))
    }
}

/// The settings that were asked for with best effort and are not supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped(u32);

impl Skipped {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn add(&mut self, setting: Setting) {
        self.0 |= bit(setting);
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Takes one out, in the order of [`Setting::ALL`], in which they are checked.
    pub(crate) fn take(&mut self) -> Option<Setting> {
        if self.is_empty() {
            return None;
        }
        let is_in = |setting: &Setting| self.0 & bit(*setting) != 0;
        let first = Setting::ALL.into_iter().find(is_in)?;
        self.0 &= !bit(first);
        Some(first)
    }
}

const fn bit(setting: Setting) -> u32 {
    1 << setting as u32
}

#[cfg(test)]
mod tests;
