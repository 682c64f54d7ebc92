//! Every attempt has to start from the same state.

use dbop_diesel_async::Runner;
use diesel::SqliteConnection;
use diesel::result::Error;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

async fn count(
    runner: &Runner,
    conn: &mut SyncConnectionWrapper<SqliteConnection>,
) -> Result<u32, Error> {
    let mut attempts = 0;
    runner
        .run(conn, async |_conn| {
            attempts += 1;
            Ok::<_, Error>(())
        })
        .await?;
    Ok(attempts)
}

fn main() {}
