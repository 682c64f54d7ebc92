//! A service with an `in_transaction` of its own around the runner.

use std::collections::HashMap;
use std::panic::Location;
use std::time::Duration;

use dbop_diesel::OperationError;
use dbop_tests::TestPool as _;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::Error;
use diesel::{QueryResult, SqliteConnection};

use super::locked::Locked;
use super::money::add;
use super::{Bed, Runner};

struct Database {
    runner: Runner,
    pool_of: HashMap<&'static str, Pool<ConnectionManager<SqliteConnection>>>,
}

impl Database {
    #[track_caller]
    fn in_transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: OperationError,
        F: FnOnce(&mut SqliteConnection) -> Result<T, E> + Clone,
    {
        self.of_tenant("default", work)
    }

    /// A closure has no `#[track_caller]`, so the place is taken before it.
    #[track_caller]
    fn of_tenant<T, E, F>(&self, tenant: &str, work: F) -> Result<T, E>
    where
        E: OperationError,
        F: FnOnce(&mut SqliteConnection) -> Result<T, E> + Clone,
    {
        let caller = Location::caller();
        let pool = self.pool_of.get(tenant);
        let pool = pool.ok_or(Error::NotFound)?;
        self.runner.at(caller).run_on(pool, work)
    }
}

fn pay(conn: &mut SqliteConnection) -> QueryResult<usize> {
    add(conn, 1, -10)?;
    add(conn, 2, 10)
}

#[test]
fn the_log_names_the_place_that_called_the_helper() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let pool = Pool::of(bed.url(), 1, Duration::from_secs(10));
    let database = Database {
        runner: locked.runner(),
        pool_of: HashMap::from([("default", pool)]),
    };
    let paid = database.in_transaction(pay);
    let line = line!() - 1;
    assert_eq!((paid, locked.attempts()), (Ok(1), 2));
    assert_eq!(locked.name(), format!("{}:{line}", file!()));

    let amount = 10;
    let refused = database.of_tenant("default", |conn| match add(conn, 4, -amount)? {
        0 => Err(Error::NotFound),
        _ => add(conn, 1, amount),
    });
    let line = line!() - 4;
    assert_eq!((refused, locked.attempts()), (Err(Error::NotFound), 1));
    assert_eq!(locked.name(), format!("{}:{line}", file!()));
}
