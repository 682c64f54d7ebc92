//! What a pool of a single connection hands out next: the same connection with its pragmas as they
//! were, or a fresh one where the old one lost the caller's transaction.

use std::time::Duration;

use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::{add, balance};
use super::steps::{commits_during, pragmas, writer};
use super::{Bed, Conn, Connection as _, RunQueryDsl as _, Runner, SimpleConnection as _};
use super::{depth, helper, scenario};

/// Makes a connection known again, by a schema that only it has.
#[helper]
async fn mark(conn: &mut Conn) {
    conn.batch_execute("CREATE TEMP TABLE mark (n INT); PRAGMA busy_timeout = 250")
        .await
        .expect("a new table");
}

#[helper]
async fn is_marked(conn: &mut Conn) -> bool {
    sql_query("SELECT n FROM mark").execute(conn).await.is_ok()
}

#[scenario]
async fn the_next_user_gets_the_connection_as_it_was() {
    let bed = Bed::of(1);
    mark(&mut bed.connect()).await;
    let runner = Runner::default();
    let operation = runner
        .operation("read")
        .read_only()
        .lock_timeout(Duration::from_secs(3));
    for fail in [false, true] {
        let result: QueryResult<i64> = operation
            .run(&mut bed.connect(), async |conn: &mut Conn| match fail {
                true => Err(Error::RollbackTransaction),
                false => balance(conn, 1).await,
            })
            .await;
        assert_eq!(result.is_err(), fail);
        let mut next = bed.connect();
        assert!(is_marked(&mut next).await, "a connection is worth keeping");
        assert_eq!(pragmas(&mut next).await, [250, 0]);
    }
}

#[scenario]
async fn an_operation_is_tried_again_on_its_connection() {
    let bed = Bed::of(1);
    mark(&mut bed.connect()).await;
    let clock = commits_during(1, writer(&bed));
    let runner = Runner::default().with_clock(clock);
    let mut conn = bed.connect();
    let report = runner
        .operation("write")
        .lock_timeout(Duration::from_millis(1))
        .run_report(&mut conn, async |conn: &mut Conn| add(conn, 3, 10).await)
        .await;
    assert_eq!((report.result, report.attempts), (Ok(1), 2));
    drop(conn);
    let mut next = bed.connect();
    assert!(is_marked(&mut next).await);
    assert_eq!(pragmas(&mut next).await, [250, 0]);
    assert_eq!(bed.balances()[2], (3, 1110));
}

#[scenario]
async fn after_the_loss_of_a_callers_transaction_the_connection_is_a_fresh_one() {
    let bed = Bed::of(1);
    mark(&mut bed.connect()).await;
    let runner = Runner::default();
    let result: QueryResult<usize> = bed
        .connect()
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    sql_query("INSERT OR ROLLBACK INTO accounts VALUES (1, 0)")
                        .execute(conn)
                        .await
                })
                .await;
            step.expect_err("taken");
            add(conn, 3, 10).await
        })
        .await;
    result.expect_err("nothing to commit");
    let mut next = bed.connect();
    assert!(!is_marked(&mut next).await);
    assert_eq!(depth(&mut next), Some(0));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    let done = runner
        .run(&mut next, async |conn: &mut Conn| add(conn, 2, 1).await)
        .await;
    assert_eq!(done, Ok(1));
}
