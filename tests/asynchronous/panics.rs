//! A panic in an operation is rolled back, or the connection is discarded, and then goes on as it
//! was: in a spawned task, out of a pool, and when something else panics while a run is under way.

use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, Ordering};

use dbop_diesel_async::{Runner, SupportedConnection};
use dbop_tests::asynchronous::{Moment, caught, depth, dropped_when, refuses};
use diesel::QueryResult;
use diesel_async::pooled_connection::{bb8, deadpool};

use super::money::{add, balance, share_out};
use super::pools::Pool;
use super::{Bed, Conn, Db, run};

/// A payload that is no text.
#[derive(Debug, PartialEq)]
struct Payload(u32);

/// Two levels deep, after some statements on each.
async fn panics<C: SupportedConnection<Backend = Db>>(conn: &mut C) -> QueryResult<()> {
    let runner = Runner::default();
    runner
        .run(conn, async |conn: &mut C| {
            share_out(conn).await?;
            runner
                .run(conn, async |conn: &mut C| {
                    add(conn, 1, -1).await?;
                    panic_any(Payload(4711))
                })
                .await
        })
        .await
}

#[test]
fn it_is_rolled_back_and_has_its_payload() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let payload = caught(panics(&mut conn)).await.expect_err("a panic");
        assert_eq!(payload.downcast_ref(), Some(&Payload(4711)));
        assert_eq!(depth(&mut conn), Some(0));
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        let result = Runner::default().run(&mut conn, share_out::<Conn>).await;
        assert_eq!(result, Ok(()));
        assert_eq!(bed.balances(), [(1, 90), (2, 104), (3, 106)]);
    });
}

#[test]
fn a_spawned_task_ends_with_it_and_deadpool_stays_usable() {
    run(a_pool_stays_usable::<deadpool::Pool<Conn>>());
}

#[test]
fn a_spawned_task_ends_with_it_and_bb8_stays_usable() {
    run(a_pool_stays_usable::<bb8::Pool<Conn>>());
}

async fn a_pool_stays_usable<P: Pool>() {
    let bed = Bed::new();
    let pool = P::of(&bed, 1).await;
    let mut conn = pool.checkout().await;
    let task = tokio::spawn(async move { panics(&mut conn).await });
    let payload = task.await.expect_err("a panic").into_panic();
    assert_eq!(payload.downcast_ref(), Some(&Payload(4711)));

    let mut conn = pool.checkout().await;
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(balance(&mut conn, 1).await, Ok(100));
    let runner = Runner::default();
    assert_eq!(runner.run(&mut conn, share_out).await, Ok(()));
    bed.transactions_end().await;
    assert_eq!(bed.balances(), [(1, 90), (2, 104), (3, 106)]);
}

/// The run is dropped by a panic that is not its own.
#[test]
fn a_panic_of_somebody_else_in_the_task_keeps_nothing_either() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let session = Bed::session_id(&mut conn).await;
        let is_in_body = AtomicBool::new(false);
        let runner = Runner::default();
        let work = runner.run(&mut conn, async |conn: &mut Conn| {
            share_out(conn).await?;
            is_in_body.store(true, Ordering::Relaxed);
            std::future::pending::<QueryResult<()>>().await
        });
        let work = dropped_when(work, Moment::UnderWay, || {
            if is_in_body.load(Ordering::Relaxed) {
                panic_any(Payload(4712))
            }
            false
        });
        let payload = caught(work).await.expect_err("a panic");
        assert_eq!(payload.downcast_ref(), Some(&Payload(4712)));
        assert!(refuses(&mut conn));
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        drop(conn);
        bed.session_ends(session).await;
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    });
}
