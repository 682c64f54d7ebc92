//! The everyday promises: commit, roll back, nest.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_tests::accounts;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel::result::Error;

use super::{Bed, Conn, RunQueryDsl, Runner, scenario};

#[scenario]
async fn without_a_transaction_the_work_is_committed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let updated = Runner::default()
        .run(&mut conn, async |conn| {
            diesel::update(accounts::table.find(1))
                .set(accounts::balance.eq(7))
                .execute(conn)
                .await
        })
        .await;
    assert_eq!(updated, Ok(1));
    assert_eq!(bed.balances(), [(1, 7), (2, 100), (3, 100)]);
}

#[scenario]
async fn an_error_undoes_everything_and_is_returned_unchanged() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result: Result<(), Error> = Runner::default()
        .run(&mut conn, async |conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            diesel::update(accounts::table.find(1))
                .set(accounts::balance.eq(7))
                .execute(conn)
                .await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(result, Err(Error::RollbackTransaction));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn a_nested_operation_is_a_savepoint() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    runner
        .run(&mut conn, async |conn: &mut Conn| {
            diesel::update(accounts::table.find(1))
                .set(accounts::balance.eq(1))
                .execute(conn)
                .await?;
            let failed: Result<(), Error> = runner
                .run(conn, async |conn| {
                    diesel::update(accounts::table.find(2))
                        .set(accounts::balance.eq(2))
                        .execute(conn)
                        .await?;
                    Err(Error::RollbackTransaction)
                })
                .await;
            assert_eq!(failed, Err(Error::RollbackTransaction));
            assert_eq!(bed.balances()[0], (1, 100), "not committed yet");
            runner
                .run(conn, async |conn| {
                    diesel::update(accounts::table.find(3))
                        .set(accounts::balance.eq(3))
                        .execute(conn)
                        .await
                })
                .await
        })
        .await
        .expect("committed");
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}
