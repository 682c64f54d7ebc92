//! What works in a bare `conn.transaction` on PostgreSQL works in an operation: its first statement
//! can be one that no query may come before, and it can do with the session what it likes.

use diesel::QueryResult;

use super::money::{balance, set};
use super::steps::show;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, scenario};

/// That has to come before the first query.
#[scenario]
async fn an_operation_can_choose_its_isolation_level_first_thing() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<String> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            conn.batch_execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                .await?;
            set(conn, 1, 1).await?;
            Ok(show(conn, "transaction_isolation").await)
        })
        .await;
    assert_eq!(result.as_deref(), Ok("serializable"));
}

/// What others commit between BEGIN and there is seen.
#[scenario]
async fn a_snapshot_is_taken_by_the_operations_first_query() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = bed.connect();
    conn.batch_execute("SET default_transaction_isolation = 'repeatable read'")
        .await
        .expect("allowed to");
    let seen: QueryResult<i64> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            opponent.execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
            balance(conn, 1).await
        })
        .await;
    assert_eq!(seen, Ok(101));
}

#[scenario]
async fn an_operation_can_reset_all_settings() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            conn.batch_execute("RESET ALL").await?;
            set(conn, 1, 1).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances()[0], (1, 1));
}

#[scenario]
async fn an_operation_in_a_savepoint_can_reset_all_settings() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| {
                    conn.batch_execute("RESET ALL").await?;
                    set(conn, 1, 1).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances()[0], (1, 1));
}
