//! The runner: what applications hold on to.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use dbop_core::Ledger;
use dbop_core::machine::RunnerConfig;
use diesel::{QueryResult, RunQueryDsl as _};

use crate::adapter::Handle;
use crate::adapter::statements::Statement;
use crate::backend::SupportedBackend as _;
use crate::clock::{Clock, SystemClock};
use crate::connection::SupportedConnection;
use crate::error::OperationError;
use crate::operation::Operation;
use crate::report::Report;
use crate::source::Source;

/// Runs database operations safely: each in its own transaction or savepoint, with retries where a
/// retry can succeed, and with settings that are gone afterwards.
///
/// A runner is cheap to keep and is meant to be shared, for example in a `static` or an
/// application's state. It holds no connection.
///
/// ```
/// # use diesel::prelude::*;
/// # use diesel::connection::SimpleConnection;
/// use dbop_diesel::{RetryPolicy, Runner};
///
/// # diesel::table! { accounts { id -> Integer, balance -> BigInt } }
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// # conn.batch_execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL);
/// #                     INSERT INTO accounts VALUES (1, 100), (2, 0)")?;
/// let runner = Runner::new(RetryPolicy::new().with_max_retries(3));
///
/// runner.run(&mut conn, |conn| {
///     diesel::update(accounts::table.find(1))
///         .set(accounts::balance.eq(accounts::balance - 10))
///         .execute(conn)?;
///     diesel::update(accounts::table.find(2))
///         .set(accounts::balance.eq(accounts::balance + 10))
///         .execute(conn)
/// })?;
/// # assert_eq!(accounts::table.find(2).select(accounts::balance).first::<i64>(&mut conn)?, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Default
///
/// The default [`RetryPolicy`](crate::RetryPolicy), a default lock timeout of 10 s, no default
/// statement timeout, the global logger.
#[derive(Clone)]
pub struct Runner {
    pub(crate) config: RunnerConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) faults: Handle,
}

impl Runner {
    dbop_core::__runner_methods!("dbop_diesel");

    /// Reads the time from this clock, and waits with it. Defaults to [`SystemClock`].
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::{Duration, Instant};
    ///
    /// use dbop_diesel::{Clock, Runner};
    ///
    /// /// For tests: no delay takes time.
    /// struct NoWait;
    ///
    /// impl Clock for NoWait {
    ///     fn now(&self) -> Instant {
    ///         Instant::now()
    ///     }
    ///
    ///     fn sleep(&self, _duration: Duration) {}
    /// }
    ///
    /// let runner = Runner::default().with_clock(Arc::new(NoWait));
    /// ```
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sends what begins and what commits an operation as one compound statement each (`BEGIN NOT ATOMIC ..
    /// END`), which the connection prepares once. Defaults to `false`. MariaDB only: MySQL does not know such
    /// statements. The first operation of a process finds that out, with one round trip more, and from then on
    /// every operation of the process sends its statements one by one. So a process that uses both servers saves
    /// nothing.
    ///
    /// Diesel needs three round trips for a batch on MySQL and MariaDB, and one for a prepared statement. So an
    /// operation takes 3 round trips instead of 7, and up to 6 allocations more.
    /// Operations with a statement timeout, a deadline, a ledger or `begin_with_sql` are sent as they are
    /// without this, and so is what rolls back. A connection on which such a statement cannot be prepared for
    /// another reason (1461 at `max_prepared_stmt_count`) is not used again.
    ///
    /// ```
    /// use dbop_diesel::Runner;
    ///
    /// let runner = Runner::default().with_compound_statements(true); // its servers are MariaDB
    /// ```
    #[must_use]
    pub const fn with_compound_statements(mut self, compound: bool) -> Self {
        self.config.set_compound_statements(compound);
        self
    }

    /// Lets these faults happen to the operations of this runner, and lists there what it runs. For tests:
    /// see [`testing`](crate::testing).
    ///
    /// ```
    /// use dbop_diesel::testing::{Faults, Point};
    /// use dbop_diesel::{FaultClass, Runner};
    /// use diesel::prelude::*;
    ///
    /// # let mut conn = SqliteConnection::establish(":memory:")?;
    /// let faults = Faults::new();
    /// faults.operation("pay").fail(Point::AfterBody, FaultClass::Busy);
    /// let runner = Runner::default().with_faults(&faults);
    /// runner.operation("pay").run(&mut conn, |_conn| QueryResult::Ok(()))?;
    /// assert_eq!(faults.attempts("pay"), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_faults(mut self, faults: &crate::testing::Faults) -> Self {
        self.faults = Handle::new(faults);
        self
    }

    /// Runs an operation.
    ///
    /// Without an open transaction the operation gets its own, committed here. Inside an open one,
    /// the caller's or an enclosing operation's, it gets a savepoint, and the transaction's owner
    /// decides about it. The operation is cloned for each attempt, so every attempt starts from the
    /// same state.
    ///
    /// ```
    /// # use dbop_diesel::Runner;
    /// # use diesel::prelude::*;
    /// # fn rename(conn: &mut SqliteConnection) -> QueryResult<usize> {
    /// #     diesel::sql_query("UPDATE users SET name = 'Grace'").execute(conn)
    /// # }
    /// # let mut conn = SqliteConnection::establish(":memory:")?;
    /// # diesel::sql_query("CREATE TABLE users AS SELECT 1 AS id, 'Ada' AS name").execute(&mut conn)?;
    /// let runner = Runner::default();
    /// let changed = runner.run(&mut conn, rename)?; // a transaction
    /// conn.transaction(|conn| runner.run(conn, rename))?; // a savepoint
    /// # assert_eq!(changed, 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the last attempt: the operation's own, unchanged, or the database's, turned
    /// into `E`; or one of dbop's errors, which [`OperationError::dbop_error`] finds again.
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    #[track_caller]
    pub fn run<C, T, E, B>(&self, conn: &mut C, body: B) -> Result<T, E>
    where
        C: SupportedConnection,
        E: OperationError,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        self.at(Location::caller()).run(conn, body)
    }

    /// Runs an operation like [`run`](Self::run) and reports every attempt.
    ///
    /// ```
    /// # use dbop_diesel::Runner;
    /// # use diesel::prelude::*;
    /// # fn rename(conn: &mut SqliteConnection) -> QueryResult<usize> {
    /// #     diesel::sql_query("UPDATE users SET name = 'Grace'").execute(conn)
    /// # }
    /// # let mut conn = SqliteConnection::establish(":memory:")?;
    /// # diesel::sql_query("CREATE TABLE users AS SELECT 1 AS id, 'Ada' AS name").execute(&mut conn)?;
    /// let report = Runner::default().run_report(&mut conn, rename);
    /// assert_eq!((report.attempts, report.result?), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    #[track_caller]
    pub fn run_report<C, T, E, B>(&self, conn: &mut C, body: B) -> Report<T, E>
    where
        C: SupportedConnection,
        E: OperationError,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        self.at(Location::caller()).run_report(conn, body)
    }

    /// Runs an operation on a connection from a pool, or on one that is opened for it.
    ///
    /// This is [`run`](Self::run) for faults that a single connection cannot survive: a fault that
    /// needs a new connection gets one, and getting it is a part of the attempt, retried like the
    /// rest. A broken connection leaves the pool at once, and so does one to a server that accepts
    /// no writes after a failover. Before a delay of 10 ms or more, a pool's connection is given
    /// back, so that others can use it meanwhile.
    ///
    /// ```
    /// # use dbop_diesel::Runner;
    /// # use diesel::prelude::*;
    /// let connect = || SqliteConnection::establish(":memory:"); // or a pool
    /// let created = Runner::default().run_on(&connect, |conn| {
    ///     diesel::sql_query("CREATE TABLE users (id INTEGER)").execute(conn)
    /// });
    /// # created?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and if no connection is available
    /// ([`is_no_connection`](dbop_core::Error::is_no_connection)).
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    #[track_caller]
    pub fn run_on<S, T, E, B>(&self, source: &S, body: B) -> Result<T, E>
    where
        S: Source,
        E: OperationError,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        self.at(Location::caller()).run_on(source, body)
    }

    /// Runs an operation like [`run_on`](Self::run_on) and reports every attempt.
    ///
    /// ```
    /// # use dbop_diesel::Runner;
    /// # use diesel::prelude::*;
    /// let nowhere = || SqliteConnection::establish("/no/such/folder/app.db");
    /// let runner = Runner::default();
    /// let report = runner.operation("read").max_retries(0).run_on_report(&nowhere, |_| QueryResult::Ok(()));
    /// assert!(report.result.is_err());
    /// assert_eq!(report.attempts, 1);
    /// ```
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    #[track_caller]
    pub fn run_on_report<S, T, E, B>(&self, source: &S, body: B) -> Report<T, E>
    where
        S: Source,
        E: OperationError,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        self.at(Location::caller()).run_on_report(source, body)
    }

    /// Deletes at most so many entries of a ledger that were last written longer ago than `older_than`, by the
    /// server's clock, and returns how many it has deleted. Call it again for as long as these are `at_most`.
    ///
    /// It deletes keys with their answers, and tokens that are also older than a day. It is an operation named
    /// `forget`, in a transaction of its own with the level `READ COMMITTED`: it neither waits for an operation
    /// in progress nor deletes its entry. SQLite has one writer at a time, for which it waits.
    ///
    /// `older_than` is how long a repeated request finds its answer. It has to be longer than any operation
    /// with the ledger may last, questions about its COMMIT included. On MySQL and MariaDB it needs
    /// `SKIP LOCKED`: MySQL 8.0 or MariaDB 10.6.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use dbop_diesel::{Dialect, Ledger, Runner};
    /// # use diesel::connection::SimpleConnection;
    /// # use diesel::prelude::*;
    ///
    /// const WEEK: Duration = Duration::from_secs(7 * 86_400);
    ///
    /// static LEDGER: Ledger = Ledger::new();
    ///
    /// # let mut conn = SqliteConnection::establish(":memory:")?;
    /// # conn.batch_execute(&LEDGER.create_table(Dialect::Sqlite))?;
    /// # conn.batch_execute("INSERT INTO dbop_ledger (scope, id, changed_at) VALUES (x'01', x'02', '2001')")?;
    /// let runner = Runner::default();
    /// while runner.forget(&mut conn, &LEDGER, WEEK, 10_000)? == 10_000 {}
    /// # let left = diesel::sql_query("DELETE FROM dbop_ledger").execute(&mut conn)?;
    /// # assert_eq!(left, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The database's, if no other attempt cures it, and dbop's own: in an open transaction, except on SQLite,
    /// the level cannot be set ([`is_unsupported_setting`](crate::Error::is_unsupported_setting)).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn forget<C>(
        &self,
        conn: &mut C,
        ledger: &Ledger,
        older_than: Duration,
        at_most: u32,
    ) -> QueryResult<usize>
    where
        C: SupportedConnection,
    {
        let dialect = C::Backend::DIALECT;
        let sql = ledger.forget(dialect, older_than, at_most);
        self.to_forget(dialect)
            .run(conn, |conn: &mut C| Statement(&sql).execute(conn))
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self {
            config: RunnerConfig::default(),
            clock: Arc::new(SystemClock),
            faults: Handle::NONE,
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
