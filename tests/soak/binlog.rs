//! Operations that read, and one that writes, with all that dbop sends around them.

use std::time::Duration;

use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::{Conn, Connection as _, RunQueryDsl, Runner, helper};

/// With settings and without, to each of the ends.
#[helper]
pub(crate) async fn read(url: String) {
    let mut conn = Conn::establish(&url).await.expect("a connection");
    let runner = Runner::default();
    let with_settings = runner
        .operation("read")
        .lock_timeout(Duration::from_secs(3))
        .statement_timeout(Duration::from_secs(4));
    let read_only = with_settings.read_only();
    for operation in [runner.operation("read"), with_settings, read_only] {
        for fails in [false, true] {
            let result: QueryResult<usize> = operation
                .run(&mut conn, async |conn: &mut Conn| {
                    let read = sql_query("SELECT balance FROM accounts");
                    let read = read.execute(conn).await?;
                    match fails {
                        true => Err(Error::RollbackTransaction),
                        false => Ok(read),
                    }
                })
                .await;
            assert_eq!(result.is_err(), fails);
        }
    }
}

#[helper]
pub(crate) async fn write(url: String) {
    let mut conn = Conn::establish(&url).await.expect("a connection");
    let written = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            let write = "UPDATE accounts SET balance = 0 WHERE id = 1";
            sql_query(write).execute(conn).await
        })
        .await;
    assert_eq!(written, Ok(1));
}
