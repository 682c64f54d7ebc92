//! A node of a Galera cluster that is not ready answers everything with 1047, ROLLBACK too, and keeps
//! the transaction open: its connection leaves the pool at once. Here an ordinary server raises that
//! error, for every kind of pool; a real node does in `tests/galera`.

use std::time::Duration;

use dbop_diesel::{Code, FaultClass, Outcome, Report, StopReason};
use dbop_tests::{Meanwhile, TestPool as _};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::add;
use super::steps::{Sessions, session_id};
use super::{Bed, Conn, Pool, Runner, SimpleConnection as _, helper, scenario};

const PATIENCE: Duration = Duration::from_secs(5);

#[helper]
async fn not_ready(conn: &mut Conn) -> QueryResult<()> {
    let signal = "SIGNAL SQLSTATE '08S01' SET MYSQL_ERRNO = 1047, \
                  MESSAGE_TEXT = 'WSREP has not yet prepared node for application use'";
    conn.batch_execute(signal).await
}

#[scenario]
async fn a_node_that_is_not_ready_is_left_for_another_one() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let seen = pool.clone();
    let clock = Meanwhile::new(move |_| assert_eq!(seen.connections(), 0));
    let sessions = Sessions::default();
    let report: Report<usize, Error> = Runner::default()
        .with_clock(clock.clone())
        .run_on_report(&pool, async |conn: &mut Conn| {
            let is_first = sessions.add(session_id(conn).await) == 1;
            let paid = add(conn, 1, 10).await?;
            if is_first {
                not_ready(conn).await?;
            }
            Ok(paid)
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, report.outcome), (2, Outcome::Committed));
    let fault = report.failures[0].fault.expect("of the database");
    assert_eq!(fault.class(), FaultClass::ServerUnavailable);
    assert_eq!(fault.code(), Some(Code::Errno(1047)));
    assert_ne!(sessions.all()[0], sessions.all()[1]);
    let slept = clock.slept();
    assert!(
        slept.len() == 1 && slept[0] >= Duration::from_millis(500),
        "{slept:?}"
    );
    assert_eq!(bed.balances()[0], (1, 110));
}

/// Without another attempt, too.
#[scenario]
async fn its_connection_leaves_the_pool_at_once() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let report: Report<(), Error> = Runner::default()
        .operation("pay")
        .max_retries(0)
        .run_on_report(&pool, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            not_ready(conn).await
        })
        .await;
    assert!(report.result.is_err());
    assert_eq!(
        (report.stop, report.outcome),
        (StopReason::RetriesExhausted, Outcome::Undone)
    );
    assert_eq!(pool.connections(), 0);
    assert_eq!(bed.balances()[0], (1, 100));
}
