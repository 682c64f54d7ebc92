//! What an r2d2 pool of a single connection hands out next: the same connection with its pragmas
//! as they were, or a fresh one where the old one lost the caller's transaction. Sync only: other
//! pools have scenarios of their own.

use std::time::Duration;

use dbop_tests::depth;
use diesel::connection::SimpleConnection as _;
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::{add, balance};
use super::sqlite_steps::{commits_during, pragmas, writer};
use super::{Bed, Conn, Connection as _, RunQueryDsl as _, Runner};

/// Makes a connection known again, by a schema that only it has.
fn mark(conn: &mut Conn) {
    conn.batch_execute("CREATE TEMP TABLE mark (n INT); PRAGMA busy_timeout = 250")
        .expect("a new table");
}

fn is_marked(conn: &mut Conn) -> bool {
    sql_query("SELECT n FROM mark").execute(conn).is_ok()
}

#[test]
fn the_next_user_gets_the_connection_as_it_was() {
    let bed = Bed::of(1);
    mark(&mut bed.connect());
    let runner = Runner::default();
    let operation = runner
        .operation("read")
        .read_only()
        .lock_timeout(Duration::from_secs(3));
    for fail in [false, true] {
        let result: QueryResult<i64> =
            operation.run(&mut bed.connect(), |conn: &mut Conn| match fail {
                true => Err(Error::RollbackTransaction),
                false => balance(conn, 1),
            });
        assert_eq!(result.is_err(), fail);
        let mut next = bed.connect();
        assert!(is_marked(&mut next), "a connection is worth keeping");
        assert_eq!(pragmas(&mut next), [250, 0]);
    }
}

#[test]
fn an_operation_is_tried_again_on_its_connection() {
    let bed = Bed::of(1);
    mark(&mut bed.connect());
    let clock = commits_during(1, writer(&bed));
    let runner = Runner::default().with_clock(clock);
    let mut conn = bed.connect();
    let report = runner
        .operation("write")
        .lock_timeout(Duration::from_millis(1))
        .run_report(&mut conn, |conn: &mut Conn| add(conn, 3, 10));
    assert_eq!((report.result, report.attempts), (Ok(1), 2));
    drop(conn);
    let mut next = bed.connect();
    assert!(is_marked(&mut next));
    assert_eq!(pragmas(&mut next), [250, 0]);
    assert_eq!(bed.balances()[2], (3, 1110));
}

#[test]
fn after_the_loss_of_a_caller_s_transaction_the_connection_is_a_fresh_one() {
    let bed = Bed::of(1);
    mark(&mut bed.connect());
    let runner = Runner::default();
    let result: QueryResult<usize> = bed.connect().transaction(|conn: &mut Conn| {
        add(conn, 1, 10)?;
        let step: QueryResult<usize> = runner.run(conn, |conn: &mut Conn| {
            sql_query("INSERT OR ROLLBACK INTO accounts VALUES (1, 0)").execute(conn)
        });
        step.expect_err("taken");
        add(conn, 3, 10)
    });
    result.expect_err("nothing to commit");
    let mut next = bed.connect();
    assert!(!is_marked(&mut next));
    assert_eq!(depth(&mut next), Some(0));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    let done = runner.run(&mut next, |conn: &mut Conn| add(conn, 2, 1));
    assert_eq!(done, Ok(1));
}
