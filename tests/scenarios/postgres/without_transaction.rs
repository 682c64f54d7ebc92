//! What PostgreSQL refuses in a transaction, without one.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Outcome, RetryPolicy};
use dbop_tests::{Meanwhile, Number};
use diesel::QueryResult;
use diesel::sql_query;

use super::{Bed, Conn, RunQueryDsl as _, Runner, SimpleConnection as _, helper, scenario};

/// How many valid indexes there are of this name.
#[helper]
async fn indexes(conn: &mut Conn) -> i64 {
    let row: Number = sql_query(
        "SELECT count(*) AS n FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid \
         WHERE relname = 'accounts_balance' AND indisvalid \
         AND relnamespace = current_schema()::regnamespace",
    )
    .get_result(conn)
    .await
    .expect("a number");
    row.n
}

/// As the recipe has it: what a failed attempt has left behind is dropped first, and the lock timeout
/// is that of the session.
#[scenario]
async fn an_index_is_built_concurrently_and_again_after_a_lock_timeout() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = 50 WHERE id = 2");
    let clock = Meanwhile::new(move |_| opponent.execute("COMMIT"));
    let bodies = AtomicU32::new(0);
    // It waits for the transactions of other tests as well.
    let report = Runner::new(RetryPolicy::new().with_max_retries(60))
        .with_clock(clock)
        .operation("index")
        .without_transaction()
        .idempotent()
        .run_report(&mut conn, async |conn: &mut Conn| -> QueryResult<()> {
            bodies.fetch_add(1, Ordering::Relaxed);
            for statement in [
                "SET lock_timeout = '1s'",
                "DROP INDEX CONCURRENTLY IF EXISTS accounts_balance",
                "CREATE INDEX CONCURRENTLY accounts_balance ON accounts (balance)",
                "RESET lock_timeout",
            ] {
                conn.batch_execute(statement).await?;
            }
            Ok(())
        })
        .await;
    report.result.expect("the second time");
    assert_eq!(report.outcome, Outcome::Committed);
    assert!(report.attempts > 1);
    assert_eq!(bodies.into_inner(), report.attempts);
    let fault = report.failures[0].fault.expect("the database's");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert_eq!(indexes(&mut conn).await, 1);
}
