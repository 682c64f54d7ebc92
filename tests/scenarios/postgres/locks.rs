//! Lock timeouts and NOWAIT (55P03) and statement timeouts (57014) on PostgreSQL. A lock that was
//! not had is worth another try: at top level as often as the policy says, in a savepoint once. A
//! statement that ran too long is not, unless asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{
    Advice, FaultClass, OperationError, Outcome, RetryPolicy, StopReason, diesel_error_in,
};
use dbop_tests::{Capture, InstantClock, accounts};
use diesel::QueryResult;
use diesel::prelude::QueryDsl as _;
use diesel::result::Error;
use diesel::sql_query;
use log::Level;

use super::money::{add, set};
use super::steps::{opponent_commits, session_id};
use super::{Bed, Conn, Connection as _, RunQueryDsl, Runner, helper, scenario};

const HOLD_1: &str = "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 1";
const SOON: Duration = Duration::from_millis(50);

#[helper]
async fn lock_at_once(conn: &mut Conn) -> QueryResult<(i32, i64)> {
    accounts::table
        .find(1)
        .for_update()
        .no_wait()
        .get_result(conn)
        .await
}

#[helper]
async fn sleep_too_long(conn: &mut Conn) -> QueryResult<usize> {
    sql_query("SELECT pg_sleep(30)").execute(conn).await
}

#[scenario]
async fn a_lock_timeout_at_top_level_is_retried() {
    let bed = Bed::new();
    let opponent = Arc::new(bed.opponent());
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(opponent_commits(&opponent))
        .operation("add")
        .lock_timeout(SOON)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 2, 10).await?;
            add(conn, 1, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert_eq!(fault.code().expect("a code").to_string(), "55P03");
    assert_eq!(bed.balances(), [(1, 111), (2, 110), (3, 100)]);
}

#[scenario]
async fn a_lock_that_never_comes_is_tried_as_often_as_the_policy_says() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::new(RetryPolicy::new().with_max_retries(2))
        .with_clock(InstantClock::new())
        .with_logger(log.clone())
        .operation("add")
        .lock_timeout(SOON)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await
        })
        .await;
    let error = report.result.expect_err("locked");
    assert_eq!(error.to_string(), "canceling statement due to lock timeout");
    assert_eq!((report.attempts, bodies.into_inner()), (3, 3));
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!(log.levels(), [Level::Warn, Level::Warn, Level::Error]);
    assert_eq!(log.records()[2].keys["transient"], "true");
}

/// It is not for rows alone, and each attempt waits for so long.
#[scenario]
async fn the_runners_default_ends_a_wait_for_an_advisory_lock_and_for_a_unique_key() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let lock = format!(
        "SELECT pg_advisory_xact_lock({})",
        session_id(&mut conn).await
    );
    let insert = "INSERT INTO accounts VALUES (4, 0)";
    let opponent = bed.opponent();
    opponent.execute(&format!("BEGIN; {lock}; {insert}"));
    let runner = Runner::default()
        .with_default_lock_timeout(SOON)
        .with_clock(InstantClock::new());
    for wait in [&*lock, insert] {
        let begun = Instant::now();
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                sql_query(wait).execute(conn).await
            })
            .await;
        let error = report.result.expect_err("locked");
        assert_eq!(error.to_string(), "canceling statement due to lock timeout");
        assert_eq!(report.attempts, 6);
        assert!(begun.elapsed() >= 6 * SOON, "{wait}");
    }
}

#[scenario]
async fn a_lock_timeout_in_a_savepoint_is_retried_in_place() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone());
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            set(conn, 3, 3).await?;
            runner
                .operation("add")
                .lock_timeout(SOON)
                .run(conn, async |conn: &mut Conn| {
                    if inner.fetch_add(1, Ordering::Relaxed) == 1 {
                        opponent.execute("COMMIT");
                    }
                    add(conn, 2, 10).await?;
                    add(conn, 1, 10).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert!(
        clock.slept().is_empty(),
        "others wait for what the caller has locked"
    );
    assert_eq!((outer.into_inner(), inner.into_inner()), (1, 2));
    assert_eq!(bed.balances(), [(1, 111), (2, 110), (3, 3)]);
}

#[scenario]
async fn a_lock_that_never_comes_to_a_savepoint_goes_up_after_two_tries() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            let report = runner
                .operation("add")
                .lock_timeout(SOON)
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                })
                .await;
            assert!(report.result.is_err());
            assert_eq!(report.attempts, 2);
            assert_eq!(report.stop, StopReason::EnclosingTransaction);
            assert_eq!(report.outcome, Outcome::Undone);
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1), "the caller goes on without it");
    assert_eq!(bodies.into_inner(), 2);
    opponent.execute("COMMIT");
    assert_eq!(bed.balances(), [(1, 101), (2, 100), (3, 3)]);
}

#[scenario]
async fn nowait_at_top_level_is_retried() {
    let bed = Bed::new();
    let opponent = Arc::new(bed.opponent());
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let report = Runner::default()
        .with_clock(opponent_commits(&opponent))
        .run_report(&mut conn, async |conn: &mut Conn| lock_at_once(conn).await)
        .await;
    assert_eq!(report.result, Ok((1, 101)));
    assert_eq!(report.attempts, 2);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert_eq!(fault.code().expect("a code").to_string(), "55P03");
}

#[scenario]
async fn nowait_in_a_savepoint_is_retried_once() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<(i32, i64)> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    lock_at_once(conn).await
                })
                .await
        })
        .await;
    let error = result.expect_err("locked").to_string();
    assert!(error.starts_with("could not obtain lock on row"), "{error}");
    assert_eq!(bodies.into_inner(), 2);
}

#[scenario]
async fn a_fallback_for_a_lock_that_never_comes_lets_the_caller_go_on() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 2, 2).await?;
            let seen: QueryResult<(i32, i64)> = runner
                .operation("lock")
                .fallback((1, -1))
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    lock_at_once(conn).await
                })
                .await;
            assert_eq!(seen, Ok((1, -1)));
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(bed.balances(), [(1, 100), (2, 2), (3, 3)]);
}

/// Does not want to wait for anybody.
#[derive(Debug, thiserror::Error)]
#[error("in a hurry")]
struct InAHurry(#[from] Error);

impl OperationError for InAHurry {
    fn diesel_error(&self) -> Option<&Error> {
        diesel_error_in(self)
    }

    fn advice(&self) -> Advice {
        Advice::Never
    }
}

#[scenario]
async fn an_error_that_says_never_is_not_retried_although_its_class_is() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            Ok::<_, InAHurry>(lock_at_once(conn).await?)
        })
        .await;
    assert!(report.result.is_err());
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
}

/// Nothing here depends on how long it really takes, except that a broken timeout would be noticed
/// as 30 s, the opponent's own.
#[scenario]
async fn a_lock_timeout_fires_after_about_the_time_asked() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let asked = Duration::from_millis(300);
    let started = Instant::now();
    let result: QueryResult<usize> = Runner::default()
        .operation("add")
        .lock_timeout(asked)
        .max_retries(0)
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    let took = started.elapsed();
    assert!(result.is_err());
    assert!(took >= asked, "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[scenario]
async fn a_statement_timeout_ends_the_operation() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let started = Instant::now();
    let report = Runner::default()
        .with_logger(log.clone())
        .operation("sleep")
        .statement_timeout(Duration::from_millis(200))
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            sleep_too_long(conn).await
        })
        .await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let error = report.result.expect_err("too slow");
    assert!(matches!(error, Error::DatabaseError(..)));
    assert_eq!(
        error.to_string(),
        "canceling statement due to statement timeout"
    );
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(log.levels(), [Level::Error]);
    assert_eq!(log.records()[0].keys["class"], "statement_timeout");
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn a_statement_timeout_in_a_savepoint_leaves_the_caller_alone() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let step: QueryResult<usize> = runner
                .operation("sleep")
                .statement_timeout(SOON)
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    set(conn, 2, 2).await?;
                    sleep_too_long(conn).await
                })
                .await;
            assert!(step.is_err());
            sql_query("SELECT pg_sleep(0.1)").execute(conn).await?;
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

#[scenario]
async fn a_statement_timeout_is_retried_if_asked_for() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let policy = RetryPolicy::new()
        .with_max_retries(2)
        .with_retry_on(FaultClass::StatementTimeout);
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = Runner::new(policy)
        .with_clock(InstantClock::new())
        .operation("sleep")
        .statement_timeout(SOON)
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            sleep_too_long(conn).await
        })
        .await;
    assert!(result.is_err());
    assert_eq!(bodies.into_inner(), 3);
}
