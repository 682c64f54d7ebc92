//! A service on bb8's pool with a helper that takes closures of boxed futures. Its callers stay as they
//! were.

use std::sync::Arc;
use std::time::Duration;

use dbop_diesel_async::OperationError;
use dbop_tests::TestPool as _;
use dbop_tests::asynchronous::on_many_threads;
use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::bb8::Pool;
use scoped_futures::{ScopedBoxFuture, ScopedFutureExt as _};

use super::Runner;
use super::deadlocked::Crossing;
use super::money::add;

struct Database {
    runner: Runner,
    pool: Pool<AsyncPgConnection>,
}

impl Database {
    /// The bound that it had before, and `Clone`.
    #[track_caller]
    fn in_transaction<'a, T, E, F>(
        &'a self,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + Send + 'a
    where
        T: Send + 'a,
        E: OperationError + Send + 'a,
        F: for<'r> FnOnce(&'r mut AsyncPgConnection) -> ScopedBoxFuture<'a, 'r, Result<T, E>>
            + Clone
            + Send
            + 'a,
    {
        let work = async move |conn: &mut AsyncPgConnection| work(conn).await;
        self.runner.run_on(&self.pool, work)
    }
}

/// It captures what it owns.
async fn pay(database: &Database, crossing: Arc<Crossing>) -> QueryResult<usize> {
    database
        .in_transaction(|conn| {
            async move {
                add(conn, 1, -10).await?;
                crossing.cross();
                add(conn, 2, 10).await
            }
            .scope_boxed()
        })
        .await
}

/// It captures what it has borrowed.
async fn close(database: &Database, account: &i32) -> QueryResult<usize> {
    database
        .in_transaction(|conn| {
            async move {
                match add(conn, *account, 0).await? {
                    0 => Err(Error::NotFound),
                    closed => Ok(closed),
                }
            }
            .scope_boxed()
        })
        .await
}

#[test]
fn a_deadlock_is_retried_and_a_missing_account_is_not() {
    on_many_threads(async {
        let crossing = Crossing::new();
        let database = Arc::new(Database {
            runner: crossing.runner(),
            pool: Pool::of(&crossing.url(), 2, Duration::from_secs(10)),
        });
        let (shared, other) = (Arc::clone(&database), Arc::clone(&crossing));
        let task = tokio::spawn(async move { pay(&shared, other).await });
        assert_eq!(task.await.expect("no panic"), Ok(1));
        assert_eq!(crossing.attempts(), 2);
        assert_eq!(crossing.bed.balances(), [(1, 91), (2, 111), (3, 100)]);

        assert_eq!(close(&database, &4).await, Err(Error::NotFound));
        assert_eq!(crossing.attempts(), 1);
    });
}
