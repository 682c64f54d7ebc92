//! The SQL of the ledger. SQLite has none: there the outcome of a COMMIT is never unknown.

use std::fmt::Write as _;

use super::Dialect;
use crate::ledger::token::Token;

/// Creates the table; empty on SQLite.
pub(crate) const fn create_table(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            // Where two sessions create it at the same time, IF NOT EXISTS alone is an error in one of
            // them (measured: 71 of 160 times).
            "DO $$ BEGIN \
             CREATE TABLE IF NOT EXISTS dbop_ledger (token CHAR(32) PRIMARY KEY, \
             completed BOOLEAN NOT NULL DEFAULT FALSE, \
             created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP); \
             EXCEPTION WHEN unique_violation OR duplicate_table OR duplicate_object THEN NULL; END $$"
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

/// Deletes the tokens that are older than a day; empty on SQLite.
pub(crate) const fn prune(dialect: Dialect) -> &'static str {
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

/// The statements about the token of one operation.
#[derive(Clone, Debug)]
pub(crate) struct TokenSql {
    token: Token,
    dialect: Dialect,
    cleanup: String,
    opening: String,
}

impl TokenSql {
    /// For an operation with this token that deletes the `served` ones on its way. `None` on SQLite.
    pub(crate) fn new(dialect: Dialect, token: Token, served: &[Token]) -> Option<Self> {
        if dialect == Dialect::Sqlite {
            return None;
        }
        let mut opening = format!("INSERT INTO dbop_ledger (token) VALUES ('{token}')");
        // One by one: for a list, MySQL and MariaDB read a small table from end to end, and wait for
        // the tokens of other sessions, or deadlock with them (measured).
        let mut deletes = String::new();
        for token in served {
            _ = write!(deletes, "; DELETE FROM dbop_ledger WHERE token = '{token}'");
        }
        let mut cleanup = String::new();
        if dialect == Dialect::Postgres && !deletes.is_empty() {
            // PostgreSQL reads a small table from end to end even for one token. In a serializable
            // transaction each operation would then depend on all others, and one of two at the same
            // time would fail (measured). Losing these deletes in a crash does no harm, so they need
            // not wait for the disk. NOT DEFERRABLE fails in a transaction that is already open.
            cleanup = format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE; \
                 SET LOCAL synchronous_commit = off{deletes}; COMMIT"
            );
        } else {
            opening.push_str(&deletes);
        }
        Some(Self {
            token,
            dialect,
            cleanup,
            opening,
        })
    }

    /// Precedes the BEGIN, in a transaction of its own. Can be empty.
    pub(crate) fn cleanup(&self) -> &str {
        &self.cleanup
    }

    /// The first statements in the transaction. Sent again, they fail if the token is there.
    pub(crate) fn opening(&self) -> &str {
        &self.opening
    }

    /// The last statement before COMMIT.
    pub(super) fn closing(&self) -> String {
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

    /// Fails with a duplicate if the token is there and completed. Failing *is* the answer, so no
    /// rows have to be read.
    pub(super) fn is_completed(&self) -> String {
        format!(
            "INSERT INTO dbop_ledger (token) \
             SELECT token FROM dbop_ledger WHERE token = '{}' AND completed",
            self.token
        )
    }
}
