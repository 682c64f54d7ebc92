//! On SQLite a setting belongs to the connection and no ROLLBACK brings back what it was. It is
//! restored all the same when SQLite has dropped the transaction, on every level, when the
//! transaction did not begin, and when it could not be committed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_tests::session::{OTHER_PRAGMAS, PRAGMAS};
use dbop_tests::{InstantClock, Word};
use diesel::sql_query;

use super::money::{add, balance};
use super::sessions::{Trouble, assert_unchanged, operations, runners, session, sessions};
use super::steps::writer;
use super::{Bed, Conn, RunQueryDsl as _, Runner, SimpleConnection as _, backend};
use super::{caught, scenario};

fn runner() -> Runner {
    Runner::default().with_clock(InstantClock::new())
}

/// So that a pragma of a later version is not overlooked.
#[scenario]
async fn every_pragma_is_compared_or_no_setting() {
    let bed = Bed::new();
    let names: Vec<Word> = sql_query("SELECT name AS s FROM pragma_pragma_list")
        .load(&mut bed.connect())
        .await
        .expect("a list");
    let known: BTreeSet<_> = PRAGMAS.iter().chain(&OTHER_PRAGMAS).copied().collect();
    let unknown: BTreeSet<_> = names
        .iter()
        .map(|name| name.s.as_str())
        .filter(|name| !known.contains(name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[scenario]
async fn the_levels_between_a_lost_transaction_and_its_beginning_leave_nothing() {
    let bed = Bed::new();
    for panics in [false, true] {
        let mut conn = bed.connect();
        conn.batch_execute("PRAGMA busy_timeout = 17")
            .await
            .expect("it can be set");
        let before = session(&mut conn).await;
        let runner = runner();
        let middle = runner
            .operation("middle")
            .lock_timeout(Duration::from_secs(7));
        let ended = caught(async || {
            let result: Result<(), Trouble> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    add(conn, 1, 1).await?;
                    middle
                        .run(conn, async |conn: &mut Conn| {
                            let lost: Result<usize, Trouble> = runner
                                .run(conn, async |conn: &mut Conn| {
                                    let sql = "INSERT OR ROLLBACK INTO accounts VALUES (1, 0)";
                                    Ok(sql_query(sql).execute(conn).await?)
                                })
                                .await;
                            assert!(!panics, "as planned");
                            lost?;
                            Ok(())
                        })
                        .await
                })
                .await;
            result
        })
        .await;
        assert_eq!(ended.is_err(), panics);
        assert_unchanged(&mut conn, &before, "a lost transaction").await;
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

/// Somebody else has the write lock.
#[scenario]
async fn nor_does_a_transaction_that_could_not_begin() {
    let bed = Bed::new();
    let opponent = writer(&bed);
    for sql in [
        "SELECT 1",
        "PRAGMA busy_timeout = 1; PRAGMA query_only = ON",
    ] {
        let mut conn = bed.connect();
        conn.batch_execute(sql).await.expect("it can be set");
        let before = session(&mut conn).await;
        for runner in runners(&runner()) {
            let impatient = runner
                .operation("impatient")
                .lock_timeout(Duration::from_millis(2))
                .begin_mode(dbop_diesel::BeginMode::Exclusive)
                .max_retries(1);
            for operation in [impatient, impatient.read_only()] {
                let result: Result<i64, Trouble> = operation
                    .run(&mut conn, async |conn: &mut Conn| {
                        Ok(balance(conn, 1).await?)
                    })
                    .await;
                result.expect_err("the lock is taken");
                assert_unchanged(&mut conn, &before, &format!("{operation:?}")).await;
            }
        }
    }
    opponent.execute("ROLLBACK");
}

/// A foreign key is violated, which is found by COMMIT.
#[scenario]
async fn nor_does_one_that_could_not_be_committed() {
    let bed = Bed::new();
    for sql in sessions().into_iter().take(3) {
        let mut conn = bed.connect();
        let owners = backend::OWNERS.replacen("TABLE", "TABLE IF NOT EXISTS", 1);
        conn.batch_execute(&format!("{sql}; {owners}"))
            .await
            .expect("a new table");
        let before = session(&mut conn).await;
        for runner in runners(&runner()) {
            for operation in operations(&runner) {
                let bodies = AtomicU32::new(0);
                let result: Result<(), Trouble> = operation
                    .run(&mut conn, async |conn: &mut Conn| {
                        bodies.fetch_add(1, Ordering::Relaxed);
                        conn.batch_execute(
                            "PRAGMA defer_foreign_keys = ON; INSERT INTO owners VALUES (77)",
                        )
                        .await?;
                        Ok(())
                    })
                    .await;
                result.expect_err("there is no such account");
                assert_unchanged(&mut conn, &before, &format!("{operation:?}")).await;
            }
        }
    }
}
