//! What became of a lost commit is asked on another connection.

use dbop_diesel::{Ledger, Runner};
use diesel::SqliteConnection;
use diesel::result::Error;

fn run(runner: &Runner, ledger: &Ledger, conn: &mut SqliteConnection) -> Result<(), Error> {
    runner.operation("pay").ledger(ledger).run(conn, |_conn| Ok(()))
}

fn main() {}
