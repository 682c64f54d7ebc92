//! Diesel's instrumentation sees what it sees of Diesel's own transactions: one begin and one
//! commit or rollback for each level, with the same depths.

use dbop_tests::Recorder;
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{insert, set};
use super::{Bed, Conn, Connection as _, Runner, scenario};

#[scenario]
async fn of_a_success_on_two_levels() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let seen = Recorder::default();
    conn.set_instrumentation(seen.clone());
    let bare: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            conn.transaction(async |conn: &mut Conn| set(conn, 1, 1).await)
                .await
        })
        .await;
    assert_eq!(bare, Ok(1));
    let expected = seen.take();
    assert_eq!(expected, ["begin 1", "begin 2", "commit 2", "commit 1"]);

    let runner = Runner::default();
    let ours: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| set(conn, 1, 2).await)
                .await
        })
        .await;
    assert_eq!(ours, Ok(1));
    assert_eq!(seen.take(), expected);
}

#[scenario]
async fn of_a_database_error_on_two_levels() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let seen = Recorder::default();
    conn.set_instrumentation(seen.clone());
    let bare: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            conn.transaction(async |conn: &mut Conn| insert(conn, 1).await)
                .await
        })
        .await;
    assert!(bare.is_err());
    let expected = seen.take();
    assert_eq!(expected, ["begin 1", "begin 2", "rollback 2", "rollback 1"]);

    let runner = Runner::default();
    let ours: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| insert(conn, 1).await)
                .await
        })
        .await;
    assert!(ours.is_err());
    assert_eq!(seen.take(), expected);
}

#[scenario]
async fn of_a_failed_step_in_the_callers_transaction() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let seen = Recorder::default();
    conn.set_instrumentation(seen.clone());
    let runner = Runner::default();
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            let failed: QueryResult<()> = runner
                .run(conn, async |_: &mut Conn| Err(Error::NotFound))
                .await;
            assert_eq!(failed, Err(Error::NotFound));
            runner
                .run(conn, async |conn: &mut Conn| {
                    set(conn, 1, 1).await?;
                    Ok(())
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(
        seen.take(),
        [
            "begin 1",
            "begin 2",
            "rollback 2",
            "begin 2",
            "commit 2",
            "commit 1"
        ]
    );
}

#[scenario]
async fn of_an_attempt_each() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let seen = Recorder::default();
    conn.set_instrumentation(seen.clone());
    let policy = dbop_diesel::RetryPolicy::new()
        .with_max_retries(1)
        .with_retry_on(dbop_diesel::FaultClass::Constraint);
    let result: QueryResult<usize> = Runner::new(policy)
        .with_clock(dbop_tests::InstantClock::new())
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    assert_eq!(
        seen.take(),
        ["begin 1", "rollback 1", "begin 1", "rollback 1"]
    );
}
