//! A standby takes no writes until it is promoted, as after a failover: another connection is tried,
//! slowly, and what it has refused is undone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Code, FaultClass, IsolationLevel, Ledger, Outcome, StopReason};
use dbop_tests::Meanwhile;
use diesel::QueryResult;
use diesel::connection::SimpleConnection as _;
use diesel::result::Error;
use diesel::sql_query;

use super::{Conn, Connection as _, RunQueryDsl, Runner, helper};
use crate::Bed;

#[helper]
async fn execute(conn: &mut Conn, sql: &str) -> QueryResult<usize> {
    sql_query(sql).execute(conn).await
}

const PAY: &str = "UPDATE accounts SET balance = balance + 10 WHERE id = 1";

/// The server is a standby now, and is promoted by this.
#[helper]
pub(crate) async fn another_connection_is_tried(bed: Arc<Bed>) {
    let ledger = Ledger::new();
    let connect = async || Conn::establish(bed.url()).await;
    let runner = Runner::default();
    let operation = runner.operation("refused").max_retries(0);
    let serializable = operation.isolation(IsolationLevel::Serializable);
    let pay = async |conn: &mut Conn| execute(conn, PAY).await;
    let lock = async |conn: &mut Conn| execute(conn, "LOCK TABLE accounts IN EXCLUSIVE MODE").await;
    for (report, code) in [
        (operation.run_on_report(&connect, pay).await, "25006"),
        (operation.run_on_report(&connect, lock).await, "25006"),
        (serializable.run_on_report(&connect, pay).await, "0A000"),
        (
            operation.ledger(&ledger).run_on_report(&connect, pay).await,
            "25006",
        ),
    ] {
        let error: Error = report.result.expect_err("it takes no writes");
        let fault = report.failures[0].fault.expect("of the database");
        assert_eq!(fault.class(), FaultClass::ReadOnlyServer, "{error}");
        let state = match fault.code() {
            Some(Code::SqlState(state)) => state.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(state, code);
        assert_eq!(report.outcome, Outcome::Undone);
        assert_eq!(report.stop, StopReason::RetriesExhausted);
    }

    let promoted = bed.clone();
    let clock = Meanwhile::new(move |sleep| {
        if sleep == 2 {
            let promote = "SELECT pg_promote()";
            promoted
                .connect()
                .batch_execute(promote)
                .expect("a standby");
        }
    });
    let (bodies, connections) = (AtomicU32::new(0), AtomicU32::new(0));
    let report = Runner::default()
        .with_clock(clock.clone())
        .operation("pay")
        .run_on_report(
            &async || {
                connections.fetch_add(1, Ordering::Relaxed);
                Conn::establish(bed.url()).await
            },
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                execute(conn, PAY).await
            },
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, report.outcome), (3, Outcome::Committed));
    let counted = [bodies, connections].map(AtomicU32::into_inner);
    assert_eq!(counted, [3, 3], "a new connection for each attempt");
    let slowly = |delay: &Duration| *delay >= Duration::from_millis(500);
    assert!(clock.slept().iter().all(slowly), "{:?}", clock.slept());
    assert_eq!(bed.balances()[0], (1, 110));
}
