//! What a transaction carries for the question about its COMMIT.

use super::*;
use crate::ledger::Ledger;

/// The token is the first thing in the transaction. At the end it comes after the check, and before
/// what must directly precede the COMMIT.
#[test]
fn a_proof_is_opened_first_and_closed_after_the_check() {
    let marked = batches(Dialect::Postgres, TOP, timeouts());
    let marked = marked.with_mark().expect("a mark");
    assert!(
        marked
            .begin()
            .ends_with("; SET LOCAL dbop.transaction = 'ours'; SAVEPOINT dbop_alive")
    );
    assert_eq!(
        marked.commit(),
        "RELEASE SAVEPOINT dbop_alive; SET CONSTRAINTS ALL IMMEDIATE; COMMIT"
    );
    assert_eq!(
        marked.undo(Undo::CheckedRollback),
        "ROLLBACK TO SAVEPOINT dbop_alive; ROLLBACK"
    );

    let ledger = Ledger::new();
    let entry = ledger.open();
    let with_token = |dialect| {
        let plain = defaults(dialect, TOP);
        plain.with_token(&entry).expect("a token")
    };
    let parts = |sql: &str| {
        let parts: Vec<_> = sql.split("; ").map(|part| part.to_owned()).collect();
        parts
    };
    let starts = |sql: &str, expected: &[&str]| {
        let parts = parts(sql);
        assert_eq!(parts.len(), expected.len(), "{parts:#?}");
        for (part, expected) in parts.iter().zip(expected) {
            assert!(part.starts_with(expected), "{part}: {expected}");
        }
    };
    let postgres = with_token(Dialect::Postgres);
    starts(
        postgres.begin(),
        &[
            "BEGIN NOT DEFERRABLE",
            "SELECT set_config(",
            "COMMIT",
            "BEGIN",
            "INSERT INTO dbop_ledger (token) VALUES ('dbop",
            "SAVEPOINT dbop_alive",
        ],
    );
    starts(
        postgres.commit(),
        &[
            "RELEASE SAVEPOINT dbop_alive",
            "INSERT INTO dbop_ledger (token) VALUES ('dbop",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "SELECT set_config(",
            "COMMIT",
        ],
    );
    let mysql = with_token(Dialect::Mysql);
    starts(
        mysql.begin(),
        &[
            "SET @dbop_autocommit=@@autocommit",
            "START TRANSACTION",
            "SAVEPOINT dbop_alive",
            "INSERT INTO dbop_ledger (token) VALUES ('dbop",
        ],
    );
    starts(
        mysql.commit(),
        &[
            "RELEASE SAVEPOINT dbop_alive",
            "UPDATE dbop_ledger SET completed = TRUE",
            "SET SESSION",
            "COMMIT AND NO CHAIN NO RELEASE",
            "SET autocommit=@dbop_autocommit",
        ],
    );
    // A savepoint and what writes nothing have none.
    for (level, settings) in [(NESTED, timeouts()), (TOP, all())] {
        for dialect in [Dialect::Postgres, Dialect::Mysql] {
            let settings = Settings {
                best_effort: true,
                ..settings
            };
            let plain = batches(dialect, level, settings);
            assert!(plain.with_token(&entry).is_none(), "{dialect} {level:?}");
            assert!(plain.with_mark().is_none(), "{dialect} {level:?}");
        }
    }
}

/// The question is asked without the token that the operation itself would insert.
#[test]
fn whether_a_token_is_completed_is_asked_in_a_transaction_without_it() {
    let ledger = Ledger::new();
    let entry = ledger.open();
    for (dialect, begin) in [
        (Dialect::Postgres, "BEGIN; "),
        (
            Dialect::Mysql,
            "SET @dbop_autocommit=@@autocommit, autocommit=0; START TRANSACTION; \
             SAVEPOINT dbop_alive; ",
        ),
    ] {
        let plain = batches(dialect, TOP, Settings::default());
        let batches = plain.with_token(&entry).expect("a token");
        let question = batches.is_completed().strip_prefix(begin).expect(begin);
        assert!(
            question.starts_with(
                "INSERT INTO dbop_ledger (token) SELECT token FROM dbop_ledger WHERE token = 'dbop"
            ) && question.ends_with("' AND completed"),
            "{question}"
        );
    }
}

#[test]
fn only_postgresql_marks_a_transaction() {
    for dialect in [Dialect::Mysql, Dialect::Sqlite] {
        let plain = batches(dialect, TOP, Settings::default());
        assert!(plain.with_mark().is_none(), "{dialect}");
    }
}
