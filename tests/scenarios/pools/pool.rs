//! What a pool of a single connection hands out after an operation is clean: nothing open, nothing
//! half done.

use diesel::QueryResult;
use diesel::result::Error;

use super::money::{balance, set};
use super::{Bed, Conn, Runner, caught, depth, helper, scenario};

#[scenario]
async fn after_success_and_error() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let kept = runner
        .run(&mut bed.connect(), async |conn: &mut Conn| {
            set(conn, 1, 1).await
        })
        .await;
    assert_eq!(kept, Ok(1));
    let undone: QueryResult<()> = runner
        .run(&mut bed.connect(), async |conn: &mut Conn| {
            set(conn, 2, 2).await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(undone, Err(Error::RollbackTransaction));
    sees_only_the_first(&bed).await;
}

#[scenario]
async fn after_a_panic_that_the_connection_outlives() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let kept = runner
        .run(&mut bed.connect(), async |conn: &mut Conn| {
            set(conn, 1, 1).await
        })
        .await;
    assert_eq!(kept, Ok(1));
    let mut conn = bed.connect();
    let panicked = caught(async || {
        let never: QueryResult<()> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                set(conn, 2, 2).await?;
                panic!("in the operation")
            })
            .await;
        never
    })
    .await;
    assert!(panicked.is_err());
    drop(conn);
    sees_only_the_first(&bed).await;
}

#[scenario]
async fn after_a_panic_that_drops_the_connection() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let kept = runner
        .run(&mut bed.connect(), async |conn: &mut Conn| {
            set(conn, 1, 1).await
        })
        .await;
    assert_eq!(kept, Ok(1));
    let panicked = caught(async || {
        let never: QueryResult<()> = runner
            .run(&mut bed.connect(), async |conn: &mut Conn| {
                set(conn, 2, 2).await?;
                panic!("in the operation")
            })
            .await;
        never
    })
    .await;
    assert!(panicked.is_err());
    sees_only_the_first(&bed).await;
}

#[helper]
async fn sees_only_the_first(bed: &Bed) {
    let mut conn = bed.connect();
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(balance(&mut conn, 1).await, Ok(1));
    assert_eq!(balance(&mut conn, 2).await, Ok(100));
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 100)]);
}
