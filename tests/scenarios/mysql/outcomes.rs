//! A transaction that is gone was rolled back, or committed behind our back. Which of the two
//! decides whether another attempt would do the work twice.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::OperationError as _;
use dbop_tests::{InstantClock, assert_unknown};
use diesel::QueryResult;

use super::money::add;
use super::server::rolls_back_on_timeout;
use super::steps::Winner;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, scenario};

/// TRUNCATE commits what went before. Without `innodb_rollback_on_timeout` the lock timeout after
/// it has not ended anything.
#[scenario]
async fn a_lock_timeout_after_an_implicit_commit_is_not_tried_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    if rolls_back_on_timeout(&mut conn).await {
        // There the two look the same; see the limits in the documentation.
        return;
    }
    conn.batch_execute("CREATE TABLE other (n INT)")
        .await
        .expect("a table");
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("truncate")
        .lock_timeout(Duration::from_secs(1))
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            conn.batch_execute("TRUNCATE other").await?;
            add(conn, 2, 10).await
        })
        .await;
    opponent.execute("ROLLBACK");
    assert_unknown(&report);
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
    assert_eq!(add(&mut conn, 1, 1).await, Ok(1), "in autocommit again");
    assert_eq!(bed.balances()[0], (1, 111));
}

/// To call that "lost" would have the caller do the work again.
#[scenario]
async fn an_implicit_commit_in_a_step_of_the_caller_is_unknown_not_lost() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("CREATE TABLE other (n INT)")
        .await
        .expect("a table");
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    add(conn, 2, 10).await?;
                    conn.batch_execute("TRUNCATE other").await?;
                    Ok(1)
                })
                .await
        })
        .await;
    let error = result.expect_err("not in one piece");
    let own = error.dbop_error().expect("dbop's own");
    assert!(
        own.is_outcome_unknown() && !own.is_transaction_lost(),
        "{own}"
    );
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)], "committed");
}

/// Diesel's own nested transaction has to roll back to a savepoint that went with the whole
/// transaction. The deadlock must not be hidden behind that.
#[scenario]
async fn a_deadlock_in_a_nested_transaction_of_diesels_own_starts_everything_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            let first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
            add(conn, 3, 10).await?;
            conn.transaction(async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                let winner = first.then(|| Winner::waiting(&bed));
                // Sent as text, Diesel does not know it for a deadlock.
                let moved = conn
                    .batch_execute("UPDATE accounts SET balance = balance + 10 WHERE id = 2")
                    .await;
                if let Some(winner) = winner {
                    winner.leave();
                }
                moved
            })
            .await
        })
        .await;
    assert_eq!(report.result, Ok(()));
    assert_eq!(report.attempts, 2);
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 110)]);
}
