//! A service with an `in_transaction` of its own around the runner.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use dbop_diesel_async::{Body, OperationError};
use dbop_tests::TestPool as _;
use dbop_tests::asynchronous::on_many_threads;
use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::pooled_connection::deadpool::Pool;
use tokio::sync::RwLock;

use super::locked::Locked;
use super::money::add;
use super::{Bed, Conn, Runner};

struct Database {
    runner: Runner,
    pool: Pool<Conn>,
    pool_of: RwLock<HashMap<&'static str, Pool<Conn>>>,
}

impl Database {
    /// Not an `async fn`, which would not pass on the place of the call.
    #[track_caller]
    fn in_transaction<'a, T, E, F>(
        &'a self,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, T, E, F>
    where
        T: Send,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut Conn, Result<T, E>>,
    {
        self.runner.run_on(&self.pool, work)
    }

    /// It waits before it runs anything, so it takes the place first.
    #[track_caller]
    fn of_tenant<'a, T, E, F>(
        &'a self,
        tenant: &'a str,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, T, E, F>
    where
        T: Send,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut Conn, Result<T, E>>,
    {
        let caller = Location::caller();
        async move {
            let pool = self.pool_of.read().await.get(tenant).cloned();
            let pool = pool.ok_or(Error::NotFound)?;
            self.runner.at(caller).run_on(&pool, work).await
        }
    }
}

async fn pay(conn: &mut Conn) -> QueryResult<usize> {
    add(conn, 1, -10).await?;
    add(conn, 2, 10).await
}

async fn debit(conn: &mut Conn, account: i32, amount: i64) -> QueryResult<usize> {
    match add(conn, account, -amount).await? {
        0 => Err(Error::NotFound),
        debited => Ok(debited),
    }
}

#[test]
fn the_log_names_the_place_that_called_the_helper() {
    on_many_threads(async {
        let bed = Bed::new();
        let locked = Locked::new(&bed);
        let pool = Pool::of(bed.url(), 1, Duration::from_secs(10));
        let database = Arc::new(Database {
            runner: locked.runner(),
            pool: pool.clone(),
            pool_of: RwLock::new(HashMap::from([("first", pool)])),
        });

        let paid = database.in_transaction(pay).await;
        let line = line!() - 1;
        assert_eq!((paid, locked.attempts()), (Ok(1), 2));
        assert_eq!(locked.name(), format!("{}:{line}", file!()));

        let account = Box::new(4);
        let debiting = async |conn: &mut Conn| debit(conn, *account, 10).await;
        let refused = database.of_tenant("first", debiting).await;
        let line = line!() - 1;
        assert_eq!((refused, locked.attempts()), (Err(Error::NotFound), 1));
        assert_eq!(locked.name(), format!("{}:{line}", file!()));
    });
}

/// As a handler of requests does.
#[test]
fn the_helper_can_be_called_in_a_task() {
    on_many_threads(async {
        let bed = Bed::new();
        let pool = Pool::of(bed.url(), 1, Duration::from_secs(10));
        let database = Arc::new(Database {
            runner: Runner::default(),
            pool: pool.clone(),
            pool_of: RwLock::default(),
        });
        let account = String::from("1");
        let task = tokio::spawn(async move {
            let account = account.parse().expect("a number");
            let debit = async move |conn: &mut Conn| debit(conn, account, 10).await;
            database.in_transaction(debit).await
        });
        assert_eq!(task.await.expect("no panic"), Ok(1));
        assert_eq!(bed.balances(), [(1, 90), (2, 100), (3, 100)]);
    });
}
