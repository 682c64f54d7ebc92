//! A member that has lost the majority takes statements, and its COMMIT waits: for ever by default.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Fit, Nodes, Report};
use dbop_tests::TestPool as _;
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::{Bed, Conn, Pool, RunQueryDsl as _, Runner, helper, scenario};
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
