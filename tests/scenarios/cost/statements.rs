//! An operation costs what Diesel's own transaction costs: not one statement batch more. On SQLite the
//! sync adapter sends the statements of its own transaction one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::Dialect;
use diesel::QueryResult;
use diesel::connection::InstrumentationEvent;

use super::money::set;
use super::{Bed, Conn, Connection as _, MODE, Runner, backend, helper, scenario};

/// How many calls a batch of two statements takes beyond one.
pub(super) fn one_by_one() -> u32 {
    u32::from(backend::DIALECT == Dialect::Sqlite && MODE == "sync")
}

#[helper]
async fn update(conn: &mut Conn) -> QueryResult<usize> {
    set(conn, 1, 7).await
}

#[helper]
pub(crate) async fn bare(conn: &mut Conn) {
    conn.transaction(update).await.expect("committed");
}

#[helper]
pub(crate) async fn with_dbop(runner: &Runner, conn: &mut Conn) {
    runner.run(conn, update).await.expect("committed");
}

#[helper]
pub(crate) async fn bare_steps(conn: &mut Conn) {
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            conn.transaction(update).await?;
            conn.transaction(update).await
        })
        .await;
    result.expect("committed");
}

#[helper]
pub(crate) async fn steps_with_dbop(runner: &Runner, conn: &mut Conn) {
    let result: QueryResult<usize> = runner
        .run(conn, async |conn: &mut Conn| {
            runner.run(conn, update).await?;
            runner.run(conn, update).await
        })
        .await;
    result.expect("committed");
}

#[scenario]
async fn no_batch_that_diesel_does_not_send() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let sent = Arc::new(AtomicU32::new(0));
    let counter = sent.clone();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { .. } = event {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    bare(&mut conn).await;
    let expected = sent.swap(0, Ordering::Relaxed);
    assert_eq!(expected, 3, "BEGIN, UPDATE, COMMIT");
    with_dbop(&runner, &mut conn).await;
    assert_eq!(sent.swap(0, Ordering::Relaxed), expected + 2 * one_by_one());
    bare_steps(&mut conn).await;
    let expected = sent.swap(0, Ordering::Relaxed);
    steps_with_dbop(&runner, &mut conn).await;
    assert_eq!(sent.swap(0, Ordering::Relaxed), expected + 2 * one_by_one());
}
