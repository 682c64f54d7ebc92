//! An enum of connections has a backend of its own, which dbop does not know.

use dbop_diesel::Runner;
use diesel::SqliteConnection;
use diesel::result::Error;

#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    Sqlite(SqliteConnection),
}

fn run(runner: &Runner, conn: &mut AnyConnection) -> Result<(), Error> {
    runner.run(conn, |_conn| Ok(()))
}

fn main() {}
