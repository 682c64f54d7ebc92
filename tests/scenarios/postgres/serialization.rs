//! Serialization failures on PostgreSQL (40001), at a statement and at COMMIT: a new transaction
//! gets a new snapshot and wins; in a savepoint there is nothing to win, so it goes up at once.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Outcome, StopReason};
use dbop_tests::{Capture, InstantClock, Opponent};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

use super::money::{add, balance, set};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, helper, scenario};

#[helper]
async fn connect(bed: &Bed, isolation: &str) -> Conn {
    let mut conn = bed.connect();
    conn.batch_execute(&format!(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {isolation}"
    ))
    .await
    .expect("allowed to");
    conn
}

/// Both read both accounts. The opponent writes into the second one, we into the first.
const OPPONENT_READS: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM accounts";
const OPPONENT_WRITES: &str = "UPDATE accounts SET balance = balance - 1 WHERE id = 2";

#[helper]
async fn read_both(conn: &mut Conn) -> QueryResult<i64> {
    Ok(balance(conn, 1).await? + balance(conn, 2).await?)
}

#[scenario]
async fn a_write_conflict_at_top_level_is_retried_with_a_new_snapshot() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = connect(&bed, "REPEATABLE READ").await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 3, 3).await?;
            let seen = balance(conn, 1).await?;
            conflict_once(&bodies, &opponent);
            set(conn, 1, seen + 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::SerializationFailure);
    assert_eq!(fault.code().expect("a code").to_string(), "40001");
    assert_eq!(bed.balances(), [(1, 111), (2, 100), (3, 3)]);
}

#[scenario]
async fn a_write_conflict_in_a_savepoint_goes_up_at_once() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = connect(&bed, "REPEATABLE READ").await;
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 3, 3).await?;
            let report = runner
                .run_report(conn, async |conn: &mut Conn| {
                    conflict_once(&bodies, &opponent);
                    add(conn, 1, 10).await
                })
                .await;
            assert_eq!(report.attempts, 1);
            assert_eq!(report.stop, StopReason::EnclosingTransaction);
            assert_eq!(report.outcome, Outcome::Undone);
            report.result
        })
        .await;
    assert!(is_serialization_failure(&result));
    assert_eq!(bodies.into_inner(), 1);
    assert!(clock.slept().is_empty());
    assert_eq!(bed.balances(), [(1, 101), (2, 100), (3, 100)]);
}

#[scenario]
async fn a_write_conflict_in_a_nested_operation_starts_everything_again() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = connect(&bed, "REPEATABLE READ").await;
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone());
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            add(conn, 3, 1).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    conflict_once(&inner, &opponent);
                    add(conn, 1, 10).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!((outer.into_inner(), inner.into_inner()), (2, 2));
    assert_eq!(clock.slept().len(), 1);
    assert_eq!(bed.balances(), [(1, 111), (2, 100), (3, 101)]);
}

#[scenario]
async fn write_skew_found_at_a_statement_is_retried() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = connect(&bed, "SERIALIZABLE").await;
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = Runner::default()
        .with_logger(log.clone())
        .with_clock(InstantClock::new())
        .run(&mut conn, async |conn: &mut Conn| {
            let sum = read_both(conn).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                opponent.execute(OPPONENT_READS);
                opponent.execute(OPPONENT_WRITES);
                opponent.execute("COMMIT");
            }
            set(conn, 1, sum).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(log.records()[0].keys["phase"], "body");
    assert_eq!(log.records()[0].keys["code"], "40001");
    assert_eq!(bed.balances()[..2], [(1, 199), (2, 99)]);
}

#[scenario]
async fn write_skew_found_at_commit_is_retried() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = connect(&bed, "SERIALIZABLE").await;
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            let sum = read_both(conn).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) > 0 {
                return set(conn, 1, sum).await;
            }
            opponent.execute(OPPONENT_READS);
            opponent.execute(OPPONENT_WRITES);
            let updated = set(conn, 1, sum).await?;
            opponent.execute("COMMIT");
            Ok(updated)
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    assert_eq!(report.outcome, Outcome::Committed);
    assert!(report.failures[0].rollback_error.is_none());
    assert_eq!(log.records()[0].keys["phase"], "commit");
    assert_eq!(log.records()[0].keys["code"], "40001");
    assert_eq!(bed.balances()[..2], [(1, 199), (2, 99)]);
}

/// In a savepoint it shows only when the caller commits, and then the caller has to know.
#[scenario]
async fn write_skew_at_the_callers_commit_is_the_callers() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = connect(&bed, "SERIALIZABLE").await;
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    let sum = read_both(conn).await?;
                    opponent.execute(OPPONENT_READS);
                    opponent.execute(OPPONENT_WRITES);
                    let updated = set(conn, 1, sum).await?;
                    opponent.execute("COMMIT");
                    Ok(updated)
                })
                .await
        })
        .await;
    assert!(is_serialization_failure(&result));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[..2], [(1, 100), (2, 99)]);
}

/// Diesel's own way to ask for an isolation level.
#[scenario]
async fn a_step_in_a_transaction_built_by_diesel_is_a_savepoint() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .build_transaction()
        .repeatable_read()
        .run(async |conn: &mut Conn| {
            set(conn, 3, 3).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    conflict_once(&bodies, &opponent);
                    add(conn, 1, 10).await
                })
                .await
        })
        .await;
    assert!(is_serialization_failure(&result));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), [(1, 101), (2, 100), (3, 100)]);
}

/// The opponent changes row 1 after our snapshot was taken, in the first body only.
fn conflict_once(bodies: &AtomicU32, opponent: &Opponent) {
    if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
        opponent.execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    }
}

fn is_serialization_failure<T>(result: &QueryResult<T>) -> bool {
    matches!(
        result,
        Err(Error::DatabaseError(
            DatabaseErrorKind::SerializationFailure,
            _
        ))
    )
}
