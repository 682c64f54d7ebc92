//! Test beds on SQLite: a file each.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, PooledConnection};
use tempfile::TempDir;

use crate::{ACCOUNTS, Opponent, Pooled, TestBed, accounts};

/// Its dialect.
pub const DIALECT: dbop_core::Dialect = dbop_core::Dialect::Sqlite;

/// The connection of the sync adapter.
pub type Conn = SqliteConnection;

/// A test bed that hands out pooled connections.
pub type PooledBed = Pooled<Bed, Conn>;

/// One of those.
pub type PooledConn = PooledConnection<ConnectionManager<Conn>>;

/// A database file of its own in WAL mode, with `accounts`.
#[derive(Debug)]
pub struct Bed {
    url: String,
    _directory: TempDir,
}

impl Bed {
    /// A fresh one.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Self {
        Self::with("", "", "WAL")
    }

    /// A fresh one, with the journal that SQLite has by default: readers block COMMIT.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    #[must_use]
    pub fn with_rollback_journal() -> Self {
        Self::with("", "", "DELETE")
    }

    /// A fresh one, whose connections share a cache.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    #[must_use]
    pub fn with_shared_cache() -> Self {
        Self::with("file:", "?cache=shared", "WAL")
    }

    fn with(scheme: &str, query: &str, journal: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("test.db");
        let bed = Self {
            url: format!("{scheme}{}{query}", path.display()),
            _directory: directory,
        };
        let mut conn = bed.connect();
        conn.batch_execute(&format!("PRAGMA journal_mode = {journal}"))
            .expect("a journal");
        conn.batch_execute(ACCOUNTS).expect("a new table");
        bed
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to it, which does not wait for locks.
    ///
    /// # Panics
    ///
    /// If the file does not answer.
    #[must_use]
    pub fn connect(&self) -> Conn {
        Conn::establish(&self.url).expect("the file is there")
    }

    /// A second session.
    #[must_use]
    pub fn opponent(&self) -> Opponent {
        Opponent::new(self.connect(), 0)
    }

    /// The balances, in order, as a session of its own sees them.
    ///
    /// # Panics
    ///
    /// If the file does not answer.
    #[must_use]
    pub fn balances(&self) -> Vec<(i32, i64)> {
        let mut conn = self.connect();
        // Whoever closes the last connection has locked the file for a moment.
        conn.batch_execute("PRAGMA busy_timeout = 10000")
            .expect("it can be set");
        accounts::table
            .order(accounts::id)
            .load(&mut conn)
            .expect("an answer")
    }
}

impl TestBed for Bed {
    fn fresh() -> Self {
        Self::new()
    }

    fn address(&self) -> &str {
        &self.url
    }
}

/// Its name in records.
pub const BACKEND: &str = "sqlite";

/// No SQL at all.
pub const SYNTAX_ERROR: &str = "SELEC 1";

/// An error of the data, which no schema could have foreseen. (A division by zero is NULL.)
pub const DATA_ERROR: &str = "INSERT INTO accounts (id, balance) VALUES ('four', 0)";

/// An error whose message quotes `secret-4711`.
pub const QUOTING_ERROR: &str = "SELECT * FROM \"secret-4711\"";

/// A table with a foreign key to `accounts`, on a connection that enforces it.
pub const OWNERS: &str = "PRAGMA foreign_keys = ON;
    CREATE TABLE owners (account INTEGER NOT NULL REFERENCES accounts (id))";

/// The code of a unique violation.
pub const UNIQUE_VIOLATION: &str = "19";

/// The code of a write in a read-only transaction.
pub const READ_ONLY: &str = "8";

/// Whether an operation in a savepoint can be read-only.
pub const READ_ONLY_IN_SAVEPOINT: bool = true;

/// Whether there is a statement timeout.
pub const STATEMENT_TIMEOUT: bool = false;
