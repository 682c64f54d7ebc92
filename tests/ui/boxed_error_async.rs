//! A boxed error has to be `Send` where futures are.

use std::error::Error;

use dbop_diesel_async::Runner;
use diesel::SqliteConnection;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

type Conn = SyncConnectionWrapper<SqliteConnection>;

async fn pay(_conn: &mut Conn) -> Result<(), Box<dyn Error>> {
    Ok(())
}

async fn run(runner: &Runner, conn: &mut Conn) -> Result<(), Box<dyn Error>> {
    runner.run(conn, pay).await
}

fn main() {}
