//! A real deadlock that the operation makes nothing of: what it was in is undone as a whole, be it
//! the transaction, a step, or a transaction of Diesel's own in it, and never reported as done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_tests::{Meanwhile, Opponent, assert_rolled_back, is_rolled_back};
use diesel::QueryResult;

use super::money::add;
use super::steps::connect;
use super::{Bed, Conn, Connection as _, Runner, helper, scenario};

/// Loses a deadlock: account 1 is held by now, and wanted by somebody who holds account 2.
#[helper]
async fn lose(conn: &mut Conn, bed: &Bed, opponent: &Opponent) -> QueryResult<usize> {
    opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
    opponent.start("UPDATE accounts SET balance = balance + 1000 WHERE id = 1");
    bed.wait_until_blocked(opponent.id());
    add(conn, 2, 1).await
}

/// The winner leaves without a trace.
fn leave(opponent: &Opponent) {
    opponent.finish().expect("it got its lock");
    opponent.execute("ROLLBACK");
}

#[scenario]
async fn at_top_level_nothing_is_kept_and_it_is_an_error() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let report = Runner::default()
        .run_report(&mut connect(&bed).await, async |conn: &mut Conn| {
            add(conn, 3, 1).await?;
            add(conn, 1, 1).await?;
            assert!(lose(conn, &bed, &opponent).await.is_err());
            _ = add(conn, 3, 1).await;
            QueryResult::Ok(())
        })
        .await;
    leave(&opponent);
    assert_rolled_back(&report);
    assert_eq!(report.attempts, 1);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn in_a_step_the_step_is_undone_and_it_is_an_error() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let runner = Runner::default();
    let result = runner
        .run(&mut connect(&bed).await, async |conn: &mut Conn| {
            add(conn, 3, 1).await?;
            let step = runner
                .run_report(conn, async |conn: &mut Conn| {
                    add(conn, 1, 1).await?;
                    assert!(lose(conn, &bed, &opponent).await.is_err());
                    QueryResult::Ok(())
                })
                .await;
            let error = step.result.expect_err("it is not done");
            assert!(is_rolled_back(&error));
            assert_eq!(step.attempts, 1);
            // The locks of the step are free again.
            leave(&opponent);
            add(conn, 3, 1).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 102)]);
}

/// Diesel's ROLLBACK TO has freed the locks, so the rest of the operation is whole.
#[scenario]
async fn in_a_transaction_of_diesels_own_only_that_is_undone() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let result = Runner::default()
        .run(&mut connect(&bed).await, async |conn: &mut Conn| {
            add(conn, 3, 1).await?;
            let nested = conn
                .transaction(async |conn: &mut Conn| {
                    add(conn, 1, 1).await?;
                    lose(conn, &bed, &opponent).await
                })
                .await;
            assert!(nested.is_err());
            leave(&opponent);
            add(conn, 3, 1).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 102)]);
}

#[scenario]
async fn handed_up_from_a_transaction_of_diesels_own_everything_starts_again() {
    let bed = Bed::new();
    let opponent = Arc::new(bed.opponent());
    let winner = Arc::clone(&opponent);
    let clock = Meanwhile::new(move |_| leave(&winner));
    let bodies = AtomicU32::new(0);
    let result = Runner::default()
        .with_clock(clock)
        .run(&mut connect(&bed).await, async |conn: &mut Conn| {
            let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
            add(conn, 3, 1).await?;
            conn.transaction(async |conn: &mut Conn| {
                add(conn, 1, 1).await?;
                match is_first {
                    true => lose(conn, &bed, &opponent).await,
                    false => add(conn, 2, 1).await,
                }
            })
            .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(bed.balances(), [(1, 101), (2, 101), (3, 101)]);
}
