//! The same as `test_transaction`, where a lock is retried in the savepoint.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::IsolationLevel;
use dbop_tests::{InstantClock, Number};
use diesel::sql_query;

use super::{Bed, Conn, Connection as _, RunQueryDsl as _, Runner, scenario};

#[scenario]
async fn a_lock_is_retried_inside_the_test_transaction() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; SELECT FROM accounts WHERE id = 1 FOR UPDATE");
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone()).for_tests();
    let mut conn = bed.connect();
    conn.begin_test_transaction().await.expect("no transaction");
    let attempts = AtomicU32::new(0);
    let report = runner
        .operation("close")
        .isolation(IsolationLevel::Serializable)
        .run_report(&mut conn, async |conn: &mut Conn| {
            if attempts.fetch_add(1, Ordering::Relaxed) == 1 {
                opponent.execute("COMMIT");
            }
            let lock = "SELECT balance AS n FROM accounts WHERE id = 1 FOR UPDATE NOWAIT";
            let row: Number = sql_query(lock).get_result(conn).await?;
            sql_query("UPDATE accounts SET balance = 0 WHERE id = 1")
                .execute(conn)
                .await?;
            diesel::QueryResult::Ok(row.n)
        })
        .await;
    assert_eq!((report.result, report.attempts), (Ok(100), 2));
    let delays = clock.slept().len();

    let opening = runner
        .operation("open")
        .isolation(IsolationLevel::Serializable);
    let report = opening
        .run_report(&mut conn, async |conn: &mut Conn| {
            sql_query("INSERT INTO accounts VALUES (1, 0)")
                .execute(conn)
                .await
        })
        .await;
    report.result.expect_err("there is one");
    assert_eq!((report.attempts, clock.slept().len()), (1, delays));
    assert_eq!(bed.balances()[0], (1, 100));
}
