//! Timeouts on PostgreSQL are as asked for inside an operation, and as they were before outside of
//! it, however it ends. The runner's default never makes a stricter value looser.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, RetryPolicy};
use dbop_tests::InstantClock;
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{balance, insert, set};
use super::steps::{show, timeouts};
use super::{
    Bed, Conn, Connection as _, Operation, Runner, SimpleConnection as _, caught, helper, scenario,
};

const SESSION: &str = "SET lock_timeout = '20s'; SET statement_timeout = '1min'";
const THREE_SECONDS: Duration = Duration::from_secs(3);
const QUARTER: Duration = Duration::from_millis(250);

/// Runs operations that end in every way there is, with timeouts of their own and with those of
/// the runner.
#[helper]
async fn ends_of_all_kinds(conn: &mut Conn) {
    let policy = RetryPolicy::new()
        .with_max_retries(2)
        .with_retry_on(FaultClass::Constraint);
    let runner = Runner::new(policy)
        .with_clock(InstantClock::new())
        .with_default_statement_timeout(THREE_SECONDS);
    let asked = runner
        .operation("asked")
        .lock_timeout(THREE_SECONDS)
        .statement_timeout(QUARTER);
    let inside: QueryResult<[String; 2]> = asked
        .run(conn, async |conn: &mut Conn| Ok(timeouts(conn).await))
        .await;
    assert_eq!(inside.expect("done"), ["3s", "250ms"]);
    changes_nothing(conn, asked).await;
    changes_nothing(conn, runner.operation("default")).await;
}

#[helper]
async fn changes_nothing(conn: &mut Conn, operation: Operation<'_>) {
    let before = timeouts(conn).await;

    let succeeded: QueryResult<[String; 2]> = operation
        .run(conn, async |conn: &mut Conn| Ok(timeouts(conn).await))
        .await;
    let inside = succeeded.expect("done");
    assert_eq!(timeouts(conn).await, before, "after success");

    let own: QueryResult<()> = operation
        .run(conn, async |_: &mut Conn| Err(Error::NotFound))
        .await;
    assert_eq!(own, Err(Error::NotFound));
    assert_eq!(timeouts(conn).await, before, "after an error of its own");

    let bodies = AtomicU32::new(0);
    let failed: QueryResult<usize> = operation
        .run(conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            assert_eq!(timeouts(conn).await, inside, "in every attempt");
            insert(conn, 1).await
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(bodies.into_inner(), 3);
    assert_eq!(timeouts(conn).await, before, "after retries in vain");

    let swallowed: QueryResult<()> = operation
        .run(conn, async |conn: &mut Conn| {
            assert!(insert(conn, 1).await.is_err());
            Ok(())
        })
        .await;
    assert!(swallowed.is_err());
    assert_eq!(timeouts(conn).await, before, "after a swallowed error");

    let panicked = caught(async || {
        let never: QueryResult<()> = operation
            .run(conn, async |_: &mut Conn| panic!("here"))
            .await;
        never
    })
    .await;
    assert!(panicked.is_err());
    assert_eq!(timeouts(conn).await, before, "after a panic");
}

#[scenario]
async fn at_top_level_the_session_is_what_it_was_before() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    ends_of_all_kinds(&mut conn).await;
    conn.batch_execute(SESSION).await.expect("allowed to");
    ends_of_all_kinds(&mut conn).await;
    assert_eq!(timeouts(&mut conn).await, ["20s", "1min"]);
}

#[scenario]
async fn in_a_savepoint_the_callers_set_local_is_what_it_was_before() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(SESSION).await.expect("allowed to");
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            ends_of_all_kinds(conn).await;
            assert_eq!(timeouts(conn).await, ["20s", "1min"]);
            conn.batch_execute("SET LOCAL lock_timeout = '1s'").await?;
            ends_of_all_kinds(conn).await;
            assert_eq!(timeouts(conn).await, ["1s", "1min"]);
            Ok(())
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(timeouts(&mut conn).await, ["20s", "1min"]);
}

#[scenario]
async fn nested_operations_have_their_own_and_inherit_the_rest() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<()> = runner
        .operation("outer")
        .lock_timeout(THREE_SECONDS)
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .operation("middle")
                .statement_timeout(QUARTER)
                .run(conn, async |conn: &mut Conn| {
                    assert_eq!(timeouts(conn).await, ["3s", "250ms"]);
                    runner
                        .operation("inner")
                        .lock_timeout(Duration::from_secs(20))
                        .run(conn, async |conn: &mut Conn| {
                            assert_eq!(timeouts(conn).await, ["20s", "250ms"]);
                            QueryResult::Ok(())
                        })
                        .await?;
                    assert_eq!(timeouts(conn).await, ["3s", "250ms"]);
                    QueryResult::Ok(())
                })
                .await?;
            assert_eq!(timeouts(conn).await, ["3s", "0"]);
            runner
                .run(conn, async |conn: &mut Conn| {
                    assert_eq!(timeouts(conn).await, ["3s", "0"]);
                    Ok(())
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(timeouts(&mut conn).await, ["0", "0"]);
}

/// Only the server knows what that is, so it is kept there.
#[scenario]
async fn what_the_operation_around_has_set_by_itself_is_there_again_after_a_nested_one() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    for _ in 0..2 {
        let result: QueryResult<()> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                conn.batch_execute("SET LOCAL lock_timeout = '1500ms'")
                    .await?;
                let nested = runner.operation("nested").lock_timeout(THREE_SECONDS);
                let seen: QueryResult<String> = nested
                    .run(conn, async |conn: &mut Conn| {
                        Ok(show(conn, "lock_timeout").await)
                    })
                    .await;
                assert_eq!(seen.as_deref(), Ok("3s"));
                assert_eq!(show(conn, "lock_timeout").await, "1500ms");
                Ok(())
            })
            .await;
        assert_eq!(result, Ok(()));
        assert_eq!(timeouts(&mut conn).await, ["0", "0"]);
    }
}

#[scenario]
async fn nested_operations_inherit_more_than_the_default_too() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let seen: QueryResult<[String; 2]> = runner
        .operation("outer")
        .lock_timeout(Duration::from_secs(20))
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| Ok(timeouts(conn).await))
                .await
        })
        .await;
    assert_eq!(seen.expect("done"), ["20s", "0"]);
}

#[scenario]
async fn the_default_lock_timeout_only_makes_stricter() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let differing = Runner::default().with_differing_sessions(true);
    for (session, inside) in [
        ("0", "10s"),
        ("1ms", "1ms"),
        ("1500ms", "1500ms"),
        ("9999ms", "9999ms"),
        ("10s", "10s"),
        ("10001ms", "10s"),
        ("1min", "10s"),
        ("2h", "10s"),
        ("24d", "10s"),
    ] {
        conn.batch_execute(&format!("SET lock_timeout = '{session}'"))
            .await
            .expect("allowed to");
        // The first operation of a runner asks, the next ones rely on the answer.
        let runner = Runner::default();
        for runner in [&runner, &runner, &differing] {
            let seen: QueryResult<String> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    Ok(show(conn, "lock_timeout").await)
                })
                .await;
            assert_eq!(
                seen.expect("done"),
                inside,
                "where the session has {session}"
            );
        }
        let result: QueryResult<()> = conn
            .transaction(async |conn: &mut Conn| {
                let seen: QueryResult<String> = runner
                    .run(conn, async |conn: &mut Conn| {
                        Ok(show(conn, "lock_timeout").await)
                    })
                    .await;
                assert_eq!(seen.expect("done"), inside, "in a savepoint");
                Ok(())
            })
            .await;
        assert_eq!(result, Ok(()));
        assert_eq!(show(&mut conn, "lock_timeout").await, session);
    }
}

#[scenario]
async fn the_default_statement_timeout_only_makes_stricter() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let default = || Runner::default().with_default_statement_timeout(THREE_SECONDS);
    let differing = default().with_differing_sessions(true);
    for (session, inside) in [("0", "3s"), ("2s", "2s"), ("1h", "3s")] {
        conn.batch_execute(&format!("SET statement_timeout = '{session}'"))
            .await
            .expect("allowed to");
        let runner = default();
        for runner in [&runner, &runner, &differing] {
            let seen: QueryResult<String> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    Ok(show(conn, "statement_timeout").await)
                })
                .await;
            assert_eq!(
                seen.expect("done"),
                inside,
                "where the session has {session}"
            );
        }
        assert_eq!(show(&mut conn, "statement_timeout").await, session);
    }
}

#[scenario]
async fn an_operations_own_timeout_does_as_told() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(SESSION).await.expect("allowed to");
    let looser: QueryResult<[String; 2]> = Runner::default()
        .operation("looser")
        .lock_timeout(Duration::from_secs(60))
        .statement_timeout(Duration::from_secs(3600))
        .run(&mut conn, async |conn: &mut Conn| Ok(timeouts(conn).await))
        .await;
    assert_eq!(looser.expect("done"), ["1min", "1h"]);
    let shortest: QueryResult<[String; 2]> = Runner::default()
        .operation("shortest")
        .lock_timeout(Duration::from_nanos(1))
        .statement_timeout(Duration::from_micros(5001))
        .run(&mut conn, async |conn: &mut Conn| Ok(timeouts(conn).await))
        .await;
    assert_eq!(shortest.expect("done"), ["1ms", "6ms"], "rounded up");
}

#[scenario]
async fn without_defaults_nothing_is_changed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(SESSION).await.expect("allowed to");
    let seen: QueryResult<[String; 2]> = Runner::default()
        .with_default_lock_timeout(None)
        .run(&mut conn, async |conn: &mut Conn| Ok(timeouts(conn).await))
        .await;
    assert_eq!(seen.expect("done"), ["20s", "1min"]);
}

/// At COMMIT itself, and by the operation's own doing.
#[scenario]
async fn the_session_is_what_it_was_before_whoever_ends_the_transaction() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = bed.connect();
    conn.batch_execute(SESSION).await.expect("allowed to");
    let runner = Runner::new(RetryPolicy::no_retries());

    let failed: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            conn.batch_execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                .await?;
            let sum = balance(conn, 1).await? + balance(conn, 2).await?;
            opponent.execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM accounts");
            opponent.execute("UPDATE accounts SET balance = 0 WHERE id = 2");
            let updated = set(conn, 1, sum).await?;
            opponent.execute("COMMIT");
            Ok(updated)
        })
        .await;
    assert!(failed.is_err(), "write skew");
    assert_eq!(timeouts(&mut conn).await, ["20s", "1min"]);

    for statement in ["COMMIT", "ROLLBACK"] {
        let ended: QueryResult<()> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                conn.batch_execute(statement).await
            })
            .await;
        assert!(ended.is_err());
        assert_eq!(timeouts(&mut conn).await, ["20s", "1min"], "{statement}");
    }
}

/// Somebody left the session in a failed transaction that Diesel knows nothing of.
#[scenario]
async fn where_no_operation_can_begin_the_session_keeps_what_it_has_now() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let before: QueryResult<i64> = runner
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert_eq!(before, Ok(100));
    conn.batch_execute(SESSION).await.expect("allowed to");
    conn.batch_execute("BEGIN").await.expect("allowed to");
    conn.batch_execute("SELECT 1 / 0")
        .await
        .expect_err("failed");
    let result: QueryResult<i64> = runner
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert!(result.is_err());
    assert_eq!(timeouts(&mut conn).await, ["20s", "1min"]);
}

/// PostgreSQL lets a transaction become read-write until its first query. Then a COMMIT whose answer is
/// lost could not be called undone.
#[scenario]
async fn an_operation_cannot_make_its_read_only_transaction_read_write() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for lift in [
        "SET TRANSACTION READ WRITE",
        "SET transaction_read_only = off",
        "SELECT set_config('transaction_read_only', 'off', true)",
    ] {
        let result: QueryResult<usize> = Runner::default()
            .operation("read")
            .read_only()
            .run(&mut conn, async |conn: &mut Conn| {
                conn.batch_execute(lift).await?;
                set(conn, 1, 0).await
            })
            .await;
        assert_eq!(
            result.expect_err("refused").to_string(),
            "cannot set transaction read-write mode inside a read-only transaction",
            "{lift}"
        );
    }
    let done = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| set(conn, 2, 7).await)
        .await;
    assert_eq!(done, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 7), (3, 100)]);
}
