//! A future that stays on its thread needs `run_local`.

use std::future::ready;
use std::rc::Rc;

use dbop_diesel_async::Runner;
use diesel::SqliteConnection;
use diesel::result::Error;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

type Conn = SyncConnectionWrapper<SqliteConnection>;

async fn run(runner: &Runner, conn: &mut Conn, account: Rc<i32>) -> Result<i32, Error> {
    let pay = async |_conn: &mut Conn| {
        ready(()).await;
        Ok(*account)
    };
    runner.run(conn, pay).await
}

fn main() {}
