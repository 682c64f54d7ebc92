//! The runner: what applications hold on to.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use dbop_core::{Config, Name, Resolution, Settings};

use crate::adapter::Call;
use crate::driver::{drive, report};
use crate::hold::{Fresh, Given};
use crate::operation::Unverified;
use crate::{Clock, Connection, Operation, OperationError, Report, Source, SystemClock};

/// Runs database operations safely: in a transaction or savepoint of their own, with retries where
/// a retry can succeed, and with settings that are gone afterwards.
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
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Runner {
    dbop_core::__runner_methods!();

    /// Takes the time from, and waits with, this clock. Defaults to [`SystemClock`].
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Runs an operation.
    ///
    /// Without an open transaction the operation gets one of its own, committed here. Inside an
    /// open one, the caller's or an enclosing operation's, it gets a savepoint, and whoever opened
    /// the transaction decides about it. The operation is cloned for each attempt, so every
    /// attempt starts from the same state.
    ///
    /// # Errors
    ///
    /// The error of the last attempt: the operation's own, unchanged, or the database's, turned
    /// into `E`; or an error of dbop's own, which [`OperationError::dbop_error`] finds again.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    #[track_caller]
    pub fn run<C, T, E, F>(&self, conn: &mut C, operation: F) -> Result<T, E>
    where
        C: Connection,
        E: OperationError,
        F: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        let call = self.call(Location::caller());
        let hold = Given(conn);
        drive(
            &call,
            &*self.clock,
            hold,
            operation,
            &Unverified,
            None,
            None,
        )
        .0
    }

    /// Runs an operation like [`run`](Self::run) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    #[track_caller]
    pub fn run_report<C, T, E, F>(&self, conn: &mut C, operation: F) -> Report<T, E>
    where
        C: Connection,
        E: OperationError,
        F: FnOnce(&mut C) -> Result<T, E> + Clone,
    {
        let call = self.call(Location::caller());
        report(
            &call,
            &*self.clock,
            Given(conn),
            operation,
            &Unverified,
            None,
        )
    }

    /// Runs an operation on a connection from a pool, or on one that is made for it.
    ///
    /// This is [`run`](Self::run) for what a connection of the caller's cannot survive: a fault
    /// that needs a new connection gets one, and getting it is a part of the attempt, retried like
    /// the rest. A broken connection leaves the pool at once, and so does one to a server that
    /// takes no writes after a failover. Before a delay of 10 ms and more, a pool's connection is
    /// given back, so that others can use it meanwhile.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and if there is no connection
    /// ([`is_no_connection`](dbop_core::Error::is_no_connection)).
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    #[track_caller]
    pub fn run_on<S, T, E, F>(&self, source: &S, operation: F) -> Result<T, E>
    where
        S: Source,
        E: OperationError,
        F: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        let call = self.call(Location::caller());
        let hold = Fresh::from(source);
        drive(
            &call,
            &*self.clock,
            hold,
            operation,
            &Unverified,
            None,
            None,
        )
        .0
    }

    /// Runs an operation like [`run_on`](Self::run_on) and tells the whole story.
    ///
    /// # Panics
    ///
    /// If the operation panics: rolled back first, then the panic goes on.
    #[track_caller]
    pub fn run_on_report<S, T, E, F>(&self, source: &S, operation: F) -> Report<T, E>
    where
        S: Source,
        E: OperationError,
        F: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
    {
        let call = self.call(Location::caller());
        let hold = Fresh::from(source);
        report(&call, &*self.clock, hold, operation, &Unverified, None)
    }

    fn call(&self, location: &'static Location<'static>) -> Call<'_> {
        Call {
            config: &self.config,
            name: Name::Call(location),
            settings: Settings::default(),
            policy: *self.config.policy(),
            idempotent: false,
            resolution: Resolution::Nothing,
            ledger: None,
            deadline: None,
            lock_timeouts: &[],
            mode: "sync",
        }
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self {
            config: Config::default(),
            clock: Arc::new(SystemClock),
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
