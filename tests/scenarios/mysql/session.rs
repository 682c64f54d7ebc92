//! After an operation the session is what it was: every variable that the server has, autocommit
//! and timeouts included, however the operation ended and whatever the session had before.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, Outcome, RetryPolicy};
use dbop_tests::InstantClock;
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance, insert};
use super::steps::{Session, assert_unchanged, lose_deadlock, session, session_id};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, depth, helper, scenario};

/// What sessions have by themselves. The comments are read by one of the two servers each.
const SESSIONS: [&str; 5] = [
    "SET autocommit=1",
    "SET autocommit=0",
    "SET innodb_lock_wait_timeout=2, lock_wait_timeout=5",
    "/*M!100100 SET max_statement_time=33.5 */ /*!80000 SET max_execution_time=33500 */",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
];

/// Runners with settings, which are to be gone afterwards. A unique violation is retried once.
fn runners() -> [Runner; 3] {
    let policy = RetryPolicy::new()
        .with_max_retries(1)
        .with_retry_on(FaultClass::Constraint);
    let runner = Runner::new(policy).with_clock(InstantClock::new());
    [
        runner.clone().with_default_lock_timeout(None),
        runner
            .clone()
            .with_default_lock_timeout(Duration::from_millis(1))
            .with_default_statement_timeout(Duration::from_millis(2500)),
        runner,
    ]
}

/// A session, and what it was when the test began.
#[helper]
async fn begin(bed: &Bed, sql: &str) -> (Conn, Session) {
    let mut conn = bed.connect();
    conn.batch_execute(sql).await.expect("it can be set");
    let before = session(&mut conn).await;
    (conn, before)
}

#[scenario]
async fn after_success_error_and_retries() {
    let bed = Bed::new();
    for sql in SESSIONS {
        let (mut conn, before) = begin(&bed, sql).await;
        for runner in runners() {
            let done = runner
                .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
                .await;
            assert_eq!(done, Ok(1));
            assert_unchanged(&mut conn, &before).await;
            let undone: QueryResult<()> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    add(conn, 1, 1).await?;
                    Err(Error::RollbackTransaction)
                })
                .await;
            assert_eq!(undone, Err(Error::RollbackTransaction));
            assert_unchanged(&mut conn, &before).await;
            let retried = runner
                .run_report(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
                .await;
            assert_eq!(retried.attempts, 2);
            assert_unchanged(&mut conn, &before).await;
        }
    }
    let runs = i64::try_from(SESSIONS.len() * runners().len()).expect("few");
    assert_eq!(bed.balances()[0], (1, 100 + runs));
}

#[scenario]
async fn after_an_operation_with_everything_set() {
    let bed = Bed::new();
    for sql in SESSIONS {
        let (mut conn, before) = begin(&bed, sql).await;
        for runner in runners() {
            let operation = runner
                .operation("everything")
                .read_only()
                .lock_timeout(Duration::from_secs(7))
                .statement_timeout(Duration::from_millis(6500));
            let read = operation
                .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
                .await;
            assert_eq!(read, Ok(100));
            assert_unchanged(&mut conn, &before).await;
            let written: QueryResult<usize> = operation
                .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
                .await;
            written.expect_err("read-only");
            assert_unchanged(&mut conn, &before).await;
        }
    }
}

#[scenario]
async fn after_nested_operations_with_settings_of_their_own() {
    let bed = Bed::new();
    for sql in SESSIONS {
        let (mut conn, before) = begin(&bed, sql).await;
        for runner in runners() {
            let result: QueryResult<usize> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    let inside = session(conn).await;
                    let step = runner
                        .operation("step")
                        .lock_timeout(Duration::from_secs(7))
                        .statement_timeout(Duration::from_secs(8));
                    step.run(conn, async |conn: &mut Conn| add(conn, 1, 1).await)
                        .await?;
                    assert_unchanged(conn, &inside).await;
                    let failed: QueryResult<usize> = step
                        .run(conn, async |conn: &mut Conn| insert(conn, 1).await)
                        .await;
                    failed.expect_err("a unique violation, twice");
                    assert_unchanged(conn, &inside).await;
                    add(conn, 2, 1).await
                })
                .await;
            assert_eq!(result, Ok(1));
            assert_unchanged(&mut conn, &before).await;
        }
    }
}

#[scenario]
async fn after_steps_in_the_callers_transaction() {
    let bed = Bed::new();
    for sql in SESSIONS {
        let (mut conn, before) = begin(&bed, sql).await;
        for runner in runners() {
            let result: QueryResult<usize> = conn
                .transaction(async |conn: &mut Conn| {
                    let inside = session(conn).await;
                    runner
                        .run(conn, async |conn: &mut Conn| add(conn, 1, 1).await)
                        .await?;
                    assert_unchanged(conn, &inside).await;
                    let failed: QueryResult<usize> = runner
                        .run(conn, async |conn: &mut Conn| insert(conn, 1).await)
                        .await;
                    failed.expect_err("a unique violation, twice");
                    assert_unchanged(conn, &inside).await;
                    Ok(1)
                })
                .await;
            assert_eq!(result, Ok(1));
            assert_unchanged(&mut conn, &before).await;
        }
    }
}

#[scenario]
async fn after_a_deadlock_at_any_level() {
    let bed = Bed::new();
    for sql in SESSIONS {
        let (mut conn, before) = begin(&bed, sql).await;
        let runner = Runner::default().with_clock(InstantClock::new());
        for nested in [false, true] {
            let bodies = AtomicU32::new(0);
            let result: QueryResult<usize> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    let lose = bodies.fetch_add(1, Ordering::Relaxed) == 0;
                    add(conn, 1, 1).await?;
                    let work = async |conn: &mut Conn| match lose {
                        true => lose_deadlock(conn, &bed).await,
                        false => add(conn, 3, 1).await,
                    };
                    match nested {
                        true => {
                            runner
                                .operation("step")
                                .lock_timeout(Duration::from_secs(7))
                                .run(conn, work)
                                .await
                        }
                        false => work(conn).await,
                    }
                })
                .await;
            assert_eq!(result, Ok(1));
            assert_eq!(bodies.into_inner(), 2);
            assert_unchanged(&mut conn, &before).await;
        }
    }
}

#[scenario]
async fn after_a_deadlock_that_the_body_hides() {
    let bed = Bed::new();
    for sql in SESSIONS {
        let (mut conn, before) = begin(&bed, sql).await;
        let report = Runner::default()
            .operation("hide")
            .statement_timeout(Duration::from_secs(8))
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 1).await?;
                lose_deadlock(conn, &bed).await.expect_err("the victim");
                add(conn, 3, 1).await
            })
            .await;
        assert_eq!(report.outcome, Outcome::Unknown);
        assert_unchanged(&mut conn, &before).await;
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

/// In an XA transaction no other one can begin, and none can be rolled back.
#[scenario]
async fn after_a_begin_that_fails_half_way_nobody_goes_on_with_the_rest() {
    let bed = Bed::new();
    for sql in SESSIONS {
        let (mut conn, before) = begin(&bed, sql).await;
        // Its name is known to the whole server.
        let other = format!("'{}'", session_id(&mut conn).await);
        conn.batch_execute(&format!("XA START {other}"))
            .await
            .expect("open");
        let bodies = AtomicU32::new(0);
        let result: QueryResult<usize> = Runner::default()
            .run(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 1).await
            })
            .await;
        let error = result.expect_err("no transaction can begin");
        assert!(error.to_string().starts_with("XAER_RMFAIL"), "{error}");
        assert_eq!(bodies.into_inner(), 0);
        if depth(&mut conn).is_some() {
            conn.batch_execute(&format!("XA END {other}; XA ROLLBACK {other}"))
                .await
                .expect("closed");
            assert_unchanged(&mut conn, &before).await;
        }
    }
    assert_eq!(bed.balances()[0], (1, 100));
}

/// Whether a session commits by itself is known to the server only: dbop would have to ask.
#[scenario]
async fn without_a_transaction_a_session_without_autocommit_commits_nothing() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("SET autocommit=0").await.expect("set");
    let report = Runner::default()
        .operation("plain")
        .without_transaction()
        .run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!((report.result, report.outcome), (Ok(1), Outcome::Committed));
    assert_eq!(bed.balances()[0], (1, 100));
    conn.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(bed.balances()[0], (1, 110));
}
