//! On a pooled connection in hand, a function of the connection itself needs `&mut *conn`.

use dbop_diesel::Runner;
use diesel::r2d2::{ConnectionManager, PooledConnection};
use diesel::result::Error;
use diesel::SqliteConnection;

type Pooled = PooledConnection<ConnectionManager<SqliteConnection>>;

fn pay(_conn: &mut SqliteConnection) -> Result<(), Error> {
    Ok(())
}

fn run(runner: &Runner, mut conn: Pooled) -> Result<(), Error> {
    runner.run(&mut conn, pay)
}

fn main() {}
