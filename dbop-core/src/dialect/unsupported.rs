//! Why a setting is refused.

use std::fmt;

use super::{Dialect, Engine};
use crate::settings::{IsolationLevel, Setting};

/// A setting that is refused, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsupported {
    setting: Setting,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Only one dialect has it.
    OnlyOn { only: Dialect, not: Dialect },
    /// The open transaction has it already, one way or the other.
    TransactionIsOpen,
    /// An operation without a transaction cannot run in one.
    RunsInTransaction,
    /// It belongs to a transaction, and the operation has none.
    HasNoTransaction,
    /// MySQL has it for whole transactions.
    OnlyForWholeTransaction,
    /// SQLite isolates all transactions fully.
    AlwaysSerializable { asked: IsolationLevel },
    /// SQLite does not have it.
    NoStatementTimeout,
    /// It would be set on a session that others may use.
    SessionIsShared,
    /// The engine does not have it, or not in a way that could be relied on.
    NotOn(Engine),
    /// An operation in an open transaction is a savepoint, and the engine has none.
    NoSavepoints(Engine),
}

impl Unsupported {
    /// `setting` is not supported on the dialect `not`, only on the dialect `only`.
    pub(crate) const fn only_on(only: Dialect, setting: Setting, not: Dialect) -> Self {
        Self {
            setting,
            reason: Reason::OnlyOn { only, not },
        }
    }

    /// `setting` is decided when a transaction begins.
    pub(super) const fn in_open_transaction(setting: Setting) -> Self {
        Self {
            setting,
            reason: Reason::TransactionIsOpen,
        }
    }

    /// The operation would run in the transaction that is open.
    pub(super) const fn runs_in_transaction() -> Self {
        Self {
            setting: Setting::WithoutTransaction,
            reason: Reason::RunsInTransaction,
        }
    }

    /// `setting` belongs to a transaction, and the operation has none.
    pub(crate) const fn without_transaction(setting: Setting) -> Self {
        Self {
            setting,
            reason: Reason::HasNoTransaction,
        }
    }

    /// Read-only in a transaction that is open, on MySQL and MariaDB.
    pub(super) const fn mysql_read_only() -> Self {
        Self {
            setting: Setting::ReadOnly,
            reason: Reason::OnlyForWholeTransaction,
        }
    }

    /// A weaker isolation level than SQLite's.
    pub(super) const fn sqlite_isolation(asked: IsolationLevel) -> Self {
        Self {
            setting: Setting::Isolation,
            reason: Reason::AlwaysSerializable { asked },
        }
    }

    /// A statement timeout on SQLite.
    pub(super) const fn sqlite_statement_timeout() -> Self {
        Self {
            setting: Setting::StatementTimeout,
            reason: Reason::NoStatementTimeout,
        }
    }

    /// A variable of the session, which a pooler may lend to others.
    pub(super) const fn on_shared_session(setting: Setting) -> Self {
        Self {
            setting,
            reason: Reason::SessionIsShared,
        }
    }

    /// What this engine does not have.
    pub(crate) const fn not_on(engine: Engine, setting: Setting) -> Self {
        Self {
            setting,
            reason: Reason::NotOn(engine),
        }
    }

    /// An operation in an open transaction, where there are no savepoints.
    pub(super) const fn no_savepoints(engine: Engine) -> Self {
        Self {
            setting: Setting::Engine,
            reason: Reason::NoSavepoints(engine),
        }
    }

    /// Whether it is supported at the beginning of a transaction.
    pub(super) const fn is_because_transaction_is_open(self) -> bool {
        matches!(
            self.reason,
            Reason::TransactionIsOpen | Reason::RunsInTransaction | Reason::OnlyForWholeTransaction
        )
    }

    /// The setting.
    pub(super) const fn setting(self) -> Setting {
        self.setting
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, reason } = self;
        match reason {
            Reason::OnlyOn { only, not } => {
                write!(f, "{setting} is not supported on {not}, only on {only}")
            }
            Reason::TransactionIsOpen => write!(
                f,
                "{setting} cannot be changed inside a transaction that is already open"
            ),
            Reason::RunsInTransaction => write!(
                f,
                "{setting} is not possible inside a transaction that is already open"
            ),
            Reason::HasNoTransaction => write!(
                f,
                "{setting} is not supported without a transaction, which the operation asked for"
            ),
            Reason::OnlyForWholeTransaction => write!(
                f,
                "{setting} is not supported on mysql inside a transaction that is already open, \
                 only for a whole transaction"
            ),
            Reason::AlwaysSerializable { asked } => write!(
                f,
                "{setting} {} is not supported on sqlite, which is always serializable",
                asked.as_str()
            ),
            Reason::NoStatementTimeout => write!(
                f,
                "{setting} is not supported on sqlite, which has no statement timeout"
            ),
            Reason::SessionIsShared => write!(
                f,
                "{setting} is not supported by a pooler-safe runner on mysql, where it is a variable \
                 of the session, which others may use"
            ),
            Reason::NotOn(engine) => write!(f, "{setting} is not supported on {engine}"),
            Reason::NoSavepoints(engine) => write!(
                f,
                "{engine} has no savepoints, so an operation cannot run inside a transaction that is \
                 already open"
            ),
        }
    }
}
