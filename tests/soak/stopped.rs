//! A server that has stopped without a word, as one whose disk hangs: its system still acknowledges what is sent to
//! it, so no option of a connection notices. The deadline does, in the async adapter.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dbop_diesel::{Ledger, OperationError as _, Outcome, Report, StopReason};
use dbop_tests::server::{Halted, Server};
use dbop_tests::{eventually, is_unknown};
use diesel::connection::SimpleConnection as _;
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::{Conn, Connection as _, RunQueryDsl as _, Runner};
use crate::{Bed, backend};

const DEADLINE: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(500);

async fn pay(conn: &mut Conn) -> QueryResult<usize> {
    let pay = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";
    sql_query(pay).execute(conn).await
}

fn runner() -> Runner {
    Runner::default().with_grace_period(GRACE)
}

/// It has waited for an answer, and for not much longer than it may.
fn assert_waited(started: Instant, most: Duration) {
    let took = started.elapsed();
    assert!(took >= DEADLINE, "{took:?}");
    assert!(took < most + Duration::from_secs(2), "{took:?}");
}

/// The connection is thrown away, and the work is undone as soon as the server works again.
fn assert_undone(report: &Report<usize, Error>, bed: &Bed) {
    assert_eq!(report.outcome, Outcome::Undone, "{report:?}");
    assert_eq!(report.stop, StopReason::DeadlineExceeded);
    assert_eq!(report.attempts, 1);
    // Who has to wait for a lock would see that it is still held.
    bed.opponent()
        .execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    assert_eq!(bed.balances()[0], (1, 101));
}

/// In a statement of the body, and in one of an operation nested in it.
pub(crate) async fn a_statement_is_cut_off(server: Arc<Server>) {
    for is_nested in [false, true] {
        let bed = Bed::new();
        let (runner, started) = (runner(), Instant::now());
        let halted = Mutex::new(None);
        let report = runner
            .operation("pay")
            .deadline(DEADLINE)
            .run_on_report(
                &async || Conn::establish(bed.url()).await,
                async |conn: &mut Conn| {
                    pay(conn).await?;
                    *halted.lock().expect("no panic") = Some(server.halt());
                    match is_nested {
                        true => runner.run(conn, pay).await,
                        false => pay(conn).await,
                    }
                },
            )
            .await;
        assert_waited(started, DEADLINE + GRACE);
        report.result.as_ref().expect_err("it has not answered");
        drop(halted.into_inner());
        assert_undone(&report, &bed);
    }
}

/// On a connection of the caller, which is of no use after that.
pub(crate) async fn the_beginning_is_cut_off(server: Arc<Server>) {
    let bed = Bed::new();
    let mut conn = Conn::establish(bed.url()).await.expect("a connection");
    let bodies = AtomicU32::new(0);
    let halted = server.halt();
    let started = Instant::now();
    let body = async |conn: &mut Conn| {
        bodies.fetch_add(1, Ordering::Relaxed);
        pay(conn).await
    };
    let runner = runner();
    let operation = runner.operation("pay").deadline(DEADLINE);
    let report = operation.run_report(&mut conn, body).await;
    assert_waited(started, DEADLINE + GRACE);
    drop(halted);
    assert_undone(&report, &bed);
    let after: QueryResult<usize> = runner.run(&mut conn, body).await;
    let refused = matches!(after, Err(Error::BrokenTransactionManager));
    assert!(refused, "{after:?}");
    assert_eq!(bodies.into_inner(), 0);
}

/// The server has the COMMIT, and carries it out as soon as it works again.
pub(crate) async fn a_commit_that_is_cut_off_is_unknown(server: Arc<Server>) {
    let bed = Bed::new();
    let (runner, started) = (runner(), Instant::now());
    let halted = Mutex::new(None);
    let report: Report<usize, Error> = runner
        .operation("pay")
        .deadline(DEADLINE)
        .run_on_report(
            &async || Conn::establish(bed.url()).await,
            async |conn: &mut Conn| {
                let paid = pay(conn).await;
                *halted.lock().expect("no panic") = Some(server.halt());
                paid
            },
        )
        .await;
    assert_waited(started, DEADLINE + GRACE);
    let error = report.result.expect_err("it has not answered");
    assert!(is_unknown(&error), "{error:?}");
    assert_eq!(report.outcome, Outcome::Unknown);
    drop(halted.into_inner());
    eventually("the COMMIT is carried out", || {
        bed.balances()[0] == (1, 110)
    });
}

/// The ledger asks about it, on another connection, for as long as the grace period.
pub(crate) async fn the_ledger_knows_what_became_of_it(server: Arc<Server>) {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .expect("a new table");
    let (ledger, connections) = (Ledger::new(), AtomicU32::new(0));
    let halted = Mutex::new(None::<Halted>);
    let runner = Runner::default().with_grace_period(Duration::from_secs(5));
    let started = Instant::now();
    let report: Report<usize, Error> = runner
        .operation("pay")
        .deadline(DEADLINE)
        .ledger(&ledger)
        .run_on_report(
            &async || {
                if connections.fetch_add(1, Ordering::Relaxed) > 0 {
                    drop(halted.lock().expect("no panic").take());
                }
                Conn::establish(bed.url()).await
            },
            async |conn: &mut Conn| {
                let paid = pay(conn).await;
                *halted.lock().expect("no panic") = Some(server.halt());
                paid
            },
        )
        .await;
    assert_waited(started, DEADLINE + 2 * Duration::from_secs(5));
    assert!(connections.into_inner() > 1, "it has asked");
    match report.outcome {
        Outcome::Committed => assert_eq!(report.result, Ok(1)),
        Outcome::Undone => {
            let error = report.result.expect_err("undone");
            assert!(error.dbop_error().is_none(), "{error:?}");
        }
        outcome => panic!("{outcome:?}"),
    }
    let paid = i64::from(report.outcome == Outcome::Committed);
    assert_eq!(bed.balances()[0], (1, 100 + 10 * paid));
}
