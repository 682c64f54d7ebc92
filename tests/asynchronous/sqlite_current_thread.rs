//! diesel-async's wrapper of sync connections panics when it is cancelled on a runtime of a single
//! thread. That must not become a second panic, which would end the process: so it is cancelled in
//! a process of its own.

#![allow(clippy::print_stdout, reason = "how the process of its own reports")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dbop_diesel_async::Runner;
use dbop_tests::asynchronous::{Moment, caught, dropped_when, is_broken, on_current_thread};
use diesel::{QueryResult, sql_query};
use diesel_async::SimpleAsyncConnection as _;
use tokio::time::sleep;

use super::money::share_out;
use super::{Bed, Conn};

const CHILD: &str = "DBOP_TEST_CHILD";
const SURVIVED: &str = "1 passed";

/// Runs this test again, alone, in a process of its own.
fn in_a_child(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(CHILD).is_some() {
        return on_current_thread(test);
    }
    let (_, module) = module_path!().split_once("::").expect("a crate's name");
    let child = Command::new(std::env::current_exe().expect("a name"))
        .args([&format!("{module}::{name}"), "--exact", "--nocapture"])
        .env(CHILD, "yes")
        .output()
        .expect("a process");
    let stdout = String::from_utf8_lossy(&child.stdout);
    let stderr = String::from_utf8_lossy(&child.stderr);
    assert!(
        child.status.success(),
        "{:?}: {stdout} {stderr}",
        child.status
    );
    assert!(stdout.contains(SURVIVED), "{stdout}");
}

/// Takes long enough to be cancelled.
async fn count(conn: &mut Conn) -> QueryResult<usize> {
    use diesel_async::RunQueryDsl as _;

    sql_query(
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 2000000) \
         SELECT count(*) FROM c",
    )
    .execute(conn)
    .await
}

/// Until the statement is done that was cancelled, the wrapper does nothing but panic.
async fn is_broken_at_last(conn: &mut Conn) -> bool {
    loop {
        match caught(async { is_broken(conn) }).await {
            Ok(is_broken) => return is_broken,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

#[test]
fn cancelled_in_a_statement() {
    in_a_child("cancelled_in_a_statement", async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let runner = Runner::default();
        let is_in_body = AtomicBool::new(false);
        let work = runner.run(&mut conn, async |conn: &mut Conn| {
            share_out(conn).await?;
            is_in_body.store(true, Ordering::Relaxed);
            count(conn).await
        });
        let work = dropped_when(work, Moment::UnderWay, || {
            is_in_body.load(Ordering::Relaxed)
        });
        assert!(caught(work).await.is_err(), "the wrapper's panic");
        assert!(is_broken_at_last(&mut conn).await);
        drop(conn);
        bed.transactions_end().await;
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    });
}

#[test]
fn cancelled_at_begin() {
    in_a_child("cancelled_at_begin", async {
        let bed = Bed::new();
        let writer = bed.opponent();
        writer.execute("BEGIN IMMEDIATE");
        let mut conn = bed.connect().await;
        let patient = "PRAGMA busy_timeout = 9999";
        conn.batch_execute(patient).await.expect("a pragma");
        let runner = Runner::default();
        let work = runner.run(&mut conn, share_out);
        let work = dropped_when(work, Moment::UnderWay, || true);
        assert!(caught(work).await.is_err(), "the wrapper's panic");
        writer.execute("ROLLBACK");
        assert!(is_broken_at_last(&mut conn).await);
        drop(conn);
        bed.transactions_end().await;
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    });
}

#[test]
fn a_task_aborted() {
    in_a_child("a_task_aborted", async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let task = tokio::spawn(async move {
            let runner = Runner::default();
            runner
                .run(&mut conn, async |conn: &mut Conn| {
                    share_out(conn).await?;
                    count(conn).await
                })
                .await
        });
        sleep(Duration::from_millis(50)).await;
        assert!(!task.is_finished());
        task.abort();
        assert!(task.await.is_err());
        bed.transactions_end().await;
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    });
}
