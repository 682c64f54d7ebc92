//! A lost answer on demand: the ledger finds out what became of the COMMIT.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use dbop_diesel::testing::{Faults, Point};
use dbop_diesel::{FaultClass, Ledger, Outcome, RetryPolicy};

use super::ledger::with_table;
use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, scenario};

#[scenario]
async fn with_a_ledger_the_work_is_done_exactly_once() {
    for (is_done, attempts) in [(true, 1), (false, 2)] {
        let bed: Bed = with_table().await;
        let faults = Faults::new();
        match is_done {
            true => faults.operation("pay").lose_commit_answer(),
            false => faults
                .operation("pay")
                .fail(Point::Commit, FaultClass::ConnectionLost),
        }
        let ledger = Ledger::new();
        let bodies = AtomicU32::new(0);
        let policy = RetryPolicy::new().with_initial_delay(Duration::ZERO);
        let report = Runner::new(policy)
            .with_faults(&faults)
            .operation("pay")
            .ledger(&ledger)
            .run_on_report(
                &async || Conn::establish(bed.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Relaxed);
                    add(conn, 1, 10).await
                },
            )
            .await;
        assert_eq!(report.result, Ok(1));
        assert_eq!(report.outcome, Outcome::Committed);
        assert_eq!((report.attempts, bodies.into_inner()), (attempts, attempts));
        assert_eq!(bed.balances()[0], (1, 110), "once");
        assert!(faults.unmet().is_empty());
    }
}
