//! Where fresh connections come from.

use std::error::Error as StdError;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};

use dbop_core::{Advice, Dialect, ErrorKind, Fault, FaultClass, Nodes, Request, Split};
use diesel::ConnectionError;
use diesel::result::Error as DieselError;

use crate::connection::{SupportedConnection, status};
use crate::fault::{database_message, fault_in_text, fault_of};
use crate::layers::{layers, quoted_in};

/// A source of connections, for [`Runner::run_on`](crate::Runner::run_on): a pool, or a closure
/// that opens a connection.
///
/// Implemented for closures, for [`Nodes`] and [`Split`], for an `Arc` or a `LazyLock` of any source and, with the
/// feature `r2d2`, for Diesel's `r2d2::Pool`. A reference to one of these, or a `Box` around it, is a source as
/// well. That is not so for every type: a closure behind a reference is a closure, for the language, so an
/// implementation for all references would overlap with that for closures. For a type of your own, implement it for
/// the type, and share it in an `Arc`. Operations run on the connection itself, not on what a pool puts
/// around it, so a function that takes `&mut PgConnection` can be given by its name. A closure's
/// connection is used for one run, kept between its attempts as long as it is healthy, and closed
/// at the end of the run; operations get it as the closure returns it.
///
/// A closure can return any error. What Diesel, a server or a pool says in it counts as if they had
/// been asked directly. Anything else counts as "not connected", which is retried: a name that cannot
/// be looked up, an `io::Error`, an error of your own. For an error that no other attempt cures, such
/// as a missing setting, return [`ConnectError::permanent`].
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

    /// What the source hands out and takes back: what a pool lends, or [`Owned`] around a connection.
    type Held: DerefMut<Target = Self::Conn>;

    /// Whether it is cheap to return a connection and to get it again. If so, the connection is
    /// returned during a delay of 10 ms or more between two attempts. Defaults to `true`.
    const IS_POOL: bool = true;

    /// Gets a connection. The request says what for, and within which time: a pool should wait no longer
    /// than that.
    ///
    /// # Errors
    ///
    /// If no connection is available.
    fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError>;

    /// Takes back a connection that must not be used again. `why` is the fault of the database, if one is
    /// the reason: the connection is lost, or its server takes no writes, for example. By default the
    /// connection is marked as [broken], and dropped.
    fn discard(&self, mut held: Self::Held, why: Option<Fault>) {
        _ = why;
        broken(&mut *held);
    }

    /// Where this connection leads to, if the source has several places to choose from. A later
    /// [`Request`] of the same operation has it as its [`place`](Request::place): so the question about a
    /// lost COMMIT can be asked where the COMMIT was sent. By default there are no places.
    fn place(&self, held: &Self::Held) -> Option<usize> {
        _ = held;
        None
    }
}

/// Marks a connection as broken in its transaction manager, so that its pool throws it away: for a
/// [`Source`] with a [`discard`](Source::discard) of its own.
///
/// ```
/// use diesel::prelude::*;
///
/// let mut conn = SqliteConnection::establish(":memory:")?;
/// dbop_diesel::broken(&mut conn);
/// assert!(conn.transaction(|_conn| QueryResult::Ok(())).is_err());
/// # Ok::<(), diesel::ConnectionError>(())
/// ```
pub fn broken<C: SupportedConnection>(conn: &mut C) {
    status(conn).set_in_error();
}

/// A connection that is owned: what a [`Source`] that is not a pool hands out.
#[derive(Clone, Copy, Debug)]
pub struct Owned<C>(pub C);

impl<C> Deref for Owned<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C> DerefMut for Owned<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<F, C, E> Source for F
where
    F: Fn() -> Result<C, E>,
    C: SupportedConnection,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    type Conn = C;
    type Held = Owned<C>;

    const IS_POOL: bool = false;

    fn connect(&self, _request: &Request<'_>) -> Result<Owned<C>, ConnectError> {
        self().map(Owned).map_err(|error| of_closure(error.into()))
    }
}

/// A pool in a closure is a pool all the same.
fn of_closure(error: Box<dyn StdError + Send + Sync>) -> ConnectError {
    #[cfg(feature = "r2d2")]
    let error = match error.downcast() {
        Ok(error) => return of_r2d2(*error, false),
        Err(error) => error,
    };
    ConnectError::new(error)
}

/// `has_room`: it could have opened a connection.
#[cfg(feature = "r2d2")]
fn of_r2d2(error: diesel::r2d2::PoolError, has_room: bool) -> ConnectError {
    // It appends the text of the last failure to its own. One of several who wait gets that.
    let text = error.to_string();
    match text.split_once(": ") {
        Some((_, cause)) => ConnectError::with_text(cause, error),
        None if has_room => ConnectError::server_timeout(error),
        None => ConnectError::pool_timeout(error),
    }
}

#[cfg(feature = "r2d2")]
impl<C> Source for diesel::r2d2::Pool<diesel::r2d2::ConnectionManager<C>>
where
    C: diesel::r2d2::R2D2Connection + SupportedConnection + 'static,
{
    type Conn = C;
    type Held = diesel::r2d2::PooledConnection<diesel::r2d2::ConnectionManager<C>>;

    fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        let longest = self.connection_timeout();
        let timeout = request.within.map_or(longest, |within| within.min(longest));
        self.get_timeout(timeout).map_err(|error| {
            let has_room = self.state().connections < self.max_size();
            of_r2d2(error, has_room)
        })
    }
}

/// A source behind a pointer. `&S` and `Box<S>` are not written for every `S`: a closure behind one of
/// them is a closure, for the language, and the two would overlap.
macro_rules! source_behind {
    ($($pointer:ty: [$($generics:tt)*] $source:ty;)*) => {$(
        impl<$($generics)*> Source for $pointer
        where
            $source: Source,
        {
            type Conn = <$source as Source>::Conn;
            type Held = <$source as Source>::Held;

            const IS_POOL: bool = <$source as Source>::IS_POOL;

            fn connect(&self, request: &Request<'_>) -> Result<Self::Held, ConnectError> {
                (**self).connect(request)
            }

            fn discard(&self, held: Self::Held, why: Option<Fault>) {
                (**self).discard(held, why);
            }

            fn place(&self, held: &Self::Held) -> Option<usize> {
                (**self).place(held)
            }
        }
    )*};
}

source_behind!(
    Arc<S>: [S] S;
    LazyLock<S, F>: [S, F: FnOnce() -> S] S;
    &Arc<S>: [S] Arc<S>;
    Box<Arc<S>>: [S] Arc<S>;
    &LazyLock<S, F>: [S, F: FnOnce() -> S] LazyLock<S, F>;
    Box<LazyLock<S, F>>: [S, F: FnOnce() -> S] LazyLock<S, F>;
    &Nodes<S>: [S] Nodes<S>;
    Box<Nodes<S>>: [S] Nodes<S>;
    &Split<W, R>: [W, R] Split<W, R>;
    Box<Split<W, R>>: [W, R] Split<W, R>;
);
#[cfg(feature = "r2d2")]
source_behind!(
    &diesel::r2d2::Pool<M>: [M: diesel::r2d2::ManageConnection] diesel::r2d2::Pool<M>;
    Box<diesel::r2d2::Pool<M>>: [M: diesel::r2d2::ManageConnection] diesel::r2d2::Pool<M>;
);

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
    Unfit,
    Permanent,
}

impl ConnectError {
    /// An error of connecting. dbop looks for the cause in the error and in its chain of sources: an
    /// error of Diesel, or a text of a server, a client library or a pool. If it finds none, there was
    /// no connection for a reason that may pass, and dbop retries.
    ///
    /// ```
    /// use dbop_diesel::{ConnectError, Owned, Request, Runner, Source};
    /// use diesel::prelude::*;
    ///
    /// struct Database {
    ///     url: String,
    /// }
    ///
    /// impl Source for Database {
    ///     type Conn = SqliteConnection;
    ///     type Held = Owned<SqliteConnection>;
    ///
    ///     fn connect(&self, _request: &Request<'_>) -> Result<Self::Held, ConnectError> {
    ///         SqliteConnection::establish(&self.url).map(Owned).map_err(ConnectError::new)
    ///     }
    /// }
    ///
    /// let database = Database { url: ":memory:".into() };
    /// Runner::default().run_on(&database, |_conn| QueryResult::Ok(()))?;
    /// # Ok::<(), diesel::result::Error>(())
    /// ```
    #[must_use]
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
            reason: Reason::InSource,
        }
    }

    /// An error that every other attempt would meet again, such as a missing setting. dbop does not
    /// retry that.
    ///
    /// ```
    /// use dbop_diesel::{ConnectError, Runner};
    /// use diesel::prelude::*;
    ///
    /// let connect = || {
    ///     let url = std::env::var("NO_SUCH_URL").map_err(ConnectError::permanent)?;
    ///     SqliteConnection::establish(&url).map_err(ConnectError::new)
    /// };
    /// let result = Runner::default().run_on(&connect, |_conn| Ok::<_, diesel::result::Error>(()));
    /// assert!(result.is_err());
    /// ```
    #[must_use]
    pub fn permanent(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
            reason: Reason::Permanent,
        }
    }

    /// The pool had no connection for as long as it was told to wait. dbop does not retry that: the
    /// pool has already waited.
    ///
    /// ```
    /// use dbop_diesel::{ConnectError, Runner};
    /// use diesel::prelude::*;
    ///
    /// let pool = || Err::<SqliteConnection, _>(ConnectError::pool_timeout("all are in use"));
    /// let report = Runner::default().run_on_report(&pool, |_conn| QueryResult::Ok(()));
    /// assert_eq!(report.attempts, 1);
    /// ```
    #[must_use]
    pub fn pool_timeout(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
            reason: Reason::PoolTimeout,
        }
    }

    /// The server did not answer in time. dbop retries that.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use dbop_diesel::{ConnectError, RetryPolicy, Runner};
    /// use diesel::prelude::*;
    ///
    /// let policy = RetryPolicy::new().with_max_retries(2).with_max_delay(Duration::from_millis(1));
    /// let server = || Err::<SqliteConnection, _>(ConnectError::server_timeout("no answer in 5 s"));
    /// let report = Runner::new(policy).run_on_report(&server, |_conn| QueryResult::Ok(()));
    /// assert_eq!(report.attempts, 3);
    /// ```
    #[must_use]
    pub fn server_timeout(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
            reason: Reason::ServerTimeout,
        }
    }

    /// There is a connection, but not to a server that is of use: it is not the primary, for example. Counts
    /// as not connected, whatever the text says: dbop retries that. So does any other error of your own
    /// whose text dbop does not know.
    ///
    /// ```
    /// use dbop_diesel::{ConnectError, RetryPolicy, Runner};
    /// use diesel::prelude::*;
    ///
    /// fn is_primary(_conn: &mut SqliteConnection) -> bool {
    ///     false // asks the server
    /// }
    ///
    /// let policy = RetryPolicy::new().with_max_retries(2).with_max_delay(std::time::Duration::ZERO);
    /// let primary = || {
    ///     let mut conn = SqliteConnection::establish(":memory:").map_err(ConnectError::new)?;
    ///     match is_primary(&mut conn) {
    ///         true => Ok(conn),
    ///         false => Err(ConnectError::unfit("not the primary")),
    ///     }
    /// };
    /// let report = Runner::new(policy).run_on_report(&primary, |_conn| QueryResult::Ok(()));
    /// assert_eq!(report.attempts, 3);
    /// ```
    #[must_use]
    pub fn unfit(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
            reason: Reason::Unfit,
        }
    }

    /// An error whose cause is known only as a text of the client library or server. dbop retries it
    /// unless it knows the text and no other attempt would cure the cause.
    ///
    /// ```
    /// use dbop_diesel::{ConnectError, Runner};
    /// use diesel::prelude::*;
    ///
    /// let pool = || {
    ///     let cause = "file is not a database"; // what the pool has logged
    ///     Err::<SqliteConnection, _>(ConnectError::with_text(cause, "the pool gave no connection"))
    /// };
    /// let report = Runner::default().run_on_report(&pool, |_conn| QueryResult::Ok(()));
    /// assert_eq!(report.attempts, 1);
    /// ```
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
        let of_class = |class| (Fault::from_class(dialect, class), Advice::Judge);
        match &self.reason {
            Reason::InSource => cause(dialect, &*self.source),
            Reason::Text(text) => cause_in_text(dialect, text),
            Reason::PoolTimeout => Some(pool_timeout(dialect)),
            Reason::ServerTimeout | Reason::Unfit => None,
            Reason::Permanent => Some(of_class(FaultClass::Permanent)),
        }
        .unwrap_or_else(|| of_class(FaultClass::NotConnected))
    }

    /// The text of the server, client library or pool in it, without what others put around it; else
    /// that of its innermost source.
    pub(crate) fn message(&self) -> String {
        let text = match &self.reason {
            Reason::Text(text) => text.clone(),
            _ => message_in(&*self.source),
        };
        quoted_in(&text).last().unwrap_or_default().to_owned()
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

fn message_in(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = String::new();
    for layer in layers(error) {
        if let Some(error) = layer.downcast_ref::<ConnectError>() {
            return error.message();
        }
        if let Some(error) = layer.downcast_ref() {
            return database_message(error).to_owned();
        }
        match layer.downcast_ref() {
            Some(ConnectionError::BadConnection(text)) => return text.clone(),
            Some(ConnectionError::CouldntSetupConfiguration(error)) => {
                return database_message(error).to_owned();
            }
            _ => innermost = layer.to_string(),
        }
    }
    innermost
}

type Cause = (Fault, Advice);

/// Why there is no connection, if the error says so: what is of a known type counts before any text.
fn cause(dialect: Dialect, error: &(dyn StdError + 'static)) -> Option<Cause> {
    layers(error)
        .find_map(|layer| cause_of_type(dialect, layer))
        .or_else(|| layers(error).find_map(|layer| cause_in_text(dialect, &layer.to_string())))
}

fn cause_of_type(dialect: Dialect, error: &(dyn StdError + 'static)) -> Option<Cause> {
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return Some(error.fault(dialect));
    }
    if let Some(error) = error.downcast_ref() {
        return Some(cause_of_query(dialect, error));
    }
    if let Some(error) = error.downcast_ref() {
        return Some(cause_of_connection(dialect, error));
    }
    #[cfg(feature = "r2d2")]
    match error.downcast_ref() {
        Some(diesel::r2d2::Error::ConnectionError(error)) => {
            return Some(cause_of_connection(dialect, error));
        }
        Some(diesel::r2d2::Error::QueryError(error)) => {
            return Some(cause_of_query(dialect, error));
        }
        None => {}
    }
    // A setting that dbop has refused, or an operation of the source's that has had its attempts.
    error.is::<dbop_core::Error>().then(|| {
        (
            Fault::from_class(dialect, FaultClass::Permanent),
            Advice::Judge,
        )
    })
}

fn cause_of_connection(dialect: Dialect, error: &ConnectionError) -> Cause {
    match error {
        ConnectionError::BadConnection(text) => cause_in_text(dialect, text).unwrap_or_else(|| {
            let fault = Fault::from_class(dialect, FaultClass::NotConnected);
            (fault, Advice::Judge)
        }),
        ConnectionError::CouldntSetupConfiguration(error) => cause_of_query(dialect, error),
        _ => (
            Fault::from_class(dialect, FaultClass::Permanent),
            Advice::Judge,
        ),
    }
}

/// A statement failed while connecting. `NotFound` and the like are answers.
fn cause_of_query(dialect: Dialect, error: &DieselError) -> Cause {
    // A function that sets connections up for a pool can return errors of Diesel only.
    if let DieselError::QueryBuilderError(own) = error {
        if let Some(own) = own.downcast_ref::<ConnectError>() {
            return own.fault(dialect);
        }
    }
    let fault = fault_of(dialect, error)
        .unwrap_or_else(|| Fault::from_class(dialect, FaultClass::Permanent));
    (fault.while_connecting(), Advice::Judge)
}

/// The kind is the one that only client libraries have: no statement has been sent.
fn cause_in_text(dialect: Dialect, text: &str) -> Option<Cause> {
    if POOL_TIMEOUTS.contains(&text) {
        return Some(pool_timeout(dialect));
    }
    let fault = fault_in_text(dialect, ErrorKind::UnableToSendCommand, text)?;
    Some((fault.while_connecting(), Advice::Judge))
}

/// What r2d2, deadpool, bb8 and mobc say when they have waited for as long as they were told.
const POOL_TIMEOUTS: [&str; 4] = [
    "timed out waiting for connection",
    "Timeout occurred while waiting for a slot to become available",
    "Timed out in bb8",
    "Time out in the connection pool",
];

fn pool_timeout(dialect: Dialect) -> Cause {
    let fault = Fault::from_class(dialect, FaultClass::NotConnected);
    (fault, Advice::Never)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
