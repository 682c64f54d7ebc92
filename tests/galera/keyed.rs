//! Idempotency keys on two nodes that take writes: neither waits for the other one's key, and so both do the
//! work of one. The cluster commits one of them, and the other one is undone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Ledger, Outcome, Report};
use dbop_tests::{TestPool as _, eventually};
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;

use super::several::{number_at, two_nodes, two_nodes_and_much_to_do};
use super::{Bed, Conn, Pool, RunQueryDsl as _, Runner, helper, scenario, together};
use crate::cluster::{KEYS, is_refusal};

const PATIENCE: Duration = Duration::from_secs(5);

/// What one call does: a row that no other call is in the way of, whichever node it is on.
#[helper]
async fn work(conn: &mut Conn, key: u32, runs: &AtomicU32) -> QueryResult<u32> {
    let run = runs.fetch_add(1, Ordering::Relaxed);
    let insert = format!("INSERT INTO journal (request) VALUES ({key})");
    sql_query(insert).execute(conn).await?;
    Ok(run)
}

/// Each of so many keys is done once, on both nodes.
fn check(bed: &Bed, second: &str, keys: u32) {
    let count = |node: &str, what: &str| {
        number_at(
            node,
            &format!("SELECT count({what} request) AS n FROM journal"),
        )
    };
    let keys = i64::from(keys);
    for node in [bed.url(), second] {
        let has_all = || (count(node, "DISTINCT"), count(node, "")) == (keys, keys);
        eventually("each key is done once", has_all);
    }
}

/// Each attempt that has failed was refused by the cluster, which has undone it.
fn assert_refused(report: &Report<u32, Error>) {
    for failure in &report.failures {
        let fault = failure.fault.expect("of the database");
        assert!(is_refusal(fault), "{report:#?}");
    }
}

#[scenario]
async fn of_two_nodes_at_once_one_does_it_and_both_have_its_answer() {
    let (_cluster, bed, second) = two_nodes();
    let (ledger, runner) = (Ledger::new(), Runner::default());
    // Where the ROLLBACK is refused as well, and again, it takes another connection.
    let [one, other] = [bed.url(), &second].map(|url| Pool::of(url, 1, PATIENCE));
    let mut done_by_both = 0;
    for number in 0..KEYS {
        let (key, runs) = (number.to_string(), AtomicU32::new(0));
        let pay = runner.operation("pay").ledger(&ledger);
        let pay = pay.idempotency_key(&key).answer();
        let both = together(
            async || {
                let work = async |conn: &mut Conn| work(conn, number, &runs).await;
                pay.run_on_report(&one, work).await
            },
            async || {
                let work = async |conn: &mut Conn| work(conn, number, &runs).await;
                pay.run_on_report(&other, work).await
            },
        )
        .await;
        let reports: [Report<u32, Error>; 2] = both.into();
        let [one, other] = &reports;
        assert!(
            one.result.is_ok() && one.result == other.result,
            "{reports:#?}"
        );
        assert_ne!(one.replayed, other.replayed, "{reports:#?}");
        assert!(reports.iter().all(|it| it.outcome == Outcome::Committed));
        reports.iter().for_each(assert_refused);
        done_by_both += u32::from(runs.into_inner() > 1);
    }
    assert!(done_by_both > 0, "they have never met");
    check(&bed, &second, KEYS);
}

/// The second node does not have the key of a call that has ended, because it still applies what came before it.
#[scenario]
async fn a_node_that_lags_behind_does_not_do_it_again() {
    const KEYS: u32 = 3;
    let (_cluster, bed, second) = two_nodes_and_much_to_do();
    let (ledger, runner) = (Ledger::new(), Runner::default());
    let [one, other] = [bed.url(), &second].map(|url| Pool::of(url, 1, PATIENCE));
    let mut lagged = 0;
    for number in 0..KEYS {
        let (key, runs) = (number.to_string(), AtomicU32::new(0));
        let pay = runner.operation("pay").ledger(&ledger);
        let pay = pay.idempotency_key(&key).answer();
        let paid = pay.run_on(&one, async |conn: &mut Conn| {
            let run = work(conn, number, &runs).await?;
            bed.opponent().execute("UPDATE large SET n = n + 1");
            QueryResult::Ok(run)
        });
        assert_eq!(paid.await, Ok(0));
        let work = async |conn: &mut Conn| work(conn, number, &runs).await;
        let report = pay.run_on_report(&other, work).await;
        assert_refused(&report);
        assert_eq!(report.result, Ok(0), "{report:#?}");
        assert!(report.replayed, "{report:#?}");
        lagged += u32::from(runs.into_inner() > 1);
    }
    assert!(lagged > 0, "it had each key");
    check(&bed, &second, KEYS);
}
