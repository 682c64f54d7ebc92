//! What one operation asks for.

use std::time::Duration;

use crate::classifier::BorrowedClassifier;
use crate::dialect::ledger::table::Table;
use crate::dialect::{Dialect, Profile, Unsupported};
use crate::error::{Error, Kind};
use crate::event::Name;
use crate::gate::Keys;
use crate::hooks::Hooks;
use crate::key::Key;
use crate::ledger::Ledger;
use crate::policy::{ClassRules, RetryPolicy};
use crate::settings::{Setting, Settings, check_duration};

/// Everything that one operation asks for, from the builder to the machine. A further option is a
/// field here, a setter of the builder, and its use.
///
/// Exhaustive on purpose: the adapters build it.
///
/// # Default
///
/// [`new`](Self::new): nothing but a name.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// What it is called in records.
    pub name: Name<'a>,
    /// The settings of its transaction.
    pub settings: Settings,
    /// When and how often it is retried. `None`: the runner's policy.
    pub policy: Option<&'a RetryPolicy>,
    /// How often it may be retried after the first attempt. `None`: as the policy says.
    pub max_retries: Option<u32>,
    /// Classes that it is retried on, or never, whatever the policy says.
    pub classes: ClassRules,
    /// What judges its database errors before the runner's classifier.
    pub classifier: Option<BorrowedClassifier<'a>>,
    /// Its work done twice is the same as done once.
    pub idempotent: bool,
    /// How long it may take, all attempts together. `None`: the runner's default, or what is left
    /// to the operation around it.
    pub deadline: Option<Duration>,
    /// The lock timeout of each attempt; the last one is for all that follow. Empty: they do not
    /// differ.
    pub lock_timeouts: &'a [Duration],
    /// The rows that it is going to lock: it waits for those before it that lock them too.
    pub exclusive_by: Option<&'a Keys>,
    /// It waits for its turn although it holds the caller's connection meanwhile.
    pub queues_with_connection: bool,
    /// It does not wait at the gate of its name.
    pub ungated: bool,
    /// How to find out what became of a COMMIT whose answer was lost.
    pub resolution: Resolution<'a>,
    /// What makes it be done once for all callers. It needs the ledger.
    pub key: Option<&'a Key<'a>>,
    /// SQL that each attempt begins with, in its transaction.
    pub begin_with_sql: Option<&'a str>,
    /// What is called besides the body.
    pub hooks: Hooks<'a>,
    /// The adapter is async: it awaits hooks.
    pub awaits_hooks: bool,
}

impl<'a> Spec<'a> {
    /// An operation that asks for nothing.
    #[must_use]
    pub const fn new(name: Name<'a>) -> Self {
        Self {
            name,
            settings: Settings::NONE,
            policy: None,
            max_retries: None,
            classes: ClassRules::NONE,
            classifier: None,
            idempotent: false,
            deadline: None,
            lock_timeouts: &[],
            exclusive_by: None,
            queues_with_connection: false,
            ungated: false,
            resolution: Resolution::Nothing,
            key: None,
            begin_with_sql: None,
            hooks: Hooks::NONE,
            awaits_hooks: false,
        }
    }

    /// Checks that the engine speaks this dialect, that the outcome can be found out so there and for this
    /// operation, and the lock timeouts.
    pub(crate) fn check(&self, dialect: Dialect, profile: Profile) -> Result<(), Error> {
        let refused = |why| Err(Error::new(Kind::UnsupportedSetting(why)));
        if let Some(engine) = profile.engine.filter(|engine| engine.dialect() != dialect) {
            let why = Unsupported::only_on(engine.dialect(), Setting::Engine, dialect);
            return refused(why);
        }
        for timeout in self.lock_timeouts {
            check_duration(Setting::LockTimeout, *timeout)?;
        }
        if let Some(key) = self.key {
            key.check(self.name)?;
        }
        let sql = self.begin_with_sql.map(|_| Setting::BeginWithSql);
        let setting = self.resolution.setting().or(sql);
        if let Some(setting) = setting.filter(|_| self.settings.without_transaction) {
            return refused(Unsupported::without_transaction(setting));
        }
        let without_ids = profile.engine.filter(|_| !profile.has_transaction_ids());
        match (self.resolution, dialect, without_ids) {
            (Resolution::TransactionStatus, Dialect::Mysql | Dialect::Sqlite, _) => {
                let setting = Setting::TransactionStatus;
                refused(Unsupported::only_on(Dialect::Postgres, setting, dialect))
            }
            (Resolution::TransactionStatus, _, Some(engine)) => {
                refused(Unsupported::not_on(engine, Setting::TransactionStatus))
            }
            (Resolution::Ledger(_), _, Some(engine)) => {
                refused(Unsupported::not_on(engine, Setting::Ledger))
            }
            _ => Ok(()),
        }
    }
}

/// How to find out what became of a COMMIT whose answer was lost. The question is asked on a fresh
/// connection.
///
/// Exhaustive on purpose, for the adapters.
#[derive(Clone, Copy, Debug, Default)]
pub enum Resolution<'a> {
    /// Not at all: the outcome stays unknown.
    #[default]
    Nothing,
    /// The caller looks for the work.
    Verify,
    /// PostgreSQL is asked for the status of the transaction, whose id was read before the COMMIT.
    TransactionStatus,
    /// A token is committed with the work. The question commits it as one that is never committed, unless
    /// it is there, and waits for the transaction that may still hold it.
    Ledger(&'a Ledger),
}

impl Resolution<'_> {
    /// The table of the ledger.
    pub(crate) const fn table(&self) -> Table {
        match self {
            Self::Ledger(ledger) => ledger.table(),
            _ => Table::DEFAULT,
        }
    }

    /// What asked for it.
    const fn setting(&self) -> Option<Setting> {
        match self {
            Self::Nothing => None,
            Self::Verify => Some(Setting::Verify),
            Self::TransactionStatus => Some(Setting::TransactionStatus),
            Self::Ledger(_) => Some(Setting::Ledger),
        }
    }
}
