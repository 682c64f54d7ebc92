//! A lock of another session on PostgreSQL.

use std::time::Duration;

use dbop_diesel::RetryPolicy;
use dbop_tests::InstantClock;
use diesel::QueryResult;

use super::money::add;
use super::{Bed, Conn, MODE, Runner, scenario};
use crate::seen;

#[scenario]
async fn a_lock_timeout_is_told_with_its_code() {
    seen::watch();
    let name = format!("locked {MODE}");
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 1");
    let mut conn = bed.connect();
    let result: QueryResult<usize> = Runner::new(RetryPolicy::new().with_max_retries(1))
        .with_clock(InstantClock::new())
        .operation(&name)
        .lock_timeout(Duration::from_millis(50))
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert!(result.is_err());
    let nodes = seen::of(&name);
    let root = &nodes[0].fields;
    assert_eq!(root["otel.kind"], "client");
    assert_eq!(root["db.system.name"], "postgresql");
    assert_eq!(root["db.response.status_code"], "55P03");
    assert_eq!(root["dbop.attempts"], "2");
    let retry = nodes.iter().find(|node| node.is("WARN event retry"));
    let retry = &retry.expect("a retry").fields;
    assert_eq!(retry["class"], "lock_timeout");
    assert_eq!(retry["code"], "55P03");
    assert_eq!(retry["phase"], "body");
}
