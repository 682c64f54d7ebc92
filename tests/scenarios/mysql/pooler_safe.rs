//! A pooler-safe runner sends no user variables and sets nothing on the session but autocommit, which is 1
//! afterwards. What it keeps is that nothing written after a deadlock is committed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Engine, IsolationLevel, OperationError as _, Outcome};
use dbop_tests::proxy::Proxy;
use dbop_tests::{InstantClock, assert_unknown};
use diesel::QueryResult;
use diesel::result::Error;

use super::closing::{assert_plain, counted, expected_counts};
use super::money::{add, balance};
use super::steps::{lose_deadlock, number};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, helper, scenario};

fn runner() -> Runner {
    Runner::default()
        .with_pooler_safe(true)
        .with_clock(InstantClock::new())
}

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

#[scenario]
async fn the_server_counts_six_statements_around_a_body() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = runner();
    for (name, operation, more) in [
        ("plain", runner.operation("read"), 0),
        ("read-only", runner.operation("read").read_only(), 0),
        (
            "deadline",
            runner.operation("read").deadline(Duration::from_secs(60)),
            0,
        ),
        (
            "isolation",
            runner
                .operation("read")
                .isolation(IsolationLevel::Serializable),
            1,
        ),
    ] {
        let mut expected = expected_counts(2 + more);
        expected.insert("Com_commit".to_owned(), 1);
        assert_eq!(counted(&mut conn, operation).await, expected, "{name}");
    }
}

/// A proxy that sees one keeps the connection for this client alone.
#[scenario]
async fn there_is_no_user_variable_on_the_wire_however_an_operation_ends() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    for engine in [None, Some(Engine::Vitess)] {
        let runner = engine.map_or(runner(), |engine| {
            Runner::default()
                .with_engine(engine)
                .with_clock(InstantClock::new())
        });
        let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
        for sql in [
            "DO 0",
            "SELECT * FROM nowhere",
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'in words of its own'",
            "SIGNAL SQLSTATE '40001' SET MESSAGE_TEXT = \
             'Deadlock found when trying to get lock; try restarting transaction'",
            "CREATE TABLE IF NOT EXISTS made (id INT)",
        ] {
            for operation in [
                runner.operation("x"),
                runner
                    .operation("x")
                    .max_retries(0)
                    .deadline(Duration::from_secs(60)),
            ] {
                proxy.reset();
                let _: QueryResult<()> = operation
                    .run(&mut conn, async |conn: &mut Conn| {
                        add(conn, 1, 1).await?;
                        runner
                            .run(conn, async |conn: &mut Conn| conn.batch_execute(sql).await)
                            .await?;
                        Err(Error::RollbackTransaction)
                    })
                    .await;
                let sent = proxy.conversation().join("\n");
                assert!(
                    sent.contains("SET autocommit=0; START TRANSACTION"),
                    "{sent}"
                );
                assert!(!sent.contains('@'), "{sent}");
                if engine.is_some() {
                    assert!(!sent.contains("CHAIN"), "{sent}");
                }
                if conn.batch_execute("DO 0").await.is_ok() {
                    assert_eq!(number(&mut conn, "@@autocommit").await, 1, "{sql}");
                }
                conn = Conn::establish(proxy.url()).await.expect("a connection");
            }
        }
    }
    let mut conn = bed.connect();
    conn.batch_execute("UPDATE accounts SET balance = 100")
        .await
        .expect("reset");
}

#[scenario]
async fn a_deadlock_that_the_body_hides_leaves_nothing_behind_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = runner();
    for ends_well in [true, false] {
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                lose_deadlock(conn, &bed).await.expect_err("the victim");
                let added = add(conn, 3, 10).await;
                if ends_well {
                    added
                } else {
                    Err(Error::RollbackTransaction)
                }
            })
            .await;
        if ends_well {
            assert_unknown(&report);
        } else {
            assert!(report.result.is_err());
        }
        assert_eq!(bed.balances(), UNTOUCHED);
        let again = runner
            .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 0).await)
            .await;
        assert_eq!(again, Ok(1));
        assert_eq!(number(&mut conn, "@@autocommit").await, 1);
        assert_eq!(bed.balances(), UNTOUCHED);
    }
}

#[scenario]
async fn the_victim_of_a_deadlock_starts_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = runner()
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                lose_deadlock(conn, &bed).await?;
            }
            add(conn, 3, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, report.outcome), (2, Outcome::Committed));
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 110)]);
}

/// Also where the session would begin another one like it, or would end with it.
#[scenario]
async fn what_a_transaction_is_like_ends_with_it() {
    let bed = Bed::new();
    let runner = runner();
    let level = IsolationLevel::Serializable;
    let by_default = runner.clone().with_default_isolation(level);
    for completion in ["0", "1", "2"] {
        for operation in [
            runner.operation("read").read_only(),
            runner.operation("read").isolation(level),
            by_default.operation("read"),
        ] {
            for fails in [false, true] {
                let mut conn = bed.connect();
                conn.batch_execute(&format!("SET completion_type = {completion}"))
                    .await
                    .expect("set");
                let read: QueryResult<i64> = operation
                    .run(&mut conn, async |conn: &mut Conn| {
                        let read = balance(conn, 1).await;
                        if fails {
                            Err(Error::RollbackTransaction)
                        } else {
                            read
                        }
                    })
                    .await;
                assert_eq!(read.is_err(), fails, "{completion}: {read:?}");
                conn.batch_execute("SET completion_type = 0")
                    .await
                    .expect("set");
                assert_plain(&mut conn, &bed, completion).await;
            }
        }
    }
}

/// A level as the session names it, and whether the transaction that is open has it: one that is serializable
/// keeps others from what it has read.
#[helper]
async fn is_serializable(conn: &mut Conn, bed: &Bed) -> QueryResult<bool> {
    balance(conn, 1).await?;
    let opponent = bed.opponent();
    opponent.start("SELECT id FROM accounts WHERE id = 1 FOR UPDATE NOWAIT");
    Ok(opponent.finish().is_err())
}

#[scenario]
async fn a_default_level_is_for_the_transaction_and_never_weaker_than_that_of_the_session() {
    let bed = Bed::new();
    let runner = runner();
    for (default, session, expected) in [
        (IsolationLevel::Serializable, "READ COMMITTED", true),
        (IsolationLevel::ReadCommitted, "SERIALIZABLE", true),
        (IsolationLevel::ReadCommitted, "READ COMMITTED", false),
        (IsolationLevel::RepeatableRead, "READ COMMITTED", false),
    ] {
        let mut conn = bed.connect();
        conn.batch_execute(&format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL {session}"
        ))
        .await
        .expect("set");
        let runner = runner.clone().with_default_isolation(default);
        let seen = runner
            .run(&mut conn, async |conn: &mut Conn| {
                is_serializable(conn, &bed).await
            })
            .await;
        assert_eq!(seen, Ok(expected), "{default:?} in {session}");
        conn.batch_execute("START TRANSACTION")
            .await
            .expect("begun");
        let after = is_serializable(&mut conn, &bed).await;
        assert_eq!(after, Ok(session == "SERIALIZABLE"), "the session's own");
        conn.batch_execute("ROLLBACK").await.expect("rolled back");
    }
}

#[scenario]
async fn what_would_be_a_variable_of_the_session_is_refused() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = runner()
        .with_default_lock_timeout(Duration::from_secs(1))
        .with_default_statement_timeout(Duration::from_secs(1));
    let second = Duration::from_secs(1);
    let ladder = [second, second];
    let vitess = Runner::default().with_engine(Engine::Vitess);
    let tidb = Runner::default()
        .with_engine(Engine::TiDb)
        .with_default_lock_timeout(None);
    let shared = "is not supported by a pooler-safe runner on mysql, where it is a variable of the \
        session, which others may use";
    for (operation, expected) in [
        (
            runner.operation("x").lock_timeout(second),
            format!("lock_timeout {shared}"),
        ),
        (
            runner.operation("x").lock_timeouts(&ladder),
            format!("lock_timeout {shared}"),
        ),
        (
            runner.operation("x").statement_timeout(second),
            format!("statement_timeout {shared}"),
        ),
        (
            vitess.operation("x").lock_timeout(second),
            "lock_timeout is not supported on vitess".to_owned(),
        ),
        (
            vitess
                .operation("x")
                .isolation(IsolationLevel::Serializable),
            "isolation is not supported on vitess".to_owned(),
        ),
        (
            tidb.operation("x").read_only(),
            "read_only is not supported on tidb".to_owned(),
        ),
    ] {
        let refused: QueryResult<()> = operation
            .run(&mut conn, async |_: &mut Conn| panic!("it is refused"))
            .await;
        let error = refused.expect_err("refused");
        let error = error.dbop_error().expect("it is dbop's");
        assert!(error.is_unsupported_setting(), "{error}");
        assert_eq!(error.to_string(), expected);
        let before = number(&mut conn, "@@innodb_lock_wait_timeout").await;
        let inside = operation
            .best_effort()
            .run(&mut conn, async |conn: &mut Conn| {
                Ok::<_, Error>(number(conn, "@@innodb_lock_wait_timeout").await)
            })
            .await;
        assert_eq!(inside, Ok(before));
    }
}
