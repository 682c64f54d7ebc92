//! One operation's name, settings and fallback value.

use std::future::Future;
use std::time::Duration;

use dbop_core::{Ledger, Name, Resolution, Settings};
use dbop_diesel::adapter::Call;

use crate::driver::{drive, report};
use crate::hold::{Fresh, Given};
use crate::{Body, Clock, Connection, OperationError, Report, Runner, Source};

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
    pub(crate) idempotent: bool,
    pub(crate) deadline: Option<Duration>,
    pub(crate) lock_timeouts: &'a [Duration],
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

    /// Finds out what became of a commit whose answer was lost by looking for the work: `look` is
    /// run on a fresh connection, outside of a transaction, and says whether it is there.
    ///
    /// If it is, the operation's value is returned as if nothing had happened; if not, the
    /// operation is tried again. A look that fails with an error of the database that is worth it is
    /// repeated as long as there are retries left; after another one the outcome stays unknown.
    ///
    /// **It has a race**: a COMMIT that is held up on its way can still arrive after the look found
    /// nothing, and the work is then done twice. So a "no" is good enough for another attempt, but
    /// if that fails, the outcome is unknown. [`ledger`](Self::ledger) has no race.
    pub const fn verify<C, E, V>(self, look: V) -> ResolvingOperation<'a, V>
    where
        V: for<'r> Body<&'r mut C, Result<bool, E>>,
    {
        ResolvingOperation {
            operation: self,
            resolution: Resolution::Verify,
            ledger: None,
            look,
        }
    }

    /// Finds out what became of a commit whose answer was lost by asking PostgreSQL for the status
    /// of the transaction, for which its id is read in front of every COMMIT: one more round trip
    /// (the first time on a connection: two). PostgreSQL only; elsewhere it is an error when the
    /// operation is run.
    ///
    /// While the server says "in progress" it is asked again: until the deadline, or without one as
    /// long as there are retries left. The operation is in a savepoint of dbop's own.
    /// A transaction without an id has written nothing, and is tried again without being asked for.
    /// (`NOTIFY` and foreign tables need no id: what does nothing else should take the ledger.)
    /// A crash of the server can give the id to another transaction, so after one "committed" is no
    /// answer, and the outcome stays unknown. After a failover to a standby that had not received
    /// everything, an id can mean another transaction, too: see [`ledger`](Self::ledger).
    pub const fn transaction_status(self) -> ResolvingOperation<'a, Unverified> {
        ResolvingOperation {
            operation: self,
            resolution: Resolution::TransactionStatus,
            ledger: None,
            look: Unverified,
        }
    }

    /// Finds out what became of a commit whose answer was lost by a token that is committed with
    /// the work, in the table [`Ledger::create_table`] creates. It costs no round trip.
    ///
    /// With it an operation is done at most once, and exactly once when `run_on` returns `Ok`. The
    /// outcome stays unknown only if the server could not be asked before the deadline, or without one
    /// before the retries ran out, or if the operation has ended its transaction by itself, by COMMIT
    /// or DDL. SQLite needs no ledger and gets no token.
    pub const fn ledger(self, ledger: &'a Ledger) -> ResolvingOperation<'a, Unverified> {
        ResolvingOperation {
            operation: self,
            resolution: Resolution::Ledger,
            ledger: Some(ledger),
            look: Unverified,
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
        let (call, clock, hold) = (self.call(), self.clock(), Given(conn));
        async move {
            drive(call, clock, hold, operation, Unverified, None, None)
                .await
                .0
        }
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
        let (call, clock, hold) = (self.call(), self.clock(), Given(conn));
        async move { report(call, clock, hold, operation, Unverified, None).await }
    }

    /// Runs the operation on a fresh connection; see [`Runner::run_on`].
    ///
    /// # Errors
    ///
    /// As [`Runner::run_on`], and if a setting is not valid or not supported here.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run_on<'c, S, T, E, F>(
        &self,
        source: &'c S,
        operation: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, S, T, E, F>
    where
        S: Source,
        T: Send,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        let (call, clock, hold) = (self.call(), self.clock(), Fresh::from(source));
        async move {
            drive(call, clock, hold, operation, Unverified, None, None)
                .await
                .0
        }
    }

    /// Runs the operation like [`run_on`](Self::run_on) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run_on_report<'c, S, T, E, F>(
        &self,
        source: &'c S,
        operation: F,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, S, T, E, F>
    where
        S: Source,
        T: Send,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        let (call, clock, hold) = (self.call(), self.clock(), Fresh::from(source));
        async move { report(call, clock, hold, operation, Unverified, None).await }
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
            idempotent: self.idempotent,
            resolution: Resolution::Nothing,
            ledger: None,
            deadline: self.deadline,
            lock_timeouts: self.lock_timeouts,
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
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, C, E, F, T>
    where
        C: Connection,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        let (call, clock) = (self.operation.call(), self.operation.clock());
        let value = Some(self.value);
        async move {
            drive(call, clock, Given(conn), operation, Unverified, value, None)
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
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, C, E, F, T>
    where
        C: Connection,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut C, Result<T, E>>,
    {
        let (call, clock) = (self.operation.call(), self.operation.clock());
        let value = Some(self.value);
        async move { report(call, clock, Given(conn), operation, Unverified, value).await }
    }

    /// Runs the operation on a fresh connection; see [`Operation::run_on`].
    ///
    /// # Errors
    ///
    /// Those that a fallback value cannot replace; see [`Operation::fallback`].
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run_on<'c, S, E, F>(
        self,
        source: &'c S,
        operation: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, S, E, F, T>
    where
        S: Source,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        let (call, clock) = (self.operation.call(), self.operation.clock());
        let (hold, value) = (Fresh::from(source), Some(self.value));
        async move {
            drive(call, clock, hold, operation, Unverified, value, None)
                .await
                .0
        }
    }

    /// Runs the operation like [`run_on`](Self::run_on) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run_on_report<'c, S, E, F>(
        self,
        source: &'c S,
        operation: F,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, S, E, F, T>
    where
        S: Source,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
    {
        let (call, clock) = (self.operation.call(), self.operation.clock());
        let (hold, value) = (Fresh::from(source), Some(self.value));
        async move { report(call, clock, hold, operation, Unverified, value).await }
    }
}

/// An operation that finds out what became of a commit whose answer was lost, from
/// [`Operation::verify`], [`Operation::transaction_status`] and [`Operation::ledger`]. That takes a
/// fresh connection, so it runs on a [`Source`] only.
#[derive(Clone, Copy, Debug)]
#[must_use = "an operation does nothing until it is given connections with `run_on`"]
pub struct ResolvingOperation<'a, V> {
    operation: Operation<'a>,
    resolution: Resolution,
    ledger: Option<&'a Ledger>,
    look: V,
}

impl<'a, V> ResolvingOperation<'a, V> {
    /// Runs the operation on a fresh connection; see [`Runner::run_on`].
    ///
    /// # Errors
    ///
    /// As [`Runner::run_on`], and if a setting is not valid or not supported here.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run_on<'c, S, T, E, F>(
        &self,
        source: &'c S,
        operation: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'a, 'c, S, T, E, F, V>
    where
        S: Source,
        T: Send,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
        V: Verify<S::Conn, E>,
    {
        let (call, clock) = (self.call(), self.operation.clock());
        let hold = Fresh::from(source);
        let look = self.look.clone();
        async move {
            drive(call, clock, hold, operation, look, None, None)
                .await
                .0
        }
    }

    /// Runs the operation like [`run_on`](Self::run_on) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    pub fn run_on_report<'c, S, T, E, F>(
        &self,
        source: &'c S,
        operation: F,
    ) -> impl Future<Output = Report<T, E>> + Send + use<'a, 'c, S, T, E, F, V>
    where
        S: Source,
        T: Send,
        E: OperationError + Send,
        F: for<'r> Body<&'r mut S::Conn, Result<T, E>>,
        V: Verify<S::Conn, E>,
    {
        let (call, clock) = (self.call(), self.operation.clock());
        let hold = Fresh::from(source);
        let look = self.look.clone();
        async move { report(call, clock, hold, operation, look, None).await }
    }

    const fn call(&self) -> Call<'a> {
        Call {
            resolution: self.resolution,
            ledger: self.ledger,
            ..self.operation.call()
        }
    }
}

/// How an operation's work is looked for: an async closure like an operation that returns whether
/// it is there. Implemented for everything that fits.
pub trait Verify<C, E>: Clone + Send {
    /// Looks.
    fn verify(&mut self, conn: &mut C) -> impl Future<Output = Result<bool, E>> + Send;
}

impl<F, C, E> Verify<C, E> for F
where
    F: for<'r> Body<&'r mut C, Result<bool, E>>,
{
    fn verify(&mut self, conn: &mut C) -> impl Future<Output = Result<bool, E>> + Send {
        self.clone()(conn)
    }
}

/// Nobody looks for the work.
#[derive(Clone, Copy, Debug)]
pub struct Unverified;

impl<C: Send, E: OperationError + Send> Verify<C, E> for Unverified {
    async fn verify(&mut self, _conn: &mut C) -> Result<bool, E> {
        Err(diesel::result::Error::NotFound.into())
    }
}
