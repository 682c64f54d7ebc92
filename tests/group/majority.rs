//! A member that has lost the majority takes statements, and its COMMIT waits: for ever by default, and in these tests
//! until it leaves the group, two seconds after it has noticed. Then it does not say what became of the COMMIT.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Code, Dialect, FaultClass, Fit, Ledger, Nodes, Outcome, Report};
use dbop_tests::{Meanwhile, TestPool as _, blocking, is_unknown};
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;

use super::{Bed, Conn, Pool, RunQueryDsl as _, Runner, helper, scenario, together};
use crate::cluster::{Cluster, Halted, OTHERS, Primaries};

const PATIENCE: Duration = Duration::from_secs(5);

#[helper]
async fn pay(conn: &mut Conn, account: u32) -> QueryResult<usize> {
    let pay = format!("UPDATE accounts SET balance = balance + 10 WHERE id = {account}");
    sql_query(pay).execute(conn).await
}

/// It is seen before any work is sent there, by an account that may look at nothing but its own tables.
#[scenario]
async fn a_member_without_a_majority_gets_no_work() {
    let (cluster, bed) = (Cluster::alone(Primaries::Multi), Bed::new());
    let waits = cluster.wait_without_a_majority();
    let pool = Pool::of(&bed.url_of_a_user_with_one_connection(), 1, PATIENCE);
    let mut halted = None;
    let mut bodies = 0;
    for has_majority in [true, false, true] {
        if has_majority {
            drop(halted.take());
            cluster.wait_for_agreement();
        } else {
            halted = Some(Halted::new(&OTHERS));
            cluster.wait_for_silence();
        }
        let nodes = Nodes::new([pool.clone()]).with_fit(Fit::TakesWrites);
        let runs = AtomicU32::new(0);
        let report: Report<usize, Error> = Runner::default()
            .operation("pay")
            .max_retries(0)
            .run_on_report(&nodes, async |conn: &mut Conn| {
                runs.fetch_add(1, Ordering::Relaxed);
                pay(conn, 1).await
            })
            .await;
        assert_eq!(report.result.is_ok(), has_majority, "{report:?}");
        assert_eq!(nodes.status()[0].failures, u32::from(!has_majority));
        bodies += runs.into_inner();
        if !has_majority {
            let fault = report.failures[0].fault.expect("of the node");
            assert!(fault.class().is_transient(), "{fault:?}");
        }
    }
    assert_eq!(bodies, 2);
    assert_eq!(bed.balances()[0], (1, 120));
    drop(waits);
}

/// 3100, which does not say what became of it. The ledger does.
#[scenario]
async fn what_became_of_a_commit_without_a_majority_the_ledger_tells() {
    let (_cluster, bed) = (Cluster::alone(Primaries::Multi), Bed::new());
    bed.opponent()
        .execute(&Ledger::new().create_table(Dialect::Mysql));
    let pool = Pool::of(bed.url(), 2, PATIENCE);
    let (ledger, kills) = (Ledger::new(), Once::new());
    let kill = || kills.call_once(Cluster::kill_others);
    let clock = Meanwhile::new(|sleep| {
        if sleep == 1 {
            Cluster::bootstrap();
        }
    });
    let runner = Runner::default().with_clock(clock);
    let (bodies, others) = (AtomicU32::new(0), AtomicU32::new(0));
    let (known, unknown): (Report<usize, Error>, Report<usize, Error>) = together(
        async || {
            let body = async |conn: &mut Conn| {
                let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
                let paid = pay(conn, 1).await?;
                if is_first {
                    blocking(kill);
                }
                Ok(paid)
            };
            let operation = runner.operation("pay").ledger(&ledger);
            operation.run_on_report(&pool, body).await
        },
        async || {
            let body = async |conn: &mut Conn| {
                others.fetch_add(1, Ordering::Relaxed);
                let paid = pay(conn, 2).await?;
                blocking(kill);
                Ok(paid)
            };
            runner.operation("pay").run_on_report(&pool, body).await
        },
    )
    .await;
    for report in [&known, &unknown] {
        let fault = report.failures[0].fault.expect("of the member");
        assert_eq!(fault.class(), FaultClass::OutcomeUnknown, "{report:#?}");
        assert_eq!(fault.code(), Some(Code::Errno(3100)), "{report:#?}");
    }
    assert_eq!(known.result, Ok(1), "{known:#?}");
    assert_eq!((known.outcome, known.attempts), (Outcome::Committed, 2));
    assert_eq!(bodies.into_inner(), 2);
    let error = unknown.result.expect_err("the member does not know");
    assert!(is_unknown(&error), "{error:?}");
    assert_eq!((unknown.outcome, unknown.attempts), (Outcome::Unknown, 1));
    assert_eq!(others.into_inner(), 1);
    assert_eq!(bed.balances()[..2], [(1, 110), (2, 100)]);
}
