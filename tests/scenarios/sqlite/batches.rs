//! A batch of steps on SQLite is one transaction: nobody sees a step before the batch is
//! committed, and an abort anywhere undoes all of it.

use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance, insert};
use super::{Bed, Conn, Connection as _, Runner, helper, scenario};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

/// Two steps, seen by nobody yet.
#[helper]
async fn two_steps(bed: &Bed, runner: &Runner, conn: &mut Conn) -> QueryResult<()> {
    for id in [1, 2] {
        runner
            .run(conn, async |conn: &mut Conn| add(conn, id, 10).await)
            .await?;
        assert_eq!(bed.balances(), UNTOUCHED, "not committed by step {id}");
    }
    Ok(())
}

#[scenario]
async fn a_step_is_not_committed_before_the_batch_is() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| two_steps(&bed, &runner, conn).await)
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)]);
    drop(conn);
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)]);
}

#[scenario]
async fn the_same_in_an_operation_around_the_steps() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            two_steps(&bed, &runner, conn).await
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)]);
}

#[scenario]
async fn an_abort_after_the_steps_undoes_them() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    for in_an_operation in [false, true] {
        let abort = async |conn: &mut Conn| {
            two_steps(&bed, &runner, conn).await?;
            match balance(conn, 1).await? {
                110 => Err(Error::RollbackTransaction),
                _ => Ok(()),
            }
        };
        let result: QueryResult<()> = match in_an_operation {
            true => runner.run(&mut conn, abort).await,
            false => conn.transaction(abort).await,
        };
        assert_eq!(result, Err(Error::RollbackTransaction));
        assert_eq!(bed.balances(), UNTOUCHED);
    }
}

#[scenario]
async fn a_failing_step_undoes_those_before_it_when_it_is_handed_up() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    for in_an_operation in [false, true] {
        let fail = async |conn: &mut Conn| {
            two_steps(&bed, &runner, conn).await?;
            runner
                .run(conn, async |conn: &mut Conn| insert(conn, 3).await)
                .await
        };
        let result: QueryResult<usize> = match in_an_operation {
            true => runner.run(&mut conn, fail).await,
            false => conn.transaction(fail).await,
        };
        assert!(matches!(result, Err(Error::DatabaseError(..))));
        assert_eq!(bed.balances(), UNTOUCHED);
    }
}
