//! SQLite's errors, each provoked: what dbop makes of them at top level, in a step and in the caller's
//! transaction.

use std::fs;
use std::os::unix::fs::FileExt as _;

use dbop_diesel::{BeginMode, FaultClass as C};

use super::retries::rows::Do::{self, Ours, Theirs};
use super::retries::rows::Nested::{self, LostFinal, Up};
use super::retries::rows::Top::{self, CommitAgain, Elsewhere, ElsewhereOnce, Retried};
use super::retries::rows::{Refusal, Row};
use super::retries::walk::{
    connecting, from_a_source, in_a_step, in_the_callers_transaction, on_a_connection,
};
use super::{Bed, helper, scenario};

const TABLES: &str = "
    CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER CHECK (age > 0));
    CREATE TABLE owners (account INTEGER REFERENCES accounts (id));
    CREATE TABLE later (account INTEGER REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED)";

/// What SQLite writes at a time.
const PAGE: usize = 4096;

const FINAL: (Top, Nested) = (Top::Final, Nested::Final);

/// The opponent has the write lock.
const HOLDS: Do = Theirs("BEGIN IMMEDIATE");
const LEAVES: Do = Theirs("ROLLBACK");

#[rustfmt::skip] // Rows are easier to compare if they are short.
const ROWS: &[Row] = &[
    Row::new("busy in a deferred transaction", &["5"], C::Busy, (Retried, Up), &[
        HOLDS,
        Ours("UPDATE accounts SET balance = 0 WHERE id = 3"),
        LEAVES,
    ])
    .with(|operation| operation.begin_mode(BeginMode::Deferred))
    .writes_nothing_first(),
    // 517, for which there is one text.
    Row::new("changed since it was read", &["5"], C::Busy, (Retried, Up), &[
        Ours("SELECT balance FROM accounts"),
        Theirs("UPDATE accounts SET balance = balance + 1 WHERE id = 2"),
        Ours("UPDATE accounts SET balance = 0 WHERE id = 3"),
    ])
    .with(|operation| operation.begin_mode(BeginMode::Deferred))
    .writes_nothing_first(),
    Row::new("may not write", &["8"], C::ReadOnlyServer, (ElsewhereOnce, Up), &[
        Ours("UPDATE accounts SET balance = 0 WHERE id = 3"),
    ])
    .before(&[Ours("PRAGMA query_only = 1")])
    .with(|operation| operation.begin_mode(BeginMode::Deferred))
    .writes_nothing_first(),
    Row::new("no such file", &["14"], C::NotConnected, (Elsewhere, Up), &[
        Ours("ATTACH '/no/such/folder/file' AS other"),
    ]),
    Row::new("full", &["13"], C::ResourceExhausted, (Top::Final, LostFinal), &[
        Ours("INSERT INTO names VALUES (1, zeroblob(1000000), 1)"),
    ])
    .before(&[Ours("PRAGMA max_page_count = 1")]),
    Row::new("unique", &["19"], C::Constraint, FINAL, &[
        Ours("INSERT INTO accounts VALUES (1, 0)"),
    ]),
    Row::new("foreign key", &["787"], C::Constraint, FINAL, &[
        Ours("INSERT INTO owners VALUES (99)"),
    ])
    .before(&[Ours("PRAGMA foreign_keys = 1")]),
    Row::new("foreign key, deferred", &["787"], C::Constraint, FINAL, &[
        Ours("INSERT INTO later VALUES (99)"),
    ])
    .before(&[Ours("PRAGMA foreign_keys = 1")])
    .at_commit(),
    Row::new("not null", &["1299"], C::Constraint, FINAL, &[
        Ours("INSERT INTO accounts VALUES (4, NULL)"),
    ]),
    Row::new("check", &["275"], C::Constraint, FINAL, &[
        Ours("INSERT INTO names VALUES (1, 'x', 0)"),
    ]),
    Row::new("wrong type", &["20"], C::Permanent, FINAL, &[
        Ours("INSERT INTO accounts VALUES ('four', 0)"),
    ]),
    Row::new("too big", &["18"], C::Permanent, FINAL, &[Ours("SELECT zeroblob(2000000000)")]),
    Row::new("syntax", &["1"], C::Permanent, FINAL, &[Ours("SELEC 1")]),
    Row::new("no end", &["1"], C::Permanent, FINAL, &[Ours("SELECT")]),
    Row::new("no such table", &["1"], C::Permanent, FINAL, &[Ours("SELECT * FROM nowhere")]),
    Row::new("no such column", &["1"], C::Permanent, FINAL, &[Ours("SELECT nonsense")]),
    Row::new("begun twice", &["1"], C::Permanent, FINAL, &[Ours("BEGIN")]),
    Row::new("no such savepoint", &["1"], C::TransactionLost, FINAL, &[
        Ours("ROLLBACK TO SAVEPOINT gone"),
    ]),
];

/// What stops the outermost operation at its beginning.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const AT_BEGIN: &[Row] = &[
    Row::new("busy", &["5"], C::Busy, (Retried, Up), &[])
        .before(&[HOLDS])
        .at_begin(),
    Row::new("may not write", &["8"], C::ReadOnlyServer, (ElsewhereOnce, Up), &[])
        .before(&[Ours("PRAGMA query_only = 1")])
        .at_begin(),
];

/// A reader is in the way of the COMMIT.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const AT_COMMIT: &[Row] = &[
    Row::new("busy at COMMIT", &["5"], C::Busy, (CommitAgain, Nested::Final), &[])
        .before(&[Theirs("BEGIN; SELECT * FROM accounts")])
        .at_commit(),
];

/// Another connection of this process has locked the table.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const IN_SHARED_CACHE: &[Row] = &[
    Row::new("table locked", &["262"], C::Busy, (Retried, Up), &[
        Theirs("BEGIN; UPDATE accounts SET balance = balance WHERE id = 2"),
        Ours("SELECT * FROM accounts"),
        LEAVES,
    ])
    .with(|operation| operation.begin_mode(BeginMode::Deferred))
    .writes_nothing_first(),
];

/// The pages of a table are not what they should be.
#[rustfmt::skip] // Rows are easier to compare if they are short.
const DAMAGED: &[Row] = &[
    // After that SQLite refuses the COMMIT of the caller's transaction, too.
    Row::new("damaged", &["11"], C::Permanent, (Top::Final, LostFinal), &[
        Ours("SELECT * FROM names"),
    ]),
];

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "no such folder",
        before: "",
        url: |_, _| String::from("/no/such/folder/file"),
        codes: &["14", ""],
        class: C::NotConnected,
        attempts: 3,
    },
    Refusal {
        name: "no database",
        before: "",
        url: |bed, _| {
            let path = format!("{}.text", bed.url());
            fs::write(&path, "no database, ".repeat(1000)).expect("a file");
            path
        },
        codes: &["26"],
        class: C::Permanent,
        attempts: 1,
    },
];

#[helper]
async fn bed() -> Bed {
    let bed = Bed::new();
    bed.opponent().execute(TABLES);
    bed
}

#[scenario]
async fn each_on_a_connection() {
    on_a_connection(&bed().await, ROWS).await;
    on_a_connection(&Bed::new(), AT_BEGIN).await;
}

#[scenario]
async fn each_from_a_source() {
    from_a_source(&bed().await, ROWS).await;
    from_a_source(&Bed::new(), AT_BEGIN).await;
}

#[scenario]
async fn each_in_a_step() {
    in_a_step(&bed().await, ROWS).await;
    in_a_step(&Bed::new(), AT_BEGIN).await;
}

#[scenario]
async fn each_in_the_callers_transaction() {
    in_the_callers_transaction(&bed().await, ROWS).await;
}

/// A reader keeps only the journal that SQLite has by default from its COMMIT.
#[scenario]
async fn what_is_busy_at_commit() {
    on_a_connection(&Bed::with_rollback_journal(), AT_COMMIT).await;
    from_a_source(&Bed::with_rollback_journal(), AT_COMMIT).await;
    in_a_step(&Bed::with_rollback_journal(), AT_COMMIT).await;
}

#[scenario]
async fn what_is_locked_in_a_shared_cache() {
    on_a_connection(&Bed::with_shared_cache(), IN_SHARED_CACHE).await;
    from_a_source(&Bed::with_shared_cache(), IN_SHARED_CACHE).await;
    in_a_step(&Bed::with_shared_cache(), IN_SHARED_CACHE).await;
    in_the_callers_transaction(&Bed::with_shared_cache(), IN_SHARED_CACHE).await;
}

#[scenario]
async fn each_that_refuses_a_connection() {
    connecting(&Bed::new(), "", REFUSALS).await;
}

#[scenario]
async fn what_is_damaged() {
    let bed = bed().await;
    let file = fs::OpenOptions::new().write(true).open(bed.url());
    // The page after those of the schema and of `accounts`.
    let damage = |file: fs::File| file.write_all_at(&[0xff; PAGE], 2 * PAGE as u64);
    file.and_then(damage).expect("a file of several pages");
    on_a_connection(&bed, DAMAGED).await;
    from_a_source(&bed, DAMAGED).await;
    in_a_step(&bed, DAMAGED).await;
    in_the_callers_transaction(&bed, DAMAGED).await;
}
