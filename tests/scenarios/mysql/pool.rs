//! What a pool of a single connection hands out next: the same session, as it was, or a fresh one
//! where the old one lost its transaction or its connection.

use std::time::Duration;

use diesel::QueryResult;
use diesel::result::Error;

use super::money::add;
use super::steps::{Session, assert_unchanged, lose_deadlock, session, session_id};
use super::{Bed, Conn, Connection as _, Runner, depth, helper, scenario};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

/// The session in the pool and what it is.
#[helper]
async fn pooled_session(bed: &Bed) -> (i64, Session) {
    let mut conn = bed.connect();
    (session_id(&mut conn).await, session(&mut conn).await)
}

#[scenario]
async fn the_next_user_gets_the_session_as_it_was() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let (id, before) = pooled_session(&bed).await;
    let operation = runner
        .operation("use")
        .lock_timeout(Duration::from_secs(3))
        .statement_timeout(Duration::from_secs(4));
    for fail in [false, true] {
        let result: QueryResult<usize> = operation
            .run(&mut bed.connect(), async |conn: &mut Conn| match fail {
                true => Err(Error::RollbackTransaction),
                false => add(conn, 1, 1).await,
            })
            .await;
        assert_eq!(result.is_err(), fail);
        let mut next = bed.connect();
        assert_eq!(
            session_id(&mut next).await,
            id,
            "a session is worth keeping"
        );
        assert_unchanged(&mut next, &before).await;
    }
}

#[scenario]
async fn after_a_deadlock_at_top_level_the_session_is_kept() {
    let bed = Bed::of(1);
    let id = session_id(&mut bed.connect()).await;
    let result: QueryResult<usize> = Runner::default()
        .operation("lose")
        .max_retries(0)
        .run(&mut bed.connect(), async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            lose_deadlock(conn, &bed).await
        })
        .await;
    result.expect_err("the victim");
    let mut next = bed.connect();
    assert_eq!(session_id(&mut next).await, id);
    assert_eq!(depth(&mut next), Some(0));
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn after_the_loss_of_a_callers_transaction_the_session_is_a_fresh_one() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let (id, before) = pooled_session(&bed).await;
    let result: QueryResult<usize> = bed
        .connect()
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    lose_deadlock(conn, &bed).await
                })
                .await;
            step.expect_err("the victim");
            add(conn, 3, 10).await
        })
        .await;
    result.expect_err("nothing to commit");
    let mut next = bed.connect();
    let new = session_id(&mut next).await;
    assert_ne!(new, id);
    assert_eq!(depth(&mut next), Some(0));
    let changes = before.changes(&session(&mut next).await);
    let own: Vec<_> = changes
        .iter()
        .filter(|change| {
            !NATURALLY_DIFFERENT
                .iter()
                .any(|name| change.starts_with(name))
        })
        .collect();
    assert!(own.is_empty(), "{own:?}");
    bed.wait_until_gone(id);
    assert_eq!(bed.balances(), UNTOUCHED);
    let done = runner
        .run(&mut next, async |conn: &mut Conn| add(conn, 2, 1).await)
        .await;
    assert_eq!(done, Ok(1));
}

/// What differs between any two sessions.
const NATURALLY_DIFFERENT: [&str; 2] = ["pseudo_thread_id", "rand_seed"];

#[scenario]
async fn a_killed_connection_is_replaced() {
    let bed = Bed::of(1);
    let runner = Runner::default();
    let id = session_id(&mut bed.connect()).await;
    let result: QueryResult<usize> = runner
        .run(&mut bed.connect(), async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            bed.kill(id);
            bed.wait_until_gone(id);
            add(conn, 2, 10).await
        })
        .await;
    result.expect_err("killed");
    let mut next = bed.connect();
    assert_ne!(session_id(&mut next).await, id);
    let done = runner
        .run(&mut next, async |conn: &mut Conn| add(conn, 3, 1).await)
        .await;
    assert_eq!(done, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 101)]);
}
