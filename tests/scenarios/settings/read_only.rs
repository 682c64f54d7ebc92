//! Read-only as the runner's default is enforced wherever an operation's own is, and what the
//! session has is never lifted.

use std::sync::atomic::{AtomicU32, Ordering};

use diesel::QueryResult;

use super::money::{add, balance};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, backend, scenario};

#[scenario]
async fn as_a_default_it_is_enforced_at_every_level_of_an_operation() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let reader = Runner::default().with_default_read_only(true);
    let bodies = AtomicU32::new(0);
    let seen: QueryResult<i64> = reader
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert_eq!(seen, Ok(100));
    let top: QueryResult<usize> = reader
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await
        })
        .await;
    top.expect_err("read-only");
    let nested: QueryResult<usize> = reader
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            Runner::default()
                .run(conn, async |conn: &mut Conn| add(conn, 1, 10).await)
                .await
        })
        .await;
    nested.expect_err("read-only");
    assert_eq!(bodies.into_inner(), 2, "tried once each");
    let next: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances()[0], (1, 101));
}

#[scenario]
async fn as_a_default_it_is_enforced_in_the_callers_transaction_where_it_can_be() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let reader = Runner::default().with_default_read_only(true);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 1).await?;
            let step: QueryResult<usize> = reader
                .run(conn, async |conn: &mut Conn| add(conn, 2, 10).await)
                .await;
            assert_eq!(step.is_err(), backend::READ_ONLY_IN_SAVEPOINT);
            add(conn, 3, 1).await
        })
        .await;
    assert_eq!(result, Ok(1));
    let second = if backend::READ_ONLY_IN_SAVEPOINT {
        100
    } else {
        110
    };
    assert_eq!(bed.balances(), [(1, 101), (2, second), (3, 101)]);
}

#[scenario]
async fn a_session_that_is_read_only_stays_so() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let sql = match backend::BACKEND {
        "postgresql" => "SET default_transaction_read_only = on",
        "mysql" => "SET SESSION TRANSACTION READ ONLY",
        _ => "PRAGMA query_only = 1",
    };
    conn.batch_execute(sql).await.expect("allowed to");
    for runner in [
        Runner::default(),
        Runner::default().with_default_read_only(false),
    ] {
        for operation in [
            runner.operation("plain"),
            runner.operation("read").read_only(),
            runner.operation("plain again"),
        ] {
            let result: QueryResult<usize> = operation
                .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
                .await;
            result.expect_err("read-only");
        }
    }
    assert_eq!(bed.balances()[0], (1, 100));
}
