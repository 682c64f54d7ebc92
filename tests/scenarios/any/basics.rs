//! The everyday promises: without a transaction the work is committed, at once and for good;
//! inside one it is a savepoint; an error undoes all of it.

use std::sync::atomic::{AtomicU32, Ordering};

use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance, set};
use super::{Bed, Conn, Connection as _, Runner, depth, scenario};

#[scenario]
async fn without_a_transaction_the_work_is_committed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let updated = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 7).await)
        .await;
    assert_eq!(updated, Ok(1));
    assert_eq!(bed.balances(), [(1, 7), (2, 100), (3, 100)]);
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn an_error_undoes_everything_and_is_returned_unchanged() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<()> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 7).await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(result, Err(Error::RollbackTransaction));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 100));
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn a_nested_operation_is_a_savepoint() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    runner
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let failed: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 2, 2).await?;
                    Err(Error::RollbackTransaction)
                })
                .await;
            assert_eq!(failed, Err(Error::RollbackTransaction));
            assert_eq!(bed.balances()[0], (1, 100), "not committed yet");
            runner
                .run(conn, async |conn: &mut Conn| set(conn, 3, 3).await)
                .await
        })
        .await
        .expect("committed");
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

#[scenario]
async fn five_operations_in_a_row_are_all_kept() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    for round in 1..=5 {
        runner
            .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
            .await
            .expect("committed");
        assert_eq!(bed.balances()[0], (1, 100 + round), "others see it at once");
        assert_eq!(depth(&mut conn), Some(0), "nothing is left open");
    }
    drop(conn);
    assert_eq!(bed.balances()[0], (1, 105));
}

#[scenario]
async fn alone_and_then_in_the_callers_transaction_on_the_same_connection() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await
        .expect("committed");
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| set(conn, 2, 2).await)
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 3, 3).await)
        .await
        .expect("committed");
    drop(conn);
    assert_eq!(bed.balances(), [(1, 1), (2, 2), (3, 3)]);
}

#[scenario]
async fn an_abort_between_two_steps_keeps_nothing() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let second = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            let left = runner
                .run(conn, async |conn: &mut Conn| {
                    add(conn, 1, -500).await?;
                    balance(conn, 1).await
                })
                .await?;
            if left < 0 {
                return Err(Error::RollbackTransaction);
            }
            second.fetch_add(1, Ordering::Relaxed);
            runner
                .run(conn, async |conn: &mut Conn| add(conn, 2, 500).await)
                .await
        })
        .await;
    assert_eq!(result, Err(Error::RollbackTransaction));
    assert_eq!(second.into_inner(), 0);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn an_operation_reads_its_own_writes_and_hands_its_value_through() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let seen = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 11).await?;
            balance(conn, 1).await
        })
        .await;
    assert_eq!(seen, Ok(111));
}
