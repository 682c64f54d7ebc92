//! The table of the ledger: how it is made, and how it stays small.

use crate::dialect::Dialect;

/// Creates the table, and the index on the age of its rows.
pub(crate) const fn create(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            // Where two sessions create it at the same time, IF NOT EXISTS alone is an error in one of
            // them (measured: 71 of 160 times). With it, the index would be made again each time.
            "DO $$ BEGIN \
             CREATE TABLE dbop_ledger (\
             scope BYTEA NOT NULL, id BYTEA NOT NULL, state SMALLINT NOT NULL DEFAULT 0, \
             changed_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP, \
             token BYTEA, fingerprint BYTEA, answer BYTEA, \
             PRIMARY KEY (scope, id)); \
             CREATE INDEX ON dbop_ledger USING brin (changed_at); \
             EXCEPTION WHEN unique_violation OR duplicate_table OR duplicate_object THEN NULL; END $$"
        }
        // The id is in the primary key: with a second unique key, InnoDB locks its neighbours as well
        // (measured).
        Dialect::Mysql => {
            "CREATE TABLE IF NOT EXISTS dbop_ledger (\
             scope VARBINARY(64) NOT NULL, id VARBINARY(255) NOT NULL, \
             state TINYINT NOT NULL DEFAULT 0, \
             changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
             token BINARY(16), fingerprint BINARY(32), answer LONGBLOB, \
             PRIMARY KEY (scope, id), KEY changed_at (changed_at)) ENGINE=InnoDB"
        }
        Dialect::Sqlite => {
            "CREATE TABLE IF NOT EXISTS dbop_ledger (\
             scope BLOB NOT NULL, id BLOB NOT NULL, state INTEGER NOT NULL DEFAULT 0, \
             changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')), \
             token BLOB, fingerprint BLOB, answer BLOB, \
             PRIMARY KEY (scope, id)) WITHOUT ROWID; \
             CREATE INDEX IF NOT EXISTS dbop_ledger_changed_at ON dbop_ledger (changed_at)"
        }
    }
}

/// Adds what a table without columns for keys does not have; empty on SQLite, where there was no table.
pub(crate) const fn migrate(dialect: Dialect) -> &'static str {
    match dialect {
        // ALTER TABLE waits for every operation in progress, also where it has nothing to do.
        Dialect::Postgres => {
            "DO $$ BEGIN \
             IF NOT EXISTS (SELECT FROM pg_attribute \
             WHERE attrelid = 'dbop_ledger'::regclass AND attname = 'answer') THEN \
             ALTER TABLE dbop_ledger ADD COLUMN IF NOT EXISTS token BYTEA, \
             ADD COLUMN IF NOT EXISTS fingerprint BYTEA, ADD COLUMN IF NOT EXISTS answer BYTEA; \
             IF NOT EXISTS (SELECT FROM pg_index JOIN pg_attribute \
             ON attrelid = indrelid AND attnum = indkey[0] \
             WHERE indrelid = 'dbop_ledger'::regclass AND attname = 'changed_at') THEN \
             CREATE INDEX ON dbop_ledger USING brin (changed_at); END IF; END IF; END $$"
        }
        // MySQL has no ADD COLUMN IF NOT EXISTS.
        Dialect::Mysql => {
            "SET @dbop_sql = IF(EXISTS (SELECT 1 FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = 'dbop_ledger' \
             AND column_name = 'answer'), 'DO 0', \
             'ALTER TABLE dbop_ledger ADD COLUMN token BINARY(16), \
             ADD COLUMN fingerprint BINARY(32), ADD COLUMN answer LONGBLOB, \
             ADD KEY changed_at (changed_at)'); \
             PREPARE dbop_migration FROM @dbop_sql; EXECUTE dbop_migration; \
             DEALLOCATE PREPARE dbop_migration"
        }
        Dialect::Sqlite => "",
    }
}

/// Deletes the tokens that are older than a day; empty on SQLite.
pub(crate) const fn prune(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "DELETE FROM dbop_ledger WHERE scope = decode('64626f70', 'hex') \
             AND changed_at < CURRENT_TIMESTAMP - INTERVAL '1 day'"
        }
        // A bare DELETE waits for the rows of operations in progress, with the table locked behind it
        // (measured).
        Dialect::Mysql => {
            "DELETE l FROM (SELECT scope, id FROM dbop_ledger FORCE INDEX (PRIMARY) \
             WHERE scope = X'64626f70' \
             AND changed_at < CURRENT_TIMESTAMP - INTERVAL 1 DAY FOR UPDATE SKIP LOCKED) AS old \
             STRAIGHT_JOIN dbop_ledger AS l FORCE INDEX (PRIMARY) \
             ON l.scope = old.scope AND l.id = old.id"
        }
        Dialect::Sqlite => "",
    }
}
