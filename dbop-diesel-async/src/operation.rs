//! One operation's name, settings and fallback value.

use std::future::Future;

use dbop_core::{Name, Settings};
use dbop_diesel::adapter::Call;

use crate::driver::{drive, report};
use crate::{Body, Clock, Connection, OperationError, Report, Runner};

/// An operation with a name and settings of its own, from [`Runner::operation`].
///
/// # Default
///
/// No settings of its own, the runner's policy and default timeouts.
#[derive(Clone, Copy, Debug)]
#[must_use = "an operation does nothing until it is given a connection with `run`"]
pub struct Operation<'a> {
    pub(crate) runner: &'a Runner,
    pub(crate) name: &'a str,
    pub(crate) settings: Settings,
    pub(crate) max_retries: Option<u32>,
}

impl<'a> Operation<'a> {
    dbop_core::__operation_methods!();

    /// A value to return instead of an error, of the database as of the operation itself.
    ///
    /// It never hides that something may be wrong with what went before: an error stays an error
    /// where the failed attempt is not certainly undone, where the enclosing transaction is lost,
    /// and where the connection is broken. A panic stays a panic.
    #[doc(alias = "default")]
    #[doc(alias = "raises")]
    pub const fn fallback<T>(self, value: T) -> FallbackOperation<'a, T> {
        FallbackOperation {
            operation: self,
            value,
        }
    }

    /// Runs the operation; see [`Runner::run`].
    ///
    /// # Errors
    ///
    /// As [`Runner::run`], and if a setting is not valid or not supported here.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run<'c, C, T, E, F>(
        &self,
        conn: &'c mut C,
        operation: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, C, T, E, F>
    where
        C: Connection,
        T: Send,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        let (call, clock) = (self.call(), self.clock());
        async move { drive(call, clock, conn, operation, None, None).await.0 }
    }

    /// Runs the operation like [`run`](Self::run) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run_report<'c, C, T, E, F>(
        &self,
        conn: &'c mut C,
        operation: F,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, C, T, E, F>
    where
        C: Connection,
        T: Send,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        let (call, clock) = (self.call(), self.clock());
        async move { report(call, clock, conn, operation, None).await }
    }

    fn clock(&self) -> &'a dyn Clock {
        &*self.runner.clock
    }

    const fn call(&self) -> Call<'a> {
        Call {
            config: &self.runner.config,
            name: Name::Given(self.name),
            settings: self.settings,
            policy: self.policy(),
            mode: "async",
        }
    }
}

/// An operation with a value to fall back on, from [`Operation::fallback`].
#[derive(Clone, Copy, Debug)]
#[must_use = "an operation does nothing until it is given a connection with `run`"]
pub struct FallbackOperation<'a, T> {
    operation: Operation<'a>,
    value: T,
}

impl<'a, T: Send> FallbackOperation<'a, T> {
    /// Runs the operation; see [`Operation::run`].
    ///
    /// # Errors
    ///
    /// Those that a fallback value cannot replace; see [`Operation::fallback`].
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run<'c, C, E, F>(
        self,
        conn: &'c mut C,
        operation: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, C, T, E, F>
    where
        C: Connection,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        let Self {
            operation: settings,
            value,
        } = self;
        let (call, clock) = (settings.call(), settings.clock());
        async move {
            drive(call, clock, conn, operation, Some(value), None)
                .await
                .0
        }
    }

    /// Runs the operation like [`run`](Self::run) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run_report<'c, C, E, F>(
        self,
        conn: &'c mut C,
        operation: F,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, C, T, E, F>
    where
        C: Connection,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        let Self {
            operation: settings,
            value,
        } = self;
        let (call, clock) = (settings.call(), settings.clock());
        async move { report(call, clock, conn, operation, Some(value)).await }
    }
}
