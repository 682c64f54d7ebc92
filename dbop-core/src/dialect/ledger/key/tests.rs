use std::num::NonZeroU32;

use super::*;

const NESTED: Level = Level::Savepoint(NonZeroU32::MIN);

fn key(dialect: Dialect) -> KeySql {
    KeySql::new(
        dialect,
        Table::DEFAULT,
        b"p'y",
        b"\0\\k\xff",
        Token::of([7; 16]),
        Some(&[1; 32]),
    )
}

/// Whatever is in them, they are digits in the SQL.
#[test]
fn scope_key_request_and_answer_are_hexadecimal_literals() {
    for (dialect, scope, id) in [
        (
            Dialect::Postgres,
            "decode('702779', 'hex')",
            "decode('005c6bff', 'hex')",
        ),
        (Dialect::Mysql, "X'702779'", "X'005c6bff'"),
        (Dialect::Sqlite, "X'702779'", "X'005c6bff'"),
    ] {
        let mut key = key(dialect);
        key.set_answer(Some(b"'; DROP \\"));
        for level in [Level::Transaction, NESTED] {
            for sql in [
                key.opening(level),
                key.closing(level),
                key.ask(),
                key.query(),
            ] {
                assert!(sql.contains(scope) && sql.contains(id), "{sql}");
                assert!(!sql.contains("DROP") && !sql.contains("'\\x"), "{sql}");
            }
        }
        assert!(key.opening(NESTED).contains(&"01".repeat(32)));
        assert!(key.closing(NESTED).contains("273b2044524f50205c"));
        key.set_answer(None);
        assert!(!key.closing(NESTED).contains("273b"));
    }
}

/// Only a transaction of its own can begin anew.
#[test]
fn a_wait_is_noticed_where_a_snapshot_is_older_than_that() {
    let key = key(Dialect::Postgres);
    assert!(key.opening(Level::Transaction).contains(WAS_WAITED_FOR));
    assert!(!key.opening(NESTED).contains(WAS_WAITED_FOR));
}

#[test]
fn a_row_is_read_as_it_was_written() {
    let row = |text: &str| KeyRow::from_answer(Some(text));
    let request = "0a".repeat(32);
    let read = row(&format!("1 1700000000000001 {request} 7B7d")).expect("a row");
    assert_eq!(read.state, RowState::Done);
    let since = read.changed_at.duration_since(UNIX_EPOCH);
    assert_eq!(
        since.ok(),
        Some(Duration::from_micros(1_700_000_000_000_001))
    );
    assert_eq!(read.request, Some(vec![10; 32]));
    assert_eq!(read.answer, Some(b"{}".to_vec()));
    let read = row("2 1 - -").expect("a row");
    assert_eq!(
        (read.state, read.request, read.answer),
        (RowState::Never, None, None)
    );
    // An empty answer is one.
    let read = row("1 1 - ").expect("a row");
    assert_eq!(read.answer, Some(Vec::new()));
    for text in ["", "1", "1 x - -", "1 1 -"] {
        assert_eq!(row(text), None, "{text}");
    }
    assert_eq!(KeyRow::from_answer(None), None);
}

/// Every statement is about the table of its ledger.
#[test]
fn the_table_can_have_another_name() {
    for (dialect, name) in [
        (Dialect::Postgres, "\"app\".\"order\""),
        (Dialect::Mysql, "`app`.`order`"),
        (Dialect::Sqlite, "\"app\".\"order\""),
    ] {
        let table = Table::named("app.order");
        let key = KeySql::new(dialect, table, b"scope", b"id", Token::of([7; 16]), None);
        for sql in [
            key.opening(Level::Transaction),
            key.closing(Level::Transaction),
            key.ask(),
            key.vacate(),
            key.state_query(),
            key.query(),
        ] {
            assert!(sql.contains(name) && !sql.contains("dbop_ledger"), "{sql}");
        }
    }
}

#[test]
fn the_question_writes_a_vacant_row_unless_there_is_one() {
    for (dialect, clause) in [
        (
            Dialect::Postgres,
            "2) ON CONFLICT (scope, id) DO UPDATE SET changed_at = ",
        ),
        (Dialect::Mysql, "2) ON DUPLICATE KEY UPDATE changed_at = "),
        (
            Dialect::Sqlite,
            "2) ON CONFLICT (scope, id) DO UPDATE SET changed_at = ",
        ),
    ] {
        let sql = key(dialect).ask();
        assert!(sql.contains(clause), "{sql}");
    }
}

#[test]
fn a_row_is_asked_for_as_one_text() {
    for (dialect, row, state, now, no_answer) in [
        (
            Dialect::Postgres,
            "SELECT (SELECT concat_ws(' ', state, (extract(epoch FROM changed_at) * 1000000)::bigint, \
             coalesce(encode(fingerprint, 'hex'), '-'), coalesce(encode(answer, 'hex'), '-')) FROM ",
            "SELECT (CASE WHEN token = decode('07070707070707070707070707070707', 'hex') \
             THEN state ELSE 2 END)::text AS s FROM ",
            "clock_timestamp()",
            ", NULL) ON CONFLICT",
        ),
        (
            Dialect::Mysql,
            "SELECT (SELECT CAST(CONCAT_WS(' ', state, \
             CAST(UNIX_TIMESTAMP(changed_at) * 1000000 AS UNSIGNED), \
             coalesce(hex(fingerprint), '-'), coalesce(hex(answer), '-')) AS CHAR) FROM ",
            "SELECT CAST(CASE WHEN token = X'07070707070707070707070707070707' \
             THEN state ELSE 2 END AS CHAR) AS s FROM ",
            "CURRENT_TIMESTAMP(6)",
            "answer = NULL",
        ),
        (
            Dialect::Sqlite,
            "SELECT (SELECT state || ' ' || \
             (strftime('%s', changed_at) * 1000000 + substr(changed_at, -3) * 1000) || ' ' || \
             coalesce(hex(fingerprint), '-') || ' ' || \
             CASE WHEN answer IS NULL THEN '-' ELSE hex(answer) END FROM ",
            "SELECT CAST(CASE WHEN token = X'07070707070707070707070707070707' \
             THEN state ELSE 2 END AS TEXT) AS s FROM ",
            "strftime('%Y-%m-%d %H:%M:%f', 'now')",
            "answer = NULL",
        ),
    ] {
        let key = key(dialect);
        assert!(key.query().starts_with(row), "{}", key.query());
        assert!(
            key.state_query().starts_with(state),
            "{}",
            key.state_query()
        );
        assert!(key.ask().ends_with(now), "{}", key.ask());
        let closing = key.closing(Level::Transaction);
        assert!(
            closing.contains(no_answer) && closing.contains(now),
            "{closing}"
        );
    }
}
