//! On SQLite the settings of the session are asked for before an operation that changes them
//! begins. That can fail, if somebody has locked the whole file and the connection is new.

use dbop_diesel_async::Runner;
use dbop_tests::asynchronous::{depth, refuses};
use diesel::QueryResult;
use diesel_async::AsyncConnection as _;

use super::money::{balance, share_out};
use super::{Bed, Conn, run};

#[test]
fn the_connection_stays_usable() {
    run(async {
        let bed = Bed::new();
        let writer = bed.opponent();
        writer.execute("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE");
        let mut conn = Conn::establish(bed.url()).await.expect("the file is there");
        let runner = Runner::default();
        let refused: QueryResult<i64> = runner
            .operation("too early")
            .read_only()
            .max_retries(0)
            .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        assert_eq!(
            refused.expect_err("locked").to_string(),
            "database is locked"
        );
        assert!(!refuses(&mut conn));
        assert_eq!(depth(&mut conn), Some(0));
        writer.execute("COMMIT");
        assert_eq!(runner.run(&mut conn, share_out::<Conn>).await, Ok(()));
        assert_eq!(bed.balances(), [(1, 90), (2, 104), (3, 106)]);
    });
}
