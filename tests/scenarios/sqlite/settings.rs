//! On SQLite read-only is `query_only` and a BEGIN that waits for nobody, and `lock_timeout` is
//! `busy_timeout`. Both are what they were when the operation ends, whatever its end. There is no
//! statement timeout.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dbop_diesel::{Code, FaultClass, RetryPolicy, StopReason};
use dbop_tests::{Capture, InstantClock};
use diesel::QueryResult;
use diesel::connection::InstrumentationEvent;
use diesel::result::Error;
use log::Level;

use super::money::{add, balance, insert};
use super::steps::{commits_during, pragmas, writer};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, scenario};

/// What users set by themselves: `busy_timeout` and `query_only`.
const SESSIONS: [[i64; 2]; 4] = [[0, 0], [250, 0], [0, 1], [250, 1]];

#[scenario]
async fn a_read_only_operation_does_not_wait_for_a_writer() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = writer(&bed);
    let runner = Runner::default().with_clock(InstantClock::new());
    let report = runner
        .operation("read")
        .read_only()
        .run_report(&mut conn, async |conn: &mut Conn| balance(conn, 3).await)
        .await;
    assert_eq!(report.result, Ok(100));
    assert_eq!(report.attempts, 1);
    let other: QueryResult<i64> = runner
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 3).await)
        .await;
    other.expect_err("it would have waited");
    opponent.execute("COMMIT");
}

#[scenario]
async fn a_read_only_operation_does_not_stop_a_writer() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    let result: QueryResult<i64> = Runner::default()
        .operation("read")
        .read_only()
        .run(&mut conn, async |conn: &mut Conn| {
            let before = balance(conn, 3).await?;
            opponent.execute("UPDATE accounts SET balance = 7 WHERE id = 3");
            assert_eq!(balance(conn, 3).await?, before, "one snapshot");
            Ok(before)
        })
        .await;
    assert_eq!(result, Ok(100));
    assert_eq!(bed.balances()[2], (3, 7));
}

#[scenario]
async fn a_write_in_it_is_refused_at_every_level() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let read = runner.operation("read").read_only();
    let top = read
        .run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    top.result.expect_err("read-only");
    assert_eq!((top.attempts, top.stop), (1, StopReason::NotRetryable));
    let fault = top.failures[0].fault.expect("a database error");
    assert_eq!(fault.code(), Some(Code::Sqlite(8)));
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 1).await?;
            let nested: QueryResult<usize> = read
                .run(conn, async |conn: &mut Conn| add(conn, 2, 10).await)
                .await;
            nested.expect_err("read-only");
            add(conn, 3, 1).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 101), (2, 100), (3, 101)]);
}

#[scenario]
async fn both_are_restored_after_success_error_and_retries() {
    let bed = Bed::new();
    let policy = RetryPolicy::new()
        .with_max_retries(1)
        .with_retry_on(FaultClass::Constraint)
        .with_retry_on(FaultClass::ReadOnlyServer);
    let runner = Runner::new(policy).with_clock(InstantClock::new());
    for before in SESSIONS {
        let mut conn = bed.connect();
        let [busy_timeout, query_only] = before;
        conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {busy_timeout}; PRAGMA query_only = {query_only}"
        ))
        .await
        .expect("set");
        let waiting = runner
            .operation("wait")
            .lock_timeout(Duration::from_millis(1));
        let reading = runner.operation("read").read_only();
        for (operation, inside) in [
            (reading, [busy_timeout, 1]),
            (reading.lock_timeout(Duration::from_nanos(1)), [1, 1]),
            (reading.lock_timeout(Duration::from_secs(3)), [3000, 1]),
            (waiting, [1, 0]),
        ] {
            if query_only == 1 && inside[1] == 0 {
                continue;
            }
            let seen: QueryResult<[i64; 2]> = operation
                .run(&mut conn, async |conn: &mut Conn| Ok(pragmas(conn).await))
                .await;
            assert_eq!(seen, Ok(inside));
            assert_eq!(pragmas(&mut conn).await, before);
            let undone: QueryResult<()> = operation
                .run(&mut conn, async |_: &mut Conn| Err(Error::NotFound))
                .await;
            undone.expect_err("as told");
            assert_eq!(pragmas(&mut conn).await, before);
            let retried = operation
                .run_report(&mut conn, async |conn: &mut Conn| {
                    assert_eq!(pragmas(conn).await, inside, "in every attempt");
                    insert(conn, 1).await
                })
                .await;
            assert_eq!(retried.attempts, 2);
            assert_eq!(pragmas(&mut conn).await, before);
        }
    }
}

/// Setting `query_only` makes them expire, explaining how it is set does not (measured).
#[scenario]
async fn the_statements_of_the_caller_do_not_expire() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let read = runner.operation("read").read_only();
    // The first one in a process finds out whether SQLite sets it so.
    let first = read.run(&mut conn, async |conn: &mut Conn| balance(conn, 3).await);
    assert_eq!(first.await, Ok(100));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let texts = sent.clone();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            texts.lock().expect("no panic").push(query.to_string());
        }
    });
    let second = read.run(&mut conn, async |conn: &mut Conn| balance(conn, 3).await);
    assert_eq!(second.await, Ok(100));
    let sent = sent.lock().expect("no panic");
    let sets = |sql: &&String| sql.contains("query_only=");
    let set: Vec<_> = sent.iter().filter(sets).collect();
    assert_eq!(set.len(), 2, "{sent:?}");
    assert!(set.iter().all(|sql| sql.starts_with("EXPLAIN")), "{set:?}");
}

/// SQLite is asked each time, and not what a prepared statement remembers.
#[scenario]
async fn what_the_caller_sets_between_two_operations_is_restored() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let operation = runner
        .operation("read")
        .read_only()
        .lock_timeout(Duration::from_secs(3));
    for before in SESSIONS.into_iter().chain(SESSIONS) {
        let [busy_timeout, query_only] = before;
        conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {busy_timeout}; PRAGMA query_only = {query_only}"
        ))
        .await
        .expect("set");
        let seen: QueryResult<[i64; 2]> = operation
            .run(&mut conn, async |conn: &mut Conn| Ok(pragmas(conn).await))
            .await;
        assert_eq!(seen, Ok([3000, 1]));
        assert_eq!(pragmas(&mut conn).await, before);
    }
}

#[scenario]
async fn both_are_restored_after_a_step() {
    let bed = Bed::new();
    let runner = Runner::default();
    for before in SESSIONS {
        let mut conn = bed.connect();
        let [busy_timeout, query_only] = before;
        conn.batch_execute(&format!(
            "PRAGMA busy_timeout = {busy_timeout}; PRAGMA query_only = {query_only}"
        ))
        .await
        .expect("set");
        let step = runner
            .operation("step")
            .read_only()
            .lock_timeout(Duration::from_secs(3));
        let result: QueryResult<()> = conn
            .transaction(async |conn: &mut Conn| {
                let seen: QueryResult<[i64; 2]> = step
                    .run(conn, async |conn: &mut Conn| Ok(pragmas(conn).await))
                    .await;
                assert_eq!(seen, Ok([3000, 1]));
                assert_eq!(pragmas(conn).await, before);
                let undone: QueryResult<usize> = step
                    .run(conn, async |conn: &mut Conn| add(conn, 1, 10).await)
                    .await;
                undone.expect_err("read-only");
                assert_eq!(pragmas(conn).await, before);
                Ok(())
            })
            .await;
        assert_eq!(result, Ok(()));
        assert_eq!(pragmas(&mut conn).await, before);
    }
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn the_lock_timeout_is_restored_after_a_begin_that_failed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("PRAGMA busy_timeout = 7")
        .await
        .expect("set");
    let clock = commits_during(1, writer(&bed));
    let runner = Runner::default().with_clock(clock);
    let operation = runner
        .operation("wait")
        .lock_timeout(Duration::from_millis(20));
    let given_up: QueryResult<usize> = operation
        .max_retries(0)
        .run(&mut conn, async |conn: &mut Conn| add(conn, 3, 10).await)
        .await;
    given_up.expect_err("locked");
    assert_eq!(pragmas(&mut conn).await, [7, 0]);
    let retried = operation
        .run(&mut conn, async |conn: &mut Conn| add(conn, 3, 10).await)
        .await;
    assert_eq!(retried, Ok(1));
    assert_eq!(pragmas(&mut conn).await, [7, 0]);
    assert_eq!(bed.balances()[2], (3, 1110));
}

#[scenario]
async fn the_runners_default_lock_timeout_is_left_to_the_connection() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for busy_timeout in [0, 60_000] {
        conn.batch_execute(&format!("PRAGMA busy_timeout = {busy_timeout}"))
            .await
            .expect("set");
        let seen: QueryResult<[i64; 2]> = Runner::default()
            .run(&mut conn, async |conn: &mut Conn| Ok(pragmas(conn).await))
            .await;
        assert_eq!(seen, Ok([busy_timeout, 0]));
    }
}

#[scenario]
async fn a_statement_timeout_with_best_effort_is_logged_and_done_without() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = Runner::default()
        .with_logger(log.clone())
        .operation("write")
        .statement_timeout(Duration::from_secs(5))
        .best_effort()
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 110));
    let records = log.records();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(records[0].keys["setting"], "statement_timeout");
    assert_eq!(records[1].level, Level::Debug);
}
