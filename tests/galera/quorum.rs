//! A node that has lost the quorum answers everything with 1047, COMMIT and ROLLBACK too, and keeps
//! the transaction open: committed on the same connection later, it would be there (measured). So
//! what it refuses to commit is undone if the connection is thrown away, and it is, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Code, Dialect, FaultClass, Fit, Ledger, Nodes, Outcome, Report, StopReason};
use dbop_tests::{Meanwhile, TestPool as _, blocking, is_unknown};
use diesel::result::Error;
use diesel::sql_query;

use super::{Bed, Conn, Pool, RunQueryDsl, Runner, SimpleConnection as _, helper, scenario};
use crate::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(5);

#[helper]
async fn pay(conn: &mut Conn) -> diesel::QueryResult<usize> {
    let pay = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";
    sql_query(pay).execute(conn).await
}

/// A clock in whose second sleep the node is ready again. The first one takes place without a
/// quorum, so that the attempt after it is refused as it begins.
fn until_ready(pool: &Pool) -> Arc<Meanwhile> {
    let pool = pool.clone();
    Meanwhile::new(move |sleep| {
        assert_eq!(pool.connections(), 0, "in sleep {sleep}");
        if sleep == 2 {
            Cluster::bootstrap();
        }
    })
}

/// Refused once after the body had begun, and once before that.
fn assert_done_again(report: &Report<usize, Error>, bodies: u32, clock: &Meanwhile) {
    assert_eq!(report.result, Ok(1), "{report:#?}");
    assert_eq!((report.attempts, report.outcome), (3, Outcome::Committed));
    assert_eq!(bodies, 2);
    assert_eq!(report.failures.len(), 2);
    for failure in &report.failures {
        let fault = failure.fault.expect("of the database");
        assert_eq!(fault.class(), FaultClass::ServerUnavailable);
        assert_eq!(fault.code(), Some(Code::Errno(1047)));
    }
    let slept = clock.slept();
    let slowly = |delay: &Duration| *delay >= Duration::from_millis(500);
    assert!(slept.len() == 2 && slept.iter().all(slowly), "{slept:?}");
}

/// Work in which the quorum is lost, and something after that.
#[helper]
async fn is_done_again(after: Option<&str>) {
    let (cluster, bed) = (Cluster::new(), Bed::new());
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let clock = until_ready(&pool);
    let bodies = AtomicU32::new(0);
    let report: Report<usize, Error> = Runner::default()
        .with_clock(clock.clone())
        .run_on_report(&pool, async |conn: &mut Conn| {
            let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
            let paid = pay(conn).await?;
            if is_first {
                cluster.lose_quorum();
                if let Some(sql) = after {
                    conn.batch_execute(sql).await?;
                }
            }
            Ok(paid)
        })
        .await;
    assert_done_again(&report, bodies.into_inner(), &clock);
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn a_statement_that_is_refused_is_done_again_elsewhere() {
    is_done_again(Some("UPDATE accounts SET balance = 0")).await;
}

#[scenario]
async fn what_is_refused_at_commit_is_undone_and_done_again() {
    is_done_again(None).await;
}

/// Without another attempt, too, the connection with the open transaction is gone: nobody can
/// commit it when the node is ready again.
#[scenario]
async fn the_connection_leaves_the_pool_with_its_open_transaction() {
    let (cluster, bed) = (Cluster::new(), Bed::new());
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let report: Report<usize, Error> = Runner::default()
        .operation("pay")
        .max_retries(0)
        .run_on_report(&pool, async |conn: &mut Conn| {
            let paid = pay(conn).await?;
            cluster.lose_quorum();
            Ok(paid)
        })
        .await;
    report.result.expect_err("refused");
    assert_eq!(
        (report.stop, report.outcome),
        (StopReason::RetriesExhausted, Outcome::Undone)
    );
    assert_eq!(pool.connections(), 0);
    Cluster::bootstrap();
    // It holds no lock any more.
    bed.opponent()
        .execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    assert_eq!(bed.balances()[0], (1, 101));
}

/// The quorum is lost while the node waits for the other member to agree: 1180, after some seconds,
/// which does not say what became of it. The ledger does.
#[scenario]
async fn what_became_of_a_commit_in_which_the_quorum_was_lost_the_ledger_tells() {
    for has_ledger in [false, true] {
        let (cluster, bed) = (Cluster::new(), Bed::new());
        bed.opponent()
            .execute(&Ledger::new().create_table(Dialect::Mysql));
        let pool = Pool::of(bed.url(), 1, PATIENCE);
        let (bodies, ledger) = (AtomicU32::new(0), Ledger::new());
        let clock = Meanwhile::new(|sleep| {
            if sleep == 1 {
                Cluster::bootstrap();
            }
        });
        let body = async |conn: &mut Conn| {
            let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
            let paid = pay(conn).await?;
            if is_first {
                blocking(|| cluster.halt_arbitrator());
            }
            Ok(paid)
        };
        let runner = Runner::default().with_clock(clock);
        let operation = runner.operation("pay");
        let report: Report<usize, Error> = if has_ledger {
            operation.ledger(&ledger).run_on_report(&pool, body).await
        } else {
            operation.run_on_report(&pool, body).await
        };
        if has_ledger {
            assert_eq!(report.result, Ok(1), "{report:#?}");
            assert_eq!(report.outcome, Outcome::Committed);
            assert_eq!(bed.balances()[0], (1, 110));
        } else {
            let error = report.result.expect_err("nobody knows");
            assert!(is_unknown(&error), "{error:?}");
            assert_eq!((report.outcome, report.attempts), (Outcome::Unknown, 1));
        }
    }
}

/// A node without a quorum is seen before any work is sent there.
#[scenario]
async fn it_gets_no_work_from_nodes_that_have_to_take_writes() {
    let (cluster, bed) = (Cluster::new(), Bed::new());
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let bodies = AtomicU32::new(0);
    for has_quorum in [true, false] {
        if !has_quorum {
            cluster.lose_quorum();
        }
        let nodes = Nodes::new([pool.clone()]).with_fit(Fit::TakesWrites);
        let report: Report<usize, Error> = Runner::default()
            .operation("pay")
            .max_retries(0)
            .run_on_report(&nodes, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                pay(conn).await
            })
            .await;
        assert_eq!(report.result.is_ok(), has_quorum, "{report:?}");
        assert_eq!(nodes.status()[0].failures, u32::from(!has_quorum));
        if !has_quorum {
            let fault = report.failures[0].fault.expect("of the node");
            assert!(fault.class().is_transient(), "{fault:?}");
        }
    }
    assert_eq!(bodies.into_inner(), 1);
}
