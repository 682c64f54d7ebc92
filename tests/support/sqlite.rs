//! Test beds on SQLite: a file each.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use tempfile::TempDir;

use crate::{ACCOUNTS, Opponent, accounts};

/// The connection of the sync adapter.
pub type Conn = SqliteConnection;

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
        let directory = tempfile::tempdir().expect("a temporary directory");
        let bed = Self {
            url: directory.path().join("test.db").display().to_string(),
            _directory: directory,
        };
        let mut conn = bed.connect();
        conn.batch_execute("PRAGMA journal_mode = WAL")
            .expect("WAL");
        conn.batch_execute(ACCOUNTS).expect("a new table");
        bed
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to it, which does not wait for locks.
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
    #[must_use]
    pub fn balances(&self) -> Vec<(i32, i64)> {
        accounts::table
            .order(accounts::id)
            .load(&mut self.connect())
            .expect("an answer")
    }
}
