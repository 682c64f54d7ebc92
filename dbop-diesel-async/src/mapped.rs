//! Operations with errors of types that `OperationError` cannot be implemented for.

use std::convert::identity;
use std::future::Future;

use dbop_diesel::adapter::mapped::{Find, Mapped, report};
use dbop_diesel::{Fallback, NoFallback, Report};
use diesel::result::Error as DieselError;
use futures_util::{FutureExt as _, TryFutureExt as _};

use crate::body::{Body, Work};
use crate::connection::SupportedConnection;
use crate::driver::{drive, drive_local};
use crate::operation::Operation;
use crate::slot::{Borrowed, FromSource};
use crate::source::Source;
use crate::verify::{NoResolution, Verify};

/// An operation whose errors are of any type, from [`Operation::errors`].
#[derive(Debug)]
#[must_use = "an operation does nothing until it is given a connection with `run`"]
pub struct MappedOperation<'a, E, F = NoFallback, R = NoResolution> {
    pub(crate) operation: Operation<'a, F, R>,
    pub(crate) make: fn(DieselError) -> E,
    pub(crate) find: Find<E>,
}

// Derived, they would ask the same of `E`.
impl<E, F: Clone, R: Clone> Clone for MappedOperation<'_, E, F, R> {
    fn clone(&self) -> Self {
        Self {
            operation: self.operation.clone(),
            ..*self
        }
    }
}

impl<E, F: Copy, R: Copy> Copy for MappedOperation<'_, E, F, R> {}

/// Running on a connection of the caller.
impl<'a, E, F> MappedOperation<'a, E, F> {
    /// Runs the operation; see [`Operation::run`].
    ///
    /// # Errors
    ///
    /// As [`Operation::run`].
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to `verify` or one of the two functions
    /// panics. What is not committed is rolled back first, then the panic continues.
    pub fn run<'c, C, T, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, C, T, E, B, F>
    where
        C: SupportedConnection,
        T: Send,
        E: Send,
        F: Fallback<T>,
        B: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        let (body, make) = (Mapping::new(body, self.find), self.make);
        drive(self.operation, Borrowed(conn), body, false, |report| {
            report.result
        })
        .map_err(move |error| error.into_error(make))
    }

    /// Runs the operation like [`run`](Self::run) and reports every attempt.
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to `verify` or one of the two functions
    /// panics. What is not committed is rolled back first, then the panic continues.
    pub fn run_report<'c, C, T, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, C, T, E, B, F>
    where
        C: SupportedConnection,
        T: Send,
        E: Send,
        F: Fallback<T>,
        B: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        let (body, make) = (Mapping::new(body, self.find), self.make);
        drive(self.operation, Borrowed(conn), body, true, identity)
            .map(move |attempts| report(attempts, make))
    }

    /// Runs the operation like [`run`](Self::run), on this thread: its future need not be `Send`.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    ///
    /// # use dbop_diesel_async::{RetryPolicy, Runner};
    /// # use diesel::SqliteConnection;
    /// use diesel::result::{DatabaseErrorKind, Error};
    /// # use diesel_async::AsyncConnection;
    /// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
    /// use error_stack::Report;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runner = Runner::new(RetryPolicy::new().with_initial_delay(std::time::Duration::ZERO));
    /// # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
    /// let calls = Rc::new(Cell::new(0));
    /// let pay = async |_conn: &mut _| {
    ///     calls.set(calls.get() + 1);
    ///     if calls.get() > 1 {
    ///         return Ok(());
    ///     }
    ///     let locked = Box::new(String::from("database is locked"));
    ///     Err(Report::new(Error::DatabaseError(DatabaseErrorKind::Unknown, locked)))
    /// };
    /// let pays = runner
    ///     .operation("pay")
    ///     .errors(Report::new, |report: &Report<Error>| report.downcast_ref::<Error>());
    /// assert!(pays.run_local(&mut conn, pay).await.is_ok());
    /// assert_eq!(calls.get(), 2);
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
    pub fn run_local<'c, C, T, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + use<'a, 'c, C, T, E, B, F>
    where
        C: SupportedConnection,
        F: Fallback<T>,
        B: AsyncFnOnce(&mut C) -> Result<T, E> + Clone,
    {
        let (body, make) = (mapped(body, self.find), self.make);
        drive_local(self.operation, Borrowed(conn), body, false, |report| {
            report.result
        })
        .map_err(move |error| error.into_error(make))
    }

    /// Runs the operation like [`run_report`](Self::run_report), on this thread: its future need not be `Send`.
    ///
    /// # Panics
    ///
    /// As [`run_report`](Self::run_report).
    pub fn run_local_report<'c, C, T, B>(
        self,
        conn: &'c mut C,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + use<'a, 'c, C, T, E, B, F>
    where
        C: SupportedConnection,
        F: Fallback<T>,
        B: AsyncFnOnce(&mut C) -> Result<T, E> + Clone,
    {
        let (body, make) = (mapped(body, self.find), self.make);
        drive_local(self.operation, Borrowed(conn), body, true, identity)
            .map(move |attempts| report(attempts, make))
    }
}

/// Running on connections from a source.
impl<'a, E, F, R> MappedOperation<'a, E, F, R> {
    /// Runs the operation on a connection from a source; see [`Operation::run_on`].
    ///
    /// # Errors
    ///
    /// As [`Operation::run_on`].
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to `verify` or one of the two functions
    /// panics. What is not committed is rolled back first, then the panic continues.
    pub fn run_on<'c, S, T, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, S, T, E, B, F, R>
    where
        S: Source,
        T: Send,
        E: Send,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        let (body, make) = (Mapping::new(body, self.find), self.make);
        let operation = looking(self.operation, self.find);
        drive(operation, FromSource::new(source), body, false, |report| {
            report.result
        })
        .map_err(move |error| error.into_error(make))
    }

    /// Runs the operation like [`run_on`](Self::run_on) and reports every attempt.
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to `verify` or one of the two functions
    /// panics. What is not committed is rolled back first, then the panic continues.
    pub fn run_on_report<'c, S, T, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, S, T, E, B, F, R>
    where
        S: Source,
        T: Send,
        E: Send,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        let (body, make) = (Mapping::new(body, self.find), self.make);
        let operation = looking(self.operation, self.find);
        drive(operation, FromSource::new(source), body, true, identity)
            .map(move |attempts| report(attempts, make))
    }

    /// Runs the operation like [`run_on`](Self::run_on), on this thread: its future need not be `Send`.
    ///
    /// # Errors
    ///
    /// As [`run_on`](Self::run_on).
    ///
    /// # Panics
    ///
    /// As [`run_on`](Self::run_on).
    pub fn run_on_local<'c, S, T, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Result<T, E>> + use<'a, 'c, S, T, E, B, F, R>
    where
        S: Source,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        let (body, make) = (mapped(body, self.find), self.make);
        let operation = looking(self.operation, self.find);
        drive_local(operation, FromSource::new(source), body, false, |report| {
            report.result
        })
        .map_err(move |error| error.into_error(make))
    }

    /// Runs the operation like [`run_on_report`](Self::run_on_report), on this thread: its future need not be `Send`.
    ///
    /// # Panics
    ///
    /// As [`run_on_report`](Self::run_on_report).
    pub fn run_on_local_report<'c, S, T, B>(
        self,
        source: &'c S,
        body: B,
    ) -> impl Future<Output = Report<T, E>> + use<'a, 'c, S, T, E, B, F, R>
    where
        S: Source,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        let (body, make) = (mapped(body, self.find), self.make);
        let operation = looking(self.operation, self.find);
        drive_local(operation, FromSource::new(source), body, true, identity)
            .map(move |attempts| report(attempts, make))
    }
}

/// An operation's body, or the closure given to `verify`, beside what finds Diesel's error in its errors.
struct Mapping<B, E> {
    inner: B,
    find: Find<E>,
}

impl<B, E> Mapping<B, E> {
    const fn new(inner: B, find: Find<E>) -> Self {
        Self { inner, find }
    }
}

// Derived, it would ask for `E: Clone`.
impl<B: Clone, E> Clone for Mapping<B, E> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.find)
    }
}

impl<B, C, T, E> Work<C, T, Mapped<E>> for Mapping<B, E>
where
    B: for<'r> Body<&'r mut C, Result<T, E>>,
{
    fn start(self, conn: &mut C) -> impl Future<Output = Result<T, Mapped<E>>> + Send {
        let Self { inner, find } = self;
        inner(conn).map_err(move |error| Mapped::Returned(error, find))
    }
}

impl<R, C, E> Verify<C, Mapped<E>> for Mapping<R, E>
where
    R: Verify<C, E>,
{
    fn verify(&mut self, conn: &mut C) -> impl Future<Output = Result<bool, Mapped<E>>> + Send {
        let find = self.find;
        self.inner
            .verify(conn)
            .map_err(move |error| Mapped::Returned(error, find))
    }
}

/// The same of a body whose future need not be `Send`.
fn mapped<C, T, E>(
    body: impl AsyncFnOnce(&mut C) -> Result<T, E> + Clone,
    find: Find<E>,
) -> impl AsyncFnOnce(&mut C) -> Result<T, Mapped<E>> + Clone {
    async move |conn: &mut C| {
        let result = body(conn).await;
        result.map_err(|error| Mapped::Returned(error, find))
    }
}

fn looking<'a, F, R, E>(
    operation: Operation<'a, F, R>,
    find: Find<E>,
) -> Operation<'a, F, Mapping<R, E>> {
    Operation {
        runner: operation.runner,
        spec: operation.spec,
        fallback: operation.fallback,
        resolution: Mapping::new(operation.resolution, find),
    }
}
