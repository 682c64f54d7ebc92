//! On a pooled connection in hand, a function of the connection itself needs `&mut *conn`.

use dbop_diesel_async::Runner;
use diesel::SqliteConnection;
use diesel::result::Error;
use diesel_async::pooled_connection::deadpool::Object;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

type Conn = SyncConnectionWrapper<SqliteConnection>;

async fn pay(_conn: &mut Conn) -> Result<(), Error> {
    Ok(())
}

async fn run(runner: &Runner, mut conn: Object<Conn>) -> Result<(), Error> {
    runner.run(&mut conn, pay).await
}

fn main() {}
