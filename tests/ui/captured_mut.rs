//! Every attempt has to start from the same state.

use dbop_diesel::Runner;
use diesel::SqliteConnection;
use diesel::result::Error;

fn count(runner: &Runner, conn: &mut SqliteConnection) -> Result<u32, Error> {
    let mut attempts = 0;
    runner.run(conn, |_conn| {
        attempts += 1;
        Ok::<_, Error>(())
    })?;
    Ok(attempts)
}

fn main() {}
