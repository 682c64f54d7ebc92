//! What an operation has promised, and what it is given.

use std::time::{Duration, Instant};

use crate::old::error::Kind;
use crate::old::settings::check_duration;
use crate::old::{Dialect, Error, Setting};

/// What an operation has promised, and what it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms<'a> {
    /// It asked for read-only.
    pub read_only: bool,
    /// Its work done twice is the same as done once.
    pub idempotent: bool,
    /// Its connections come from a source that has more of them.
    pub fresh_connections: bool,
    /// How to find out what became of a commit whose answer was lost.
    pub resolution: Resolution,
    /// When to give up.
    pub deadline: Option<Instant>,
    /// When to give up if it says nothing about that itself, unless it is nested in another
    /// operation: then that one's deadline is in force.
    pub default_deadline: Option<Instant>,
    /// The lock timeout of each attempt; the last one is for all that follow. Empty: they do not
    /// differ.
    pub lock_timeouts: &'a [Duration],
}

/// How to find out what became of a commit whose answer was lost. The question is asked on a fresh
/// connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// Not at all: the outcome stays unknown.
    #[default]
    Nothing,
    /// The caller looks for the work.
    Verify,
    /// PostgreSQL is asked for the status of the transaction, whose id was read before the commit.
    TransactionStatus,
    /// A token is committed with the work, and then looked for by inserting it again, which waits
    /// for the transaction that may still hold it.
    Ledger,
}

impl Terms<'_> {
    /// Checks that the outcome can be found out so on this database, and the lock timeouts.
    ///
    /// # Errors
    ///
    /// If it cannot, and if a lock timeout is zero or longer than 2147483647 ms.
    pub fn check(self, dialect: Dialect) -> Result<(), Error> {
        for timeout in self.lock_timeouts {
            check_duration(Setting::LockTimeout, *timeout)?;
        }
        match (self.resolution, dialect) {
            (Resolution::TransactionStatus, Dialect::Mysql | Dialect::Sqlite) => Err(Error::new(
                Kind::UnsupportedSetting(crate::dialect::Unsupported::only_on(
                    Dialect::Postgres,
                    Setting::TransactionStatus,
                    dialect,
                )),
            )),
            _ => Ok(()),
        }
    }
}
