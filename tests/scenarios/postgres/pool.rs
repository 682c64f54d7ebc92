//! A pool of a single connection replaces one that the server ended, although it asks nothing of
//! what it hands out.

use diesel::QueryResult;

use super::money::{balance, set};
use super::steps::session_id;
use super::{Bed, Conn, Runner, depth, helper, scenario};

#[scenario]
async fn after_an_operation_that_lost_it() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let mut conn = bed.connect();
    let lost = session_id(&mut conn).await;
    let result: QueryResult<i64> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            bed.kill(lost);
            balance(conn, 1).await
        })
        .await;
    assert!(result.is_err());
    drop(conn);
    goes_on_with_another(&bed, lost).await;
}

#[scenario]
async fn after_an_operation_that_could_not_begin_on_it() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let mut conn = bed.connect();
    let lost = session_id(&mut conn).await;
    bed.kill(lost);
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert!(result.is_err());
    drop(conn);
    goes_on_with_another(&bed, lost).await;
}

#[helper]
async fn goes_on_with_another(bed: &Bed, lost: i64) {
    let mut conn = bed.connect();
    assert_ne!(session_id(&mut conn).await, lost);
    assert_eq!(depth(&mut conn), Some(0));
    let next: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            assert_eq!(balance(conn, 1).await, Ok(100));
            set(conn, 1, 7).await
        })
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances()[0], (1, 7));
}
