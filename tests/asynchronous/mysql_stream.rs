//! Rows that are read one by one: a deadlock behind the last row that the operation looks at, which
//! takes the whole transaction along, is not lost with the rest.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel_async::{Outcome, RetryPolicy, Runner};
use dbop_tests::Opponent;
use dbop_tests::mysql::BALLAST;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::RunQueryDsl as _;
use futures_util::StreamExt as _;

use super::money::add;
use super::{Bed, Conn, run};

/// A row that the server does not keep back until there are more.
#[derive(QueryableByName)]
struct Wide {
    #[diesel(sql_type = BigInt)]
    n: i64,
    #[diesel(sql_type = Text)]
    s: String,
}

const ROWS: &str = "SELECT CAST(id AS SIGNED) AS n, REPEAT('x', 1000000) AS s FROM accounts \
                    ORDER BY id FOR UPDATE";

async fn first_row(conn: &mut Conn) -> QueryResult<i64> {
    let mut rows = sql_query(ROWS).load_stream::<Wide>(conn).await?;
    let first = rows.next().await.expect("a row")?;
    assert_eq!(first.s.len(), 1_000_000);
    Ok(first.n)
}

#[test]
fn a_deadlock_behind_the_first_row_starts_the_operation_again() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let opponent = bed.opponent();
        Opponent::execute(&opponent, "BEGIN");
        Opponent::execute(&opponent, BALLAST);
        Opponent::execute(&opponent, "UPDATE accounts SET balance = 0 WHERE id = 3");
        let bodies = AtomicU32::new(0);
        let policy = RetryPolicy::new().with_initial_delay(Duration::ZERO);
        let report = Runner::new(policy)
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
                let first = first_row(conn).await?;
                if is_first {
                    // The third row is the opponent's, who now wants the first one.
                    opponent.start("UPDATE accounts SET balance = 0 WHERE id = 1");
                    opponent.finish().expect("it wins");
                    Opponent::execute(&opponent, "ROLLBACK");
                }
                Ok::<_, Error>(first)
            })
            .await;
        assert_eq!((report.result, report.outcome), (Ok(1), Outcome::Committed));
        assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
        assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
    });
}
