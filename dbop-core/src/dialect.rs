//! The SQL of each database, as pure strings: options in, batches out.
//!
//! A transaction is opened with everything that belongs to it in one batch and closed with
//! everything undone in one batch, so that an operation costs as many round trips as a bare
//! `BEGIN` and `COMMIT`. Nothing is read back: the old value of a setting stays on the server, in
//! a variable of ours, until it is restored.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::Error;
use crate::ledger::TokenSql;
use crate::settings::{Applied, Defaults, Settings, Skipped, Timeout};
use crate::{BeginMode, Code, Entry, Fault, FaultClass};

mod mysql;
mod postgres;
mod sqlite;

/// A database's SQL and its rules. MySQL and MariaDB share one: what differs is said in comments
/// that only the right one executes.
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
    pub const COUNT: usize = 3;

    /// The name used in log records: `postgresql`, `mysql` or `sqlite`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// Which old values have to be handed to [`Batches::new`], because SQL cannot keep them. Only
    /// SQLite's pragmas are so; reading them costs no round trip. `is_timed`: there is a deadline,
    /// which can make one of them shorter.
    #[must_use]
    pub const fn session_needs(
        self,
        settings: &Settings,
        defaults: &Defaults,
        is_timed: bool,
    ) -> SessionNeeds {
        let is_sqlite = matches!(self, Self::Sqlite);
        SessionNeeds {
            busy_timeout: is_sqlite && (settings.lock_timeout.is_some() || is_timed),
            query_only: is_sqlite && (settings.read_only || defaults.read_only),
        }
    }

    /// What fails if a transaction that is gone is known *not* to be undone as a whole: no answer has
    /// to be read.
    ///
    /// MySQL and MariaDB: if a lock timeout does not end it. (A subquery of two rows is an error,
    /// 1242, if it is evaluated.) SQLite: if the last statement that could write has written; one
    /// that has failed and ended the transaction has not. Earlier writes, and DDL, cannot be seen. A
    /// read that has failed so does not count, and the write in front of it does. (2^63 is an integer
    /// overflow.)
    pub(crate) const fn asks_whether_undone(self) -> &'static str {
        match self {
            Self::Mysql => {
                "SET @dbop_ends = IF(@@innodb_rollback_on_timeout, 1, (SELECT 1 UNION SELECT 2))"
            }
            Self::Sqlite => "SELECT CASE WHEN changes() > 0 THEN abs(-9223372036854775807 - 1) END",
            Self::Postgres => "",
        }
    }

    /// What to send when the server has dropped the transaction under a savepoint, so that
    /// nothing written from then on sticks.
    pub(crate) const fn containment(self) -> Option<&'static str> {
        match self {
            Self::Postgres => None,
            Self::Mysql => Some("SET autocommit=0"),
            Self::Sqlite => Some("BEGIN"),
        }
    }

    /// Whether an error to a top-level COMMIT proves that nothing was committed, given that what it
    /// leaves open is ended by a ROLLBACK, or with the connection.
    pub(crate) const fn commit_error_is_definite(self, fault: &Fault) -> bool {
        match (self, fault.class()) {
            (_, FaultClass::OutcomeUnknown | FaultClass::TransactionLost) => false,
            // Only FATAL errors are ambiguous, and they break the connection.
            (Self::Postgres, class) => class.leaves_connection_usable(),
            // The file is local.
            (Self::Sqlite, _) => true,
            // Refused by a node without a quorum, which does not refuse the SET that follows the
            // COMMIT. It keeps the transaction open (all measured), and refuses to roll it back: the
            // connection is thrown away, and takes the transaction with it.
            (Self::Mysql, FaultClass::ServerUnavailable) => {
                matches!(fault.code(), Some(Code::Errno(1047)))
            }
            // A statement follows the COMMIT in its batch, so an error that is not known to come
            // from the COMMIT can have come after it.
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
    /// No transaction is open: the attempt is one.
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
}

/// The old values of settings that SQL itself cannot keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionBefore {
    /// SQLite's `PRAGMA busy_timeout`, in milliseconds.
    pub busy_timeout: i64,
    /// SQLite's `PRAGMA query_only`.
    pub query_only: bool,
}

impl SessionBefore {
    /// A negative one means no wait, as zero does.
    fn busy_timeout_ms(self) -> u128 {
        u128::try_from(self.busy_timeout).unwrap_or(0)
    }
}

/// Which of these values have to be read before an operation begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionNeeds {
    /// [`SessionBefore::busy_timeout`]
    pub busy_timeout: bool,
    /// [`SessionBefore::query_only`]
    pub query_only: bool,
}

/// The batches of one operation: made once, used by every attempt.
///
/// Savepoints have names of our own. Diesel leaves its savepoints on the server after a nested
/// rollback, so one of Diesel's names could mean an old one where a new one failed to be opened.
#[derive(Clone, Debug)]
pub struct Batches {
    dialect: Dialect,
    level: Level,
    applied: Applied,
    before: SessionBefore,
    note: Option<Note>,
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
        before: SessionBefore,
    ) -> Result<Self, Error> {
        let applied = Applied::resolve(dialect, level, settings, defaults)?;
        Ok(Self::assembled(dialect, level, applied, before))
    }

    fn assembled(dialect: Dialect, level: Level, applied: Applied, before: SessionBefore) -> Self {
        let (begin, commit) = match dialect {
            Dialect::Postgres => (
                postgres::begin(level, &applied),
                postgres::commit(level, &applied),
            ),
            Dialect::Mysql => (
                mysql::begin(level, &applied),
                mysql::commit(level, &applied),
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
            note: None,
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
        let batches = Self::assembled(self.dialect, self.level, applied, self.before);
        Some(batches.noting(self.note.clone()))
    }

    /// With the token of an operation, written first and completed last in the transaction, in the
    /// same batches. What writes nothing has none, and a savepoint is left alone: whether it counts
    /// is decided by the transaction around it.
    #[must_use]
    pub fn with_token(self, entry: &Entry<'_>) -> Self {
        if self.level != Level::Transaction || self.is_read_only() {
            return self;
        }
        let note = entry.sql(self.dialect).map(Note::Token);
        self.noting(note)
    }

    /// With a mark that goes with the transaction, for [`CurrentTransaction::is_ours`]. PostgreSQL
    /// only; what writes nothing is not asked about.
    ///
    /// [`CurrentTransaction::is_ours`]: crate::CurrentTransaction::is_ours
    #[must_use]
    pub fn with_mark(self) -> Self {
        if self.level != Level::Transaction || self.is_read_only() {
            return self;
        }
        self.noting(Some(Note::Mark))
    }

    fn noting(mut self, note: Option<Note>) -> Self {
        let opening = match &note {
            None => return self,
            Some(Note::Mark) => postgres::MARK,
            Some(Note::Token(token)) => &token.opening,
        };
        let begin = self.begin.to_mut();
        begin.push_str("; ");
        begin.push_str(opening);
        let commit = self.commit.to_mut();
        if self.dialect == Dialect::Postgres {
            begin.push_str("; ");
            begin.push_str(postgres::OPEN_ALIVE);
            postgres::close_alive(commit);
        }
        if let Some(Note::Token(token)) = &note {
            begin.insert_str(0, &token.cleanup);
            // Behind the statement that makes sure that the transaction is the one that was opened.
            let checked = commit.find("; ").map_or(0, |end| end + 2);
            commit.insert_str(checked, &format!("{}; ", token.closing()));
        }
        self.note = note;
        self
    }

    /// Asks, in a transaction of its own, whether the token that is there is completed: it is if
    /// this fails with a duplicate.
    pub(crate) fn is_completed(&self) -> String {
        let Self {
            dialect,
            level,
            applied,
            before,
            ..
        } = *self;
        let question = match &self.note {
            Some(Note::Token(token)) => token.is_completed(),
            _ => String::new(),
        };
        let begin = Self::assembled(dialect, level, applied, before).begin;
        format!("{begin}; {question}")
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
    pub(crate) const fn before(&self) -> SessionBefore {
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
                let check = match self.note {
                    Some(_) => postgres::CHECK_ALIVE,
                    None => "ROLLBACK AND CHAIN",
                };
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

/// What is written down about a transaction, in the batches that open and close it.
#[derive(Clone, Debug)]
enum Note {
    Token(TokenSql),
    Mark,
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

/// Room for the SQL of an operation: it is made in one allocation, as Diesel makes its own.
fn sql_with_room_for(applied: &Applied) -> String {
    let plain = matches!(
        applied,
        Applied {
            lock_timeout: None,
            statement_timeout: None,
            ..
        }
    );
    String::with_capacity(if plain { 96 } else { 1024 })
}

/// Whole milliseconds, rounded up: less than one would mean "no limit" to PostgreSQL.
fn milliseconds(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000)
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u128 {
    duration.as_nanos().div_ceil(1_000_000_000)
}

/// Makes a timeout no longer than what is left, but never zero, which would mean "no limit".
fn limit(timeout: &mut Option<Timeout>, left: Duration) {
    let left = left.max(Duration::from_millis(1));
    *timeout = Some(match *timeout {
        Some(Timeout::Exact(asked)) => Timeout::Exact(asked.min(left)),
        Some(Timeout::AtMost(default)) => Timeout::AtMost(default.min(left)),
        None => Timeout::AtMost(left),
    });
}

const fn duration(timeout: Timeout) -> Duration {
    let (Timeout::Exact(duration) | Timeout::AtMost(duration)) = timeout;
    duration
}

#[cfg(test)]
mod tests;
