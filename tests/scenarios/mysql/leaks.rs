//! On MySQL and MariaDB a setting belongs to the session and no ROLLBACK brings back what it was.
//! It is restored all the same when the server has dropped the transaction, on every level, and
//! when the transaction did not even begin.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Outcome, StopReason};
use dbop_tests::InstantClock;

use super::money::{add, balance};
use super::sessions::{Trouble, assert_unchanged, operations, runners, session, sessions};
use super::steps::{lose_deadlock, session_id};
use super::{Bed, Conn, Runner, SimpleConnection as _, caught, depth, helper, scenario};

/// Without defaults of its own, so that nothing that is left over is put right by accident.
fn runner() -> Runner {
    Runner::default()
        .with_default_lock_timeout(None)
        .with_clock(InstantClock::new())
}

#[scenario]
async fn the_levels_between_a_lost_transaction_and_its_beginning_leave_nothing() {
    let bed = Bed::new();
    for sql in sessions().into_iter().take(3) {
        let mut conn = bed.connect();
        conn.batch_execute(sql).await.expect("it can be set");
        let before = session(&mut conn).await;
        let runner = runner();
        let middle = runner
            .operation("middle")
            .lock_timeout(Duration::from_secs(7))
            .statement_timeout(Duration::from_secs(8));
        let bodies = AtomicU32::new(0);
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                let lose = bodies.fetch_add(1, Ordering::Relaxed) == 0;
                let inside = session(conn).await;
                assert_eq!(
                    inside.get("innodb_lock_wait_timeout"),
                    before.get("innodb_lock_wait_timeout"),
                    "in every attempt"
                );
                add(conn, 1, 1).await?;
                let result: Result<usize, Trouble> = middle
                    .run(conn, async |conn: &mut Conn| {
                        runner
                            .run(conn, async |conn: &mut Conn| {
                                Ok(match lose {
                                    true => lose_deadlock(conn, &bed).await?,
                                    false => add(conn, 3, 1).await?,
                                })
                            })
                            .await
                    })
                    .await;
                result
            })
            .await;
        assert_eq!((report.attempts, report.outcome), (2, Outcome::Committed));
        assert_unchanged(&mut conn, &before, "a lost transaction").await;
    }
}

#[scenario]
async fn so_do_they_where_nobody_tries_again() {
    let bed = Bed::new();
    for panics in [false, true] {
        let mut conn = bed.connect();
        let before = session(&mut conn).await;
        let runner = runner();
        let middle = runner
            .operation("middle")
            .statement_timeout(Duration::from_secs(8));
        let ended = caught(async || {
            runner
                .operation("outer")
                .max_retries(0)
                .run_report(&mut conn, async |conn: &mut Conn| {
                    add(conn, 1, 1).await?;
                    let result: Result<(), Trouble> = middle
                        .run(conn, async |conn: &mut Conn| {
                            let lost: Result<usize, Trouble> = middle
                                .run(conn, async |conn: &mut Conn| {
                                    Ok(lose_deadlock(conn, &bed).await?)
                                })
                                .await;
                            assert!(!panics, "as planned");
                            lost?;
                            Ok(())
                        })
                        .await;
                    result
                })
                .await
        })
        .await;
        assert_eq!(ended.is_err(), panics);
        if let Ok(report) = ended {
            assert_eq!(report.stop, StopReason::RetriesExhausted);
        }
        assert_unchanged(&mut conn, &before, "a lost transaction").await;
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

/// A plain COMMIT or ROLLBACK is at once followed by a transaction like the one before (1), or by the
/// end of the session (2).
#[scenario]
async fn nor_does_anything_where_transactions_are_chained() {
    let bed = Bed::new();
    for completion_type in [1, 2] {
        let mut conn = bed.connect();
        conn.batch_execute(&format!("SET completion_type = {completion_type}"))
            .await
            .expect("it can be set");
        nothing_leaks_or_is_chained(&mut conn).await;
    }
}

#[helper]
async fn nothing_leaks_or_is_chained(conn: &mut Conn) {
    let before = session(conn).await;
    for runner in runners(&runner()) {
        for operation in operations(&runner) {
            let read: Result<i64, Trouble> = operation
                .run(conn, async |conn: &mut Conn| Ok(balance(conn, 1).await?))
                .await;
            drop(read);
            assert_unchanged(conn, &before, "a commit").await;
            add(conn, 2, 1).await.expect("writes are not refused");
            let undone: Result<(), Trouble> = operation
                .run(conn, async |_: &mut Conn| Err(Trouble::Own))
                .await;
            undone.expect_err("as it says");
            assert_unchanged(conn, &before, "a rollback").await;
            add(conn, 2, 1).await.expect("writes are not refused");
        }
    }
}

/// In an XA transaction no other one can begin.
#[scenario]
async fn nor_does_a_transaction_that_could_not_begin() {
    let bed = Bed::new();
    for sql in sessions() {
        for runner in runners(&runner()) {
            let mut conn = bed.connect();
            conn.batch_execute(sql).await.expect("it can be set");
            let before = session(&mut conn).await;
            for operation in operations(&runner) {
                let other = format!("'{}'", session_id(&mut conn).await);
                conn.batch_execute(&format!("XA START {other}"))
                    .await
                    .expect("open");
                let bodies = AtomicU32::new(0);
                let result: Result<(), Trouble> = operation
                    .run(&mut conn, async |_: &mut Conn| {
                        bodies.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    })
                    .await;
                result.expect_err("no transaction can begin");
                assert_eq!(bodies.into_inner(), 0);
                if depth(&mut conn).is_none() {
                    // It refuses to go on.
                    break;
                }
                conn.batch_execute(&format!("XA END {other}; XA ROLLBACK {other}"))
                    .await
                    .expect("closed");
                assert_unchanged(&mut conn, &before, &format!("{operation:?}")).await;
            }
        }
    }
}
