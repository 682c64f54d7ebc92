//! SQLite's errors.

use dbop_diesel_async::Dialect;

use super::classes::{Case, are_the_same_from_both_adapters};

#[test]
fn every_error_is_the_same_from_both_adapters() {
    are_the_same_from_both_adapters(Dialect::Sqlite, CASES);
}

const CASES: &[Case] = &[
    Case {
        name: "unique violation",
        class: "constraint",
        codes: &["19"],
        provoke: |stage| stage.fails("INSERT INTO accounts VALUES (1, 1)"),
    },
    Case {
        name: "foreign key violation",
        class: "constraint",
        codes: &["787"],
        provoke: |stage| {
            stage.before(
                "PRAGMA foreign_keys = ON; \
                 CREATE TABLE owners (account INTEGER REFERENCES accounts (id))",
            );
            stage.fails("INSERT INTO owners VALUES (99)")
        },
    },
    Case {
        name: "not null violation",
        class: "constraint",
        codes: &["1299"],
        provoke: |stage| stage.fails("INSERT INTO accounts VALUES (4, NULL)"),
    },
    Case {
        name: "check violation",
        class: "constraint",
        codes: &["275"],
        provoke: |stage| {
            stage.before("CREATE TABLE positive (n INTEGER CHECK (n > 0))");
            stage.fails("INSERT INTO positive VALUES (0)")
        },
    },
    Case {
        name: "syntax error",
        class: "permanent",
        codes: &["1"],
        provoke: |stage| stage.fails("SELEC 1"),
    },
    Case {
        name: "missing table",
        class: "permanent",
        codes: &["1"],
        provoke: |stage| stage.fails("SELECT * FROM nowhere"),
    },
    Case {
        name: "wrong type",
        class: "permanent",
        codes: &["20"],
        provoke: |stage| stage.fails("INSERT INTO accounts VALUES ('four', 0)"),
    },
    Case {
        name: "busy",
        class: "busy",
        codes: &["5"],
        provoke: |stage| {
            stage.meanwhile("BEGIN IMMEDIATE");
            stage.fails("BEGIN IMMEDIATE")
        },
    },
    Case {
        name: "busy snapshot",
        class: "busy",
        codes: &["5"],
        provoke: |stage| {
            stage.before("BEGIN; SELECT * FROM accounts");
            stage.meanwhile("UPDATE accounts SET balance = 0");
            stage.fails("UPDATE accounts SET balance = 1")
        },
    },
    Case {
        name: "read-only",
        class: "read_only_server",
        codes: &["8"],
        provoke: |stage| {
            stage.before("PRAGMA query_only = 1");
            stage.fails("UPDATE accounts SET balance = 0")
        },
    },
    Case {
        name: "full",
        class: "resource_exhausted",
        codes: &["13"],
        provoke: |stage| {
            stage.before("CREATE TABLE big (b BLOB); PRAGMA max_page_count = 5");
            stage.fails("INSERT INTO big VALUES (zeroblob(1000000))")
        },
    },
    Case {
        name: "missing savepoint",
        class: "transaction_lost",
        codes: &["1"],
        provoke: |stage| {
            stage.before("BEGIN");
            stage.fails("ROLLBACK TO SAVEPOINT nowhere")
        },
    },
    Case {
        name: "no transaction",
        class: "transaction_lost",
        codes: &["1"],
        provoke: |stage| stage.fails("COMMIT"),
    },
    Case {
        name: "transaction in a transaction",
        class: "permanent",
        codes: &["1"],
        provoke: |stage| {
            stage.before("BEGIN");
            stage.fails("BEGIN")
        },
    },
];
