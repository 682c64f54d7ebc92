//! A closure around a pool of diesel-async is a source like the pool, and so is one around a connection
//! manager.

use dbop_diesel::{FaultClass, Report};
use dbop_diesel_async::{Runner, Source};
use dbop_tests::InstantClock;
use diesel::SqliteConnection;
use diesel::result::Error;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

use super::{Bed, run};

type Conn = SyncConnectionWrapper<SqliteConnection>;

fn manager(url: &str) -> AsyncDieselConnectionManager<Conn> {
    AsyncDieselConnectionManager::new(url)
}

/// What is the same from the pool and from the closure.
async fn same(pool: &impl Source, closure: &impl Source, attempts: u32) {
    let runner = Runner::default().with_clock(InstantClock::new());
    let directly: Report<(), Error> = runner.run_on_report(pool, async |_conn| Ok(())).await;
    let report: Report<(), Error> = runner.run_on_report(closure, async |_conn| Ok(())).await;
    assert_eq!(report.attempts, attempts);
    assert_eq!(report.attempts, directly.attempts);
    assert_eq!(report.stop, directly.stop);
    let fault = report.failures[0].fault;
    assert_eq!(fault, directly.failures[0].fault);
    assert_eq!(fault.expect("a fault").class(), FaultClass::NotConnected);
}

#[test]
fn deadpool() {
    run(async {
        let pool = deadpool::managed::Pool::<_>::builder(manager("/nonexistent/x.db"))
            .build()
            .expect("a pool");
        same(&pool, &async || pool.get().await, 6).await;
        let bed = Bed::new();
        let pool = deadpool::managed::Pool::<_>::builder(manager(bed.url()))
            .max_size(1)
            .wait_timeout(Some(std::time::Duration::from_millis(50)))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a pool");
        let taken = pool.get().await.expect("the only one");
        same(&pool, &async || pool.get().await, 1).await;
        drop(taken);
    });
}

#[test]
fn bb8() {
    run(async {
        let bed = Bed::new();
        let pool = bb8::Pool::builder()
            .max_size(1)
            .connection_timeout(std::time::Duration::from_millis(50))
            .build(manager(bed.url()))
            .await
            .expect("a pool");
        let taken = pool.get_owned().await.expect("the only one");
        same(&pool, &async || pool.get_owned().await, 1).await;
        drop(taken);
    });
}

#[test]
fn mobc() {
    run(async {
        let pool = mobc::Pool::builder().build(manager("/nonexistent/x.db"));
        same(&pool, &async || pool.get().await, 6).await;
    });
}
