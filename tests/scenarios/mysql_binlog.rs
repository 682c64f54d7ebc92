//! What dbop sends around an operation does not get into the binary log, which replicas read: a
//! read-only operation leaves nothing there, whatever becomes of it. MariaDB tells what a session
//! has written there last; one of the servers under test has such a log.

use std::time::Duration;

use dbop_tests::Word;
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::{add, balance};
use super::mysql_server::{is_mariadb, is_on};
use super::{Bed, Conn, RunQueryDsl, Runner, helper, scenario};

/// What this session has written last to the binary log.
#[helper]
async fn last_written(conn: &mut Conn) -> String {
    let last: Word = sql_query("SELECT @@last_gtid AS s")
        .get_result(conn)
        .await
        .expect("an answer");
    last.s
}

#[scenario]
async fn an_operation_that_reads_leaves_nothing_in_the_binary_log() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    if !is_mariadb(&mut conn).await {
        return;
    }
    let runner = Runner::default();
    let operation = runner
        .operation("read")
        .lock_timeout(Duration::from_secs(3))
        .statement_timeout(Duration::from_secs(4));
    let before = last_written(&mut conn).await;
    for operation in [runner.operation("read"), operation, operation.read_only()] {
        for fails in [false, true] {
            let result: QueryResult<i64> = operation
                .run(&mut conn, async |conn: &mut Conn| {
                    let balance = balance(conn, 1).await?;
                    match fails {
                        true => Err(Error::RollbackTransaction),
                        false => Ok(balance),
                    }
                })
                .await;
            assert_eq!(result.is_err(), fails);
        }
    }
    assert_eq!(last_written(&mut conn).await, before);
    let written = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
        .await;
    assert_eq!(written, Ok(1));
    let is_logged = is_on(&mut conn, "log_bin").await;
    assert_eq!(last_written(&mut conn).await != before, is_logged);
}
