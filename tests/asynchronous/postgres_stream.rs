//! Rows that are read one by one: an error behind the last row that the operation looks at is not
//! lost with the rest.

use dbop_diesel_async::{OperationError as _, Outcome, Report, Runner};
use dbop_tests::Number;
use diesel::result::Error;
use diesel::{QueryResult, sql_query};
use diesel_async::RunQueryDsl as _;
use futures_util::StreamExt as _;

use super::money::{add, balance};
use super::{Bed, Conn, run};

/// Two rows, and then an error.
const ROWS: &str = "SELECT 10 / (3 - n) AS n FROM generate_series(1::bigint, 5) AS n";

async fn first_row(conn: &mut Conn) -> QueryResult<i64> {
    let mut rows = sql_query(ROWS).load_stream::<Number>(conn).await?;
    let first = rows.next().await.expect("a row")?;
    Ok(first.n)
}

#[test]
fn an_error_behind_the_first_row_is_an_error_of_the_operation() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let report: Report<i64, Error> = Runner::default()
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                first_row(conn).await
            })
            .await;
        let error = report.result.expect_err("not all is well");
        let error = error.dbop_error().expect("an error of dbop's own");
        assert!(error.is_rolled_back(), "{error}");
        assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
        assert_eq!(bed.balances()[0], (1, 100));
        // The next operation has nothing to do with the rows of this one.
        let next = Runner::default()
            .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        assert_eq!(next, Ok(100));
    });
}

#[test]
fn in_a_step_it_is_an_error_of_the_step() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let runner = Runner::default();
        let done = runner
            .run(&mut conn, async |conn: &mut Conn| {
                let step: QueryResult<i64> = runner
                    .run(conn, async |conn: &mut Conn| {
                        add(conn, 1, 10).await?;
                        first_row(conn).await
                    })
                    .await;
                let error = step.expect_err("not all is well");
                let own = error.dbop_error().expect("an error of dbop's own");
                assert!(own.is_rolled_back(), "{own}");
                add(conn, 2, 10).await
            })
            .await;
        assert_eq!(done, Ok(1));
        assert_eq!(bed.balances(), [(1, 100), (2, 110), (3, 100)]);
    });
}

#[test]
fn rows_without_an_error_may_be_left() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let done = Runner::default()
            .run(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                let sql = "SELECT n FROM generate_series(1::bigint, 100000) AS n";
                let mut rows = sql_query(sql).load_stream::<Number>(conn).await?;
                let first = rows.next().await.expect("a row")?;
                Ok::<_, Error>(first.n)
            })
            .await;
        assert_eq!(done, Ok(1));
        assert_eq!(bed.balances()[0], (1, 110));
    });
}
