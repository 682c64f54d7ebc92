//! What outlives a rollback on MySQL and MariaDB: locks by name and temporary tables.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::Outcome;
use dbop_tests::{Again, InstantClock};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

use super::money::add;
use super::steps::{number, session_id};
use super::{Bed, Conn, Runner, SimpleConnection as _, scenario};

#[scenario]
async fn a_lock_by_name_is_taken_by_each_attempt_and_kept() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            assert_eq!(number(conn, "GET_LOCK(DATABASE(), 0)").await, 1);
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Again),
                _ => Ok(()),
            }
        })
        .await;
    assert_eq!((report.result, report.attempts), (Ok(()), 2));
    assert_eq!(bed.balances()[0], (1, 110));
    let mut other = bed.connect();
    let owner = "COALESCE(IS_USED_LOCK(DATABASE()), 0)";
    // It was taken twice.
    for owned_by in [session, session, 0] {
        assert_eq!(number(&mut other, owner).await, owned_by);
        conn.batch_execute("DO RELEASE_LOCK(DATABASE())")
            .await
            .expect("not more than NULL");
    }
    // And it ends with the session.
    assert_eq!(number(&mut conn, "GET_LOCK(DATABASE(), 0)").await, 1);
    drop(conn);
    bed.wait_until_gone(session);
    assert_eq!(number(&mut other, owner).await, 0);
}

#[scenario]
async fn a_temporary_table_is_still_there_without_its_rows() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| -> QueryResult<()> {
            add(conn, 1, 10).await?;
            conn.batch_execute("CREATE TEMPORARY TABLE notes (n INT) ENGINE = InnoDB")
                .await?;
            conn.batch_execute("INSERT INTO notes VALUES (7)").await?;
            add(conn, 2, 10).await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    // No statement of it has committed.
    assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    assert_eq!(number(&mut conn, "(SELECT count(*) FROM notes)").await, 0);
    // So the next attempt does not find what it expects.
    let next: QueryResult<()> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            conn.batch_execute("CREATE TEMPORARY TABLE notes (n INT)")
                .await
        })
        .await;
    let error = next.expect_err("it is there");
    let is_unknown = matches!(error, Error::DatabaseError(DatabaseErrorKind::Unknown, _));
    assert!(is_unknown, "{error:?}");
}
