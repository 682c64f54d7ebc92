//! The table of the ledger: what it is called, how it is made, and how it stays small.

use std::fmt;
use std::time::Duration;

use crate::dialect::Dialect;

/// The name of the table, perhaps with the one of its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table(&'static str);

impl Table {
    pub(crate) const DEFAULT: Self = Self("dbop_ledger");

    /// # Panics
    ///
    /// If it is not one or two names that mean the same to every server, with any setting.
    pub(crate) const fn named(name: &'static str) -> Self {
        assert!(
            is_name(name.as_bytes()),
            "the name of a ledger's table: one or two parts with a point between them, each of 1 to 63 \
             letters, digits, _ and -"
        );
        Self(name)
    }

    /// As a statement has it. The default needs no quotes.
    pub(crate) const fn quoted(self, dialect: Dialect) -> Quoted {
        Quoted {
            table: self,
            dialect,
        }
    }

    /// The schema, if it has one, and the name in it.
    fn parts(self) -> (Option<&'static str>, &'static str) {
        match self.0.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, self.0),
        }
    }
}

/// Without any character that could end a quoted name, a literal or a quoted block.
const fn is_name(name: &[u8]) -> bool {
    let (mut index, mut length, mut has_schema) = (0, 0, false);
    while index < name.len() {
        match name[index] {
            b'.' if length > 0 && !has_schema => {
                has_schema = true;
                length = 0;
            }
            // PostgreSQL would cut a longer one.
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' if length < 63 => length += 1,
            _ => return false,
        }
        index += 1;
    }
    length > 0
}

/// The name of a table in a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted {
    table: Table,
    dialect: Dialect,
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.table == Table::DEFAULT {
            return f.write_str(self.table.0);
        }
        let quote = match self.dialect {
            Dialect::Mysql => '`',
            _ => '"',
        };
        match self.table.parts() {
            (Some(schema), name) => write!(f, "{quote}{schema}{quote}.{quote}{name}{quote}"),
            (None, name) => write!(f, "{quote}{name}{quote}"),
        }
    }
}

/// Creates the table, and the index on the age of its rows.
pub(crate) fn create(table: Table, dialect: Dialect) -> String {
    let name = table.quoted(dialect);
    match dialect {
        // Where two sessions create it at the same time, IF NOT EXISTS alone is an error in one of them
        // (measured: 71 of 160 times). With it, the index would be made again each time.
        Dialect::Postgres => format!(
            "DO $$ BEGIN \
             CREATE TABLE {name} (\
             scope BYTEA NOT NULL, id BYTEA NOT NULL, state SMALLINT NOT NULL DEFAULT 0, \
             changed_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP, \
             token BYTEA, fingerprint BYTEA, answer BYTEA, \
             PRIMARY KEY (scope, id)); \
             CREATE INDEX ON {name} USING brin (changed_at); \
             EXCEPTION WHEN unique_violation OR duplicate_table OR duplicate_object THEN NULL; END $$"
        ),
        // The id is in the primary key: with a second unique key, InnoDB locks its neighbours as well
        // (measured).
        Dialect::Mysql => format!(
            "CREATE TABLE IF NOT EXISTS {name} (\
             scope VARBINARY(64) NOT NULL, id VARBINARY(255) NOT NULL, \
             state TINYINT NOT NULL DEFAULT 0, \
             changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
             token BINARY(16), fingerprint BINARY(32), answer LONGBLOB, \
             PRIMARY KEY (scope, id), KEY changed_at (changed_at)) ENGINE=InnoDB"
        ),
        Dialect::Sqlite => format!(
            "CREATE TABLE IF NOT EXISTS {name} (\
             scope BLOB NOT NULL, id BLOB NOT NULL, state INTEGER NOT NULL DEFAULT 0, \
             changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')), \
             token BLOB, fingerprint BLOB, answer BLOB, \
             PRIMARY KEY (scope, id)) WITHOUT ROWID; \
             {}",
            create_index_on_sqlite(table)
        ),
    }
}

/// There an index is in the schema that its own name has.
fn create_index_on_sqlite(table: Table) -> String {
    let (schema, name) = table.parts();
    let schema = schema.map_or_else(String::new, |schema| format!("\"{schema}\"."));
    let quote = if table == Table::DEFAULT { "" } else { "\"" };
    format!(
        "CREATE INDEX IF NOT EXISTS {schema}{quote}{name}_changed_at{quote} \
         ON {quote}{name}{quote} (changed_at)"
    )
}

/// Adds what a table without columns for keys does not have; empty on SQLite, where there was no table.
pub(crate) fn migrate(table: Table, dialect: Dialect) -> String {
    let name = table.quoted(dialect);
    match dialect {
        // ALTER TABLE waits for every operation in progress, also where it has nothing to do.
        Dialect::Postgres => format!(
            "DO $$ BEGIN \
             IF NOT EXISTS (SELECT FROM pg_attribute \
             WHERE attrelid = '{name}'::regclass AND attname = 'answer') THEN \
             ALTER TABLE {name} ADD COLUMN IF NOT EXISTS token BYTEA, \
             ADD COLUMN IF NOT EXISTS fingerprint BYTEA, ADD COLUMN IF NOT EXISTS answer BYTEA; \
             IF NOT EXISTS (SELECT FROM pg_index JOIN pg_attribute \
             ON attrelid = indrelid AND attnum = indkey[0] \
             WHERE indrelid = '{name}'::regclass AND attname = 'changed_at') THEN \
             CREATE INDEX ON {name} USING brin (changed_at); END IF; END IF; END $$"
        ),
        // MySQL has no ADD COLUMN IF NOT EXISTS.
        Dialect::Mysql => {
            let (schema, bare) = table.parts();
            let schema = schema.map_or_else(|| "DATABASE()".to_owned(), |it| format!("'{it}'"));
            format!(
                "SET @dbop_sql = IF(EXISTS (SELECT 1 FROM information_schema.columns \
                 WHERE table_schema = {schema} AND table_name = '{bare}' \
                 AND column_name = 'answer'), 'DO 0', \
                 'ALTER TABLE {name} ADD COLUMN token BINARY(16), \
                 ADD COLUMN fingerprint BINARY(32), ADD COLUMN answer LONGBLOB, \
                 ADD KEY changed_at (changed_at)'); \
                 PREPARE dbop_migration FROM @dbop_sql; EXECUTE dbop_migration; \
                 DEALLOCATE PREPARE dbop_migration"
            )
        }
        Dialect::Sqlite => String::new(),
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// No entry is older, and every server can still compute with it.
const EVER: Duration = Duration::from_secs(50 * 365 * 86_400);

/// Deletes entries of keys that are older than that, and tokens that are also older than a day, because an
/// operation in progress may still ask for a younger one. It is one statement, which neither waits for a row
/// that another transaction has locked nor deletes it.
pub(crate) fn forget(table: Table, dialect: Dialect, older_than: Duration, at_most: u32) -> String {
    let name = table.quoted(dialect);
    let older_than = older_than.min(EVER);
    let is_older_than = |age: Duration| match dialect {
        // An interval in days depends on the session's time zone.
        Dialect::Postgres => format!(
            "changed_at < CURRENT_TIMESTAMP - INTERVAL '{} microseconds'",
            age.as_micros()
        ),
        Dialect::Mysql => format!(
            "changed_at < NOW(6) - INTERVAL {} MICROSECOND",
            age.as_micros()
        ),
        Dialect::Sqlite => format!(
            "changed_at < strftime('%Y-%m-%d %H:%M:%f', 'now', '-{}.{:06} seconds')",
            age.as_secs(),
            age.subsec_micros()
        ),
    };
    let mut is_old = is_older_than(older_than);
    let scope_of_tokens = match dialect {
        Dialect::Postgres => Some("decode('64626f70', 'hex')"),
        Dialect::Mysql => Some("X'64626f70'"),
        Dialect::Sqlite => None,
    };
    if let Some(scope) = scope_of_tokens.filter(|_| older_than < DAY) {
        is_old += &format!(" AND (scope <> {scope} OR {})", is_older_than(DAY));
    }
    match dialect {
        // In the order of the age, all old rows would have to be sorted.
        Dialect::Postgres => format!(
            "DELETE FROM {name} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {name} \
             WHERE {is_old} LIMIT {at_most} FOR UPDATE SKIP LOCKED))"
        ),
        // A bare DELETE waits for the rows of operations in progress, with the table locked behind it
        // (measured). What the session's time zone does once a year would move the age by an hour: MySQL
        // reads the hint, MariaDB what is in the comment.
        Dialect::Mysql => format!(
            "/*M!100100 SET STATEMENT time_zone='+00:00' FOR */ \
             DELETE /*+ SET_VAR(time_zone='+00:00') */ l FROM (\
             SELECT scope, id FROM {name} FORCE INDEX (changed_at) \
             WHERE {is_old} LIMIT {at_most} FOR UPDATE SKIP LOCKED) AS old \
             STRAIGHT_JOIN {name} AS l FORCE INDEX (PRIMARY) \
             ON l.scope = old.scope AND l.id = old.id"
        ),
        Dialect::Sqlite => format!(
            "DELETE FROM {name} WHERE (scope, id) IN (\
             SELECT scope, id FROM {name} WHERE {is_old} LIMIT {at_most})"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_unless_it_is_the_default() {
        for (name, dialect, expected) in [
            ("ledger", Dialect::Postgres, "\"ledger\""),
            ("App-1.Order", Dialect::Postgres, "\"App-1\".\"Order\""),
            ("app.order", Dialect::Mysql, "`app`.`order`"),
            ("main.order", Dialect::Sqlite, "\"main\".\"order\""),
            ("dbop_ledger", Dialect::Postgres, "dbop_ledger"),
        ] {
            let table = Table::named(name);
            assert_eq!(table.quoted(dialect).to_string(), expected);
            let sql = [
                create(table, dialect),
                forget(table, dialect, DAY, 1),
                migrate(table, dialect),
            ];
            let expected = match dialect {
                Dialect::Sqlite => 2,
                _ => 3,
            };
            let name = table.quoted(dialect).to_string();
            let named = sql.iter().filter(|sql| sql.contains(&name));
            assert_eq!(named.count(), expected);
        }
    }

    #[test]
    fn what_could_mean_something_else_is_no_name() {
        let long = "n".repeat(64);
        for name in [
            "", ".", "a.", ".b", "a.b.c", "a b", "a\"b", "a`b", "a'b", "a\\b", "a;b", "a$b",
            "a\0b", "é", &long,
        ] {
            assert!(!is_name(name.as_bytes()), "{name:?}");
        }
        let longest = format!("{}.{}", &long[1..], &long[1..]);
        assert!(is_name(longest.as_bytes()));
    }

    #[test]
    fn the_index_on_sqlite_is_where_the_table_is() {
        for (table, expected) in [
            (
                Table::DEFAULT,
                "CREATE INDEX IF NOT EXISTS dbop_ledger_changed_at ON dbop_ledger (changed_at)",
            ),
            (
                Table::named("app.order"),
                "CREATE INDEX IF NOT EXISTS \"app\".\"order_changed_at\" ON \"order\" (changed_at)",
            ),
        ] {
            assert_eq!(create_index_on_sqlite(table), expected);
            assert!(create(table, Dialect::Sqlite).ends_with(expected));
        }
    }

    #[test]
    fn for_ever_is_as_long_as_servers_can_compute() {
        assert_eq!(EVER, 18_250 * DAY);
        assert_eq!(DAY.as_secs(), 24 * 60 * 60);
    }

    #[test]
    fn a_token_is_kept_for_a_day_and_nothing_is_older_than_ever() {
        for dialect in [Dialect::Postgres, Dialect::Mysql] {
            let of = |older_than| forget(Table::DEFAULT, dialect, older_than, 7);
            assert!(!of(DAY).contains("64626f70"));
            let day = if dialect == Dialect::Mysql {
                "86400000000 M"
            } else {
                "86400000000 m"
            };
            assert_eq!(of(DAY / 2).matches(day).count(), 1);
            assert!(of(DAY / 2).contains("64626f70"));
            assert_eq!(of(Duration::MAX), of(EVER));
            assert!(of(DAY).contains("LIMIT 7 FOR UPDATE SKIP LOCKED"));
        }
        let sqlite = forget(
            Table::DEFAULT,
            Dialect::Sqlite,
            Duration::from_millis(1_500),
            7,
        );
        assert!(sqlite.contains("'-1.500000 seconds') LIMIT 7"), "{sqlite}");
    }
}
