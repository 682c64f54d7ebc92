//! A service whose connection is an enum, of PostgreSQL in production and of SQLite on a desk. It runs its
//! operations on the connection inside.

use dbop_diesel::{OperationError, SupportedConnection};
use dbop_tests::accounts;
use diesel::prelude::*;
use diesel::result::Error;

use super::Runner;
use super::deadlocked::Crossing;

#[derive(diesel::MultiConnection)]
enum AnyConnection {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// What operations need of a connection, whichever it is.
trait Accounts: SupportedConnection {
    fn add(&mut self, account: i32, amount: i64) -> QueryResult<usize>;
}

/// The queries are compiled for each backend.
macro_rules! accounts {
    ($($conn:ty),*) => {$(
        impl Accounts for $conn {
            fn add(&mut self, account: i32, amount: i64) -> QueryResult<usize> {
                diesel::update(accounts::table.find(account))
                    .set(accounts::balance.eq(accounts::balance + amount))
                    .execute(self)
            }
        }
    )*};
}

accounts!(PgConnection, SqliteConnection);

/// An operation on any of the connections.
trait Operation<T, E>: Clone {
    fn run<C: Accounts>(self, conn: &mut C) -> Result<T, E>;
}

impl AnyConnection {
    /// The helper of the service.
    fn in_transaction<T, E: OperationError>(
        &mut self,
        runner: &Runner,
        work: impl Operation<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::Postgres(conn) => runner.run(conn, |conn| work.run(conn)),
            Self::Sqlite(conn) => runner.run(conn, |conn| work.run(conn)),
        }
    }
}

#[derive(Clone, Copy)]
struct Pay<'a> {
    from: i32,
    crossing: Option<&'a Crossing>,
}

impl Operation<usize, Error> for Pay<'_> {
    fn run<C: Accounts>(self, conn: &mut C) -> QueryResult<usize> {
        if conn.add(self.from, -10)? == 0 {
            return Err(Error::NotFound);
        }
        if let Some(crossing) = self.crossing {
            crossing.cross();
        }
        conn.add(2, 10)
    }
}

#[test]
fn a_deadlock_is_retried_and_a_missing_account_is_not() {
    let crossing = Crossing::new();
    let runner = crossing.runner();
    let conn = PgConnection::establish(&crossing.url());
    let mut conn = AnyConnection::Postgres(conn.expect("the server answers"));
    let mut pay = Pay {
        from: 1,
        crossing: Some(&crossing),
    };
    assert_eq!(conn.in_transaction(&runner, pay), Ok(1));
    assert_eq!(crossing.attempts(), 2);
    assert_eq!(crossing.bed.balances(), [(1, 91), (2, 111), (3, 100)]);

    pay.from = 4;
    assert_eq!(conn.in_transaction(&runner, pay), Err(Error::NotFound));
    assert_eq!(crossing.attempts(), 1);
}

#[test]
fn the_same_runs_on_sqlite() {
    let bed = dbop_tests::sqlite::Bed::new();
    let mut conn = AnyConnection::Sqlite(bed.connect());
    let pay = Pay {
        from: 1,
        crossing: None,
    };
    assert_eq!(conn.in_transaction(&Runner::default(), pay), Ok(1));
    assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);
}
