//! What surrounds the body: its future is dropped under the eyes of the run, and the run has left
//! its connection before that is let go of.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use dbop_diesel_async::{ConnectError, Fault, Owned, Request, RetryPolicy, Runner, Source};
use dbop_tests::Again;
use dbop_tests::asynchronous::{caught, depth};
use diesel::QueryResult;
use diesel::connection::TransactionManagerStatus;
use diesel::result::Error;
use diesel_async::TransactionManager as _;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::money::{add, balance};
use super::{Bed, Conn, run};

/// Pays, returns `Ok`, and panics when it is dropped.
struct Loud<F>(F);

impl<F: Future + Unpin> Future for Loud<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<F> Drop for Loud<F> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

fn pay(conn: &mut Conn) -> Loud<Pin<Box<dyn Future<Output = QueryResult<()>> + Send + '_>>> {
    Loud(Box::pin(async move { add(conn, 1, -1).await.map(drop) }))
}

#[test]
fn a_panic_of_a_future_that_is_dropped_is_rolled_back_too() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let payload = caught(Runner::default().run(&mut conn, pay))
            .await
            .expect_err("a panic");
        assert_eq!(payload.downcast_ref(), Some(&"dropped"));
        assert_eq!(depth(&mut conn), Some(0));
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        assert_eq!(add(&mut conn, 2, 1).await, Ok(1), "usable");
    });
}

/// A source that uses a connection once more when it is thrown away.
struct Reused {
    bed: Bed,
    bodies: Mutex<Vec<u32>>,
}

impl Source for Reused {
    type Conn = Conn;
    type Held = Owned<Conn>;

    async fn connect(&self, _request: &Request<'_>) -> Result<Owned<Conn>, ConnectError> {
        Ok(Owned(self.bed.connect().await))
    }

    fn discard(&self, mut conn: Owned<Conn>, _why: Option<Fault>) {
        let status = <Conn as diesel_async::AsyncConnection>::TransactionManager
            ::transaction_manager_status_mut(&mut *conn);
        *status = TransactionManagerStatus::default();
        let bodies =
            block_in_place(|| Handle::current().block_on(bodies_of_a_stubborn_run(&mut conn)));
        self.bodies.lock().expect("no panic").push(bodies);
    }
}

/// As often as the run allows itself, unless it is taken for nested in one that allows it less.
async fn bodies_of_a_stubborn_run(conn: &mut Conn) -> u32 {
    const POLICY: RetryPolicy = RetryPolicy::new()
        .with_initial_delay(Duration::ZERO)
        .with_max_retries(2);
    let bodies = AtomicU32::new(0);
    let result: Result<(), Again> = Runner::new(POLICY)
        .run(conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            balance(conn, 1).await?;
            Err(Again)
        })
        .await;
    assert!(result.is_err());
    bodies.into_inner()
}

/// The connection is known by an address, which another one can have once it is thrown away.
#[test]
fn a_run_has_left_its_connection_before_that_is_thrown_away() {
    run(async {
        let source = Reused {
            bed: Bed::new(),
            bodies: Mutex::default(),
        };
        let result: QueryResult<()> = Runner::new(RetryPolicy::new().with_max_retries(0))
            .run_on(&source, async |conn: &mut Conn| {
                assert_eq!(bodies_of_a_stubborn_run(conn).await, 1, "nested");
                Err(Error::BrokenTransactionManager)
            })
            .await;
        assert!(
            matches!(result, Err(Error::BrokenTransactionManager)),
            "{result:?}"
        );
        assert_eq!(*source.bodies.lock().expect("no panic"), [3], "not nested");
    });
}
