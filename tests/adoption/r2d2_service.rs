//! A sync service around r2d2's pool, whose methods name the functions that they run.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dbop_tests::TestPool as _;
use diesel::r2d2::ConnectionManager;
use diesel::result::DatabaseErrorKind::UniqueViolation;
use diesel::result::Error;
use diesel::{QueryResult, SqliteConnection};

use super::locked::Locked;
use super::money::{add, insert};
use super::{Bed, Runner};

type Pool = diesel::r2d2::Pool<ConnectionManager<SqliteConnection>>;

/// Shared by the threads of the service.
struct Payments {
    runner: Runner,
    pool: Arc<Pool>,
}

impl Payments {
    fn pay(&self) -> QueryResult<usize> {
        self.runner.run_on(&self.pool, pay)
    }

    fn pay_twice(&self) -> QueryResult<usize> {
        self.runner.run_on(&self.pool, |conn| {
            self.runner.run(conn, pay)?;
            self.runner.run(conn, pay)
        })
    }

    fn open(&self, account: i32) -> QueryResult<usize> {
        let open = self.runner.operation("open");
        open.run_on(&self.pool, |conn| insert(conn, account))
    }
}

/// What has only borrowed the pool.
struct Handler<'a> {
    runner: &'a Runner,
    pool: &'a Pool,
}

impl Handler<'_> {
    fn pay(&self) -> QueryResult<usize> {
        self.runner.run_on(&self.pool, pay)
    }
}

fn pay(conn: &mut SqliteConnection) -> QueryResult<usize> {
    add(conn, 1, -10)?;
    add(conn, 2, 10)
}

fn pool(bed: &Bed) -> Pool {
    Pool::of(bed.url(), 1, Duration::from_secs(10))
}

#[test]
fn a_busy_lock_is_retried_and_a_duplicate_is_not() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let payments = Payments {
        runner: locked.runner(),
        pool: Arc::new(pool(&bed)),
    };
    assert_eq!(payments.pay(), Ok(1));
    assert_eq!(locked.attempts(), 2);
    assert_eq!(payments.pay_twice(), Ok(1));
    assert_eq!(bed.balances(), [(1, 70), (2, 130), (3, 100)]);

    let error = payments.open(1).expect_err("there is one");
    assert!(matches!(error, Error::DatabaseError(UniqueViolation, _)));
    assert_eq!((locked.name().as_str(), locked.attempts()), ("open", 1));
}

#[test]
fn during_a_delay_others_have_the_connection_of_a_shared_pool() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let pool = Arc::new(pool(&bed));
    let lent = Arc::new(OnceLock::new());
    let (watched, seen) = (Arc::clone(&pool), Arc::clone(&lent));
    let runner = locked.runner_while(move || {
        seen.get_or_init(|| watched.lent());
    });
    let payments = Payments { runner, pool };
    assert_eq!(payments.pay(), Ok(1));
    assert_eq!(lent.get(), Some(&0));
}

#[test]
fn a_borrowed_pool_is_a_source_too() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let (runner, pool) = (locked.runner(), pool(&bed));
    let handler = Handler {
        runner: &runner,
        pool: &pool,
    };
    assert_eq!(handler.pay(), Ok(1));
    assert_eq!(locked.attempts(), 2);
}
