//! Settings belong to one operation: read-only is enforced and gone afterwards, and what makes no
//! sense or is not supported is an error before the operation begins.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{OperationError as _, StopReason};
use dbop_tests::Capture;
use diesel::QueryResult;
use diesel::result::Error;
use log::Level;

use super::money::{balance, set};
use super::{Bed, Conn, Connection as _, Runner, backend, depth, scenario};

#[scenario]
async fn a_read_only_operation_reads() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let seen: QueryResult<i64> = Runner::default()
        .operation("read")
        .read_only()
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert_eq!(seen, Ok(100));
}

#[scenario]
async fn a_read_only_operation_cannot_write_and_is_not_tried_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .operation("read")
        .read_only()
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await
        })
        .await;
    assert!(matches!(report.result, Err(Error::DatabaseError(..))));
    assert_eq!(
        (report.attempts, report.stop),
        (1, StopReason::NotRetryable)
    );
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 100));
    let records = log.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].level, Level::Error);
    assert_eq!(records[0].keys["code"], backend::READ_ONLY);
}

#[scenario]
async fn read_only_is_gone_for_the_next_operation_whatever_the_end() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let read = runner.operation("read").read_only();
    let succeeded: QueryResult<i64> = read
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert_eq!(succeeded, Ok(100));
    set(&mut conn, 1, 1).await.expect("outside of operations");
    let failed: QueryResult<usize> = read
        .run(&mut conn, async |conn: &mut Conn| set(conn, 2, 2).await)
        .await;
    assert!(failed.is_err());
    set(&mut conn, 2, 2).await.expect("after an error");
    let next: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 3, 3).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances(), [(1, 1), (2, 2), (3, 3)]);
}

#[scenario]
async fn in_a_savepoint_read_only_is_enforced_and_gone_or_refused() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let read = runner.operation("read").read_only();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let seen: QueryResult<i64> = read
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    balance(conn, 1).await
                })
                .await;
            let written: QueryResult<usize> = read
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    set(conn, 2, 2).await
                })
                .await;
            let refusal = written.expect_err("it may not");
            if backend::READ_ONLY_IN_SAVEPOINT {
                assert_eq!(seen, Ok(1));
                assert!(matches!(refusal, Error::DatabaseError(..)));
                assert_eq!(bodies.load(Ordering::Relaxed), 2);
            } else {
                assert!(is_unsupported(&seen.expect_err("refused")));
                assert!(is_unsupported(&refusal));
                assert_eq!(bodies.load(Ordering::Relaxed), 0, "not even begun");
            }
            assert_eq!(depth(conn), Some(1));
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1), "the rest of the transaction can write");
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

/// A step that reads and one that writes.
#[scenario]
async fn read_only_with_best_effort_then_a_write_in_one_transaction() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default().with_logger(log.clone());
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            let seen = runner
                .operation("read")
                .read_only()
                .statement_timeout(Duration::from_secs(5))
                .best_effort()
                .run(conn, async |conn: &mut Conn| balance(conn, 1).await)
                .await?;
            runner
                .operation("write")
                .run(conn, async |conn: &mut Conn| set(conn, 2, seen + 1).await)
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances()[1], (2, 101));
    let skipped: Vec<_> = log
        .records()
        .into_iter()
        .filter_map(|mut record| record.keys.remove("setting"))
        .collect();
    let expected: &[&str] = match (backend::READ_ONLY_IN_SAVEPOINT, backend::STATEMENT_TIMEOUT) {
        (false, _) => &["read_only"],
        (_, false) => &["statement_timeout"],
        _ => &[],
    };
    assert_eq!(skipped, expected);
}

#[scenario]
async fn a_statement_timeout_is_there_or_refused_before_the_operation_begins() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .operation("bounded")
        .statement_timeout(Duration::from_secs(5))
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await
        })
        .await;
    if backend::STATEMENT_TIMEOUT {
        assert_eq!(report.result, Ok(1));
    } else {
        assert!(is_unsupported(&report.result.expect_err("refused")));
        assert_eq!((report.attempts, bodies.into_inner()), (0, 0));
    }
}

#[scenario]
async fn nonsensical_timeouts_are_rejected_before_the_operation_begins() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    for bad in [
        Duration::ZERO,
        Duration::from_millis(1 << 31),
        Duration::MAX,
    ] {
        for operation in [
            runner.operation("lock").lock_timeout(bad),
            runner.operation("statement").statement_timeout(bad),
            runner.operation("lenient").lock_timeout(bad).best_effort(),
            runner
                .clone()
                .with_default_lock_timeout(bad)
                .operation("lock"),
            runner
                .clone()
                .with_default_statement_timeout(bad)
                .operation("statement"),
        ] {
            let result: QueryResult<usize> = operation
                .run(&mut conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    set(conn, 1, 1).await
                })
                .await;
            let error = result.expect_err("refused");
            assert!(
                error
                    .dbop_error()
                    .is_some_and(|own| own.is_invalid_setting())
            );
        }
    }
    assert_eq!(bodies.into_inner(), 0);
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(set(&mut conn, 1, 1).await, Ok(1), "usable");
}

#[scenario]
async fn the_longest_and_the_shortest_timeouts_are_accepted() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    for good in [
        Duration::from_nanos(1),
        Duration::from_millis((1 << 31) - 1),
    ] {
        let result: QueryResult<usize> = runner
            .operation("patient")
            .lock_timeout(good)
            .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
            .await;
        assert_eq!(result, Ok(1));
        if !backend::STATEMENT_TIMEOUT {
            continue;
        }
        let result: QueryResult<()> = runner
            .operation("patient")
            .statement_timeout(good)
            .run(&mut conn, async |_: &mut Conn| Ok(()))
            .await;
        // The shortest one can be too short for anything.
        if good > Duration::from_secs(1) {
            assert_eq!(result, Ok(()));
        }
        let own = result.as_ref().err().and_then(Error::dbop_error);
        assert!(own.is_none_or(|own| !own.is_invalid_setting()), "{own:?}");
    }
}

fn is_unsupported(error: &Error) -> bool {
    error
        .dbop_error()
        .is_some_and(|own| own.is_unsupported_setting())
}
