//! Diesel leaves its savepoints on the server after a nested rollback. Where a new savepoint cannot
//! be opened, an operation must not roll back to such an old one: that would bring an aborted
//! transaction back to life, without what was written since.

use diesel::QueryResult;
use diesel::result::Error;

use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, scenario};

#[scenario]
async fn an_aborted_transaction_stays_aborted() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let committed: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            let undone: QueryResult<()> = conn
                .transaction(async |_: &mut Conn| Err(Error::RollbackTransaction))
                .await;
            assert_eq!(undone, Err(Error::RollbackTransaction));
            add(conn, 1, 1).await?;
            let swallowed = conn.batch_execute("SELECT 1 / 0").await;
            assert!(swallowed.is_err());
            let step = runner
                .operation("step")
                .fallback(0)
                .run(conn, async |conn: &mut Conn| add(conn, 2, 2).await)
                .await;
            assert!(step.is_err(), "no savepoint could be opened");
            add(conn, 3, 3).await
        })
        .await;
    assert!(committed.is_err(), "the transaction was aborted");
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}
