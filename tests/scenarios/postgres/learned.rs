//! A runner learns whether its sessions are stricter than its defaults: by a question in the opening
//! batch of its first operation, which fails where they are, and of one in 997 after it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{IsolationLevel, OperationError as _};
use dbop_tests::proxy::Proxy;
use dbop_tests::{Capture, Recorder};
use diesel::QueryResult;
use diesel::result::Error;
use log::Level;

use super::money::{balance, set};
use super::steps::{show, timeouts};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, depth, helper, scenario};

const STRICTER: &str = "SET lock_timeout = '3s'";
const WITH_DEFAULT: &str = "Query: BEGIN NOT DEFERRABLE; SET LOCAL lock_timeout = 10000";
const BARE: &str = "Query: BEGIN NOT DEFERRABLE";
const COMMIT: &str = "Query: SAVEPOINT dbop; COMMIT";

/// The lock timeout that is in force in an operation.
#[helper]
async fn inside(runner: &Runner, conn: &mut Conn) -> String {
    let seen: QueryResult<String> = runner
        .run(conn, async |conn: &mut Conn| {
            Ok(show(conn, "lock_timeout").await)
        })
        .await;
    seen.expect("done")
}

/// The batches that an operation sends around its body.
#[helper]
async fn batches(proxy: &Proxy, runner: &Runner, conn: &mut Conn) -> Vec<String> {
    proxy.reset();
    let done: QueryResult<i64> = runner
        .run(conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert_eq!(done, Ok(100));
    let mut lines = proxy.conversation();
    lines.retain(|line| line.starts_with("Query: "));
    lines
}

/// What is asked, and nothing else that is a query.
fn asks(batch: &str) -> bool {
    batch.contains("dbop.lock_timeout_is_stricter") && !batch.contains("set_config")
}

#[scenario]
async fn around_the_body_there_are_four_statements_and_none_is_a_query() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
    let runner = Runner::default();
    let first = batches(&proxy, &runner, &mut conn).await;
    assert_eq!(first.len(), 2, "no round trip more: {first:?}");
    assert!(asks(&first[0]), "{first:?}");
    assert_eq!(first[1], COMMIT);
    for runner in [runner.clone(), runner] {
        let batches = batches(&proxy, &runner, &mut conn).await;
        assert_eq!(batches, [WITH_DEFAULT, COMMIT]);
        let statements = batches.iter().map(|batch| batch.split("; ").count());
        assert_eq!(statements.sum::<usize>(), 4);
    }
}

/// By its role, by its URL, and by what the pool does when it connects.
#[scenario]
async fn a_stricter_session_says_so_once_and_keeps_its_value() {
    let bed = Bed::new();
    let (_, role) = bed.url().rsplit_once("%3D").expect("a schema");
    bed.opponent().execute(&format!(
        "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{role}'; \
         ALTER ROLE {role} SET lock_timeout = '3s'"
    ));
    for (url, setup) in [
        (bed.url_with(&format!("{role}:{role}"), None), "SELECT 1"),
        (format!("{}%20-clock_timeout%3D3s", bed.url()), "SELECT 1"),
        (bed.url().to_owned(), STRICTER),
    ] {
        let proxy = Proxy::start(&url);
        let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
        conn.batch_execute(setup).await.expect("it can be set");
        let (seen, log) = (Recorder::default(), Capture::new());
        conn.set_instrumentation(seen.clone());
        let runner = Runner::default().with_logger(log.clone());
        let attempts = AtomicU32::new(0);
        let counts = |_: u32| _ = attempts.fetch_add(1, Ordering::Relaxed);
        proxy.reset();
        let report = runner
            .operation("first")
            .before_attempt(&counts)
            .run_report(&mut conn, async |conn: &mut Conn| {
                QueryResult::Ok(show(conn, "lock_timeout").await)
            })
            .await;
        assert_eq!(report.result.as_deref(), Ok("3s"));
        assert_eq!((report.attempts, attempts.into_inner()), (1, 1));
        assert!(report.failures.is_empty());
        assert_eq!(log.levels(), [Level::Debug], "that it is done");
        assert_eq!(seen.take(), ["begin 1", "commit 1"]);
        let mut lines = proxy.conversation();
        lines.retain(|line| line.starts_with("Query: "));
        assert!(asks(&lines[0]), "{lines:?}");
        assert!(lines[1].starts_with("Query: ROLLBACK; BEGIN"), "{lines:?}");
        assert_eq!(lines.len(), 3, "one round trip more, once: {lines:?}");
        for _ in 0..3 {
            assert_eq!(batches(&proxy, &runner, &mut conn).await, [BARE, COMMIT]);
            assert_eq!(inside(&runner, &mut conn).await, "3s");
        }
        assert_eq!(depth(&mut conn), Some(0));
        assert_eq!(show(&mut conn, "lock_timeout").await, "3s");
    }
}

/// Until it has met both, it takes them to be alike.
#[scenario]
async fn where_sessions_differ_it_is_noticed_by_the_next_one_that_is_asked() {
    let bed = Bed::new();
    let (mut lax, mut strict) = (bed.connect(), bed.connect());
    strict.batch_execute(STRICTER).await.expect("it can be set");
    let runner = Runner::default();
    assert_eq!(inside(&runner, &mut lax).await, "10s");
    assert_eq!(inside(&runner, &mut strict).await, "10s", "as documented");
    for _ in 2..997 {
        runner
            .run(&mut lax, async |_: &mut Conn| QueryResult::Ok(()))
            .await
            .expect("done");
    }
    assert_eq!(inside(&runner, &mut strict).await, "3s", "it is asked");
    for _ in 0..3 {
        assert_eq!(inside(&runner, &mut lax).await, "10s");
        assert_eq!(inside(&runner, &mut strict).await, "3s");
    }
    assert_eq!(show(&mut lax, "lock_timeout").await, "0");
    assert_eq!(show(&mut strict, "lock_timeout").await, "3s");
}

#[scenario]
async fn a_runner_that_is_told_that_sessions_differ_looks_at_each() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let connect = async || Conn::establish(proxy.url()).await.expect("a connection");
    let (mut lax, mut strict) = (connect().await, connect().await);
    strict.batch_execute(STRICTER).await.expect("it can be set");
    let runner = Runner::default().with_differing_sessions(true);
    for _ in 0..3 {
        assert_eq!(inside(&runner, &mut lax).await, "10s");
        assert_eq!(inside(&runner, &mut strict).await, "3s");
        let batches = batches(&proxy, &runner, &mut strict).await;
        assert_eq!(batches.len(), 2, "no round trip more: {batches:?}");
        assert!(!batches[0].contains("is_stricter"), "{batches:?}");
    }
}

/// Runners that begin in each way: by asking, by what they have learned, and by a look.
#[helper]
async fn runners(conn: &mut Conn) -> [Runner; 3] {
    let learned = Runner::default();
    inside(&learned, conn).await;
    let differing = Runner::default().with_differing_sessions(true);
    [Runner::default(), learned, differing]
}

#[scenario]
async fn the_first_query_of_the_operation_takes_the_snapshot() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = bed.connect();
    let mut expected = 100;
    for session in ["SELECT 1", STRICTER] {
        conn.batch_execute(session).await.expect("it can be set");
        for runner in runners(&mut conn).await {
            expected += 1;
            let seen: QueryResult<i64> = runner
                .operation("lock, then read")
                .isolation(IsolationLevel::RepeatableRead)
                .run(&mut conn, async |conn: &mut Conn| {
                    opponent.execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
                    conn.batch_execute("LOCK TABLE accounts IN EXCLUSIVE MODE")
                        .await?;
                    balance(conn, 1).await
                })
                .await;
            assert_eq!(seen, Ok(expected));
        }
    }
}

#[scenario]
async fn the_operation_can_still_choose_its_level() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for session in ["SELECT 1", STRICTER] {
        conn.batch_execute(session).await.expect("it can be set");
        for runner in runners(&mut conn).await {
            let seen: QueryResult<String> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    conn.batch_execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                        .await?;
                    Ok(show(conn, "transaction_isolation").await)
                })
                .await;
            assert_eq!(seen.as_deref(), Ok("serializable"));
        }
    }
}

/// Diesel does not know of it, and a COMMIT of the operation would commit it.
#[scenario]
async fn a_transaction_that_was_begun_in_sql_is_refused() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for session in [
        "SELECT 1",
        STRICTER,
        "SET default_transaction_deferrable = on",
    ] {
        conn.batch_execute(session).await.expect("it can be set");
        for runner in runners(&mut conn).await {
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
            let done: QueryResult<i64> = runner
                .run(&mut conn, async |conn: &mut Conn| balance(conn, 3).await)
                .await;
            assert_eq!(done, Ok(100), "it was rolled back");
        }
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

/// The word that guards against it does not change what the session has.
#[scenario]
async fn an_operation_is_deferrable_where_its_session_is() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for session in ["off", "on"] {
        conn.batch_execute(&format!("SET default_transaction_deferrable = {session}"))
            .await
            .expect("it can be set");
        for runner in runners(&mut conn).await {
            let seen: QueryResult<String> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    Ok(show(conn, "transaction_deferrable").await)
                })
                .await;
            assert_eq!(seen.as_deref(), Ok(session));
        }
    }
}

/// As with Diesel's own transaction. A rollback undoes it, as it undoes everything.
#[scenario]
async fn what_the_operation_itself_sets_for_the_session_stays() {
    let bed = Bed::new();
    let runner = Runner::default();
    for commits in [true, false] {
        let mut conn = bed.connect();
        for round in ["4s", "5s"] {
            let sql = format!("SET lock_timeout = '{round}'");
            let result: QueryResult<()> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    conn.batch_execute(&sql).await?;
                    match commits {
                        true => Ok(()),
                        false => Err(Error::RollbackTransaction),
                    }
                })
                .await;
            assert_eq!(result.is_ok(), commits);
            let expected = if commits { round } else { "0" };
            assert_eq!(show(&mut conn, "lock_timeout").await, expected);
        }
    }
}

/// The deadline shortens the statement timeout, from attempt to attempt.
#[scenario]
async fn defaults_of_every_kind_and_deadlines_take_no_query_where_the_session_is_laxer() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let runners = [
        Runner::default().with_default_deadline(Duration::from_secs(60)),
        Runner::default()
            .with_default_statement_timeout(Duration::from_secs(40))
            .with_default_isolation(IsolationLevel::RepeatableRead),
        Runner::default()
            .with_default_lock_timeout(None)
            .with_default_statement_timeout(Duration::from_secs(40)),
    ];
    for runner in runners {
        let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
        _ = batches(&proxy, &runner, &mut conn).await;
        let batches = batches(&proxy, &runner, &mut conn).await;
        assert_eq!(batches.len(), 2);
        for batch in &batches {
            assert!(!batch.contains("SELECT"), "{batch}");
        }
        assert!(
            batches[0].contains("; SET LOCAL statement_timeout = "),
            "{batches:?}"
        );
        let before = timeouts(&mut conn).await;
        assert_eq!(before, ["0", "0"]);
    }
}

/// The sessions' values are of all kinds, and the first operation meets them all.
#[scenario]
async fn a_session_that_is_stricter_in_everything_keeps_everything() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(
        "SET lock_timeout = '3s'; SET statement_timeout = '20s'; \
         SET default_transaction_isolation = 'serializable'; \
         SET default_transaction_deferrable = on",
    )
    .await
    .expect("it can be set");
    let runner = Runner::default()
        .with_default_statement_timeout(Duration::from_secs(40))
        .with_default_isolation(IsolationLevel::RepeatableRead);
    for _ in 0..3 {
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                let [lock, statement] = timeouts(conn).await;
                let isolation = show(conn, "transaction_isolation").await;
                let deferrable = show(conn, "transaction_deferrable").await;
                QueryResult::Ok([lock, statement, isolation, deferrable])
            })
            .await;
        assert_eq!(report.attempts, 1);
        let seen = report.result.expect("done");
        assert_eq!(seen, ["3s", "20s", "serializable", "on"]);
    }
    assert_eq!(timeouts(&mut conn).await, ["3s", "20s"]);
}
