//! An error type has to say where its Diesel error is.

use dbop_diesel::Runner;
use diesel::SqliteConnection;

#[derive(Debug)]
struct MyError;

fn run(runner: &Runner, conn: &mut SqliteConnection) -> Result<(), MyError> {
    runner.run(conn, |_conn| Err(MyError))
}

fn main() {}
