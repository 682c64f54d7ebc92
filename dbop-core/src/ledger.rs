//! The ledger: tokens that are committed together with the work they stand for.
//!
//! When the answer to a COMMIT is lost, the question about it writes the token as one that is never
//! committed, and commits that. The unique key makes it wait for a transaction that still holds the token,
//! and refuses a COMMIT that comes after it, also where that arrives at another server that takes writes.
//! So a "no" is final, which a SELECT for the token could not be. The next attempt takes a new token.
//!
//! A token can have been committed with only the first part of the work, by DDL or by a COMMIT in the
//! operation's SQL. So the batch that closes the transaction marks the token as completed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::dialect::Dialect;
use crate::dialect::ledger::TokenSql;
use crate::dialect::ledger::table::{self, Table};
use crate::outcome::Outcome;

use token::Token;

pub(crate) mod token;

/// Remembers the tokens of one database that are no longer needed. Create one for each database and
/// share it between all operations on that database, for example in a `static`.
///
/// A token is needed until its operation has returned. One operation in 64 with the same ledger deletes the
/// tokens of the 64 before it, in front of its own transaction and without a round trip. So the table has
/// about as many tokens as there are running operations, and up to 64 more for each ledger. What
/// [`forget`](Self::forget) returns deletes the tokens that a terminated process left behind, and those
/// that were asked for and found not to be committed.
///
/// ```
/// use dbop_core::{Dialect, Ledger};
///
/// static LEDGER: Ledger = Ledger::new(); // an operation names it with `ledger(&LEDGER)`
///
/// let migration = LEDGER.create_table(Dialect::Postgres);
/// assert!(migration.contains("CREATE TABLE dbop_ledger"));
/// # assert!(format!("{LEDGER:?}").starts_with("Ledger"));
/// ```
///
/// # Default
///
/// [`new`](Self::new): the table `dbop_ledger`, no token is remembered.
///
/// # Panics
///
/// An operation with a ledger panics if the operating system has no randomness for its token.
#[derive(Debug)]
pub struct Ledger {
    table: Table,
    served: Mutex<Vec<Token>>,
}

impl Ledger {
    /// A ledger whose table is `dbop_ledger`: in the connection's database, and on PostgreSQL in its
    /// `search_path`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            table: Table::DEFAULT,
            served: Mutex::new(Vec::new()),
        }
    }

    /// A ledger whose table has this name, or this one in a schema (on MySQL and MariaDB: in a database):
    /// `orders` or `app.orders`. The name is quoted in every statement, so upper and lower case are told
    /// apart where the server does that. On SQLite it has to be in the file of the work: a COMMIT over several
    /// attached files in WAL mode is not atomic in a crash (SQLite's documentation of `ATTACH`).
    ///
    /// ```
    /// use dbop_core::{Dialect, Ledger};
    ///
    /// static LEDGER: Ledger = Ledger::named("app.orders");
    ///
    /// let migration = LEDGER.create_table(Dialect::Mysql);
    /// assert!(migration.starts_with("CREATE TABLE IF NOT EXISTS `app`.`orders`"));
    /// ```
    ///
    /// # Panics
    ///
    /// If the name is not one or two parts with a point between them, each of 1 to 63 letters (A to Z, a to
    /// z), digits, `_` and `-`. In a `static` that is an error of the compiler.
    ///
    /// ```compile_fail
    /// # use dbop_core::Ledger;
    /// static LEDGER: Ledger = Ledger::named("app.orders; DROP TABLE orders");
    /// # _ = &LEDGER;
    /// ```
    #[must_use]
    pub const fn named(table: &'static str) -> Self {
        Self {
            table: Table::named(table),
            served: Mutex::new(Vec::new()),
        }
    }

    /// The SQL that creates the table if it does not exist, for a migration. Several sessions can send it at
    /// the same time. On SQLite, where the outcome of a COMMIT is never unknown and no token is written, the
    /// table is needed for keys alone.
    ///
    /// ```
    /// use dbop_core::{Dialect, Ledger};
    ///
    /// let migration = Ledger::new().create_table(Dialect::Mysql);
    /// assert!(migration.starts_with("CREATE TABLE IF NOT EXISTS dbop_ledger"));
    /// ```
    #[must_use]
    pub fn create_table(&self, dialect: Dialect) -> String {
        table::create(self.table, dialect)
    }

    /// The SQL that adds to a table of an earlier version what keys need: the columns `token`, `fingerprint`
    /// and `answer`, and an index on `changed_at`. It does nothing to a table that has them, and it fails
    /// where there is no table. Until it is committed, operations with a ledger wait for it. On MySQL and
    /// MariaDB one session at a time must send it, because there it is several statements: another one can
    /// fail with "duplicate column name". Empty on SQLite, where earlier versions had no table.
    ///
    /// ```
    /// use dbop_core::{Dialect, Ledger};
    ///
    /// let migration = Ledger::new().migrate_table(Dialect::Postgres);
    /// assert!(migration.contains("ALTER TABLE dbop_ledger ADD COLUMN IF NOT EXISTS token"));
    /// ```
    #[must_use]
    pub fn migrate_table(&self, dialect: Dialect) -> String {
        table::migrate(self.table, dialect)
    }

    /// The statement that deletes at most so many entries that were last written longer ago than that, by
    /// the server's clock. The `forget` of a runner sends it; this is for everything else that can send SQL,
    /// such as cron.
    ///
    /// It deletes keys with their answers, and tokens that are also older than a day. It neither waits for an
    /// operation in progress nor deletes its entry. Send it outside of a transaction or in one with the
    /// isolation level `READ COMMITTED`, and again for as long as it deletes as many as it may.
    ///
    /// With a key, `older_than` is how long a repeated request finds its answer. It has to be longer than any
    /// operation with the ledger may last, questions about its COMMIT included: one whose entry was deleted
    /// would take its work for undone.
    ///
    /// On MySQL and MariaDB it needs `SKIP LOCKED`: MySQL 8.0 or MariaDB 10.6.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use dbop_core::{Dialect, Ledger};
    ///
    /// const WEEK: Duration = Duration::from_secs(7 * 86_400);
    ///
    /// let sql = Ledger::new().forget(Dialect::Postgres, WEEK, 10_000);
    /// assert!(sql.starts_with("DELETE FROM dbop_ledger"));
    /// ```
    #[must_use]
    pub fn forget(&self, dialect: Dialect, older_than: Duration, at_most: u32) -> String {
        table::forget(self.table, dialect, older_than, at_most)
    }

    pub(crate) const fn table(&self) -> Table {
        self.table
    }

    /// An entry for an operation that begins.
    #[must_use]
    pub(crate) fn open(&self) -> Entry<'_> {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = served.len().checked_sub(DELETED_AT_ONCE);
        Entry {
            ledger: self,
            token: Token::new(),
            first_attempt: None,
            is_written: AtomicBool::new(false),
            is_closed: false,
            served: rest.map_or_else(Vec::new, |rest| served.split_off(rest)),
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

/// The token of an operation, and the served tokens that it deletes.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    ledger: &'a Ledger,
    token: Token,
    /// Which attempt was the first to write the token, if there was one.
    first_attempt: Option<u32>,
    is_written: AtomicBool,
    is_closed: bool,
    served: Vec<Token>,
}

impl Entry<'_> {
    /// The statements about its token, which from now on count as sent. `None` on SQLite.
    pub(crate) fn issue_sql(&self, dialect: Dialect) -> Option<TokenSql> {
        let sql = TokenSql::new(dialect, self.ledger.table, self.token, &self.served)?;
        self.is_written.store(true, Ordering::Relaxed);
        Some(sql)
    }

    /// The token is never committed: the attempts from the next one on take another one. The old one is
    /// left to [`Ledger::forget`], because a server that does not have it yet could still commit the work.
    pub(crate) fn take_new_token(&mut self) {
        self.token = Token::new();
        self.first_attempt = None;
        // The attempt before has deleted them.
        self.served.clear();
    }

    /// This attempt sends the token. One that found no connection does not.
    pub(crate) const fn write_in(&mut self, attempt: u32) {
        if self.first_attempt.is_none() {
            self.first_attempt = Some(attempt);
        }
    }

    /// Whether an attempt before this one has sent the token.
    pub(crate) const fn is_of_earlier_attempt(&self, attempt: u32) -> bool {
        matches!(self.first_attempt, Some(first) if attempt > first)
    }

    /// Records how the operation ended. An entry that is dropped instead counts as unknown if its SQL
    /// was issued, and as undone otherwise.
    pub(crate) fn close(mut self, outcome: Outcome) {
        self.is_closed = true;
        match outcome {
            _ if !self.is_written.load(Ordering::Relaxed) => {}
            Outcome::Committed => self.served = vec![self.token],
            // Perhaps no attempt came as far as to delete them. It does no harm to do it twice.
            Outcome::Undone => {}
            Outcome::Unknown => self.served.clear(),
        }
    }
}

/// Hands what was not deleted to the next operation.
impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // Dropped while it ran: whether they were deleted is unknown.
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

/// How many tokens are deleted together.
const DELETED_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operation sends of it.
    fn sql(entry: &Entry<'_>, dialect: Dialect) -> (String, String) {
        let sql = entry.issue_sql(dialect).expect("a token");
        (sql.cleanup(" AND NO CHAIN NO RELEASE"), sql.opening())
    }

    fn commit_one(ledger: &Ledger) -> String {
        let entry = ledger.open();
        assert_eq!(sql(&entry, Dialect::Mysql).0, "");
        let token = entry.token.to_string();
        entry.close(Outcome::Committed);
        token
    }

    #[test]
    fn one_operation_deletes_the_tokens_of_many_before_it() {
        for dialect in [Dialect::Postgres, Dialect::Mysql] {
            let ledger = Ledger::new();
            let tokens: Vec<_> = (0..64).map(|_| commit_one(&ledger)).collect();
            let undone = ledger.open();
            let (cleanup, opening) = sql(&undone, dialect);
            assert_eq!(cleanup.matches("DELETE").count(), 1);
            assert!(tokens.iter().all(|token| cleanup.contains(token)));
            let own = undone.token.to_string();
            assert!(opening.contains(&own) && !opening.contains("DELETE"));
            assert!(!cleanup.contains(&own));
            undone.close(Outcome::Undone);
            let committed = ledger.open();
            assert_eq!(sql(&committed, dialect).0, cleanup, "once more");
            committed.close(Outcome::Committed);
            assert_eq!(ledger.open().served.len(), 0);
            assert_eq!(ledger.served.lock().expect("no panic").len(), 1);
        }
    }

    #[test]
    fn an_entry_that_wrote_no_token_deletes_none_and_leaves_none() {
        let ledger = Ledger::new();
        let first = ledger.open();
        assert!(first.issue_sql(Dialect::Sqlite).is_none());
        first.close(Outcome::Committed);
        assert!(ledger.served.lock().expect("no panic").is_empty());
        (0..64).for_each(|_| _ = commit_one(&ledger));
        for outcome in [Outcome::Committed, Outcome::Unknown] {
            ledger.open().close(outcome);
        }
        assert_eq!(ledger.open().served.len(), 64, "still to be deleted");
    }

    #[test]
    fn what_is_dropped_in_between_leaves_its_tokens_to_be_pruned() {
        let ledger = Ledger::new();
        (0..64).for_each(|_| _ = commit_one(&ledger));
        drop(ledger.open());
        assert_eq!(ledger.open().served.len(), 64, "not begun");
        for is_unknown in [false, true] {
            (0..64).for_each(|_| ledger.served.lock().expect("no panic").push(Token::new()));
            let canceled = ledger.open();
            _ = canceled.issue_sql(Dialect::Mysql);
            match is_unknown {
                true => canceled.close(Outcome::Unknown),
                false => drop(canceled),
            }
        }
        let left = ledger.open();
        assert_eq!(left.served.len(), 64, "of 192");
        assert!(ledger.served.lock().expect("no panic").is_empty());
    }

    #[test]
    fn after_a_no_there_is_another_token() {
        let ledger = Ledger::new();
        (0..64).for_each(|_| _ = commit_one(&ledger));
        let mut entry = ledger.open();
        let (_, first) = sql(&entry, Dialect::Postgres);
        entry.write_in(1);
        assert!(!entry.is_of_earlier_attempt(1) && entry.is_of_earlier_attempt(2));
        entry.take_new_token();
        let (cleanup, second) = sql(&entry, Dialect::Postgres);
        assert_eq!(cleanup, "");
        assert_ne!(second, first);
        assert!(!entry.is_of_earlier_attempt(2), "not written");
        entry.write_in(3);
        entry.write_in(4);
        assert!(!entry.is_of_earlier_attempt(3) && entry.is_of_earlier_attempt(4));
        let second = entry.token;
        entry.close(Outcome::Committed);
        assert_eq!(*ledger.served.lock().expect("no panic"), [second]);
    }
}
