//! A report of eyre needs a feature.

use dbop_diesel::Runner;
use diesel::SqliteConnection;

fn pay(_conn: &mut SqliteConnection) -> eyre::Result<()> {
    Ok(())
}

fn run(runner: &Runner, conn: &mut SqliteConnection) -> eyre::Result<()> {
    runner.run(conn, pay)
}

fn main() {}
