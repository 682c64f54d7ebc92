//! A transaction that somebody has begun in SQL, behind Diesel's back, is not the runner's to end;
//! and one that SQLite has dropped is not taken for one that the operation has ended.

use dbop_diesel::Outcome;
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

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

#[scenario]
async fn a_batch_that_drops_the_transaction_is_undone_with_its_own_error() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 2, 10).await?;
            conn.batch_execute("INSERT OR ROLLBACK INTO accounts VALUES (1, 0)")
                .await
        })
        .await;
    assert!(matches!(
        report.result,
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}
