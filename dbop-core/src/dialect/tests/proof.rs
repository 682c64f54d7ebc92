//! What a transaction carries for the question about its COMMIT.

use super::*;
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::settings::IsolationLevel;

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
            "INSERT INTO dbop_ledger (scope, id) VALUES (decode('64626f70', 'hex'), decode('",
            "SAVEPOINT dbop_alive",
        ],
    );
    starts(
        postgres.commit(),
        &[
            "INSERT INTO dbop_ledger AS l (scope, id) VALUES (decode('64626f70', 'hex'), decode('",
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
            "INSERT INTO dbop_ledger (scope, id) VALUES (X'64626f70', X'",
        ],
    );
    starts(
        mysql.commit(),
        &[
            "RELEASE SAVEPOINT dbop_alive",
            "UPDATE dbop_ledger SET state = 1, changed_at = CURRENT_TIMESTAMP(6) WHERE scope = X'6",
            "SET @dbop_is_ours=IF(ROW_COUNT() > 0, 1, (SELECT 1 UNION SELECT 2))/*M!100100 , SESSION max_st",
            "SET SESSION innodb_lock_wait_timeout=@dbop_lock, autocommit=1",
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

/// It writes the token as one that is never committed, and commits that in a transaction of its own, at a
/// level at which it sees what was committed while it waited.
#[test]
fn a_question_is_a_transaction_that_writes() {
    let ledger = Ledger::new();
    let entry = ledger.open();
    let settings = Settings {
        lock_timeout: Some(Duration::from_secs(3)),
        isolation: Some(IsolationLevel::Serializable),
        ..Settings::default()
    };
    for (dialect, begin, write, state, commit) in [
        (
            Dialect::Postgres,
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 3000; \
             INSERT INTO dbop_ledger (scope, id, state) VALUES (decode('64626f70', 'hex'), decode('",
            "', 'hex'), 2) ON CONFLICT (scope, id) DO UPDATE SET changed_at = clock_timestamp()",
            "SELECT state::text AS s FROM dbop_ledger WHERE scope = decode('64626f70', 'hex') \
             AND id = decode('",
            "SAVEPOINT dbop; COMMIT",
        ),
        (
            Dialect::Mysql,
            "SET @dbop_autocommit=@@autocommit, autocommit=0, \
             @dbop_lock=@@SESSION.innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout=3; \
             SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; START TRANSACTION; SAVEPOINT dbop_alive; \
             INSERT INTO dbop_ledger (scope, id, state) VALUES (X'64626f70', X'",
            "', 2) ON DUPLICATE KEY UPDATE changed_at = CURRENT_TIMESTAMP(6)",
            "SELECT CAST(state AS CHAR) AS s FROM dbop_ledger WHERE scope = X'64626f70' \
             AND id = X'",
            "RELEASE SAVEPOINT dbop_alive; \
             SET SESSION innodb_lock_wait_timeout=@dbop_lock, autocommit=1",
        ),
    ] {
        let plain = batches(dialect, TOP, settings);
        assert!(plain.question().is_none(), "there is no token");
        let batches = plain.with_token(&entry).expect("a token");
        let question = batches.question().expect("a question");
        let sql = question.batches.begin();
        assert!(sql.starts_with(begin) && sql.ends_with(write), "{sql}");
        assert!(question.state.starts_with(state), "{}", question.state);
        let sql = question.batches.commit();
        assert!(sql.starts_with(commit), "{sql}");
    }
}

/// With tokens to delete.
fn ledger_that_has_served() -> Ledger {
    let ledger = Ledger::new();
    for _ in 0..64 {
        let entry = ledger.open();
        _ = entry.issue_sql(Dialect::Postgres);
        entry.close(Outcome::Committed);
    }
    ledger
}

/// In front of it, in a transaction of their own.
#[test]
fn an_operation_deletes_the_tokens_of_many_before_it() {
    let ledger = ledger_that_has_served();
    let entry = ledger.open();
    for (dialect, delete, commit) in [
        (
            Dialect::Postgres,
            "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE; \
             SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '1s'; \
             DELETE FROM dbop_ledger \
             WHERE scope = decode('64626f70', 'hex') AND id IN (decode('",
            "', 'hex')); COMMIT; BEGIN; INSERT",
        ),
        (
            Dialect::Mysql,
            "SET @dbop_autocommit=@@autocommit, autocommit=0; DELETE l FROM (SELECT X'",
            "' AS id) AS served STRAIGHT_JOIN dbop_ledger AS l FORCE INDEX (PRIMARY) \
             ON l.scope = X'64626f70' AND l.id = served.id; COMMIT AND NO CHAIN NO RELEASE; \
             START TRANSACTION; SAVEPOINT dbop_alive; INSERT",
        ),
    ] {
        let plain = batches(dialect, TOP, Settings::default());
        let batches = plain.with_token(&entry).expect("a token");
        let sql = batches.begin();
        assert!(sql.starts_with(delete) && sql.contains(commit), "{sql}");
        assert!(!batches.commit().contains("DELETE"));
    }
}

/// It can fail, so the session's values are kept by then. And its COMMIT ends a level that is for one
/// transaction.
#[test]
fn mysql_deletes_tokens_between_the_settings_of_the_session_and_those_of_the_transaction() {
    let ledger = ledger_that_has_served();
    let entry = ledger.open();
    let settings = Settings {
        isolation: Some(IsolationLevel::Serializable),
        ..timeouts()
    };
    let exact = batches(Dialect::Mysql, TOP, settings);
    let exact = exact.with_token(&entry).expect("a token");
    let parts: Vec<_> = exact.begin().split("; ").collect();
    let starts = [
        "SET @dbop_autocommit=@@autocommit, autocommit=0, @dbop_lock=",
        "DELETE l FROM",
        "COMMIT AND NO CHAIN NO RELEASE",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "START TRANSACTION",
        "SAVEPOINT dbop_alive",
        "INSERT INTO dbop_ledger",
    ];
    assert_eq!(parts.len(), starts.len(), "{parts:#?}");
    for (part, start) in parts.iter().zip(starts) {
        assert!(part.starts_with(start), "{part}: {start}");
    }
    let by_default = Defaults {
        isolation: Some(IsolationLevel::Serializable),
        ..Defaults::NONE
    };
    let (nothing, before) = (Settings::default(), SavedPragmas::default());
    let at_least = Batches::new(Dialect::Mysql, TOP, &nothing, &by_default, before);
    let at_least = at_least.expect("valid").with_token(&entry);
    let at_least = at_least.expect("a token");
    let (kept, _) = at_least.begin().split_once("; DELETE").expect("tokens");
    assert!(kept.contains("@dbop_isolation="), "{kept}");
}

#[test]
fn only_postgresql_marks_a_transaction() {
    for dialect in [Dialect::Mysql, Dialect::Sqlite] {
        let plain = batches(dialect, TOP, Settings::default());
        assert!(plain.with_mark().is_none(), "{dialect}");
    }
}
