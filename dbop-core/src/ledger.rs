//! The ledger: tokens that are committed together with the work they stand for.
//!
//! When the answer to a COMMIT is lost, inserting its token again tells whether it was carried out.
//! The unique key makes that insert wait for a transaction that still holds the token. So a delayed
//! COMMIT cannot arrive after the answer was "no", which a SELECT for the token could not rule out.
//!
//! A token can have been committed with only the first part of the work, by DDL or by a COMMIT in the
//! operation's SQL. So the batch that closes the transaction marks the token as completed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::dialect::Dialect;
use crate::dialect::ledger::{self as sql, TokenSql};
use crate::outcome::Outcome;

use token::Token;

pub(crate) mod token;

/// Remembers the tokens of one database that are no longer needed. Create one for each database and
/// share it between all operations on that database, for example in a `static`.
///
/// A token is needed until its operation has returned. The next operation with the same ledger
/// deletes it in its own transaction, without a round trip, so the table stays as small as the number
/// of running operations. The statement that [`prune`](Self::prune) returns deletes the tokens that a
/// terminated process left behind.
///
/// ```
/// use dbop_core::{Dialect, Ledger};
///
/// static LEDGER: Ledger = Ledger::new(); // an operation names it with `ledger(&LEDGER)`
///
/// let migration = Ledger::create_table(Dialect::Postgres);
/// assert!(migration.contains("CREATE TABLE IF NOT EXISTS dbop_ledger"));
/// # assert!(format!("{LEDGER:?}").starts_with("Ledger"));
/// ```
///
/// # Default
///
/// [`new`](Self::new): no token is remembered.
#[derive(Debug, Default)]
pub struct Ledger {
    served: Mutex<Vec<Token>>,
}

impl Ledger {
    /// A ledger that remembers no token yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            served: Mutex::new(Vec::new()),
        }
    }

    /// The statement that creates the table `dbop_ledger`, for a migration. Several sessions can send it
    /// at the same time. Empty on SQLite, where the outcome of a COMMIT is never unknown and no token is
    /// written.
    ///
    /// ```
    /// use dbop_core::{Dialect, Ledger};
    ///
    /// let migration = Ledger::create_table(Dialect::Mysql);
    /// assert!(migration.starts_with("CREATE TABLE IF NOT EXISTS dbop_ledger"));
    /// ```
    #[must_use]
    pub const fn create_table(dialect: Dialect) -> &'static str {
        sql::create_table(dialect)
    }

    /// The statement that deletes tokens older than a day by the server's clock. Send it once a day. No
    /// operation may run for a day: an operation whose token was deleted would take its work for undone.
    /// Empty on SQLite.
    ///
    /// ```
    /// use dbop_core::{Dialect, Ledger};
    ///
    /// assert!(Ledger::prune(Dialect::Postgres).starts_with("DELETE FROM dbop_ledger"));
    /// ```
    #[must_use]
    pub const fn prune(dialect: Dialect) -> &'static str {
        sql::prune(dialect)
    }

    /// An entry for an operation that begins.
    #[must_use]
    pub(crate) fn open(&self) -> Entry<'_> {
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

/// The token of an operation, and the served tokens that it deletes in its transaction.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    ledger: &'a Ledger,
    token: Token,
    is_written: AtomicBool,
    is_closed: bool,
    served: Vec<Token>,
}

impl Entry<'_> {
    /// The statements about its token, which from now on count as sent. `None` on SQLite.
    pub(crate) fn issue_sql(&self, dialect: Dialect) -> Option<TokenSql> {
        let sql = TokenSql::new(dialect, self.token, &self.served)?;
        self.is_written.store(true, Ordering::Relaxed);
        Some(sql)
    }

    /// Records how the operation ended. An entry that is dropped instead counts as unknown if its SQL
    /// was issued, and as undone otherwise.
    pub(crate) fn close(mut self, outcome: Outcome) {
        self.is_closed = true;
        match outcome {
            _ if !self.is_written.load(Ordering::Relaxed) => {}
            Outcome::Committed => self.served = vec![self.token],
            Outcome::Undone => {}
            // They may be deleted already, and deleting a missing row locks a gap on MySQL: `prune`
            // deletes the rest.
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

/// How many tokens an operation deletes at most: the rest is left to later ones.
const DELETED_AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_has_served_is_deleted_by_the_next_operation_that_commits() {
        let ledger = Ledger::new();
        let first = ledger.open();
        let token = first.token.to_string();
        let sql = |entry: &Entry<'_>, dialect| {
            entry
                .issue_sql(dialect)
                .expect("a token")
                .opening()
                .to_owned()
        };
        let postgres = first.issue_sql(Dialect::Postgres).expect("a token");
        assert!(postgres.cleanup().is_empty() && !postgres.opening().contains("DELETE"));
        assert!(postgres.opening().contains(&token));
        first.close(Outcome::Committed);
        let undone = ledger.open();
        let deletes = format!("DELETE FROM dbop_ledger WHERE token = '{token}'");
        let postgres = undone.issue_sql(Dialect::Postgres).expect("a token");
        assert!(postgres.cleanup().ends_with(&format!("{deletes}; COMMIT")));
        assert!(!postgres.opening().contains("DELETE"));
        undone.close(Outcome::Undone);
        let committed = ledger.open();
        assert!(sql(&committed, Dialect::Mysql).ends_with(&deletes));
        let next = committed.token.to_string();
        committed.close(Outcome::Committed);
        let sql = sql(&ledger.open(), Dialect::Mysql);
        assert!(!sql.contains(&token) && sql.contains(&next), "{sql}");
    }

    #[test]
    fn an_entry_that_wrote_no_token_deletes_none_and_leaves_none() {
        let ledger = Ledger::new();
        let first = ledger.open();
        assert!(first.issue_sql(Dialect::Sqlite).is_none());
        first.close(Outcome::Committed);
        assert!(ledger.open().served.is_empty());
        let second = ledger.open();
        _ = second.issue_sql(Dialect::Postgres);
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
        _ = first.issue_sql(Dialect::Mysql);
        first.close(Outcome::Committed);
        drop(ledger.open());
        assert_eq!(ledger.open().served.len(), 1, "not begun");
        let canceled = ledger.open();
        _ = canceled.issue_sql(Dialect::Mysql);
        drop(canceled);
        assert!(ledger.open().served.is_empty());
    }

    #[test]
    fn many_tokens_are_deleted_in_batches() {
        let ledger = Ledger::new();
        let entries: Vec<_> = (0..40).map(|_| ledger.open()).collect();
        for entry in entries {
            _ = entry.issue_sql(Dialect::Mysql);
            entry.close(Outcome::Committed);
        }
        let (one, other) = (ledger.open(), ledger.open());
        assert_eq!((one.served.len(), other.served.len()), (32, 8));
        drop((one, other));
        assert_eq!(ledger.open().served.len(), 32, "given back");
    }
}
