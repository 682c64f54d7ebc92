//! The statements about the key of an operation.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::RowState;
use super::table::Table;
use crate::dialect::{Dialect, Level};
use crate::ledger::token::Token;

/// In a message of PostgreSQL's, in every language: the key is taken.
pub(crate) const IS_TAKEN: &str = "dbop.key_is_taken";

/// The same: it was waited for, and the transaction's snapshot is older than what has happened meanwhile.
pub(crate) const WAS_WAITED_FOR: &str = "dbop.key_was_waited_for";

/// The row of a key, as literals.
#[derive(Clone, Debug)]
pub(crate) struct KeySql {
    dialect: Dialect,
    table: String,
    /// Scope and id.
    row: String,
    is_its_row: String,
    token: String,
    request: String,
    answer: String,
}

impl KeySql {
    /// For an attempt with this token.
    pub(crate) fn new(
        dialect: Dialect,
        table: Table,
        scope: &[u8],
        id: &[u8],
        token: Token,
        request: Option<&[u8]>,
    ) -> Self {
        let (scope, id) = (literal(dialect, scope), literal(dialect, id));
        let mut key = Self {
            dialect,
            table: table.quoted(dialect).to_string(),
            row: format!("{scope}, {id}"),
            is_its_row: format!("scope = {scope} AND id = {id}"),
            token: String::new(),
            request: request.map_or_else(null, |request| literal(dialect, request)),
            answer: null(),
        };
        key.set_token(token);
        key
    }

    pub(crate) fn set_token(&mut self, token: Token) {
        self.token = literal(self.dialect, token.bytes());
    }

    pub(crate) fn set_answer(&mut self, answer: Option<&[u8]>) {
        self.answer = answer.map_or_else(null, |answer| literal(self.dialect, answer));
    }

    /// Takes the key. It fails unless there is no such row, or a vacant one, and waits for a transaction
    /// that has the row.
    pub(crate) fn opening(&self, level: Level) -> String {
        let Self {
            table,
            row,
            token,
            request,
            ..
        } = self;
        let insert = format!("INSERT INTO {table}");
        let columns = format!("(scope, id, token, fingerprint) VALUES ({row}, {token}, {request})");
        let now = now(self.dialect);
        match self.dialect {
            Dialect::Postgres => {
                let taken = format!("decode(current_setting('{IS_TAKEN}'), 'hex')");
                let mut sql = format!(
                    "{insert} AS l {columns} ON CONFLICT (scope, id) DO UPDATE SET state = 0, \
                     token = CASE WHEN l.state = 2 THEN excluded.token ELSE {taken} END, \
                     fingerprint = excluded.fingerprint, answer = NULL, changed_at = {now}"
                );
                // Its snapshot is taken before the wait. The timestamp is that of the batch.
                if level == Level::Transaction {
                    _ = write!(
                        sql,
                        " RETURNING CASE WHEN current_setting('transaction_isolation') \
                         IN ('repeatable read', 'serializable') \
                         AND clock_timestamp() - statement_timestamp() > '50 ms' \
                         THEN current_setting('{WAS_WAITED_FOR}') END"
                    );
                }
                sql
            }
            // A subquery of two rows is an error, if it is evaluated.
            Dialect::Mysql => format!(
                "{insert} {columns} ON DUPLICATE KEY UPDATE \
                 state = IF(state = 2, 0, (SELECT 1 UNION SELECT 2)), token = {token}, \
                 fingerprint = {request}, answer = NULL, changed_at = {now}"
            ),
            // The column is not nullable.
            Dialect::Sqlite => format!(
                "{insert} {columns} ON CONFLICT (scope, id) DO UPDATE SET \
                 state = CASE state WHEN 2 THEN 0 END, token = excluded.token, \
                 fingerprint = excluded.fingerprint, answer = NULL, changed_at = {now}"
            ),
        }
    }

    /// Completes it, in the transaction that has taken it. On PostgreSQL it fails in any other one, as it
    /// does for a token.
    pub(crate) fn closing(&self, level: Level) -> String {
        let Self {
            table,
            row,
            token,
            answer,
            is_its_row,
            ..
        } = self;
        let now = now(self.dialect);
        match self.dialect {
            // Not an UPDATE, which would read the table. In a savepoint, the row has the savepoint's id.
            Dialect::Postgres => {
                let is_ours = match level {
                    Level::Transaction => " AND l.xmin = pg_current_xact_id()::xid",
                    Level::Savepoint(_) => "",
                };
                format!(
                    "INSERT INTO {table} AS l (scope, id, token, answer) \
                     VALUES ({row}, {token}, {answer}) \
                     ON CONFLICT (scope, id) DO UPDATE SET changed_at = {now}, \
                     answer = excluded.answer, state = CASE WHEN l.state = 0 \
                     AND l.token = excluded.token{is_ours} THEN 1 ELSE 0 END \
                     RETURNING CASE state WHEN 0 THEN current_setting('dbop_alive.is_gone') END"
                )
            }
            _ => format!(
                "UPDATE {table} SET state = 1, answer = {answer}, changed_at = {now} \
                 WHERE {is_its_row} AND token = {token}"
            ),
        }
    }

    /// Writes the row as a vacant one, unless it is there: for the question about a COMMIT, which then can
    /// no longer happen.
    pub(crate) fn ask(&self) -> String {
        let Self {
            table, row, token, ..
        } = self;
        let write = match self.dialect {
            Dialect::Mysql => "ON DUPLICATE KEY UPDATE",
            _ => "ON CONFLICT (scope, id) DO UPDATE SET",
        };
        format!(
            "INSERT INTO {table} (scope, id, token, state) VALUES ({row}, {token}, 2) \
             {write} changed_at = {}",
            now(self.dialect)
        )
    }

    /// Writes it so for those who wait for the row. InnoDB lets one of them go on where a row vanishes, and
    /// fails the others with deadlocks, but not where it becomes vacant again (measured).
    pub(crate) fn vacate(&self) -> String {
        let Self { table, row, .. } = self;
        format!("INSERT IGNORE INTO {table} (scope, id, state) VALUES ({row}, 2)")
    }

    /// The query for the state of the attempt with its token, to be read as a [`RowState`]. What is another
    /// call's row is none of this attempt's work.
    pub(crate) fn state_query(&self) -> String {
        let Self {
            table,
            token,
            is_its_row,
            ..
        } = self;
        let state = format!("CASE WHEN token = {token} THEN state ELSE 2 END");
        let state = text(self.dialect, &state);
        format!("SELECT {state} AS s FROM {table} WHERE {is_its_row}")
    }

    /// The query for its row, to be read as a [`KeyRow`]: one text, or NULL.
    pub(crate) fn query(&self) -> String {
        let hex = |column| match self.dialect {
            Dialect::Postgres => format!("coalesce(encode({column}, 'hex'), '-')"),
            _ => format!("coalesce(hex({column}), '-')"),
        };
        let since = match self.dialect {
            Dialect::Postgres => "(extract(epoch FROM changed_at) * 1000000)::bigint",
            Dialect::Mysql => "CAST(UNIX_TIMESTAMP(changed_at) * 1000000 AS UNSIGNED)",
            Dialect::Sqlite => {
                "(strftime('%s', changed_at) * 1000000 + substr(changed_at, -3) * 1000)"
            }
        };
        // SQLite makes an empty text of the NULL.
        let answer = match self.dialect {
            Dialect::Sqlite => "CASE WHEN answer IS NULL THEN '-' ELSE hex(answer) END".to_owned(),
            _ => hex("answer"),
        };
        let parts = [
            "state".to_owned(),
            since.to_owned(),
            hex("fingerprint"),
            answer,
        ];
        let row = match self.dialect {
            Dialect::Postgres => format!("concat_ws(' ', {})", parts.join(", ")),
            Dialect::Mysql => format!("CAST(CONCAT_WS(' ', {}) AS CHAR)", parts.join(", ")),
            Dialect::Sqlite => parts.join(" || ' ' || "),
        };
        let Self {
            table, is_its_row, ..
        } = self;
        format!("SELECT (SELECT {row} FROM {table} WHERE {is_its_row}) AS s")
    }
}

fn null() -> String {
    "NULL".to_owned()
}

const fn now(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "clock_timestamp()",
        Dialect::Mysql => "CURRENT_TIMESTAMP(6)",
        Dialect::Sqlite => "strftime('%Y-%m-%d %H:%M:%f', 'now')",
    }
}

fn text(dialect: Dialect, value: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("({value})::text"),
        Dialect::Mysql => format!("CAST({value} AS CHAR)"),
        Dialect::Sqlite => format!("CAST({value} AS TEXT)"),
    }
}

/// Not '\x..' on PostgreSQL, which means something else without standard_conforming_strings (measured).
fn literal(dialect: Dialect, bytes: &[u8]) -> String {
    let (before, after) = match dialect {
        Dialect::Postgres => ("decode('", "', 'hex')"),
        _ => ("X'", "'"),
    };
    let mut text = String::with_capacity(2 * bytes.len() + 16);
    text.push_str(before);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text.push_str(after);
    text
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0')
}

/// The row of a key, as another transaction has committed it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) state: RowState,
    pub(crate) changed_at: SystemTime,
    pub(crate) request: Option<Vec<u8>>,
    pub(crate) answer: Option<Vec<u8>>,
}

impl KeyRow {
    /// Reads the answer to [`KeySql::query`]. `None` if there is no row.
    pub(crate) fn from_answer(answer: Option<&str>) -> Option<Self> {
        let mut parts = answer?.split(' ');
        let state = RowState::from_answer(parts.next());
        let micros = parts.next()?.parse().ok()?;
        Some(Self {
            state,
            changed_at: UNIX_EPOCH + Duration::from_micros(micros),
            request: bytes(parts.next()?).filter(|request| !request.is_empty()),
            answer: bytes(parts.next()?),
        })
    }
}

/// `-`: none.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests;
