//! On MySQL and MariaDB `LOCK TABLES` commits, and its locks outlive the transaction. So the operation has
//! an unknown outcome, and its connection does not return to its pool.

use std::time::Duration;

use dbop_diesel::Report;
use dbop_tests::{TestPool as _, assert_unknown};
use diesel::result::Error;

use super::money::add;
use super::steps::{Sessions, session_id};
use super::{Bed, Conn, Pool, Runner, SimpleConnection as _, helper, scenario};

const PATIENCE: Duration = Duration::from_secs(5);

/// Locks the table, and then succeeds or fails.
#[helper]
async fn lock(pool: &Pool, sessions: &Sessions, succeeds: bool) -> Report<(), Error> {
    Runner::default()
        .run_on_report(pool, async |conn: &mut Conn| {
            sessions.add(session_id(conn).await);
            add(conn, 1, 10).await?;
            conn.batch_execute("LOCK TABLES accounts WRITE").await?;
            match succeeds {
                true => Ok(()),
                false => Err(Error::RollbackTransaction),
            }
        })
        .await
}

#[scenario]
async fn a_connection_whose_tables_are_locked_leaves_the_pool() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    for (succeeds, paid) in [(true, 110), (false, 120)] {
        let sessions = Sessions::default();
        let report = lock(&pool, &sessions, succeeds).await;
        assert_unknown(&report);
        assert_eq!(report.attempts, 1, "it would be done twice");
        assert_eq!(pool.lent(), 0);
        bed.wait_until_gone(sessions.all()[0]);
        // No other session holds the lock.
        assert_eq!(bed.balances()[0], (1, paid));
        let next: Result<i64, Error> = Runner::default()
            .run_on(&pool, async |conn: &mut Conn| {
                add(conn, 2, 1).await?;
                Ok(session_id(conn).await)
            })
            .await;
        assert_ne!(next.expect("a fresh one"), sessions.all()[0]);
    }
}
