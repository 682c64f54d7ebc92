//! Two nodes that take writes. The COMMIT goes to the first one and the question about it to the second, which
//! lags behind or is asked before the COMMIT arrives. What the question writes is certified by both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Dialect, Ledger, Outcome, Report};
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use dbop_tests::{Meanwhile, Number, blocking, eventually};
use diesel::result::Error;
use diesel::{ConnectionError, ConnectionResult, MysqlConnection, QueryResult, sql_query};

use super::{
    Bed, Conn, Connection as _, RunQueryDsl as _, Runner, SimpleConnection as _, helper, scenario,
};
use crate::cluster::{Cluster, LARGE, QUESTIONS};

/// How late a COMMIT arrives.
const LATE: Duration = Duration::from_secs(1);

/// In the ledger and among the accounts.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    done: i64,
    never: i64,
    balance: i64,
}

/// A number that a node has, asked by a session of its own.
pub(super) fn number_at(url: &str, sql: &str) -> i64 {
    let conn = <MysqlConnection as diesel::Connection>::establish(url);
    let row = diesel::RunQueryDsl::get_result(sql_query(sql), &mut conn.expect("a node"));
    let row: Number = row.expect("a number");
    row.n
}

/// What a node has.
fn seen(url: &str) -> Seen {
    let number = |sql| number_at(url, sql);
    Seen {
        done: number("SELECT count(*) AS n FROM dbop_ledger WHERE state = 1"),
        never: number("SELECT count(*) AS n FROM dbop_ledger WHERE state = 2"),
        balance: number("SELECT balance AS n FROM accounts WHERE id = 1"),
    }
}

/// A cluster with the tables that this takes, and the URL of the same database on the second node.
pub(super) fn two_nodes() -> (Cluster, Bed, String) {
    let (cluster, server) = Cluster::of_two_nodes();
    let bed = Bed::new();
    let second = bed.url_at(&server);
    let conn = bed.opponent();
    conn.execute(&Ledger::new().create_table(Dialect::Mysql));
    conn.execute(
        "CREATE TABLE journal (id BIGINT PRIMARY KEY AUTO_INCREMENT, request INT NOT NULL)",
    );
    conn.execute("CREATE TABLE large (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL)");
    conn.execute("INSERT INTO large (n) VALUES (0)");
    wait_for_rows(&second, 1);
    (cluster, bed, second)
}

/// The same where the second node can be kept busy.
pub(super) fn two_nodes_and_much_to_do() -> (Cluster, Bed, String) {
    let (cluster, bed, second) = two_nodes();
    let conn = bed.opponent();
    for _ in 0..LARGE.ilog2() {
        conn.execute("INSERT INTO large (n) SELECT n FROM large");
    }
    wait_for_rows(&second, LARGE);
    (cluster, bed, second)
}

fn wait_for_rows(second: &str, number: i64) {
    eventually("the second node has everything", || {
        let conn = <MysqlConnection as diesel::Connection>::establish(second);
        conn.is_ok_and(|mut conn| {
            let count = sql_query("SELECT count(*) AS n FROM large");
            let row: QueryResult<Number> = diesel::RunQueryDsl::get_result(count, &mut conn);
            row.is_ok_and(|row| row.n == number)
        })
    });
}

/// Pays on the first node, and asks with these words on the one that is `asked`. What it has to apply first is in its
/// way if it `lags`.
#[helper]
async fn pay(
    (proxy, asked, words): (&Proxy, &str, &str),
    (bed, clock): (&Bed, &Arc<Meanwhile>),
    (lags, retries): (bool, u32),
) -> (Report<usize, Error>, u32) {
    let (ledger, bodies, connections) = (Ledger::new(), AtomicU32::new(0), AtomicU32::new(0));
    let source = async || {
        let is_first = connections.fetch_add(1, Ordering::Relaxed) == 0;
        let mut conn = Conn::establish(if is_first { proxy.url() } else { asked }).await?;
        let told = conn.batch_execute(words).await;
        told.map_err(ConnectionError::CouldntSetupConfiguration)?;
        ConnectionResult::Ok(conn)
    };
    let report = Runner::default()
        .with_clock(clock.clone())
        .operation("pay")
        .max_retries(retries)
        .ledger(&ledger)
        .run_on_report(&source, async |conn: &mut Conn| {
            let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
            let pay = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";
            let paid = sql_query(pay).execute(conn).await?;
            if is_first && lags {
                bed.opponent().execute("UPDATE large SET n = n + 1");
            }
            Ok(paid)
        })
        .await;
    (report, bodies.into_inner())
}

/// What both nodes have in the end.
fn on_both(bed: &Bed, second: &str, expected: &Seen) {
    for node in [bed.url(), second] {
        eventually("the node has everything", || seen(node) == *expected);
    }
}

/// Each way to ask, without retries and with some.
fn cases() -> impl Iterator<Item = (&'static str, u32)> {
    QUESTIONS
        .iter()
        .flat_map(|words| [0, 5].map(|retries| (*words, retries)))
}

/// The "no" is committed before the COMMIT arrives, so that is refused on the first node as well.
#[scenario]
async fn a_commit_that_arrives_after_the_no_of_another_node_is_refused() {
    let (_cluster, bed, second) = two_nodes();
    for (words, retries) in cases() {
        let before = seen(bed.url());
        let proxy = Proxy::start(bed.url());
        let cut = proxy.cut(When::commit(), Cut::Late(Until::Released));
        let clock = Meanwhile::new(|_| {});
        let asked = (&proxy, &*second, words);
        let (report, bodies) = pay(asked, (&bed, &clock), (false, retries)).await;
        if retries == 0 {
            report.result.expect_err("not paid");
            assert_eq!((report.outcome, bodies), (Outcome::Undone, 1));
        } else {
            assert_eq!(report.result, Ok(1));
            assert_eq!((report.attempts, bodies), (2, 2));
        }
        cut.release();
        blocking(|| cut.wait_until_finished());
        let paid = i64::from(retries > 0);
        let expected = Seen {
            done: before.done + paid,
            never: before.never + 1,
            balance: before.balance + 10 * paid,
        };
        on_both(&bed, &second, &expected);
    }
}

/// The node of the COMMIT has the token already, and who asks waits for what becomes of that.
#[scenario]
async fn a_commit_that_arrives_while_its_own_node_is_asked_is_found() {
    let (_cluster, bed, second) = two_nodes();
    for (words, retries) in cases() {
        for cut in [Cut::Late(Until::Passed(LATE)), Cut::AnswerLost] {
            let before = seen(bed.url());
            let proxy = Proxy::start(bed.url());
            _ = proxy.cut(When::commit(), cut);
            let clock = Meanwhile::new(|_| {});
            let asked = (&proxy, bed.url(), words);
            let (report, bodies) = pay(asked, (&bed, &clock), (false, retries)).await;
            assert_eq!(report.result, Ok(1), "{cut:?}: {report:#?}");
            assert_eq!((report.attempts, bodies), (1, 1));
            let expected = Seen {
                done: before.done + 1,
                never: before.never,
                balance: before.balance + 10,
            };
            on_both(&bed, &second, &expected);
        }
    }
}

/// The second node does not have the token yet, so the question writes it; but its COMMIT is refused, and it is
/// asked again until the node has it.
#[scenario]
async fn a_node_that_lags_behind_does_not_say_no() {
    let (_cluster, bed, second) = two_nodes_and_much_to_do();
    let mut left: Vec<_> = cases().collect();
    let mut tries = 0;
    while let Some((words, retries)) = left.pop() {
        let before = seen(bed.url());
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), Cut::AnswerLost);
        let lagged = Arc::new(AtomicU32::new(0));
        let clock = {
            let (lagged, second, done) = (Arc::clone(&lagged), second.clone(), before.done);
            Meanwhile::new(move |_| {
                let lags = seen(&second).done == done;
                lagged.fetch_add(u32::from(lags), Ordering::Relaxed);
            })
        };
        let asked = (&proxy, &*second, words);
        let (report, bodies) = pay(asked, (&bed, &clock), (true, retries)).await;
        if lagged.load(Ordering::Relaxed) == 0 {
            // The second node had the token before it was looked at.
            left.push((words, retries));
        }
        tries += 1;
        assert!(tries < 40, "it never lags behind");
        assert_eq!(bodies, 1, "not done again");
        match report.outcome {
            Outcome::Committed => assert_eq!(report.result, Ok(1)),
            // A question that was refused is no answer, and there may be none left.
            Outcome::Unknown => assert!(retries == 0 || clock.slept().len() > 5),
            outcome => panic!("{outcome:?}"),
        }
        let expected = Seen {
            done: before.done + 1,
            never: 0,
            balance: before.balance + 10,
        };
        on_both(&bed, &second, &expected);
    }
}
