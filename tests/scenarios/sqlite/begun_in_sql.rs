//! A transaction that somebody has begun in SQL, behind Diesel's back, is not the runner's to end.

use diesel::QueryResult;

use super::money::add;
use super::{Bed, Conn, Runner, SimpleConnection as _, scenario};

#[scenario]
async fn an_operation_is_refused_and_the_transaction_goes_on() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("BEGIN").await.expect("allowed to");
    add(&mut conn, 1, 10).await.expect("in the transaction");
    for read_only in [false, true] {
        let runner = Runner::default();
        let operation = runner.operation("inside");
        let operation = if read_only {
            operation.read_only()
        } else {
            operation
        };
        let result: QueryResult<()> = operation.run(&mut conn, async |_: &mut Conn| Ok(())).await;
        assert!(
            result.is_err(),
            "SQLite has no transaction in a transaction"
        );
    }
    add(&mut conn, 2, 10)
        .await
        .expect("still in the transaction");
    conn.batch_execute("COMMIT").await.expect("still open");
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)]);
}
