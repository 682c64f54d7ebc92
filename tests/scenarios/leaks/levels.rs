//! Whatever an operation asks for, whatever its runner has for defaults, however it ends: the
//! session is what it was before, with all its settings and with nothing open.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::RetryPolicy;
use dbop_tests::InstantClock;
use diesel::QueryResult;

use super::money::{balance, insert};
use super::sessions::{Trouble, assert_unchanged, operations, runners, session, sessions};
use super::{
    Bed, Conn, Connection as _, Manager, Operation, Runner, SimpleConnection as _, caught,
};
use super::{TransactionManager as _, backend, depth, helper, scenario};

/// Retries cost no time, and there are enough for everything nested.
fn runner() -> Runner {
    Runner::new(RetryPolicy::new().with_max_retries(10_000)).with_clock(InstantClock::new())
}

/// The operations that are worth running there: every runner meets every session with the first
/// one and the one with everything, and one of them with all.
fn chosen(runner: &Runner, session: usize, number: usize) -> Vec<Operation<'_>> {
    let mut operations = operations(runner);
    if session != number {
        operations.truncate(2);
    }
    operations
        .into_iter()
        .map(|operation| operation.max_retries(2))
        .collect()
}

/// Runs operations that end in every way there is. Those that ask for what is not supported here
/// are refused, which is one more.
#[helper]
async fn ends_of_all_kinds(conn: &mut Conn, operation: Operation<'_>) {
    let before = session(conn).await;
    let what = |end: &str| format!("{operation:?}, {end}");

    let succeeded: Result<i64, Trouble> = operation
        .run(conn, async |conn: &mut Conn| Ok(balance(conn, 1).await?))
        .await;
    assert_unchanged(conn, &before, &what("success")).await;
    let is_possible = succeeded.is_ok();

    let own: Result<(), Trouble> = operation
        .run(conn, async |_: &mut Conn| Err(Trouble::Own))
        .await;
    assert_eq!(matches!(own, Err(Trouble::Own)), is_possible);
    assert_unchanged(conn, &before, &what("an error of its own")).await;

    let failed: Result<usize, Trouble> = operation
        .run(conn, async |conn: &mut Conn| Ok(insert(conn, 1).await?))
        .await;
    failed.expect_err("a unique violation");
    assert_unchanged(conn, &before, &what("an error of the database")).await;

    let bodies = AtomicU32::new(0);
    let retried: Result<i64, Trouble> = operation
        .run(conn, async |conn: &mut Conn| {
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Trouble::Again),
                _ => Ok(balance(conn, 1).await?),
            }
        })
        .await;
    assert_eq!(retried.is_ok(), is_possible);
    assert_eq!(bodies.into_inner(), if is_possible { 2 } else { 0 });
    assert_unchanged(conn, &before, &what("a retry")).await;

    let exhausted: Result<(), Trouble> = operation
        .run(conn, async |_: &mut Conn| Err(Trouble::Again))
        .await;
    assert_eq!(matches!(exhausted, Err(Trouble::Again)), is_possible);
    assert_unchanged(conn, &before, &what("retries in vain")).await;

    let swallowed: Result<(), Trouble> = operation
        .run(conn, async |conn: &mut Conn| {
            insert(conn, 1).await.expect_err("a unique violation");
            Ok(())
        })
        .await;
    drop(swallowed);
    assert_unchanged(conn, &before, &what("a swallowed error")).await;

    let panicked = caught(async || {
        let never: Result<(), Trouble> = operation
            .run(conn, async |_: &mut Conn| panic!("in the operation"))
            .await;
        never
    })
    .await;
    assert_eq!(panicked.is_err(), is_possible);
    assert_unchanged(conn, &before, &what("a panic")).await;
}

#[scenario]
async fn at_top_level() {
    let bed = Bed::new();
    for (number, sql) in sessions().into_iter().enumerate() {
        let mut conn = bed.connect();
        conn.batch_execute(sql).await.expect("it can be set");
        for (other, runner) in runners(&runner()).into_iter().enumerate() {
            for operation in chosen(&runner, number, other) {
                ends_of_all_kinds(&mut conn, operation).await;
            }
        }
    }
}

#[scenario]
async fn as_a_step_in_the_callers_transaction() {
    let bed = Bed::new();
    for (number, sql) in sessions().into_iter().enumerate() {
        let mut conn = bed.connect();
        conn.batch_execute(sql).await.expect("it can be set");
        let before = session(&mut conn).await;
        for (other, runner) in runners(&runner()).into_iter().enumerate() {
            let result: QueryResult<()> = conn
                .transaction(async |conn: &mut Conn| {
                    for operation in chosen(&runner, number, other) {
                        ends_of_all_kinds(conn, operation).await;
                    }
                    Ok(())
                })
                .await;
            result.expect("the transaction goes on");
            assert_unchanged(&mut conn, &before, "the caller's transaction").await;
        }
    }
}

#[scenario]
async fn nested_in_another_operation_with_settings_and_defaults_of_its_own() {
    let bed = Bed::new();
    for (number, sql) in sessions().into_iter().enumerate() {
        let mut conn = bed.connect();
        conn.batch_execute(sql).await.expect("it can be set");
        let before = session(&mut conn).await;
        for (other, runner) in runners(&runner()).into_iter().enumerate() {
            for outer in operations(&runner).into_iter().take(2) {
                let result: Result<(), Trouble> = outer
                    .run(&mut conn, async |conn: &mut Conn| {
                        for operation in chosen(&runner, number, other) {
                            ends_of_all_kinds(conn, operation).await;
                        }
                        Ok(())
                    })
                    .await;
                drop(result);
                assert_unchanged(&mut conn, &before, "the outer operation").await;
            }
        }
    }
}

/// Diesel's own means do not know dbop's savepoints, so that with them the whole transaction is given
/// up, and what the step has set is not undone by a rollback of it.
#[scenario]
async fn of_a_step_that_is_ended_by_its_own_body() {
    let bed = Bed::new();
    let runner = runner().with_default_lock_timeout(None);
    for operation in operations(&runner) {
        let mut conn = bed.connect();
        let before = session(&mut conn).await;
        let outer: Result<(), Trouble> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                let step: Result<(), Trouble> = operation
                    .run(conn, async |conn: &mut Conn| {
                        Ok(Manager::rollback_transaction(conn).await?)
                    })
                    .await;
                drop(step);
                Ok(())
            })
            .await;
        drop(outer);
        // On SQLite Diesel gives up the connection, which refuses to go on.
        if depth(&mut conn).is_some() || backend::BACKEND != "sqlite" {
            assert_unchanged(&mut conn, &before, &format!("{operation:?}")).await;
        }
    }
}
