//! A pooler-safe runner sends what ends with the operation's transaction, and relies on nothing that it has
//! learned of another session.

use std::time::Duration;

use dbop_diesel::{IsolationLevel, OperationError as _};
use dbop_tests::proxy::Proxy;
use diesel::QueryResult;

use super::money::{balance, set};
use super::sessions::{assert_unchanged, operations, session};
use super::steps::show;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, helper, scenario};

const STRICTER: &str = "SET lock_timeout = '3s'";
const COMMIT: &str = "Query: SAVEPOINT dbop; COMMIT";

fn runner() -> Runner {
    Runner::default().with_pooler_safe(true)
}

/// The batches that an operation sends around its body, and a setting in it.
#[helper]
async fn batches(
    proxy: &Proxy,
    runner: &Runner,
    conn: &mut Conn,
    setting: &str,
) -> (Vec<String>, String) {
    proxy.reset();
    let seen: QueryResult<String> = runner
        .run(conn, async |conn: &mut Conn| Ok(show(conn, setting).await))
        .await;
    let mut lines = proxy.conversation();
    lines.retain(|line| line.starts_with("Query: "));
    (lines, seen.expect("done"))
}

/// The question is in a transaction of its own, and nothing else is a query.
#[scenario]
async fn each_operation_asks_and_sets_for_its_transaction_alone() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
    let runner = runner();
    for _ in 0..3 {
        let (lines, seen) = batches(&proxy, &runner, &mut conn, "lock_timeout").await;
        assert_eq!(lines.len(), 2, "no round trip more: {lines:?}");
        let (asked, begun) = lines[0].split_once("; COMMIT; ").expect("a question");
        assert!(asked.contains("dbop.lock_timeout_is_stricter"), "{asked}");
        assert!(!asked.contains("set_config"), "{asked}");
        assert_eq!(
            begun,
            "BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 10000"
        );
        assert_eq!(lines[1], COMMIT);
        assert_eq!(seen, "10s");
    }
}

#[scenario]
async fn a_session_is_not_taken_for_another_one() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let connect = async || Conn::establish(proxy.url()).await.expect("a connection");
    let (mut lax, mut strict) = (connect().await, connect().await);
    strict.batch_execute(STRICTER).await.expect("it can be set");
    let runner = runner();
    let (lines, seen) = batches(&proxy, &runner, &mut strict, "lock_timeout").await;
    assert_eq!(seen, "3s");
    assert_eq!(lines.len(), 3, "one round trip more, once: {lines:?}");
    for _ in 0..3 {
        for (conn, expected) in [(&mut lax, "10s"), (&mut strict, "3s")] {
            let (lines, seen) = batches(&proxy, &runner, conn, "lock_timeout").await;
            assert_eq!(seen, expected);
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(
                lines[0].ends_with(
                    "::interval BETWEEN '1 ms' AND '10000 ms' \
                THEN current_setting('lock_timeout') ELSE '10000' END, true)"
                ),
                "{lines:?}"
            );
            assert_eq!(lines[1], COMMIT);
        }
    }
    assert_eq!(show(&mut lax, "lock_timeout").await, "0");
    assert_eq!(show(&mut strict, "lock_timeout").await, "3s");
}

/// Once it has met a session with a level of its own, it leaves the level to the session.
#[scenario]
async fn a_default_level_is_never_weaker_than_it_says_nor_than_that_of_the_session() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    for (default, in_lax) in [
        (IsolationLevel::ReadCommitted, "read committed"),
        (IsolationLevel::RepeatableRead, "serializable"),
        (IsolationLevel::Serializable, "serializable"),
    ] {
        let connect = async || Conn::establish(proxy.url()).await.expect("a connection");
        let (mut lax, mut strict) = (connect().await, connect().await);
        let stricter = "SET default_transaction_isolation = 'serializable'";
        strict.batch_execute(stricter).await.expect("it can be set");
        let runner = runner().with_default_isolation(default);
        for _ in 0..3 {
            let level = "transaction_isolation";
            let (_, seen) = batches(&proxy, &runner, &mut strict, level).await;
            assert_eq!(seen, "serializable");
            let (_, seen) = batches(&proxy, &runner, &mut lax, level).await;
            assert_eq!(seen, in_lax);
        }
    }
}

/// Stricter sessions of all kinds, and operations with and without settings of their own.
#[scenario]
async fn nothing_is_set_for_the_session_on_the_wire_and_nothing_is_left() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let stricter = "SET lock_timeout = '1500ms'; SET statement_timeout = '20s'; \
        SET default_transaction_isolation = 'serializable'; SET default_transaction_deferrable = on";
    let defaults = runner()
        .with_default_statement_timeout(Duration::from_secs(30))
        .with_default_isolation(IsolationLevel::RepeatableRead)
        .with_default_deadline(Duration::from_secs(50));
    for before in ["SELECT 1", stricter] {
        let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
        conn.batch_execute(before).await.expect("it can be set");
        let state = session(&mut conn).await;
        for runner in [
            runner(),
            runner().with_differing_sessions(true),
            defaults.clone(),
        ] {
            for operation in operations(&runner) {
                for fails in [false, true] {
                    proxy.reset();
                    let operation = operation.best_effort();
                    _ = operation
                        .run(&mut conn, async |conn: &mut Conn| {
                            let _: QueryResult<i64> = runner
                                .run(conn, async |conn: &mut Conn| balance(conn, 1).await)
                                .await;
                            match fails {
                                true => set(conn, 9, 9)
                                    .await
                                    .and(Err(diesel::result::Error::NotFound)),
                                false => Ok(()),
                            }
                        })
                        .await;
                    let sent = proxy.conversation().join("\n");
                    for word in ["SET SESSION", "; SET lock", "; SET statement", ", false)"] {
                        assert!(!sent.contains(word), "{sent}");
                    }
                    assert_unchanged(&mut conn, &state, "a pooler-safe operation").await;
                }
            }
        }
    }
}

#[scenario]
async fn a_transaction_that_was_begun_in_sql_is_refused_all_the_same() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for session in [
        "SELECT 1",
        STRICTER,
        "SET default_transaction_deferrable = on",
    ] {
        conn.batch_execute(session).await.expect("it can be set");
        let runner = runner();
        for _ in 0..2 {
            conn.batch_execute("BEGIN; UPDATE accounts SET balance = 7 WHERE id = 3")
                .await
                .expect("open");
            let result: QueryResult<usize> = runner
                .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await;
            let error = result.expect_err("refused");
            let text = "SET TRANSACTION [NOT] DEFERRABLE must be called before any query";
            assert_eq!(error.to_string(), text);
            assert!(error.dbop_error().is_none());
            let seen: QueryResult<String> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    Ok(show(conn, "transaction_deferrable").await)
                })
                .await;
            let is_deferrable = session.contains("deferrable");
            assert_eq!(
                seen.as_deref(),
                Ok(if is_deferrable { "on" } else { "off" })
            );
        }
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}
