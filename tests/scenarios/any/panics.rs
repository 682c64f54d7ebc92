//! A panic in an operation is rolled back first and then goes on, as it was. The connection, and
//! the transaction around a savepoint, can be used afterwards.

use std::sync::atomic::{AtomicU32, Ordering};

use diesel::QueryResult;

use super::money::{balance, set};
use super::{Bed, Conn, Connection as _, Runner, caught, depth, scenario};

/// A payload that is no text.
#[derive(Debug, PartialEq)]
struct Payload(u32);

#[scenario]
async fn at_top_level_it_is_rolled_back_and_goes_on_with_its_payload() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result = caught(async || {
        let never: QueryResult<()> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                set(conn, 1, 1).await?;
                std::panic::panic_any(Payload(4711))
            })
            .await;
        never
    })
    .await;
    let payload = result.expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&Payload(4711)));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(bed.balances()[0], (1, 100));

    let next = runner
        .run(&mut conn, async |conn: &mut Conn| {
            assert_eq!(balance(conn, 1).await, Ok(100));
            set(conn, 2, 2).await
        })
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 2), (3, 100)], "committed");
}

#[scenario]
async fn in_a_savepoint_it_leaves_the_callers_transaction_usable() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let step = caught(async || {
                let never: QueryResult<()> = runner
                    .run(conn, async |conn: &mut Conn| {
                        set(conn, 2, 2).await?;
                        panic!("step two")
                    })
                    .await;
                never
            })
            .await;
            let payload = step.expect_err("a panic");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"step two"));
            assert_eq!(depth(conn), Some(1));
            assert_eq!(balance(conn, 2).await, Ok(100), "undone");
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

#[scenario]
async fn through_all_levels_it_undoes_everything() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result = caught(async || {
        let never: QueryResult<()> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                set(conn, 1, 1).await?;
                runner
                    .run(conn, async |conn: &mut Conn| {
                        set(conn, 2, 2).await?;
                        let number = balance(conn, 3).await?;
                        panic!("at {number}")
                    })
                    .await
            })
            .await;
        never
    })
    .await;
    let payload = result.expect_err("a panic");
    assert_eq!(payload.downcast_ref::<String>().expect("text"), "at 100");
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    let next = runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 3, 3).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances()[2], (3, 3));
}
