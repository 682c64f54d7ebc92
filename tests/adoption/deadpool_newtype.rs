//! A service whose pool, deadpool's, is in a type of its own that derefs to it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use dbop_tests::TestPool as _;
use dbop_tests::asynchronous::on_many_threads;
use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Pool;

use super::Runner;
use super::deadlocked::Crossing;
use super::money::add;

#[derive(Clone)]
struct Database(Pool<AsyncPgConnection>);

impl Deref for Database {
    type Target = Pool<AsyncPgConnection>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[derive(Clone)]
struct Payments {
    runner: Runner,
    database: Database,
    crossing: Arc<Crossing>,
}

impl Payments {
    async fn pay(&self) -> QueryResult<usize> {
        let paying = self.runner.operation("pay");
        let pay = async |conn: &mut AsyncPgConnection| {
            add(conn, 1, -10).await?;
            self.crossing.cross();
            add(conn, 2, 10).await
        };
        paying.run_on(&*self.database, pay).await
    }

    async fn close(&self) -> QueryResult<usize> {
        self.runner.run_on(&*self.database, close).await
    }

    /// On a connection in hand.
    async fn close_after(
        &self,
        work: impl AsyncFnOnce(&mut AsyncPgConnection),
    ) -> QueryResult<usize> {
        let mut conn = self.database.get().await.expect("a connection");
        work(&mut conn).await;
        self.runner.run(&mut *conn, close).await
    }
}

async fn close(conn: &mut AsyncPgConnection) -> QueryResult<usize> {
    match add(conn, 4, 0).await? {
        0 => Err(Error::NotFound),
        closed => Ok(closed),
    }
}

#[test]
fn a_deadlock_is_retried_and_a_missing_account_is_not() {
    on_many_threads(async {
        let crossing = Crossing::new();
        let payments = Payments {
            runner: crossing.runner(),
            database: Database(Pool::of(&crossing.url(), 1, Duration::from_secs(10))),
            crossing: Arc::clone(&crossing),
        };
        let service = payments.clone();
        let task = tokio::spawn(async move { service.pay().await });
        assert_eq!(task.await.expect("no panic"), Ok(1));
        assert_eq!(crossing.attempts(), 2);
        assert_eq!(crossing.bed.balances(), [(1, 91), (2, 111), (3, 100)]);

        assert_eq!(payments.close().await, Err(Error::NotFound));
        assert_eq!(crossing.attempts(), 1);
        let closed = payments.close_after(async |conn| {
            add(conn, 3, 1).await.expect("it is there");
        });
        assert_eq!(closed.await, Err(Error::NotFound));
        assert_eq!(crossing.bed.balances()[2], (3, 101));
    });
}
