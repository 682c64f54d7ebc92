//! Inside an open transaction, whoever opened it, an operation is a savepoint: a step that can
//! fail by itself. The runner never commits or rolls back what it did not open, and cleans up
//! what the operation forgot.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::OperationError as _;
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

use super::money::{add, balance, insert, set};
use super::{
    Bed, Conn, Connection as _, Manager, Runner, TransactionManager as _, depth,
    is_test_transaction, scenario,
};

#[scenario]
async fn two_steps_in_the_callers_transaction_are_committed_together() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| add(conn, 1, -5).await)
                .await?;
            runner
                .run(conn, async |conn: &mut Conn| add(conn, 2, 5).await)
                .await?;
            assert_eq!(depth(conn), Some(1));
            assert_eq!(
                bed.balances(),
                [(1, 100), (2, 100), (3, 100)],
                "the caller commits"
            );
            Ok(())
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(bed.balances(), [(1, 95), (2, 105), (3, 100)]);
}

#[scenario]
async fn when_the_second_step_fails_the_callers_rollback_undoes_both() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| add(conn, 1, -5).await)
                .await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    add(conn, 2, 5).await?;
                    insert(conn, 1).await
                })
                .await
        })
        .await;
    assert!(result.is_err());
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn the_first_step_survives_a_failed_second_one_that_the_caller_swallows() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await?;
            let failed: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 2, 2).await?;
                    insert(conn, 1).await
                })
                .await;
            assert!(failed.is_err());
            assert_eq!(balance(conn, 2).await, Ok(100), "undone at once");
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

#[scenario]
async fn three_levels_deep_a_failure_undoes_its_own_level_and_those_inside() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let middle: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 1, 1).await?;
                    runner
                        .run(conn, async |conn: &mut Conn| {
                            assert_eq!(depth(conn), Some(3));
                            set(conn, 2, 2).await
                        })
                        .await?;
                    Err(Error::RollbackTransaction)
                })
                .await;
            assert_eq!(middle, Err(Error::RollbackTransaction));
            runner
                .run(conn, async |conn: &mut Conn| {
                    let inner: QueryResult<()> = runner
                        .run(conn, async |conn: &mut Conn| {
                            set(conn, 1, 11).await?;
                            Err(Error::NotFound)
                        })
                        .await;
                    assert_eq!(inner, Err(Error::NotFound));
                    set(conn, 3, 3).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 3)]);
}

#[scenario]
async fn a_nested_failure_handed_up_undoes_everything() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 2, 2).await?;
                    insert(conn, 1).await
                })
                .await?;
            Ok(())
        })
        .await;
    assert!(matches!(
        result,
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn inside_a_begun_test_transaction_nothing_is_ever_committed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    conn.begin_test_transaction().await.expect("begun");
    runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await
        .expect("done");
    let failed = runner
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 2, 2).await?;
            insert(conn, 1).await
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(balance(&mut conn, 1).await, Ok(1));
    assert_eq!(balance(&mut conn, 2).await, Ok(100));
    assert_eq!(depth(&mut conn), Some(1));
    assert!(is_test_transaction(&mut conn));
    drop(conn);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn inside_diesels_test_transaction_nothing_is_ever_committed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let seen: i64 = conn
        .test_transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await?;
            balance(conn, 1).await
        })
        .await;
    assert_eq!(seen, 1);
    assert_eq!(bed.balances()[0], (1, 100));
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn a_transaction_begun_by_hand_is_the_callers_to_end() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    Manager::begin_transaction(&mut conn).await.expect("begun");
    runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await
        .expect("done");
    assert_eq!(depth(&mut conn), Some(1));
    assert!(!is_test_transaction(&mut conn));
    Manager::rollback_transaction(&mut conn)
        .await
        .expect("rolled back");
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn diesels_own_transactions_nest_in_an_operation() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            let kept: QueryResult<usize> = conn
                .transaction(async |conn: &mut Conn| set(conn, 1, 1).await)
                .await;
            assert_eq!(kept, Ok(1));
            let undone: QueryResult<()> = conn
                .transaction(async |conn: &mut Conn| {
                    set(conn, 2, 2).await?;
                    Err(Error::RollbackTransaction)
                })
                .await;
            assert_eq!(undone, Err(Error::RollbackTransaction));
            assert_eq!(depth(conn), Some(1));
            assert_eq!(bed.balances()[0], (1, 100), "not committed yet");
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

#[scenario]
async fn a_savepoint_left_open_by_the_operation_is_an_error_and_undone() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            Manager::begin_transaction(conn).await?;
            set(conn, 1, 1).await
        })
        .await;
    let error = result.expect_err("half done");
    assert!(error.dbop_error().is_some_and(|own| own.is_unbalanced()));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(depth(&mut conn), Some(0));
    set(&mut conn, 3, 3).await.expect("usable");
    drop(conn);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 3)]);
}

#[scenario]
async fn savepoints_left_open_in_a_savepoint_are_undone_and_the_caller_goes_on() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    Manager::begin_transaction(conn).await?;
                    Manager::begin_transaction(conn).await?;
                    set(conn, 1, 1).await
                })
                .await;
            let error = step.expect_err("half done");
            assert!(error.dbop_error().is_some_and(|own| own.is_unbalanced()));
            assert_eq!(depth(conn), Some(1));
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 3)]);
}

#[scenario]
async fn an_error_is_kept_although_a_savepoint_was_left_open_too() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<()> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            Manager::begin_transaction(conn).await?;
            set(conn, 1, 1).await?;
            Err(Error::NotFound)
        })
        .await;
    assert_eq!(result, Err(Error::NotFound));
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(bed.balances()[0], (1, 100));
}

/// The outer operation only reads, so that SQLite has a writer's place free.
#[scenario]
async fn an_operation_on_another_connection_is_not_nested() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<()> = runner
        .operation("outer")
        .read_only()
        .run(&mut conn, async |conn: &mut Conn| {
            assert_eq!(balance(conn, 1).await, Ok(100));
            let mut other = bed.connect();
            runner
                .run(&mut other, async |conn: &mut Conn| {
                    assert_eq!(depth(conn), Some(1));
                    set(conn, 1, 1).await
                })
                .await?;
            assert_eq!(bed.balances()[0], (1, 1), "committed by itself");
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(result, Err(Error::RollbackTransaction));
    assert_eq!(bed.balances()[0], (1, 1));
}
