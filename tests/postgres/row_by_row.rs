//! Rows that Diesel reads one by one: an error behind the last row that the operation looks at is not
//! lost with the rest.

use dbop_diesel::{OperationError as _, Outcome, Runner};
use dbop_tests::Number;
use dbop_tests::postgres::{Bed, Conn};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::result::Error;
use diesel::{QueryResult, RunQueryDsl as _, sql_query};

/// Two rows, and then an error.
const ROWS: &str = "SELECT 10 / (3 - n) AS n FROM generate_series(1::bigint, 5) AS n";

fn first_row(conn: &mut Conn) -> QueryResult<i64> {
    let mut rows = sql_query(ROWS).load_iter::<Number, PgRowByRowLoadingMode>(conn)?;
    let first = rows.next().expect("a row")?;
    Ok(first.n)
}

fn write(conn: &mut Conn) -> QueryResult<usize> {
    sql_query("UPDATE accounts SET balance = 7 WHERE id = 1").execute(conn)
}

#[test]
fn an_error_behind_the_first_row_is_an_error_of_the_operation() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let report = runner.run_report(&mut conn, |conn| {
        write(conn)?;
        first_row(conn)
    });
    let error: Error = report.result.expect_err("not all is well");
    let own = error.dbop_error().expect("dbop's own");
    assert!(own.is_rolled_back(), "{own}");
    assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
    assert_eq!(bed.balances()[0], (1, 100));
    let next = runner.run(&mut conn, write);
    assert_eq!(next, Ok(1), "it has nothing to do with those rows");
}

#[test]
fn in_a_step_it_is_an_error_of_the_step() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let done: QueryResult<usize> = runner.run(&mut conn, |conn| {
        let step: QueryResult<i64> = runner.run(conn, |conn| {
            write(conn)?;
            first_row(conn)
        });
        let error = step.expect_err("not all is well");
        assert!(error.dbop_error().is_some_and(|own| own.is_rolled_back()));
        sql_query("UPDATE accounts SET balance = 7 WHERE id = 2").execute(conn)
    });
    assert_eq!(done, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 7), (3, 100)]);
}
