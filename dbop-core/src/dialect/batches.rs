//! What an operation sends to open a transaction or savepoint, and to close it.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use super::proof::CommitProof;
use super::{Dialect, Level, SavedPragmas, limit, milliseconds, mysql, postgres, sqlite};
use crate::error::Error;
use crate::ledger::Entry;
use crate::settings::{Applied, BeginMode, Defaults, Settings, Skipped, Timeout};

/// The batches of one operation: made once, used by every attempt.
///
/// Savepoints have names of our own. Diesel leaves its savepoints on the server after a nested
/// rollback, so one of Diesel's names could mean an old one where a new one failed to be opened.
#[derive(Clone, Debug)]
pub struct Batches {
    dialect: Dialect,
    level: Level,
    applied: Applied,
    before: SavedPragmas,
    proof: Option<CommitProof>,
    begin: Cow<'static, str>,
    commit: Cow<'static, str>,
    /// By [`Undo`].
    undo: [OnceLock<Cow<'static, str>>; 4],
}

impl Batches {
    /// The batches for an operation with these settings.
    ///
    /// # Errors
    ///
    /// A timeout of zero or of more than `i32::MAX` milliseconds, and a setting that this dialect
    /// or level does not have unless [`Settings::best_effort`] is set.
    pub fn new(
        dialect: Dialect,
        level: Level,
        settings: &Settings,
        defaults: &Defaults,
        before: SavedPragmas,
    ) -> Result<Self, Error> {
        let applied = Applied::resolve(dialect, level, settings, defaults)?;
        Ok(Self::assembled(dialect, level, applied, before, None))
    }

    fn assembled(
        dialect: Dialect,
        level: Level,
        applied: Applied,
        before: SavedPragmas,
        proof: Option<CommitProof>,
    ) -> Self {
        let (begin, commit) = match dialect {
            Dialect::Postgres => (
                postgres::begin(level, &applied, proof.as_ref()),
                postgres::commit(level, &applied, proof.as_ref()),
            ),
            Dialect::Mysql => (
                mysql::begin(level, &applied, proof.as_ref()),
                mysql::commit(level, &applied, proof.as_ref()),
            ),
            Dialect::Sqlite => (
                sqlite::begin(level, &applied, before),
                sqlite::commit(level, &applied, before),
            ),
        };
        Self {
            dialect,
            level,
            applied,
            before,
            proof,
            begin,
            commit,
            undo: Default::default(),
        }
    }

    /// Those of an attempt with this lock timeout, of which no statement may go on for longer than
    /// what is left. `None`: they are the same.
    pub(crate) fn for_attempt(
        &self,
        lock_timeout: Option<Duration>,
        left: Option<Duration>,
    ) -> Option<Self> {
        let mut applied = self.applied;
        if let Some(lock_timeout) = lock_timeout {
            applied.lock_timeout = Some(Timeout::Exact(lock_timeout));
        }
        if let Some(left) = left {
            // Where a statement timeout does not bound the wait for a lock, the lock timeout has
            // to; SQLite has nothing else.
            let asked = applied.lock_timeout.is_some();
            match self.dialect {
                Dialect::Postgres => limit(&mut applied.statement_timeout, left),
                Dialect::Mysql => {
                    limit(&mut applied.statement_timeout, left);
                    limit(&mut applied.lock_timeout, left);
                }
                Dialect::Sqlite if asked => limit(&mut applied.lock_timeout, left),
                // What the connection waits by itself, BEGIN above all.
                Dialect::Sqlite if milliseconds(left) < self.before.busy_timeout_ms() => {
                    applied.lock_timeout = Some(Timeout::Exact(left.max(Duration::from_millis(1))));
                }
                Dialect::Sqlite => {}
            }
        }
        if applied == self.applied {
            return None;
        }
        let proof = self.proof.clone();
        Some(Self::assembled(
            self.dialect,
            self.level,
            applied,
            self.before,
            proof,
        ))
    }

    /// With the token of an operation, written first and completed last in the transaction, in the
    /// same batches. What writes nothing has none, and a savepoint is left alone: whether it counts
    /// is decided by the transaction around it.
    #[must_use]
    pub fn with_token(self, entry: &Entry<'_>) -> Self {
        if self.level != Level::Transaction || self.is_read_only() {
            return self;
        }
        match entry.issue_sql(self.dialect) {
            Some(token) => self.with_proof(CommitProof::Token(token)),
            None => self,
        }
    }

    /// With a mark that goes with the transaction, for [`CurrentTransaction::is_ours`]. PostgreSQL
    /// only; what writes nothing is not asked about.
    ///
    /// [`CurrentTransaction::is_ours`]: crate::CurrentTransaction::is_ours
    #[must_use]
    pub fn with_mark(self) -> Self {
        let is_open = self.dialect == Dialect::Postgres && self.level == Level::Transaction;
        if !is_open || self.is_read_only() {
            return self;
        }
        self.with_proof(CommitProof::Mark)
    }

    fn with_proof(self, proof: CommitProof) -> Self {
        let proof = Some(proof);
        Self::assembled(self.dialect, self.level, self.applied, self.before, proof)
    }

    /// Asks, in a transaction of its own, whether the token that is there is completed: it is if
    /// this fails with a duplicate.
    pub(crate) fn is_completed(&self) -> String {
        let question = match &self.proof {
            Some(CommitProof::Token(token)) => token.is_completed(),
            _ => String::new(),
        };
        let plain = Self::assembled(self.dialect, self.level, self.applied, self.before, None);
        format!("{}; {question}", plain.begin)
    }

    /// Whether the server itself makes sure that the attempt writes nothing.
    pub(crate) const fn is_read_only(&self) -> bool {
        self.applied.read_only
    }

    /// The dialect.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Where the attempts run.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The values of the session that they are made for.
    pub(crate) const fn before(&self) -> SavedPragmas {
        self.before
    }

    /// The settings that were asked for with best effort and cannot be had.
    pub(crate) const fn skipped(&self) -> Skipped {
        self.applied.skipped
    }

    /// Opens the transaction or savepoint, with its settings.
    #[must_use]
    pub fn begin(&self) -> &str {
        &self.begin
    }

    /// Closes it for good, with the settings restored. In a transaction that the server has
    /// aborted or dropped it fails, where a bare COMMIT would succeed.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The same again, after SQLite was busy and has left the transaction open.
    pub(crate) fn commit_again(&self) -> &str {
        sqlite::commit_again(&self.commit)
    }

    /// Whether an attempt that begins like this holds SQLite's write lock from the start.
    #[must_use]
    pub const fn begins_immediate(&self) -> bool {
        matches!(self.dialect, Dialect::Sqlite)
            && matches!(self.level, Level::Transaction)
            && !matches!(sqlite::begin_mode(&self.applied), BeginMode::Deferred)
    }

    /// Whether an attempt can be undone so.
    pub(crate) fn has(&self, undo: Undo) -> bool {
        let is_transaction = self.level == Level::Transaction;
        match undo {
            Undo::Rollback => true,
            Undo::CheckedRollback => is_transaction && self.dialect == Dialect::Postgres,
            Undo::BlindRollback => is_transaction && self.dialect == Dialect::Mysql,
            Undo::FailedBegin => self.dialect == Dialect::Sqlite,
        }
    }

    /// Undoes the attempt and restores the settings. Made when it is first needed.
    pub(crate) fn undo(&self, undo: Undo) -> &str {
        self.undo[undo as usize].get_or_init(|| match undo {
            Undo::Rollback => self.rollback(),
            Undo::CheckedRollback => {
                let check = postgres::rollback_check(self.proof.as_ref());
                Cow::Owned(format!("{check}; {}", self.rollback()))
            }
            Undo::BlindRollback => mysql::blind_rollback(&self.applied),
            Undo::FailedBegin => sqlite::restoration(&self.applied, self.before),
        })
    }

    fn rollback(&self) -> Cow<'static, str> {
        match self.dialect {
            Dialect::Postgres => postgres::rollback(self.level, &self.applied),
            Dialect::Mysql => mysql::rollback(self.level, &self.applied),
            Dialect::Sqlite => sqlite::rollback(self.level, &self.applied, self.before),
        }
    }

    /// Restores the settings in a savepoint that is gone, where they do not go with it.
    pub(crate) fn restoration(&self) -> Cow<'static, str> {
        match self.dialect {
            Dialect::Postgres => Cow::Borrowed(""),
            Dialect::Mysql => Cow::Owned(mysql::restoration(self.level, &self.applied)),
            Dialect::Sqlite => sqlite::restoration(&self.applied, self.before),
        }
    }

    /// Whether nothing follows the COMMIT in its batch.
    pub(crate) const fn commit_is_last(&self) -> bool {
        match self.dialect {
            Dialect::Postgres => true,
            Dialect::Mysql => false,
            Dialect::Sqlite => self.applied.lock_timeout.is_none(),
        }
    }
}

/// How an attempt is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// It fails where the transaction is not there any more, if the dialect can tell.
    Rollback,
    /// The same for the end of a body, failing where no transaction is open any more.
    ///
    /// PostgreSQL only warns of a ROLLBACK without a transaction, and diesel-async does not look.
    /// AND CHAIN is an error there, and takes an aborted transaction like any other (measured).
    /// PostgreSQL has it since version 12; what speaks its protocol may not. Where the outcome is
    /// asked for, a savepoint of ours is in the transaction: ROLLBACK TO fails in another one, too.
    CheckedRollback,
    /// Without looking whether the transaction is still there, for where it is known or likely not
    /// to be.
    BlindRollback,
    /// Only the settings, after a BEGIN that failed where nothing can have been opened.
    FailedBegin,
}
