//! deadpool tells whether it had no room or the server did not answer. What the server may answer
//! next time is tried again.

use std::sync::Arc;
use std::time::Duration;

use dbop_diesel_async::{OperationError as _, Outcome, Runner, Split, StopReason};
use dbop_tests::Meanwhile;
use dbop_tests::asynchronous::eventually;
use dbop_tests::proxy::{Cut, Proxy, When};
use deadpool::Runtime;
use diesel::QueryResult;
use diesel_async::AsyncConnection as _;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};

use super::money::{add, balance};
use super::{Bed, Conn, run};

#[test]
fn a_server_that_does_not_answer_in_time_is_tried_again() {
    run(async {
        let bed = Bed::new();
        let proxy = Arc::new(Proxy::start(bed.url()));
        let pool = Pool::<Conn>::builder(AsyncDieselConnectionManager::new(proxy.url()))
            .max_size(1)
            .create_timeout(Some(Duration::from_millis(300)))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool");
        // The first thing that a new connection says.
        _ = proxy.cut(When::anything(), Cut::Stall);
        let stalls = proxy.clone();
        let clock = Meanwhile::new(move |_| stalls.resume());
        let report = Runner::default()
            .with_clock(clock.clone())
            .run_on_report(&pool, async |conn| add(conn, 1, 10).await)
            .await;
        assert_eq!(report.result, Ok(1));
        assert_eq!((report.attempts, report.outcome), (2, Outcome::Committed));
        assert_eq!(clock.slept().len(), 1);
        assert_eq!(bed.balances()[0], (1, 110));
    });
}

/// It has waited for as long as it was told to.
#[test]
fn a_pool_without_room_is_not_waited_for_again() {
    run(async {
        let bed = Bed::new();
        let pool = Pool::<Conn>::builder(AsyncDieselConnectionManager::new(bed.url()))
            .max_size(1)
            .wait_timeout(Some(Duration::from_millis(100)))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool");
        let _taken = pool.get().await.expect("a connection");
        let report = Runner::default()
            .run_on_report(&pool, async |_| QueryResult::Ok(()))
            .await;
        let error = report.result.expect_err("no room");
        assert!(error.dbop_error().is_some_and(|own| own.is_no_connection()));
        assert_eq!(
            (report.attempts, report.stop),
            (1, StopReason::NotRetryable)
        );
    });
}

/// Through the proxy, with one connection that is lent without being tried.
fn pool_of_one(proxy: &Proxy) -> Pool<Conn> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    let manager = AsyncDieselConnectionManager::new_with_config(proxy.url(), config);
    Pool::builder(manager).max_size(1).build().expect("a pool")
}

async fn session(pool: &Pool<Conn>) -> i64 {
    Bed::session_id(&mut *pool.get().await.expect("a connection")).await
}

/// No server has got as far as this.
const AHEAD: &str = "lsn:FFFFFFFF/FFFFFFFF";

#[test]
fn a_replica_that_is_behind_costs_one_round_trip_and_keeps_its_connection() {
    run(async {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        let read = pool_of_one(&proxy);
        let first = session(&read).await;
        let split = Split {
            write: async || Conn::establish(bed.url()).await,
            read: read.clone(),
        };
        let position = AHEAD.parse().expect("a position");
        let fresh = split.after(&position).with_patience(Duration::ZERO);
        let runner = Runner::default();
        let look = runner.operation("look").read_only();
        // The first time the question is prepared.
        for round_trips in [2, 1, 1] {
            proxy.reset();
            let looked = look.run_on(&fresh, async |conn: &mut Conn| balance(conn, 1).await);
            assert_eq!(looked.await, Ok(100));
            assert_eq!(proxy.round_trips(), round_trips);
        }
        assert_eq!(session(&read).await, first);
    });
}

/// Its answer may come when another caller has the connection.
#[test]
fn a_connection_that_is_asked_for_a_position_is_not_lent_again_if_the_caller_leaves() {
    run(async {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        let read = pool_of_one(&proxy);
        let first = session(&read).await;
        let split = Split {
            write: async || Conn::establish(bed.url()).await,
            read: read.clone(),
        };
        let position = AHEAD.parse().expect("a position");
        let (runner, fresh) = (Runner::default(), split.after(&position));
        let look = runner.operation("look").read_only();
        let stalled = proxy.cut(When::anything(), Cut::Stall);
        tokio::select! {
            looked = look.run_on(&fresh, async |conn: &mut Conn| balance(conn, 1).await) => {
                panic!("an answer: {looked:?}");
            }
            () = eventually("it is asked", || stalled.reached() > 0) => {}
        }
        proxy.resume();
        assert_ne!(session(&read).await, first);
    });
}
