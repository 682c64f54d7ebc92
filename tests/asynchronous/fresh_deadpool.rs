//! deadpool tells whether it had no room or the server did not answer. What the server may answer
//! next time is tried again.

use std::sync::Arc;
use std::time::Duration;

use dbop_diesel_async::{OperationError as _, Outcome, Runner, StopReason};
use dbop_tests::Meanwhile;
use dbop_tests::proxy::{Cut, Proxy, When};
use deadpool::Runtime;
use diesel::QueryResult;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;

use super::money::add;
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
