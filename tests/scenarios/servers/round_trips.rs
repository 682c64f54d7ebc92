//! Round trips, counted on the wire.

use std::sync::atomic::AtomicU32;

use dbop_diesel::Ledger;
use dbop_tests::Number;
use dbop_tests::proxy::Proxy;
use diesel::sql_query;

use super::cost::round_trips::{Asked, Course, Place, Wrong, assert_documented, bare, body, rows};
use super::proxy::through;
use super::{Bed, Conn, Connection as _, RunQueryDsl as _, SimpleConnection as _};
use super::{after_commit, backend, helper, scenario};

#[scenario]
async fn an_operation_takes_no_more_round_trips_than_a_bare_transaction() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = 50 WHERE id = 2");
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let taken = || {
        let count = proxy.round_trips();
        proxy.reset();
        count
    };
    let is_complete = !timeouts_end_transactions(&mut conn).await;
    let courses: &[Course] = match is_complete {
        true => &[Course::Success, Course::Again, Course::Locked],
        false => &[Course::Success, Course::Again],
    };
    let mut table = rows(&mut conn, &taken, courses).await;
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    table.push_str(&on_fresh_connections(&proxy).await);
    assert_documented(&table, is_complete);
}

/// Whether a server of MySQL's kind is set up so that a lock that is not had takes the whole
/// transaction along: then it takes more to find out what is left.
#[helper]
async fn timeouts_end_transactions(conn: &mut Conn) -> bool {
    if backend::READ_ONLY_IN_SAVEPOINT {
        return false;
    }
    let row: Number = sql_query("SELECT @@innodb_rollback_on_timeout AS n")
        .get_result(conn)
        .await
        .expect("a number");
    row.n == 1
}

/// The rows of operations that get their connections themselves. Both sides connect, and what a
/// client sends to set up its connection is counted for both.
#[helper]
async fn on_fresh_connections(proxy: &Proxy) -> String {
    let source = async || Conn::establish(proxy.url()).await;
    let runner = Asked::Default.runner();
    let operation = runner.operation("counted");
    let ledger = Ledger::new();
    let mut rows = String::new();
    for what in WAYS {
        proxy.reset();
        let mut conn = through(proxy).await;
        bare(&mut conn, Place::Top, Course::Success).await;
        drop(conn);
        let expected = proxy.round_trips();
        proxy.reset();
        let bodies = AtomicU32::new(0);
        let work = async |conn: &mut Conn| body(conn, Course::Success, &bodies).await;
        let result: Result<i64, Wrong> = match *what {
            WITH_LEDGER => operation.ledger(&ledger).run_on(&source, work).await,
            WITH_STATUS => operation.transaction_status().run_on(&source, work).await,
            _ => operation.run_on(&source, work).await,
        };
        assert_eq!(result.expect("committed"), 100);
        let count = proxy.round_trips();
        assert_eq!(count, expected + further(what), "{what}");
        rows.push_str(&format!("| {what} | | {expected} | {count} | | | | |\n"));
    }
    rows
}

/// The id is read by a query of its own, which is prepared once for each connection.
fn further(what: &str) -> u32 {
    match what {
        WITH_STATUS => 2,
        _ => 0,
    }
}

const WITH_LEDGER: &str = "run_on, ledger";
const WITH_STATUS: &str = "run_on, transaction_status";
const WAYS: &[&str] = match backend::READ_ONLY_IN_SAVEPOINT {
    true => &["run_on", WITH_LEDGER, WITH_STATUS],
    false => &["run_on", WITH_LEDGER],
};

#[scenario]
async fn hooks_take_no_round_trip() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let (attempt, committed) = (|_| {}, || {});
    let runner = Asked::Default.runner();
    let plain = runner.operation("counted");
    let hooked = plain
        .before_attempt(&attempt)
        .after_commit(&committed)
        .begin_with_sql("UPDATE accounts SET balance = balance + 1 WHERE id = 3");
    let mut counts = Vec::new();
    for operation in [plain, plain, hooked] {
        let bodies = AtomicU32::new(0);
        proxy.reset();
        let work = async |conn: &mut Conn| {
            after_commit(conn, async || {})?;
            body(conn, Course::Success, &bodies).await
        };
        let result: Result<i64, Wrong> = operation.run(&mut conn, work).await;
        assert_eq!(result.expect("committed"), 100);
        counts.push(proxy.round_trips());
    }
    assert_eq!(counts[2], counts[1]);
    assert_eq!(bed.balances()[2], (3, 101));
}
