//! A pool of a single connection hands it out again with every setting that it had before, however
//! an operation on it ended.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::RetryPolicy;
use dbop_tests::InstantClock;
use diesel::QueryResult;

use super::money::{balance, insert};
use super::sessions::{Trouble, assert_unchanged, operations, runners, session, sessions};
use super::{
    Bed, Conn, Connection as _, Operation, Runner, SimpleConnection as _, backend, caught, helper,
    scenario,
};

#[scenario]
async fn the_next_one_gets_it_as_it_was() {
    let bed = Bed::of(1);
    // It is the same one: another one would not have these.
    bed.connect()
        .batch_execute(sessions()[1])
        .await
        .expect("it can be set");
    let before = session(&mut bed.connect()).await;
    let policy = RetryPolicy::new().with_max_retries(1);
    let all = runners(&Runner::new(policy).with_clock(InstantClock::new()));
    for runner in all {
        for operation in operations(&runner) {
            let what = format!("{operation:?}");
            let done: Result<i64, Trouble> = operation
                .run(&mut bed.connect(), async |conn: &mut Conn| {
                    Ok(balance(conn, 1).await?)
                })
                .await;
            drop(done);
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let failed: Result<usize, Trouble> = operation
                .run(&mut bed.connect(), async |conn: &mut Conn| {
                    Ok(insert(conn, 1).await?)
                })
                .await;
            failed.expect_err("a unique violation");
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let own: Result<(), Trouble> = operation
                .run(&mut bed.connect(), async |_: &mut Conn| Err(Trouble::Own))
                .await;
            own.expect_err("as it says");
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let in_vain: Result<(), Trouble> = operation
                .run(&mut bed.connect(), async |_: &mut Conn| Err(Trouble::Again))
                .await;
            in_vain.expect_err("as it says");
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let mut conn = bed.connect();
            let panicked = caught(async || {
                let never: Result<(), Trouble> = operation
                    .run(&mut conn, async |_: &mut Conn| panic!("in the operation"))
                    .await;
                never
            })
            .await;
            assert!(!matches!(panicked, Ok(Ok(()))));
            drop(conn);
            assert_unchanged(&mut bed.connect(), &before, &what).await;

            let bodies = AtomicU32::new(0);
            let again: Result<i64, Trouble> = operation
                .run(&mut bed.connect(), async |conn: &mut Conn| {
                    match bodies.fetch_add(1, Ordering::Relaxed) {
                        0 => Err(Trouble::Again),
                        _ => Ok(balance(conn, 1).await?),
                    }
                })
                .await;
            drop(again);
            assert_unchanged(&mut bed.connect(), &before, &what).await;

            let nested: Result<(), Trouble> = runner
                .run(&mut bed.connect(), async |conn: &mut Conn| {
                    steps(conn, &operation).await;
                    Ok(())
                })
                .await;
            drop(nested);
            assert_unchanged(&mut bed.connect(), &before, &what).await;
            let in_the_callers: QueryResult<()> = bed
                .connect()
                .transaction(async |conn: &mut Conn| {
                    conn.batch_execute(own_setting()).await?;
                    steps(conn, &operation).await;
                    Ok(())
                })
                .await;
            in_the_callers.expect("it goes on");
            assert_unchanged(&mut bed.connect(), &before, &what).await;
        }
    }
}

/// One that is kept and one that is undone.
#[helper]
async fn steps(conn: &mut Conn, operation: &Operation<'_>) {
    let released: Result<i64, Trouble> = operation
        .run(conn, async |conn: &mut Conn| Ok(balance(conn, 1).await?))
        .await;
    drop(released);
    let rolled_back: Result<(), Trouble> = operation
        .run(conn, async |_: &mut Conn| Err(Trouble::Own))
        .await;
    rolled_back.expect_err("as it says");
}

/// What the caller sets for his transaction alone, where there is such a thing.
fn own_setting() -> &'static str {
    match backend::BACKEND {
        "postgresql" => "SET LOCAL lock_timeout = '7s'; SET LOCAL statement_timeout = '70s'",
        _ => "SELECT 1",
    }
}
