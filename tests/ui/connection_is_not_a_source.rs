//! A connection is not a source of further ones.

use dbop_diesel_async::Runner;
use diesel::SqliteConnection;
use diesel::result::Error;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

type Conn = SyncConnectionWrapper<SqliteConnection>;

async fn run(runner: &Runner, conn: &mut Conn) -> Result<(), Error> {
    runner.run_on(conn, async |_conn: &mut Conn| Ok(())).await
}

fn main() {}
