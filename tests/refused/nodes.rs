//! Two servers as one source, on each kind of source: one of them is killed, or takes no writes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Fit, Nodes, Order, Outcome, Report};
use dbop_tests::InstantClock;
use diesel::result::Error;
use diesel::sql_query;

use super::{Conn, RunQueryDsl as _, Runner, helper, impatient};
use crate::everywhere::Happens;

/// Who has failed rests for longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

/// One of them ends while operations take their turns on both. From then on the other one has them all,
/// at the cost of one attempt to connect.
#[helper]
pub(crate) async fn one_of_them_ends(urls: [String; 2], end: Happens) {
    let nodes = Nodes::new(urls.map(|url| impatient(&url)))
        .with_order(Order::RoundRobin)
        .with_fit(Fit::TakesWrites)
        .with_back_off(LONG, LONG);
    let runner = Runner::default().with_clock(InstantClock::new());
    let (mut attempts, mut asked) = (0, 0);
    for operation in 0..40 {
        if operation == 10 {
            asked = nodes.status()[0].asked;
            end();
        }
        let report: Report<usize, Error> = runner
            .run_on_report(&nodes, async |conn: &mut Conn| {
                let write = "INSERT INTO written (n) VALUES (1)";
                sql_query(write).execute(conn).await
            })
            .await;
        assert_eq!(
            report.outcome,
            Outcome::Committed,
            "{operation}: {report:?}"
        );
        attempts += report.attempts;
    }
    let [ended, other] = nodes.status()[..] else {
        panic!("two nodes");
    };
    // A pool may hold a connection that has ended with its server.
    assert!(attempts <= 42, "{attempts}");
    assert!((1..=2).contains(&(ended.asked - asked)), "{ended:?}");
    assert_eq!((ended.failures, other.failures), (1, 0));
    assert!(asked == 5 && other.asked >= 35, "{other:?}");
}

/// The first one takes no writes: no body ever runs there.
#[helper]
pub(crate) async fn one_of_them_takes_no_writes(urls: [String; 2]) {
    let nodes = Nodes::new(urls.map(|url| impatient(&url)))
        .with_fit(Fit::TakesWrites)
        .with_back_off(LONG, LONG);
    let bodies = AtomicU32::new(0);
    for _ in 0..10 {
        let report: Report<usize, Error> = Runner::default()
            .run_on_report(&nodes, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                let write = "INSERT INTO written (n) VALUES (1)";
                sql_query(write).execute(conn).await
            })
            .await;
        assert_eq!(report.result, Ok(1), "{report:?}");
        assert_eq!(report.attempts, 1);
    }
    let [reads, writes] = nodes.status()[..] else {
        panic!("two nodes");
    };
    assert_eq!(bodies.into_inner(), 10);
    assert_eq!((reads.asked, reads.failures), (1, 1));
    assert_eq!((writes.asked, writes.failures), (10, 0));
    assert!(writes.is_current);
}
