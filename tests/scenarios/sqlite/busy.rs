//! An operation that is going to write takes SQLite's write lock when it begins. While somebody
//! else has it the BEGIN is tried again, and the body is run when it succeeded, not before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{Code, FaultClass, Outcome, RetryPolicy, StopReason};
use dbop_tests::{InstantClock, Meanwhile};
use diesel::QueryResult;

use super::money::{add, balance};
use super::steps::{commits_during, pragmas, writer};
use super::{Bed, Conn, Runner, SimpleConnection as _, depth, helper, scenario, together};

#[scenario]
async fn the_begin_is_tried_again_until_the_other_writer_is_done() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = commits_during(2, writer(&bed));
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 3, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (3, 1));
    assert_eq!(clock.slept().len(), 2);
    for failure in &report.failures {
        let fault = failure.fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::Busy);
        assert_eq!(fault.code(), Some(Code::Sqlite(5)));
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 1110)]);
}

/// Also on one that was attached when the connection had begun a transaction before.
#[scenario]
async fn the_write_lock_is_that_of_every_database() {
    let (bed, other) = (Bed::new(), Bed::new());
    let mut conn = bed.connect();
    let runner = Runner::default();
    let committed = runner.run(&mut conn, async |conn: &mut Conn| add(conn, 3, 10).await);
    assert_eq!(committed.await, Ok(1));
    conn.batch_execute(&format!("ATTACH '{}' AS other", other.url()))
        .await
        .expect("attached");
    let refused = runner.run(&mut conn, async |_: &mut Conn| {
        let mut writer = other.connect();
        QueryResult::Ok(writer.batch_execute("BEGIN IMMEDIATE").await.is_err())
    });
    assert_eq!(refused.await, Ok(true));
}

#[scenario]
async fn when_the_other_writer_is_never_done_the_body_is_never_run() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = writer(&bed);
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let runner = Runner::default().with_clock(clock.clone());
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 3, 10).await
        })
        .await;
    let error = report.result.expect_err("locked");
    assert_eq!(error.to_string(), "database is locked");
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!((report.attempts, bodies.into_inner()), (21, 0));
    assert_eq!(clock.slept().len(), 20);
    assert_eq!(depth(&mut conn), Some(0));
    opponent.execute("COMMIT");
    let next = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 3, 10).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances()[2], (3, 1110));
}

#[scenario]
async fn a_fallback_value_replaces_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let _opponent = writer(&bed);
    let result: QueryResult<usize> = Runner::default()
        .operation("write")
        .max_retries(0)
        .fallback(77)
        .run(&mut conn, async |conn: &mut Conn| add(conn, 3, 10).await)
        .await;
    assert_eq!(result, Ok(77));
}

/// Nobody waits for us while we sleep.
#[scenario]
async fn the_write_lock_is_free_during_the_sleep() {
    let bed = Arc::new(Bed::new());
    let mut conn = bed.connect();
    let clock = {
        let bed = Arc::clone(&bed);
        Meanwhile::new(move |_| {
            let somebody_else = bed.opponent();
            somebody_else.execute("UPDATE accounts SET balance = balance + 1000 WHERE id = 1");
        })
    };
    let bodies = AtomicU32::new(0);
    let policy = RetryPolicy::new().with_retry_on(FaultClass::Permanent);
    let result: QueryResult<usize> = Runner::new(policy)
        .with_clock(clock.clone())
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) < 2 {
                conn.batch_execute("SELEC 1").await?;
            }
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(clock.slept().len(), 2);
    assert_eq!(bed.balances(), [(1, 2110), (2, 110), (3, 100)]);
}

/// `lock_timeout` is how long SQLite itself waits.
#[scenario]
async fn a_lock_timeout_is_really_waited() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let _opponent = writer(&bed);
    let bodies = AtomicU32::new(0);
    for wait in [Duration::from_millis(200), Duration::from_millis(600)] {
        let started = Instant::now();
        let result: QueryResult<usize> = Runner::default()
            .operation("wait")
            .lock_timeout(wait)
            .max_retries(0)
            .run(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 3, 10).await
            })
            .await;
        result.expect_err("locked");
        let waited = started.elapsed();
        assert!(waited >= wait, "{waited:?}");
        assert!(waited < wait + Duration::from_secs(5), "{waited:?}");
    }
    assert_eq!(bodies.into_inner(), 0);
}

/// Transfers of two steps each, among the accounts.
#[helper]
async fn customer(bed: &Bed, number: i32) -> u32 {
    let policy = RetryPolicy::new()
        .with_max_retries(10_000)
        .with_initial_delay(Duration::from_millis(1))
        .with_max_delay(Duration::from_millis(5));
    let runner = Runner::new(policy);
    let mut conn = bed.connect();
    let mut attempts = 0;
    for turn in 0..25 {
        let from = (number + turn) % 3 + 1;
        let to = (number + turn + 1 + turn % 2) % 3 + 1;
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                let before = balance(conn, from).await?;
                runner
                    .run(conn, async |conn: &mut Conn| add(conn, from, -1).await)
                    .await?;
                runner
                    .run(conn, async |conn: &mut Conn| add(conn, to, 1).await)
                    .await?;
                QueryResult::Ok((before, balance(conn, from).await?))
            })
            .await;
        let (before, after) = report.result.expect("committed");
        assert_eq!(after, before - 1, "nobody else wrote in between");
        attempts += report.attempts;
    }
    attempts
}

#[scenario]
async fn under_load_every_transfer_happens_once() {
    let bed = Bed::new();
    let attempts = together(
        async || {
            together(
                async || customer(&bed, 0).await,
                async || customer(&bed, 1).await,
            )
            .await
        },
        async || {
            together(
                async || customer(&bed, 2).await,
                async || customer(&bed, 3).await,
            )
            .await
        },
    )
    .await;
    let mut expected = [(1, 100), (2, 100), (3, 100)];
    for number in 0..4 {
        for turn in 0..25 {
            expected[(number + turn) % 3].1 -= 1;
            expected[(number + turn + 1 + turn % 2) % 3].1 += 1;
        }
    }
    assert_eq!(bed.balances(), expected, "{attempts:?}");
}

/// On a new connection even the schema cannot be read.
#[scenario]
async fn a_file_that_is_locked_as_a_whole_is_tried_again_on_a_new_connection() {
    let bed = Bed::with_rollback_journal();
    let wait = Duration::from_millis(20);
    for (reads, waits) in [(true, false), (false, true), (true, true)] {
        let opponent = bed.opponent();
        opponent.execute("BEGIN EXCLUSIVE; UPDATE accounts SET balance = 7 WHERE id = 1");
        let mut conn = bed.connect();
        let runner = Runner::default().with_clock(commits_during(1, opponent));
        let mut operation = runner.operation("first");
        if reads {
            operation = operation.read_only();
        }
        if waits {
            operation = operation.lock_timeout(wait);
        }
        let report = operation
            .run_report(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        assert_eq!(report.result, Ok(7), "{operation:?}");
        assert_eq!(report.attempts, 2, "{operation:?}");
        assert_eq!(pragmas(&mut conn).await, [0, 0], "{operation:?}");
    }
}

/// Connections that share a cache lock each other's tables, and have no timeout for that.
#[scenario]
async fn a_table_locked_in_a_shared_cache_is_tried_again() {
    let bed = Bed::with_shared_cache();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    opponent.execute("BEGIN IMMEDIATE; UPDATE accounts SET balance = 7 WHERE id = 1");
    let clock = commits_during(1, opponent);
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock)
        .operation("read")
        .read_only()
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            balance(conn, 1).await
        })
        .await;
    assert_eq!(report.result, Ok(7));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.code(), Some(Code::Sqlite(262)));
}

/// Not the connection's own `busy_timeout`, which is there afterwards as before.
#[scenario]
async fn a_deadline_ends_the_wait_for_the_write_lock() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("PRAGMA busy_timeout = 20000")
        .await
        .expect("set");
    let before = pragmas(&mut conn).await;
    let opponent = writer(&bed);
    let started = Instant::now();
    let result: QueryResult<usize> = Runner::default()
        .operation("wait")
        .deadline(Duration::from_millis(300))
        .run(&mut conn, async |conn: &mut Conn| add(conn, 3, 10).await)
        .await;
    let took = started.elapsed();
    result.expect_err("it is held");
    assert!(took < Duration::from_secs(5), "{took:?}");
    opponent.execute("ROLLBACK");
    assert_eq!(pragmas(&mut conn).await, before);
    assert_eq!(bed.balances()[2], (3, 100));
}
