//! COMMIT can fail on SQLite and leave the transaction open. If somebody was reading, COMMIT alone is
//! tried again; if a constraint was violated, the transaction is rolled back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{FaultClass, Outcome, StopReason};
use dbop_tests::{InstantClock, Meanwhile, Opponent};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

use super::money::add;
use super::steps::pragmas;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, depth, helper, scenario};

/// Somebody who reads, and so keeps others from committing.
fn reader(bed: &Bed) -> Opponent {
    let opponent = bed.opponent();
    opponent.execute("BEGIN; SELECT * FROM accounts");
    opponent
}

#[scenario]
async fn while_somebody_reads_commit_alone_is_tried_again() {
    let bed = Bed::with_rollback_journal();
    let mut conn = bed.connect();
    let opponent = reader(&bed);
    let clock = Meanwhile::new(move |number| {
        if number == 2 {
            opponent.execute("COMMIT");
        }
    });
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(report.stop, StopReason::Succeeded);
    let [survived] = &report.failures[..] else {
        panic!("{:?}", report.failures);
    };
    let fault = survived.fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::Busy);
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)]);
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn while_somebody_goes_on_reading_it_is_given_up_and_undone() {
    let bed = Bed::with_rollback_journal();
    let mut conn = bed.connect();
    let opponent = reader(&bed);
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let report = runner
        .operation("write")
        .max_retries(2)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await
        })
        .await;
    let error = report.result.expect_err("locked");
    assert_eq!(error.to_string(), "database is locked");
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(depth(&mut conn), Some(0));
    opponent.execute("COMMIT");
    assert_eq!(bed.balances()[0], (1, 100));
    let next = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn the_lock_timeout_holds_for_the_commit_too() {
    let bed = Bed::with_rollback_journal();
    let mut conn = bed.connect();
    let _opponent = reader(&bed);
    let wait = Duration::from_millis(300);
    let started = Instant::now();
    let result: QueryResult<usize> = Runner::default()
        .operation("wait")
        .lock_timeout(wait)
        .max_retries(0)
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    result.expect_err("locked");
    assert!(started.elapsed() >= wait, "{:?}", started.elapsed());
    assert_eq!(pragmas(&mut conn).await, [0, 0]);
}

/// A connection with a constraint that is checked at COMMIT.
#[helper]
async fn deferring(bed: &Bed) -> Conn {
    let mut conn = bed.connect();
    conn.batch_execute(
        "PRAGMA foreign_keys = ON;
         CREATE TABLE owned (account INTEGER NOT NULL REFERENCES accounts (id)
                             DEFERRABLE INITIALLY DEFERRED)",
    )
    .await
    .expect("a new table");
    conn
}

const ORPHAN: &str = "INSERT INTO owned VALUES (77)";

#[scenario]
async fn a_deferred_constraint_is_rolled_back_and_reported_as_it_is() {
    let bed = Bed::new();
    let mut conn = deferring(&bed).await;
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            conn.batch_execute(ORPHAN).await?;
            add(conn, 1, 10).await
        })
        .await;
    assert!(is_orphan(&report.result.expect_err("an orphan")));
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(bed.balances()[0], (1, 100));
    assert_eq!(depth(&mut conn), Some(0));
    let next = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn a_deferred_constraint_of_a_step_is_found_by_whoever_commits() {
    let bed = Bed::new();
    let mut conn = deferring(&bed).await;
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            runner
                .run(conn, async |conn: &mut Conn| {
                    conn.batch_execute(ORPHAN).await
                })
                .await?;
            add(conn, 1, 10).await
        })
        .await;
    assert!(is_orphan(&result.expect_err("an orphan")));
    assert_eq!(bodies.into_inner(), 1);
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| {
                    conn.batch_execute(ORPHAN).await
                })
                .await
        })
        .await;
    assert!(is_orphan(&result.expect_err("an orphan")));
    assert_eq!(bed.balances()[0], (1, 100));
}

fn is_orphan(error: &Error) -> bool {
    matches!(
        error,
        Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)
    )
}
