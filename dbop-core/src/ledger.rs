//! The ledger: tokens that are committed together with the work they stand for.
//!
//! When the answer to a COMMIT is lost, its token tells what became of it: it is inserted again.
//! The unique key makes that wait for a transaction that still holds the token, so a COMMIT that
//! is held up somewhere cannot arrive after the answer was "no". Looking for the token with a
//! SELECT could not rule that out.
//!
//! A token that is there can have been committed by DDL, or by a COMMIT in the operation's SQL,
//! with the first part of the work only. So what closes the transaction marks it as completed.

use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Dialect, Outcome};

/// Knows the tokens of one database that have served. One for each database, shared by all that
/// work on it, for example in a `static`.
///
/// A token is needed until its operation has returned. The next operation with the same ledger
/// deletes it on its way, without a round trip, so the table stays as small as the number of
/// operations under way. What a process leaves behind that ends in between is for the
/// adapter's `prune`.
#[derive(Debug, Default)]
pub struct Ledger {
    served: Mutex<Vec<Token>>,
}

impl Ledger {
    /// A ledger.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            served: Mutex::new(Vec::new()),
        }
    }

    /// The statement that creates the table `dbop_ledger`, for a migration. Empty for SQLite, where
    /// the outcome of a COMMIT is never unknown and no token is written.
    #[must_use]
    pub const fn create_table(dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Postgres => {
                "CREATE TABLE IF NOT EXISTS dbop_ledger (token CHAR(32) PRIMARY KEY, \
                 completed BOOLEAN NOT NULL DEFAULT FALSE, \
                 created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP)"
            }
            Dialect::Mysql => {
                "CREATE TABLE IF NOT EXISTS dbop_ledger (\
                 token CHAR(32) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY, \
                 completed BOOLEAN NOT NULL DEFAULT FALSE, \
                 created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB"
            }
            Dialect::Sqlite => "",
        }
    }

    /// The statement that deletes tokens of more than a day ago by the server's clock. No operation
    /// may go on for a day: one that lost its token would take its work for undone.
    #[must_use]
    pub const fn prune(dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Postgres => {
                "DELETE FROM dbop_ledger WHERE created_at < CURRENT_TIMESTAMP - INTERVAL '1 day'"
            }
            Dialect::Mysql => {
                "DELETE FROM dbop_ledger WHERE created_at < CURRENT_TIMESTAMP - INTERVAL 1 DAY"
            }
            Dialect::Sqlite => "",
        }
    }

    /// An entry for an operation that begins.
    #[must_use]
    pub fn open(&self) -> Entry<'_> {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = served.len().saturating_sub(DELETED_AT_ONCE);
        Entry {
            ledger: self,
            token: Token::new(),
            is_written: AtomicBool::new(false),
            is_closed: false,
            served: served.split_off(rest),
        }
    }
}

/// An operation's token, and those that it deletes on its way.
#[derive(Debug)]
pub struct Entry<'a> {
    ledger: &'a Ledger,
    token: Token,
    is_written: AtomicBool,
    is_closed: bool,
    served: Vec<Token>,
}

impl Entry<'_> {
    /// What the operation sends about its token. None on SQLite.
    pub(crate) fn sql(&self, dialect: Dialect) -> Option<TokenSql> {
        if dialect == Dialect::Sqlite {
            return None;
        }
        self.is_written.store(true, Ordering::Relaxed);
        let mut opening = format!("INSERT INTO dbop_ledger (token) VALUES ('{}')", self.token);
        // One by one: for a list, MySQL and MariaDB read a small table from end to end, and wait for
        // the tokens of others, or deadlock with them (measured).
        let mut deletes = String::new();
        for token in &self.served {
            _ = write!(deletes, "; DELETE FROM dbop_ledger WHERE token = '{token}'");
        }
        let mut cleanup = String::new();
        if dialect == Dialect::Postgres && !deletes.is_empty() {
            // PostgreSQL reads a small table from end to end for one token, too. In a serializable
            // transaction each operation would so depend on all others, and one of two at the same
            // time would fail (measured). Nobody has to wait until this is on the disk. NOT
            // DEFERRABLE, so that it fails in a transaction that is open already.
            cleanup = format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE; \
                 SET LOCAL synchronous_commit = off{deletes}; COMMIT; "
            );
        } else {
            opening.push_str(&deletes);
        }
        Some(TokenSql {
            token: self.token,
            dialect,
            cleanup,
            opening,
        })
    }

    /// The operation is over. Without this, nothing of it has happened.
    pub fn close(mut self, outcome: Outcome) {
        self.is_closed = true;
        match outcome {
            _ if !self.is_written.load(Ordering::Relaxed) => {}
            Outcome::Committed => self.served = vec![self.token],
            Outcome::Undone => {}
            // To delete a row that is not there locks a gap on MySQL: leave them to be pruned.
            Outcome::Unknown => self.served.clear(),
        }
    }
}

/// What has not been deleted is for the next one.
impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // Dropped in between: nobody knows what has been deleted.
        if *self.is_written.get_mut() && !self.is_closed {
            self.served.clear();
        }
        let mut served = self
            .ledger
            .served
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        served.append(&mut self.served);
    }
}

/// What an operation sends about its token.
#[derive(Clone, Debug)]
pub(crate) struct TokenSql {
    token: Token,
    dialect: Dialect,
    /// What goes in front of the BEGIN.
    pub(crate) cleanup: String,
    /// The first statements in the transaction. Sent again, they fail if the token is there.
    pub(crate) opening: String,
}

impl TokenSql {
    /// The last statement in front of COMMIT.
    pub(crate) fn closing(&self) -> String {
        let token = self.token;
        if self.dialect == Dialect::Postgres {
            // Not an UPDATE, which would read the table: see above.
            format!(
                "INSERT INTO dbop_ledger (token) VALUES ('{token}') \
                 ON CONFLICT (token) DO UPDATE SET completed = TRUE"
            )
        } else {
            format!("UPDATE dbop_ledger SET completed = TRUE WHERE token = '{token}'")
        }
    }

    /// What fails, with a duplicate, if the token is there and completed: no answer has to be read.
    pub(crate) fn is_completed(&self) -> String {
        format!(
            "INSERT INTO dbop_ledger (token) \
             SELECT token FROM dbop_ledger WHERE token = '{}' AND completed",
            self.token
        )
    }
}

/// 112 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token(u128);

impl fmt::Display for Token {
    /// The beginning is what a duplicate is recognised by, whatever language the server speaks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dbop{:028x}", self.0)
    }
}

impl Token {
    /// From the operating system's randomness by way of the standard library's hasher.
    /// Two operations with the same token would take each other's work for their own.
    fn new() -> Self {
        // A forked process starts with its parent's random keys.
        let half = || u128::from(RandomState::new().hash_one(std::process::id()));
        Self((half() << 64 | half()) >> (128 - BITS))
    }
}

const BITS: u32 = 112;

/// How many tokens an operation deletes at most.
const DELETED_AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        let ledger = Ledger::new();
        let tokens: std::collections::HashSet<_> =
            (0..10_000).map(|_| ledger.open().token.0).collect();
        assert_eq!(tokens.len(), 10_000);
        let ones = tokens.iter().fold(0, |ones, token| ones | token);
        assert_eq!(ones, (1 << BITS) - 1, "every bit is used");
        assert_eq!(ledger.open().token.to_string().len(), 32);
    }

    #[test]
    fn a_token_that_has_served_is_deleted_by_the_next_operation_that_commits() {
        let ledger = Ledger::new();
        let first = ledger.open();
        let token = first.token.to_string();
        let sql = |entry: &Entry<'_>, dialect| entry.sql(dialect).expect("a token").opening;
        let postgres = first.sql(Dialect::Postgres).expect("a token");
        assert!(postgres.cleanup.is_empty() && !postgres.opening.contains("DELETE"));
        first.close(Outcome::Committed);
        let undone = ledger.open();
        let deletes = format!("DELETE FROM dbop_ledger WHERE token = '{token}'");
        let postgres = undone.sql(Dialect::Postgres).expect("a token");
        assert!(postgres.cleanup.ends_with(&format!("{deletes}; COMMIT; ")));
        assert!(!postgres.opening.contains("DELETE"));
        undone.close(Outcome::Undone);
        let committed = ledger.open();
        assert!(sql(&committed, Dialect::Mysql).ends_with(&deletes));
        let next = committed.token.to_string();
        committed.close(Outcome::Committed);
        let sql = sql(&ledger.open(), Dialect::Mysql);
        assert!(!sql.contains(&token) && sql.contains(&next), "{sql}");
    }

    #[test]
    fn what_wrote_no_token_deletes_none_and_leaves_none() {
        let ledger = Ledger::new();
        let first = ledger.open();
        assert!(first.sql(Dialect::Sqlite).is_none());
        first.close(Outcome::Committed);
        assert!(ledger.open().served.is_empty());
        let second = ledger.open();
        _ = second.sql(Dialect::Postgres);
        second.close(Outcome::Committed);
        for outcome in [Outcome::Committed, Outcome::Unknown] {
            ledger.open().close(outcome);
        }
        assert_eq!(ledger.open().served.len(), 1, "still to be deleted");
    }

    #[test]
    fn what_is_dropped_in_between_leaves_its_tokens_to_be_pruned() {
        let ledger = Ledger::new();
        let first = ledger.open();
        _ = first.sql(Dialect::Mysql);
        first.close(Outcome::Committed);
        drop(ledger.open());
        assert_eq!(ledger.open().served.len(), 1, "not begun");
        let canceled = ledger.open();
        _ = canceled.sql(Dialect::Mysql);
        drop(canceled);
        assert!(ledger.open().served.is_empty());
    }

    #[test]
    fn many_tokens_are_deleted_in_portions() {
        let ledger = Ledger::new();
        let entries: Vec<_> = (0..40).map(|_| ledger.open()).collect();
        for entry in entries {
            _ = entry.sql(Dialect::Mysql);
            entry.close(Outcome::Committed);
        }
        let (one, other) = (ledger.open(), ledger.open());
        assert_eq!((one.served.len(), other.served.len()), (32, 8));
        drop((one, other));
        assert_eq!(ledger.open().served.len(), 32, "given back");
    }
}
