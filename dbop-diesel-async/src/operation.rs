//! One operation: what it is called, what it asks for, and how it is run.

use std::convert::identity;
use std::future::Future;

use dbop_core::machine::{Name, Spec};
use dbop_diesel::{
    Fallback, FallbackValue, NoAnswer, NoFallback, OperationError, OwnErrors, Report,
};

use crate::body::Body;
use crate::connection::SupportedConnection;
use crate::driver::{drive, drive_local};
use crate::keyed::KeyedOperation;
use crate::mapped::MappedOperation;
use crate::runner::Runner;
use crate::slot::{Borrowed, FromSource};
use crate::source::Source;
use crate::verify::{LedgerResolution, NoResolution, ServerResolution, Verify};

/// An operation with a name and its own settings, from [`Runner::operation`].
///
/// `F` is the value it falls back on, [`FallbackValue`] or none. `R` says how it resolves the outcome
/// of a commit whose answer was lost: [`LedgerResolution`], [`ServerResolution`], a closure given to
/// [`verify`](Self::verify), or not at all.
///
/// ```
/// # use std::time::Duration;
/// # use dbop_diesel_async::Runner;
/// # use diesel::prelude::*;
/// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
/// # use diesel_async::{AsyncConnection, RunQueryDsl};
/// # type Conn = SyncConnectionWrapper<SqliteConnection>;
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let mut conn = Conn::establish(":memory:").await?;
/// # diesel::sql_query("CREATE TABLE users AS SELECT 1 AS id, 'Ada' AS name").execute(&mut conn).await?;
/// # let runner = Runner::default();
/// let ids = runner
///     .operation("list-users")
///     .read_only()
///     .lock_timeout(Duration::from_secs(3))
///     .run(&mut conn, async |conn: &mut Conn| {
///         diesel::sql_query("SELECT id FROM users").execute(conn).await
///     })
///     .await?;
/// # _ = ids;
/// # Ok(()) }
/// ```
///
/// # Default
///
/// Without settings: the runner's policy and default timeouts apply.
#[derive(Clone, Copy, Debug)]
#[must_use = "an operation does nothing until it is given a connection with `run`"]
pub struct Operation<'a, F = NoFallback, R = NoResolution> {
    pub(crate) runner: &'a Runner,
    pub(crate) spec: Spec<'a>,
    pub(crate) fallback: F,
    pub(crate) resolution: R,
}

impl<'a> Operation<'a> {
    pub(crate) const fn new(runner: &'a Runner, name: Name<'a>) -> Self {
        Self {
            runner,
            spec: Spec {
                awaits_hooks: true,
                ..Spec::new(name)
            },
            fallback: NoFallback,
            resolution: NoResolution(()),
        }
    }
}

/// Settings.
impl<'a, F, R> Operation<'a, F, R> {
    dbop_core::__operation_methods!("dbop_diesel_async");
}

/// Hooks.
impl<'a, F, R> Operation<'a, F, R> {
    dbop_core::__hook_methods!("dbop_diesel_async");
}

/// Errors of other crates' types.
impl<'a, F, R> Operation<'a, F, R> {
    dbop_core::__errors_method!("dbop_diesel_async");
}

/// Falling back on a value.
impl<'a, R> Operation<'a, NoFallback, R> {
    dbop_core::__fallback_method!("dbop_diesel_async");
}

/// Resolving the outcome of a commit whose answer was lost.
impl<'a, F> Operation<'a, F> {
    dbop_core::__resolution_methods!(
        "dbop_diesel_async",
        verify: [for<'r> Body<&'r mut C, Result<bool, E>>],
        "# use dbop_diesel_async::Runner;"
        "# use diesel::dsl::{exists, select};"
        "# use diesel::prelude::*;"
        "# use diesel_async::{AsyncPgConnection, RunQueryDsl};"
        "# diesel::table! { payments { id -> Integer } }"
        "# let runner = Runner::default();"
        "let id = 7;"
        "let pay = runner.operation(\"pay\").verify(async |conn: &mut AsyncPgConnection| {"
        "    select(exists(payments::table.find(id))).get_result::<bool>(conn).await"
        "});"
    );
}

/// Being done once for all callers.
impl<'a, F> Operation<'a, F, LedgerResolution> {
    dbop_core::__key_method!("dbop_diesel_async");
}

/// Running on a connection of the caller.
impl<'a, F> Operation<'a, F> {
    /// Runs the operation; see [`Runner::run`].
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
    /// let changed = runner.operation("rename").max_retries(2).run(&mut conn, rename).await?;
    /// assert_eq!(changed, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Runner::run`], and if a setting is invalid or not supported here. With a
    /// [fallback](Self::fallback) value, those that it cannot replace.
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    pub fn run<'c, C, T, E, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, C, T, E, B, F>
    where
        C: SupportedConnection,
        T: Send,
        E: OperationError + Send,
        F: Fallback<T>,
        B: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        drive(self, Borrowed(conn), body, false, |report| report.result)
    }

    /// Runs the operation like [`run`](Self::run) and reports every attempt.
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
    /// let report = runner.operation("rename").read_only().run_report(&mut conn, rename).await;
    /// assert!(report.result.is_err()); // it writes
    /// assert_eq!(report.attempts, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    pub fn run_report<'c, C, T, E, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, C, T, E, B, F>
    where
        C: SupportedConnection,
        T: Send,
        E: OperationError + Send,
        F: Fallback<T>,
        B: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        drive(self, Borrowed(conn), body, true, identity)
    }
}

/// Running on connections from a source.
impl<'a, F, R> Operation<'a, F, R> {
    /// Runs the operation on a connection from a source; see [`Runner::run_on`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dbop_diesel_async::Runner;
    /// # use diesel::prelude::*;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// # use diesel_async::{AsyncConnection, RunQueryDsl};
    /// # type Conn = SyncConnectionWrapper<SqliteConnection>;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let runner = Runner::default();
    /// let connect = || Conn::establish(":memory:"); // or a pool
    /// let operation = runner.operation("create").deadline(Duration::from_secs(10));
    /// operation.run_on(&connect, async |conn| {
    ///     diesel::sql_query("CREATE TABLE users (id INTEGER)").execute(conn).await
    /// }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Runner::run_on`], and if a setting is invalid or not supported here. With a fallback
    /// value, those that it cannot replace.
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to [`verify`](Self::verify) or a method
    /// of `E` panics. What is not committed is rolled back first, then the panic continues.
    pub fn run_on<'c, S, T, E, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, S, T, E, B, F, R>
    where
        S: Source,
        T: Send,
        E: OperationError + Send,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        drive(self, FromSource::new(source), body, false, |report| {
            report.result
        })
    }

    /// Runs the operation like [`run_on`](Self::run_on) and reports every attempt.
    ///
    /// ```
    /// # use dbop_diesel_async::Runner;
    /// # use diesel::prelude::*;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// # use diesel_async::{AsyncConnection, RunQueryDsl};
    /// # type Conn = SyncConnectionWrapper<SqliteConnection>;
    /// # use dbop_diesel_async::Outcome;
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let runner = Runner::default();
    /// let connect = || Conn::establish(":memory:"); // or a pool
    /// let report = runner.operation("create").run_on_report(&connect, async |conn| {
    ///     diesel::sql_query("CREATE TABLE users (id INTEGER)").execute(conn).await
    /// }).await;
    /// assert_eq!(report.outcome, Outcome::Committed);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to [`verify`](Self::verify) or a method
    /// of `E` panics. What is not committed is rolled back first, then the panic continues.
    pub fn run_on_report<'c, S, T, E, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, S, T, E, B, F, R>
    where
        S: Source,
        T: Send,
        E: OperationError + Send,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        drive(self, FromSource::new(source), body, true, identity)
    }
}

/// Running futures that are not `Send`, on a connection of the caller: for runtimes that keep a task on one
/// thread, such as tokio's `LocalSet` and actix.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// # use dbop_diesel_async::Runner;
/// # use diesel::prelude::*;
/// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
/// # use diesel_async::{AsyncConnection, RunQueryDsl};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runner = Runner::default();
/// # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
/// let calls = Rc::new(Cell::new(0));
/// let count = async |conn: &mut _| {
///     diesel::sql_query("SELECT 1").execute(conn).await?; // the `Rc` is kept meanwhile
///     calls.set(calls.get() + 1);
///     QueryResult::Ok(())
/// };
/// runner.operation("count").run_local(&mut conn, count).await?;
/// assert_eq!(calls.get(), 1);
/// # Ok(()) }
/// ```
impl<'a, F> Operation<'a, F> {
    /// Runs the operation like [`run`](Self::run), on this thread.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_local<'c, C, T, E, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + use<'a, 'c, C, T, E, B, F>
    where
        C: SupportedConnection,
        E: OperationError,
        F: Fallback<T>,
        B: AsyncFnOnce(&mut C) -> Result<T, E> + Clone,
    {
        drive_local(self, Borrowed(conn), body, false, |report| report.result)
    }

    /// Runs the operation like [`run_report`](Self::run_report), on this thread.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_local_report<'c, C, T, E, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + use<'a, 'c, C, T, E, B, F>
    where
        C: SupportedConnection,
        E: OperationError,
        F: Fallback<T>,
        B: AsyncFnOnce(&mut C) -> Result<T, E> + Clone,
    {
        drive_local(self, Borrowed(conn), body, true, identity)
    }
}

/// Running futures that are not `Send`, on connections from a source. What looks for the work of
/// [`verify`](Operation::verify) has to be `Send` here too.
impl<'a, F, R> Operation<'a, F, R> {
    /// Runs the operation like [`run_on`](Self::run_on), on this thread.
    ///
    /// # Errors
    ///
    /// As [`run_on`](Self::run_on).
    ///
    /// # Panics
    ///
    /// As [`run_on`](Self::run_on).
    pub fn run_on_local<'c, S, T, E, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + use<'a, 'c, S, T, E, B, F, R>
    where
        S: Source,
        E: OperationError,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        drive_local(self, FromSource::new(source), body, false, |report| {
            report.result
        })
    }

    /// Runs the operation like [`run_on_report`](Self::run_on_report), on this thread.
    ///
    /// # Panics
    ///
    /// As [`run_on`](Self::run_on).
    pub fn run_on_local_report<'c, S, T, E, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + use<'a, 'c, S, T, E, B, F, R>
    where
        S: Source,
        E: OperationError,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        drive_local(self, FromSource::new(source), body, true, identity)
    }
}
