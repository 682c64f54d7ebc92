//! One operation: what it is called, what it asks for, and how it is run.

use dbop_core::machine::{Name, Spec};

use crate::connection::SupportedConnection;
use crate::driver::drive;
use crate::error::OperationError;
use crate::fallback::{Fallback, FallbackValue, NoFallback};
use crate::report::Report;
use crate::runner::Runner;
use crate::slot::{Borrowed, FromSource};
use crate::source::Source;
use crate::verify::{NoResolution, ServerResolution, Verify};

/// An operation with a name and settings of its own, from [`Runner::operation`].
///
/// `F` is what it falls back on, `R` how the outcome of a commit is found out whose answer was lost:
/// by default on nothing, and not at all.
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
/// No settings of its own, the runner's policy and default timeouts.
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

/// A fallback value.
impl<'a, R> Operation<'a, NoFallback, R> {
    dbop_core::__fallback_method!("dbop_diesel");
}

/// The outcome of a commit whose answer was lost.
impl<'a, F> Operation<'a, F> {
    dbop_core::__resolution_methods!(
        "dbop_diesel",
        verify: FnOnce(&mut C) -> Result<bool, E> + Clone
    );
}

/// On a connection of the caller's.
impl<F> Operation<'_, F> {
    /// Runs the operation; see [`Runner::run`].
    ///
    /// # Errors
    ///
    /// As [`Runner::run`], and if a setting is not valid or not supported here. With a
    /// [fallback](Self::fallback) value, those that it cannot replace.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run<C, T, E, B>(self, conn: &mut C, body: B) -> Result<T, E>
    where
        C: SupportedConnection,
        E: OperationError,
        F: Fallback<T>,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        drive(self, Borrowed(conn), body, false).result
    }

    /// Runs the operation like [`run`](Self::run) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
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

/// On connections from a source.
impl<F, R> Operation<'_, F, R> {
    /// Runs the operation on a fresh connection; see [`Runner::run_on`].
    ///
    /// # Errors
    ///
    /// As [`Runner::run_on`], and if a setting is not valid or not supported here. With a fallback
    /// value, those that it cannot replace.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
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

    /// Runs the operation like [`run_on`](Self::run_on) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
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
