//! Operations with errors of types that `OperationError` cannot be implemented for.

use diesel::result::Error as DieselError;

use crate::adapter::mapped::{Find, Mapped, report};
use crate::connection::SupportedConnection;
use crate::driver::drive;
use crate::fallback::{Fallback, NoFallback};
use crate::operation::Operation;
use crate::report::Report;
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
impl<E, F> MappedOperation<'_, E, F> {
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
    pub fn run<C, T, B>(self, conn: &mut C, body: B) -> Result<T, E>
    where
        C: SupportedConnection,
        F: Fallback<T>,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        let (body, make) = (mapped(body, self.find), self.make);
        let result = drive(self.operation, Borrowed(conn), body, false).result;
        result.map_err(|error| error.into_error(make))
    }

    /// Runs the operation like [`run`](Self::run) and reports every attempt.
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to `verify` or one of the two functions
    /// panics. What is not committed is rolled back first, then the panic continues.
    pub fn run_report<C, T, B>(self, conn: &mut C, body: B) -> Report<T, E>
    where
        C: SupportedConnection,
        F: Fallback<T>,
        B: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        let (body, make) = (mapped(body, self.find), self.make);
        report(drive(self.operation, Borrowed(conn), body, true), make)
    }
}

/// Running on connections from a source.
impl<E, F, R> MappedOperation<'_, E, F, R> {
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
    pub fn run_on<S, T, B>(self, source: &S, body: B) -> Result<T, E>
    where
        S: Source,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        let (make, slot) = (self.make, FromSource::new(source));
        let result = drive(
            looking(self.operation, self.find),
            slot,
            mapped(body, self.find),
            false,
        );
        result.result.map_err(|error| error.into_error(make))
    }

    /// Runs the operation like [`run_on`](Self::run_on) and reports every attempt.
    ///
    /// # Panics
    ///
    /// If the operation, the classifier, a hook, the closure given to `verify` or one of the two functions
    /// panics. What is not committed is rolled back first, then the panic continues.
    pub fn run_on_report<S, T, B>(self, source: &S, body: B) -> Report<T, E>
    where
        S: Source,
        F: Fallback<T>,
        R: Verify<S::Conn, E>,
        B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        let (make, slot) = (self.make, FromSource::new(source));
        let operation = looking(self.operation, self.find);
        report(drive(operation, slot, mapped(body, self.find), true), make)
    }
}

fn mapped<C, T, E>(
    body: impl FnOnce(&mut C) -> Result<T, E> + Clone,
    find: Find<E>,
) -> impl FnOnce(&mut C) -> Result<T, Mapped<E>> + Clone {
    move |conn| body(conn).map_err(|error| Mapped::Returned(error, find))
}

/// What looks for the work returns errors of the same type.
struct Look<R, E> {
    look: R,
    find: Find<E>,
}

fn looking<'a, F, R, E>(
    operation: Operation<'a, F, R>,
    find: Find<E>,
) -> Operation<'a, F, Look<R, E>> {
    Operation {
        runner: operation.runner,
        spec: operation.spec,
        fallback: operation.fallback,
        resolution: Look {
            look: operation.resolution,
            find,
        },
    }
}

impl<C, E, R: Verify<C, E>> Verify<C, Mapped<E>> for Look<R, E> {
    fn verify(&self, conn: &mut C) -> Result<bool, Mapped<E>> {
        let found = self.look.verify(conn);
        found.map_err(|error| Mapped::Returned(error, self.find))
    }
}
