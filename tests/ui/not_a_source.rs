//! A URL alone does not say how to connect.

use dbop_diesel::Runner;
use diesel::SqliteConnection;
use diesel::result::Error;

fn run(runner: &Runner) -> Result<(), Error> {
    runner.run_on(&":memory:", |_conn: &mut SqliteConnection| Ok(()))
}

fn main() {}
