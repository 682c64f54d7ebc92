//! Without a transaction each statement is committed by itself: nothing is undone, and nothing that
//! may have happened is done again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{BeginMode, Dialect, OperationError as _, Outcome, RetryPolicy, StopReason};
use dbop_tests::{Again, Capture, InstantClock};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance, insert, set};
use super::{
    Bed, Conn, Connection as _, Manager, RunQueryDsl as _, Runner, TransactionManager as _,
    backend, caught, depth, scenario,
};

/// What a transaction refuses, where there is such a thing.
const MAINTENANCE: &str = match backend::DIALECT {
    Dialect::Postgres => "VACUUM accounts",
    Dialect::Sqlite => "VACUUM",
    _ => "OPTIMIZE TABLE accounts",
};

#[scenario]
async fn what_a_transaction_refuses_is_done() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let done: QueryResult<usize> = runner
        .operation("maintenance")
        .without_transaction()
        .run(&mut conn, async |conn: &mut Conn| {
            diesel::sql_query(MAINTENANCE).execute(conn).await
        })
        .await;
    done.expect("it is possible without a transaction");
    if backend::DIALECT != Dialect::Mysql {
        let refused: QueryResult<usize> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                diesel::sql_query(MAINTENANCE).execute(conn).await
            })
            .await;
        refused.expect_err("it is not possible in a transaction");
    }
}

#[scenario]
async fn each_statement_is_committed_by_itself() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let report = Runner::default()
        .with_logger(log.clone())
        .operation("plain")
        .without_transaction()
        .run_report(&mut conn, async |conn: &mut Conn| {
            assert_eq!(depth(conn), Some(0));
            set(conn, 1, 1).await?;
            assert_eq!(bed.balances()[0], (1, 1), "at once");
            insert(conn, 2).await
        })
        .await;
    let error = report.result.expect_err("there is an account 2");
    assert!(matches!(error, Error::DatabaseError(..)), "unchanged");
    assert_eq!(
        (report.outcome, report.stop, report.attempts),
        (Outcome::Unknown, StopReason::NotRetryable, 1)
    );
    assert_eq!(bed.balances()[0], (1, 1), "it is not undone");
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(log.records()[0].keys["scope"], "autocommit");
}

#[scenario]
async fn an_error_of_its_own_is_handed_back_and_replaced_only_where_nothing_is_written() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default().with_logger(log.clone());
    let plain = runner.operation("plain").without_transaction();
    let report = plain
        .fallback(-1)
        .run_report(&mut conn, async |conn: &mut Conn| balance(conn, 99).await)
        .await;
    assert_eq!(report.result, Err(Error::NotFound));
    assert_eq!(
        (report.outcome, report.stop),
        (Outcome::Unknown, StopReason::OwnError)
    );
    let text = &log.records()[0].text;
    assert!(text.ends_with("with no transaction to roll back"), "{text}");
    let report = plain
        .read_only()
        .fallback(-1)
        .run_report(&mut conn, async |conn: &mut Conn| balance(conn, 99).await)
        .await;
    assert_eq!(report.result, Ok(-1));
    assert_eq!(report.outcome, Outcome::Undone);
}

#[scenario]
async fn it_is_tried_again_only_with_a_promise() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner =
        Runner::new(RetryPolicy::new().with_max_retries(2)).with_clock(InstantClock::new());
    let plain = runner.operation("plain").without_transaction();
    for (operation, bodies) in [(plain, 1), (plain.read_only(), 3), (plain.idempotent(), 3)] {
        let begun = AtomicU32::new(0);
        let report = operation
            .run_report(&mut conn, async |conn: &mut Conn| {
                begun.fetch_add(1, Ordering::Relaxed);
                balance(conn, 1).await?;
                Err::<(), _>(Again)
            })
            .await;
        assert!(report.result.is_err());
        assert_eq!((report.attempts, begun.into_inner()), (bodies, bodies));
    }
}

#[scenario]
async fn in_an_open_transaction_it_is_refused_and_the_transaction_continues() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let plain = runner
        .operation("plain")
        .without_transaction()
        .best_effort();
    let bodies = AtomicU32::new(0);
    let callers: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            let refused: QueryResult<()> = plain
                .run(conn, async |_: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                })
                .await;
            let error = refused.expect_err("a transaction is open");
            let own = error.dbop_error().expect("dbop's");
            assert!(own.is_unsupported_setting(), "{own}");
            assert_eq!(depth(conn), Some(1));
            set(conn, 1, 1).await
        })
        .await;
    assert_eq!(callers, Ok(1));
    let operations: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let refused: QueryResult<()> = plain
                .run(conn, async |_: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                })
                .await;
            refused.expect_err("a transaction is open");
            set(conn, 2, 2).await
        })
        .await;
    assert_eq!(operations, Ok(1));
    assert_eq!(bodies.into_inner(), 0);
    assert_eq!(bed.balances(), [(1, 1), (2, 2), (3, 100)]);
}

#[scenario]
async fn what_its_body_leaves_open_is_rolled_back() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let plain = Runner::default();
    let plain = plain.operation("plain").without_transaction();
    let report = plain
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            Manager::begin_transaction(conn).await?;
            Manager::begin_transaction(conn).await?;
            set(conn, 2, 2).await
        })
        .await;
    let error = report.result.expect_err("it left a transaction open");
    assert!(error.dbop_error().is_some_and(|own| own.is_unbalanced()));
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 100)]);
    // An error stays the one that is reported.
    let result: QueryResult<()> = plain
        .run(&mut conn, async |conn: &mut Conn| {
            Manager::begin_transaction(conn).await?;
            set(conn, 3, 3).await?;
            Err(Error::NotFound)
        })
        .await;
    assert_eq!(result, Err(Error::NotFound));
    assert_eq!(depth(&mut conn), Some(0));
    let next = set(&mut conn, 2, 7).await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances(), [(1, 1), (2, 7), (3, 100)]);
}

#[scenario]
async fn a_panic_continues_when_what_is_open_is_rolled_back() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let plain = runner.operation("plain").without_transaction();
    caught(async || {
        plain
            .run(&mut conn, async |conn: &mut Conn| -> QueryResult<()> {
                set(conn, 1, 1).await?;
                Manager::begin_transaction(conn).await?;
                set(conn, 2, 2).await?;
                panic!("on purpose")
            })
            .await
    })
    .await
    .expect_err("the panic continues");
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 100)]);
}

#[scenario]
async fn operations_inside_of_it_are_transactions_of_their_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = runner
        .operation("plain")
        .without_transaction()
        .run(&mut conn, async |conn: &mut Conn| {
            let failed: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 1, 1).await?;
                    insert(conn, 1).await
                })
                .await;
            failed.expect_err("there is an account 1");
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    assert_eq!(depth(conn), Some(1));
                    add(conn, 2, 2).await
                })
                .await;
            assert_eq!(step, Ok(1));
            assert_eq!(bed.balances(), [(1, 100), (2, 102), (3, 100)], "committed");
            // Of the caller's transaction it is a step.
            conn.transaction(async |conn: &mut Conn| {
                runner
                    .run(conn, async |conn: &mut Conn| {
                        assert_eq!(depth(conn), Some(2));
                        add(conn, 3, 3).await
                    })
                    .await
            })
            .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 102), (3, 103)]);
}

/// However the steps and the operation around them share them.
#[scenario]
async fn operations_inside_of_it_share_its_retries() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner =
        Runner::new(RetryPolicy::new().with_max_retries(4)).with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let report = runner
        .operation("plain")
        .without_transaction()
        .idempotent()
        .run_report(&mut conn, async |conn: &mut Conn| {
            for _ in 0..2 {
                let step: Result<(), Again> = runner
                    .operation("step")
                    .max_retries(1)
                    .run(conn, async |conn: &mut Conn| {
                        bodies.fetch_add(1, Ordering::Relaxed);
                        balance(conn, 1).await?;
                        Err(Again)
                    })
                    .await;
                step.expect_err("each time");
            }
            Err::<(), _>(Again)
        })
        .await;
    assert!(report.result.is_err());
    // Two retries of the steps in the first attempt, one before the second, one in it.
    assert_eq!((report.attempts, bodies.into_inner()), (2, 7));
}

#[scenario]
async fn settings_of_a_transaction_are_refused_or_skipped() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let second = Duration::from_secs(1);
    let log = Capture::new();
    let runner = Runner::default()
        .with_logger(log.clone())
        .with_default_statement_timeout(second)
        .with_default_read_only(true);
    let plain = runner.operation("plain").without_transaction();
    for (name, operation) in [
        ("lock_timeout", plain.lock_timeout(second)),
        ("lock_timeout", plain.lock_timeouts(&[second])),
        ("statement_timeout", plain.statement_timeout(second)),
        ("begin_mode", plain.begin_mode(BeginMode::Deferred)),
    ] {
        let refused: QueryResult<usize> = operation
            .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
            .await;
        let error = refused.expect_err("refused");
        let own = error.dbop_error().expect("dbop's");
        assert!(own.is_unsupported_setting());
        assert!(own.to_string().starts_with(name), "{own}");
        assert_eq!(bed.balances()[0], (1, 100), "before the body");
        let skipped: QueryResult<i64> = operation
            .best_effort()
            .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        assert_eq!(skipped, Ok(100));
        let records = log.records();
        assert_eq!(records[records.len() - 2].keys["setting"], name);
    }
    // The runner's defaults do not apply, and are not reported.
    let before = log.records().len();
    let done: QueryResult<usize> = plain
        .deadline(Duration::from_secs(60))
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert_eq!(done, Ok(1));
    assert_eq!(log.records().len() - before, 1);
}
