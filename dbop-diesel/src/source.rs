//! Where fresh connections come from.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use dbop_core::{Advice, Dialect, ErrorKind, Fault, FaultClass};
use diesel::ConnectionError;
use diesel::connection::TransactionManager;

use crate::connection::SupportedConnection;
use crate::fault::fault_of;

/// A source of connections, for [`Runner::run_on`](crate::Runner::run_on): a pool, or a closure
/// that opens a connection.
///
/// Implemented for closures and, with the feature `r2d2`, for Diesel's `r2d2::Pool`. A closure's
/// connection is used for one run, kept between its attempts as long as it is healthy, and closed
/// at the end of the run.
///
/// r2d2 keeps retrying on its own for `connection_timeout` (30 s by default), even after a wrong
/// password, and every attempt waits for it. Shorten it.
///
/// ```
/// use dbop_diesel::Runner;
/// use diesel::prelude::*;
///
/// let runner = Runner::default();
/// let url = ":memory:";
/// let two = runner.run_on(&|| SqliteConnection::establish(url), |conn| {
///     diesel::select(1_i32.into_sql::<diesel::sql_types::Integer>() + 1).get_result::<i32>(conn)
/// })?;
/// assert_eq!(two, 2);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of connections",
    label = "not a pool or a closure that connects",
    note = "pass a reference to a closure `|| Conn::establish(url)`, or to an `r2d2::Pool` with \
            the feature `r2d2` of dbop-diesel; use `run` on a connection that you already have"
)]
pub trait Source {
    /// The connection that operations run on.
    type Conn: SupportedConnection;

    /// Whether it is cheap to return a connection and to get it again. If so, the connection is
    /// returned during a delay of 10 ms or more between two attempts. Defaults to `true`.
    const IS_POOL: bool = true;

    /// Gets a connection. `within` is the time left until the operation's deadline, if it has one: a
    /// pool should wait no longer than that.
    ///
    /// # Errors
    ///
    /// If no connection is available.
    fn connect(&self, within: Option<Duration>) -> Result<Self::Conn, ConnectError>;

    /// Takes back a connection that must not be used again. By default the connection is marked as
    /// broken in its transaction manager, and dropped.
    fn discard(&self, mut conn: Self::Conn) {
        let status =
            <Self::Conn as diesel::Connection>::TransactionManager::transaction_manager_status_mut(
                &mut conn,
            );
        status.set_in_error();
    }
}

impl<F, C, E> Source for F
where
    F: Fn() -> Result<C, E>,
    C: SupportedConnection,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    type Conn = C;

    const IS_POOL: bool = false;

    fn connect(&self, _within: Option<Duration>) -> Result<C, ConnectError> {
        self().map_err(ConnectError::new)
    }
}

#[cfg(feature = "r2d2")]
impl<C> Source for diesel::r2d2::Pool<diesel::r2d2::ConnectionManager<C>>
where
    C: diesel::r2d2::R2D2Connection + 'static,
    diesel::r2d2::PooledConnection<diesel::r2d2::ConnectionManager<C>>: SupportedConnection,
{
    type Conn = diesel::r2d2::PooledConnection<diesel::r2d2::ConnectionManager<C>>;

    fn connect(&self, within: Option<Duration>) -> Result<Self::Conn, ConnectError> {
        let longest = self.connection_timeout();
        let timeout = within.map_or(longest, |within| within.min(longest));
        self.get_timeout(timeout).map_err(|error| {
            // r2d2 appends the text of the last failure to its own.
            let text = error.to_string();
            match text.split_once(": ") {
                Some((_, cause)) => ConnectError::with_text(cause, error),
                None => ConnectError::pool_timeout(error),
            }
        })
    }
}

/// Why a [`Source`] gave no connection.
#[derive(Debug)]
pub struct ConnectError {
    source: Box<dyn StdError + Send + Sync>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    /// The cause is in the error or in its sources.
    InSource,
    Text(String),
    PoolTimeout,
    ServerTimeout,
}

impl ConnectError {
    /// An error of connecting. dbop looks for a Diesel error in its chain of sources to find out what
    /// went wrong; without one, it does not retry.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
            reason: Reason::InSource,
        }
    }

    /// The pool had no connection for as long as it was told to wait. dbop does not retry that: the
    /// pool has already waited.
    #[must_use]
    pub fn pool_timeout(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
            reason: Reason::PoolTimeout,
        }
    }

    /// The server did not answer in time. dbop retries that.
    #[must_use]
    pub fn server_timeout(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
            reason: Reason::ServerTimeout,
        }
    }

    /// An error whose cause is known only as a text of the client library or server.
    #[must_use]
    pub fn with_text(
        text: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            source: source.into(),
            reason: Reason::Text(text.into()),
        }
    }

    /// The fault, and whether it alone decides.
    pub(crate) fn fault(&self, dialect: Dialect) -> (Fault, Advice) {
        let unknown = || Fault::from_class(dialect, FaultClass::Unknown);
        let fault = match &self.reason {
            Reason::InSource => fault_in(dialect, &*self.source).unwrap_or_else(unknown),
            Reason::Text(text) => Fault::recognize(dialect, ErrorKind::Unknown, text),
            Reason::ServerTimeout => Fault::from_class(dialect, FaultClass::NotConnected),
            Reason::PoolTimeout => {
                let fault = Fault::from_class(dialect, FaultClass::NotConnected);
                return (fault, Advice::Never);
            }
        };
        (fault, Advice::Judge)
    }

    pub(crate) fn into_source(self) -> Box<dyn StdError + Send + Sync> {
        self.source
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection")
    }
}

impl StdError for ConnectError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

fn fault_in(dialect: Dialect, error: &(dyn StdError + 'static)) -> Option<Fault> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return fault_of(dialect, error);
        }
        match error.downcast_ref() {
            Some(ConnectionError::BadConnection(text)) => {
                return Some(Fault::recognize(dialect, ErrorKind::Unknown, text));
            }
            Some(ConnectionError::CouldntSetupConfiguration(error)) => {
                return fault_of(dialect, error);
            }
            Some(_) => return Some(Fault::from_class(dialect, FaultClass::Permanent)),
            None => next = error.source(),
        }
    }
    None
}
