//! The SQL of the ledger. On SQLite no token is written: there the outcome of a COMMIT is never unknown.
//!
//! A row belongs to a scope, and has an id in it. What operations write of themselves is in a scope of
//! dbop's own, where the id is a token. Other scopes are free for ids that an application chooses.
//! Values are hexadecimal literals, because what else they could mean depends on the session's settings.

use std::fmt;

use self::table::{Quoted, Table};
use super::Dialect;
use crate::ledger::token::Token;

pub(crate) mod key;
pub(crate) mod table;

/// What a row says about the attempt that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowState {
    /// It was committed by something else than the end of the operation, with a part of the work.
    NotCompleted,
    /// It was committed with the whole work.
    Done,
    /// It can no longer be committed: the question was there first.
    Never,
    /// There is no such row, or none of these is its state.
    Other,
}

impl RowState {
    /// Reads the column of the answer.
    pub(crate) fn from_answer(answer: Option<&str>) -> Self {
        match answer {
            Some("0") => Self::NotCompleted,
            Some("1") => Self::Done,
            Some("2") => Self::Never,
            _ => Self::Other,
        }
    }
}

/// The statements about the token of one operation.
#[derive(Clone, Debug)]
pub(crate) struct TokenSql {
    dialect: Dialect,
    table: Table,
    token: Token,
    /// Those of earlier operations, to be deleted on its way.
    served: Vec<Token>,
}

impl TokenSql {
    /// For an operation with this token that deletes the `served` ones on its way. `None` on SQLite.
    pub(crate) fn new(
        dialect: Dialect,
        table: Table,
        token: Token,
        served: &[Token],
    ) -> Option<Self> {
        (dialect != Dialect::Sqlite).then(|| Self {
            dialect,
            table,
            token,
            served: served.to_vec(),
        })
    }

    /// Precedes the operation's transaction, in one of its own: the operation does not hold its locks,
    /// and its COMMIT does not depend on it. Can be empty, and can fail. `words` follow a COMMIT on MySQL.
    pub(crate) fn cleanup(&self, words: &str) -> String {
        if self.served.is_empty() {
            return String::new();
        }
        let (table, scope) = (self.table(), self.scope());
        let ids = |separator| {
            let ids: Vec<_> = self.served.iter().map(|it| self.literal(it)).collect();
            ids.join(separator)
        };
        match self.dialect {
            // Serializable transactions that read a small table from end to end depend on each other
            // (measured). Losing the deletion in a crash does no harm, so it need not wait for the disk.
            // NOT DEFERRABLE fails in a transaction that is already open. The operation's own lock timeout
            // is not set yet.
            Dialect::Postgres => format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE; \
                 SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '1s'; \
                 DELETE FROM {table} WHERE scope = {scope} AND id IN ({}); COMMIT",
                ids(", ")
            ),
            // For a list, InnoDB reads a small table from end to end, and waits for the tokens of other
            // sessions, or deadlocks with them (measured). In a join it looks for each one. Autocommit is
            // off by then.
            _ => format!(
                "DELETE l FROM (SELECT {} AS id) AS served \
                 STRAIGHT_JOIN {table} AS l FORCE INDEX (PRIMARY) \
                 ON l.scope = {scope} AND l.id = served.id; COMMIT{words}",
                ids(" AS id UNION ALL SELECT ")
            ),
        }
    }

    /// The first statement in the transaction. Sent again, it fails if the token is there.
    pub(crate) fn opening(&self) -> String {
        format!(
            "INSERT INTO {} (scope, id) VALUES ({})",
            self.table(),
            self.row()
        )
    }

    /// The last statement before COMMIT. On PostgreSQL it takes the place of the check for the
    /// transaction: it fails in one that is aborted, and in one that did not write the token.
    pub(super) fn closing(&self) -> String {
        let (table, row) = (self.table(), self.row());
        match self.dialect {
            // Not an UPDATE, which would read the table: see above. The token is written in front of
            // every savepoint, so it has the transaction's own id.
            Dialect::Postgres => format!(
                "INSERT INTO {table} AS l (scope, id) VALUES ({row}) \
                 ON CONFLICT (scope, id) DO UPDATE SET changed_at = clock_timestamp(), \
                 state = CASE WHEN l.xmin = pg_current_xact_id()::xid THEN 1 ELSE 0 END \
                 RETURNING CASE state WHEN 0 THEN current_setting('dbop_alive.is_gone') END"
            ),
            _ => format!(
                "UPDATE {table} SET state = 1, changed_at = CURRENT_TIMESTAMP(6) WHERE {}",
                self.is_its_row()
            ),
        }
    }

    /// The question, to be committed: writes the token as one that is never committed, unless it is
    /// there. The unique key makes that wait for a transaction which may still be committed. A token that
    /// is there is written as well, so that the COMMIT waits for the same standbys as the lost one.
    pub(super) fn ask(&self) -> String {
        let (table, row) = (self.table(), self.row());
        let write = match self.dialect {
            Dialect::Postgres => {
                "ON CONFLICT (scope, id) DO UPDATE SET changed_at = clock_timestamp()"
            }
            _ => "ON DUPLICATE KEY UPDATE changed_at = CURRENT_TIMESTAMP(6)",
        };
        format!("INSERT INTO {table} (scope, id, state) VALUES ({row}, 2) {write}")
    }

    /// The query for the state of its row, to be read as a [`RowState`].
    pub(super) fn state_query(&self) -> String {
        let state = match self.dialect {
            Dialect::Postgres => "state::text",
            _ => "CAST(state AS CHAR)",
        };
        format!(
            "SELECT {state} AS s FROM {} WHERE {}",
            self.table(),
            self.is_its_row()
        )
    }

    const fn table(&self) -> Quoted {
        self.table.quoted(self.dialect)
    }

    fn row(&self) -> String {
        format!("{}, {}", self.scope(), self.literal(&self.token))
    }

    fn is_its_row(&self) -> String {
        let id = self.literal(&self.token);
        format!("scope = {} AND id = {id}", self.scope())
    }

    /// A duplicate on MySQL and MariaDB is recognised by it, whatever language the server speaks.
    fn scope(&self) -> String {
        self.literal(&"64626f70") // dbop
    }

    fn literal(&self, digits: &dyn fmt::Display) -> String {
        match self.dialect {
            // Not '\x..', which means something else without standard_conforming_strings (measured).
            Dialect::Postgres => format!("decode('{digits}', 'hex')"),
            _ => format!("X'{digits}'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_of_a_row_are_read() {
        for (answer, expected) in [
            (Some("0"), RowState::NotCompleted),
            (Some("1"), RowState::Done),
            (Some("2"), RowState::Never),
            (Some("3"), RowState::Other),
            (None, RowState::Other),
        ] {
            assert_eq!(RowState::from_answer(answer), expected);
        }
    }
}
