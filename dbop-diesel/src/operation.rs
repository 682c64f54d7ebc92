//! One operation: what it is called, what it asks for, and how it is run.

use dbop_core::machine::{Name, Spec};

use crate::answer::NoAnswer;
use crate::connection::SupportedConnection;
use crate::driver::drive;
use crate::error::OperationError;
use crate::errors::OwnErrors;
use crate::fallback::{Fallback, FallbackValue, NoFallback};
use crate::keyed::KeyedOperation;
use crate::mapped::MappedOperation;
use crate::report::Report;
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
/// # use diesel::prelude::*;
/// # use dbop_diesel::Runner;
/// # diesel::table! { users { id -> Integer } }
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// # diesel::sql_query("CREATE TABLE users (id INTEGER PRIMARY KEY)").execute(&mut conn)?;
/// # let runner = Runner::default();
/// let ids = runner
///     .operation("list-users")
///     .read_only()
///     .lock_timeout(Duration::from_secs(3))
///     .run(&mut conn, |conn| users::table.select(users::id).load::<i32>(conn))?;
/// # assert!(ids.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
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
            spec: Spec::new(name),
            fallback: NoFallback,
            resolution: NoResolution(()),
        }
    }
}

/// Settings.
impl<'a, F, R> Operation<'a, F, R> {
    dbop_core::__operation_methods!("dbop_diesel");
}

/// Hooks.
impl<'a, F, R> Operation<'a, F, R> {
    dbop_core::__hook_methods!("dbop_diesel");
}

/// Errors of other crates' types.
impl<'a, F, R> Operation<'a, F, R> {
    dbop_core::__errors_method!("dbop_diesel");
}

/// Falling back on a value.
impl<'a, R> Operation<'a, NoFallback, R> {
    dbop_core::__fallback_method!("dbop_diesel");
}

/// Resolving the outcome of a commit whose answer was lost.
impl<'a, F> Operation<'a, F> {
    dbop_core::__resolution_methods!(
        "dbop_diesel",
        verify: [FnOnce(&mut C) -> Result<bool, E> + Clone],
        "# use dbop_diesel::Runner;"
        "# use diesel::dsl::{exists, select};"
        "# use diesel::prelude::*;"
        "# diesel::table! { payments { id -> Integer } }"
        "# let runner = Runner::default();"
        "let id = 7;"
        "let pay = runner.operation(\"pay\").verify(|conn: &mut SqliteConnection| {"
        "    select(exists(payments::table.find(id))).get_result::<bool>(conn)"
        "});"
    );
}

/// Being done once for all callers.
impl<'a, F> Operation<'a, F, LedgerResolution> {
    dbop_core::__key_method!("dbop_diesel");
}

/// Running on a connection of the caller.
impl<F> Operation<'_, F> {
    /// Runs the operation; see [`Runner::run`].
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
    /// let changed = runner.operation("rename").max_retries(2).run(&mut conn, rename)?;
    /// assert_eq!(changed, 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
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
    pub fn run<C, T, E, B>(self, conn: &mut C, body: B) -> Result<T, E>
    where
        C: SupportedConnection,
        E: OperationError,
        F: Fallback<T>,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        drive(self, Borrowed(conn), body, false).result
    }

    /// Runs the operation like [`run`](Self::run) and reports every attempt.
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
    /// let report = runner.operation("rename").read_only().run_report(&mut conn, rename);
    /// assert!(report.result.is_err()); // it writes
    /// assert_eq!(report.attempts, 1);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook or a method of `E` panics. What is not committed is rolled back
    /// first, then the panic continues.
    pub fn run_report<C, T, E, B>(self, conn: &mut C, body: B) -> Report<T, E>
    where
        C: SupportedConnection,
        E: OperationError,
        F: Fallback<T>,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        drive(self, Borrowed(conn), body, true)
    }
}

/// Running on connections from a source.
impl<F, R> Operation<'_, F, R> {
    /// Runs the operation on a connection from a source; see [`Runner::run_on`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dbop_diesel::Runner;
    /// # use diesel::prelude::*;
    /// # let runner = Runner::default();
    /// let connect = || SqliteConnection::establish(":memory:"); // or a pool
    /// let operation = runner.operation("create").deadline(Duration::from_secs(10));
    /// operation.run_on(&connect, |conn| {
    ///     diesel::sql_query("CREATE TABLE users (id INTEGER)").execute(conn)
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
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
    pub fn run_on<S, T, E, B>(self, source: &S, body: B) -> Result<T, E>
    where
        S: Source,
        E: OperationError,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        drive(self, FromSource::new(source), body, false).result
    }

    /// Runs the operation like [`run_on`](Self::run_on) and reports every attempt.
    ///
    /// ```
    /// # use dbop_diesel::{Outcome, Runner};
    /// # use diesel::prelude::*;
    /// # let runner = Runner::default();
    /// let connect = || SqliteConnection::establish(":memory:"); // or a pool
    /// let report = runner.operation("create").run_on_report(&connect, |conn| {
    ///     diesel::sql_query("CREATE TABLE users (id INTEGER)").execute(conn)
    /// });
    /// assert_eq!(report.outcome, Outcome::Committed);
    /// ```
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to [`verify`](Self::verify) or a method
    /// of `E` panics. What is not committed is rolled back first, then the panic continues.
    pub fn run_on_report<S, T, E, B>(self, source: &S, body: B) -> Report<T, E>
    where
        S: Source,
        E: OperationError,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        drive(self, FromSource::new(source), body, true)
    }
}
