//! The runner: what applications hold on to.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use dbop_core::Ledger;
use dbop_core::machine::RunnerConfig;
use dbop_diesel::adapter::Handle;
use dbop_diesel::adapter::statements::Statement;
use dbop_diesel::{OperationError, Report, SupportedBackend as _};
use diesel::QueryResult;
use diesel_async::RunQueryDsl as _;

use crate::body::Body;
use crate::clock::{Clock, TokioClock};
use crate::connection::SupportedConnection;
use crate::operation::Operation;
use crate::source::Source;

/// Runs database operations safely: each in its own transaction or savepoint, with retries where a
/// retry can succeed, and with settings that are gone afterwards.
///
/// A runner is cheap to keep and is meant to be shared, for example in a `static` or an
/// application's state. It holds no connection. Between attempts it sleeps on tokio's timer.
///
/// ```
/// # use diesel::prelude::*;
/// use dbop_diesel_async::{RetryPolicy, Runner};
/// use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
/// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
///
/// # diesel::table! { accounts { id -> Integer, balance -> BigInt } }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
/// # conn.batch_execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL);
/// #                     INSERT INTO accounts VALUES (1, 100), (2, 0)").await?;
/// let runner = Runner::new(RetryPolicy::new().with_max_retries(3));
///
/// runner.run(&mut conn, async |conn| {
///     diesel::update(accounts::table.find(1))
///         .set(accounts::balance.eq(accounts::balance - 10))
///         .execute(conn).await?;
///     diesel::update(accounts::table.find(2))
///         .set(accounts::balance.eq(accounts::balance + 10))
///         .execute(conn).await
/// }).await?;
/// # let balance: i64 = accounts::table.find(2).select(accounts::balance).first(&mut conn).await?;
/// # assert_eq!(balance, 10);
/// # Ok(()) }
/// ```
///
/// # Default
///
/// The default [`RetryPolicy`](crate::RetryPolicy), a default lock timeout of 10 s, no default
/// statement timeout, the global logger.
///
/// # Cancellation
///
/// When the future of a run is dropped before it is done, the connection refuses every further
/// transaction, and must be closed: [what to do](crate#timeouts-and-cancellation), and [what each
/// pool does](crate#pools). Dropped before the COMMIT was sent, nothing of the operation is kept;
/// dropped while the COMMIT was under way, all or nothing.
///
/// diesel-async's wrapper of sync connections, which SQLite needs, can be cancelled on a
/// multi-thread runtime only: on a current-thread one diesel-async itself panics.
#[derive(Clone)]
pub struct Runner {
    pub(crate) config: RunnerConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) faults: Handle,
}

impl Runner {
    dbop_core::__runner_methods!("dbop_diesel_async");

    /// Reads the time from this clock, and waits with it. Defaults to [`TokioClock`].
    ///
    /// ```
    /// use std::future::{Future, ready};
    /// use std::pin::Pin;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use dbop_diesel_async::{Clock, Runner};
    /// use tokio::time::Instant;
    ///
    /// /// For tests: no delay takes time.
    /// struct NoWait;
    ///
    /// impl Clock for NoWait {
    ///     fn now(&self) -> Instant {
    ///         Instant::now()
    ///     }
    ///
    ///     fn sleep(&self, _duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    ///         Box::pin(ready(()))
    ///     }
    /// }
    ///
    /// let runner = Runner::default().with_clock(Arc::new(NoWait));
    /// ```
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Lets these faults happen to the operations of this runner, and lists there what it runs. For tests:
    /// see [`testing`](crate::testing).
    ///
    /// ```
    /// use dbop_diesel_async::testing::{Faults, Point};
    /// use dbop_diesel_async::{FaultClass, Runner};
    /// # use diesel::prelude::*;
    /// # use diesel_async::AsyncConnection;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
    /// let faults = Faults::new();
    /// faults.operation("pay").fail(Point::AfterBody, FaultClass::Busy);
    /// let runner = Runner::default().with_faults(&faults);
    /// runner.operation("pay").run(&mut conn, async |_conn| QueryResult::Ok(())).await?;
    /// assert_eq!(faults.attempts("pay"), 2);
    /// # Ok(()) }
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
    /// # use dbop_diesel_async::Runner;
    /// # use diesel::prelude::*;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// # use diesel_async::{AsyncConnection, RunQueryDsl};
    /// # type Conn = SyncConnectionWrapper<SqliteConnection>;
    /// # async fn rename(conn: &mut Conn) -> QueryResult<usize> {
    /// #     diesel::sql_query("UPDATE users SET name = 'Grace'").execute(conn).await
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let mut conn = Conn::establish(":memory:").await?;
    /// # diesel::sql_query("CREATE TABLE users AS SELECT 1 AS id, 'Ada' AS name").execute(&mut conn).await?;
    /// let runner = Runner::default();
    /// let changed = runner.run(&mut conn, rename).await?; // a transaction
    /// conn.transaction(async |conn| runner.run(conn, rename).await).await?; // a savepoint
    /// # assert_eq!(changed, 1);
    /// # Ok(()) }
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
    pub fn run<'a, C, T, E, B>(
        &'a self,
        conn: &'a mut C,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, C, T, E, B>
    where
        C: SupportedConnection,
        T: Send,
        E: OperationError + Send,
        B: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        self.at(Location::caller()).run(conn, body)
    }

    /// Runs an operation like [`run`](Self::run) and reports every attempt.
    ///
    /// ```
    /// # use dbop_diesel_async::Runner;
    /// # use diesel::prelude::*;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// # use diesel_async::{AsyncConnection, RunQueryDsl};
    /// # type Conn = SyncConnectionWrapper<SqliteConnection>;
    /// # async fn rename(conn: &mut Conn) -> QueryResult<usize> {
    /// #     diesel::sql_query("UPDATE users SET name = 'Grace'").execute(conn).await
    /// # }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let mut conn = Conn::establish(":memory:").await?;
    /// # diesel::sql_query("CREATE TABLE users AS SELECT 1 AS id, 'Ada' AS name").execute(&mut conn).await?;
    /// let report = Runner::default().run_report(&mut conn, rename).await;
    /// assert_eq!((report.attempts, report.result?), (1, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    #[track_caller]
    pub fn run_report<'a, C, T, E, B>(
        &'a self,
        conn: &'a mut C,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, C, T, E, B>
    where
        C: SupportedConnection,
        T: Send,
        E: OperationError + Send,
        B: for<'r> Body<&'r mut C, Result<T, E>>,
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
    /// # use dbop_diesel_async::Runner;
    /// # use diesel::prelude::*;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// # use diesel_async::{AsyncConnection, RunQueryDsl};
    /// # type Conn = SyncConnectionWrapper<SqliteConnection>;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let connect = || Conn::establish(":memory:"); // or a pool
    /// let created = Runner::default().run_on(&connect, async |conn| {
    ///     diesel::sql_query("CREATE TABLE users (id INTEGER)").execute(conn).await
    /// }).await;
    /// # created?;
    /// # Ok(()) }
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
    pub fn run_on<'a, S, T, E, B>(
        &'a self,
        source: &'a S,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, S, T, E, B>
    where
        S: Source,
        T: Send,
        E: OperationError + Send,
        B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        self.at(Location::caller()).run_on(source, body)
    }

    /// Runs an operation like [`run_on`](Self::run_on) and reports every attempt.
    ///
    /// ```
    /// # use dbop_diesel_async::Runner;
    /// # use diesel::prelude::*;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// # use diesel_async::{AsyncConnection, RunQueryDsl};
    /// # type Conn = SyncConnectionWrapper<SqliteConnection>;
    /// # use dbop_diesel_async::Outcome;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let connect = || Conn::establish(":memory:"); // or a pool
    /// let report = Runner::default().run_on_report(&connect, async |conn| {
    ///     diesel::sql_query("CREATE TABLE users (id INTEGER)").execute(conn).await
    /// }).await;
    /// assert_eq!(report.outcome, Outcome::Committed);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    #[track_caller]
    pub fn run_on_report<'a, S, T, E, B>(
        &'a self,
        source: &'a S,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, S, T, E, B>
    where
        S: Source,
        T: Send,
        E: OperationError + Send,
        B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        self.at(Location::caller()).run_on_report(source, body)
    }

    /// Runs an operation like [`run`](Self::run), on this thread: its future need not be `Send`. For runtimes
    /// that keep a task on one thread, such as tokio's `LocalSet` and actix.
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// # use dbop_diesel_async::Runner;
    /// # use diesel::prelude::*;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// # use diesel_async::{AsyncConnection, RunQueryDsl};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runner = Runner::default();
    /// # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
    /// let statement = Rc::new("CREATE TABLE users (id INTEGER)");
    /// runner
    ///     .run_local(&mut conn, async |conn| {
    ///         let statement = Rc::clone(&statement);
    ///         diesel::sql_query(*statement).execute(conn).await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_local<'a, C, T, E, B>(
        &'a self,
        conn: &'a mut C,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + use<'a, C, T, E, B>
    where
        C: SupportedConnection,
        E: OperationError,
        B: AsyncFnOnce(&mut C) -> Result<T, E> + Clone,
    {
        self.at(Location::caller()).run_local(conn, body)
    }

    /// Runs an operation like [`run_on`](Self::run_on), on this thread: its future need not be `Send`.
    ///
    /// # Errors
    ///
    /// As [`run_on`](Self::run_on).
    ///
    /// # Panics
    ///
    /// As [`run_on`](Self::run_on).
    #[track_caller]
    pub fn run_on_local<'a, S, T, E, B>(
        &'a self,
        source: &'a S,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + use<'a, S, T, E, B>
    where
        S: Source,
        E: OperationError,
        B: AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        self.at(Location::caller()).run_on_local(source, body)
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
    /// use dbop_diesel_async::{Dialect, Ledger, Runner};
    /// # use diesel::prelude::*;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// # use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
    ///
    /// const WEEK: Duration = Duration::from_secs(7 * 86_400);
    ///
    /// static LEDGER: Ledger = Ledger::new();
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
    /// # conn.batch_execute(&LEDGER.create_table(Dialect::Sqlite)).await?;
    /// # let old = "INSERT INTO dbop_ledger (scope, id, changed_at) VALUES (x'01', x'02', '2001')";
    /// # conn.batch_execute(old).await?;
    /// let runner = Runner::default();
    /// while runner.forget(&mut conn, &LEDGER, WEEK, 10_000).await? == 10_000 {}
    /// # let left = diesel::sql_query("DELETE FROM dbop_ledger").execute(&mut conn).await?;
    /// # assert_eq!(left, 0);
    /// # Ok(()) }
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
    pub async fn forget<C>(
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
            .run(conn, async |conn: &mut C| {
                Statement(&sql).execute(conn).await
            })
            .await
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self {
            config: RunnerConfig::default(),
            clock: Arc::new(TokioClock),
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
