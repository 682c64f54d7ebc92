//! Where fresh connections come from.

use std::error::Error as StdError;
use std::future::Future;
use std::ops::DerefMut;
use std::sync::{Arc, LazyLock};

#[cfg(any(feature = "deadpool", feature = "bb8", feature = "mobc"))]
use diesel_async::pooled_connection::PoolError;
#[cfg(feature = "bb8")]
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolableConnection};

use dbop_diesel::{ConnectError, Fault, Nodes, Owned, Request, Split};

use crate::connection::{SupportedConnection, status};

/// A source of connections, for [`Runner::run_on`](crate::Runner::run_on): a pool, or a closure
/// that opens a connection.
///
/// Implemented for closures, for [`Nodes`] and [`Split`], for an `Arc` or a `LazyLock` of any source and, with the
/// features `deadpool`, `bb8` and `mobc`, for the pools of diesel-async. A reference to one of these, or a `Box`
/// around it, is a source as well. That is not so for every type: a closure behind a reference is a closure, for the
/// language, so an implementation for all references would overlap with that for closures. For a type of your own,
/// implement it for the type, and share it in an `Arc`. Operations run on the connection itself,
/// not on what a pool puts around it, so a function that takes `&mut AsyncPgConnection` can be given by
/// its name. A closure's connection is used for one run, kept between its attempts as long as it is
/// healthy, and closed at the end of the run; operations get it as the closure returns it.
///
/// A closure can return any error. What Diesel, a server or a pool says in it counts as if they had
/// been asked directly, also where a setup function of your own has made a
/// `ConnectionError::BadConnection` of it. Anything else counts as "not connected", which is retried.
/// For an error that no other attempt cures, such as a missing setting, return
/// [`ConnectError::permanent`].
///
/// bb8 keeps retrying on its own for `connection_timeout` (30 s by default), even after a wrong
/// password, and every attempt waits for it. In the end it does not report the cause, so dbop does
/// not retry. Shorten the timeout, and give bb8 an `error_sink`, to which it reports the cause.
///
/// ```
/// use dbop_diesel_async::Runner;
/// use diesel::prelude::*;
/// use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
/// use diesel_async::{AsyncConnection, RunQueryDsl};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let runner = Runner::default();
/// let connect = || SyncConnectionWrapper::<SqliteConnection>::establish(":memory:");
/// let two: i32 = runner.run_on(&connect, async |conn| {
///     diesel::select(1.into_sql::<diesel::sql_types::Integer>() + 1).get_result(conn).await
/// }).await?;
/// assert_eq!(two, 2);
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of connections",
    label = "not a pool or a closure that connects",
    note = "pass a reference to a closure `|| Conn::establish(&url)`, or to a pool of diesel-async \
            with the feature of its name; use `run` on a connection that you already have"
)]
pub trait Source: Sync {
    /// The connection that operations run on.
    type Conn: SupportedConnection;

    /// What the source hands out and takes back: what a pool lends, or [`Owned`] around a connection.
    type Held: DerefMut<Target = Self::Conn> + Send;

    /// Whether it is cheap to return a connection and to get it again. If so, the connection is
    /// returned during a delay of 10 ms or more between two attempts. Defaults to `true`.
    const IS_POOL: bool = true;

    /// Gets a connection. The request says what for, and within which time; when that is over, the future
    /// is dropped.
    ///
    /// # Errors
    ///
    /// If no connection is available.
    fn connect(
        &self,
        request: &Request<'_>,
    ) -> impl Future<Output = Result<Self::Held, ConnectError>> + Send;

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
pub fn broken<C: SupportedConnection>(conn: &mut C) {
    status(conn).set_in_error();
}

impl<F, Fut, C, E> Source for F
where
    F: Fn() -> Fut + Sync,
    Fut: Future<Output = Result<C, E>> + Send,
    C: SupportedConnection,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    type Conn = C;
    type Held = Owned<C>;

    const IS_POOL: bool = false;

    async fn connect(&self, _request: &Request<'_>) -> Result<Owned<C>, ConnectError> {
        self()
            .await
            .map(Owned)
            .map_err(|error| of_closure(error.into()))
    }
}

/// A pool in a closure is a pool all the same.
fn of_closure(error: Box<dyn StdError + Send + Sync>) -> ConnectError {
    #[cfg(feature = "deadpool")]
    let error = match error.downcast() {
        Ok(error) => return of_deadpool(*error),
        Err(error) => error,
    };
    #[cfg(feature = "bb8")]
    let error = match error.downcast() {
        Ok(error) => return of_bb8(*error),
        Err(error) => error,
    };
    #[cfg(feature = "mobc")]
    let error = match error.downcast() {
        Ok(error) => return of_mobc(*error),
        Err(error) => error,
    };
    #[cfg(any(feature = "deadpool", feature = "bb8", feature = "mobc"))]
    let error = match error.downcast() {
        Ok(error) => return of_diesel_async(*error),
        Err(error) => error,
    };
    ConnectError::new(error)
}

/// deadpool keeps a broken connection until its next checkout, so dbop takes it out.
#[cfg(feature = "deadpool")]
impl<M> Source for deadpool::managed::Pool<M>
where
    M: deadpool::managed::Manager<Error = PoolError>,
    M::Type: SupportedConnection,
{
    type Conn = M::Type;
    type Held = deadpool::managed::Object<M>;

    async fn connect(&self, _request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        self.get().await.map_err(of_deadpool)
    }

    fn discard(&self, held: Self::Held, _why: Option<Fault>) {
        drop(deadpool::managed::Object::take(held));
    }
}

#[cfg(feature = "deadpool")]
fn of_deadpool(error: deadpool::managed::PoolError<PoolError>) -> ConnectError {
    use deadpool::managed::{PoolError, TimeoutType};

    match error {
        PoolError::Backend(error) => of_diesel_async(error),
        PoolError::Timeout(TimeoutType::Wait) => ConnectError::pool_timeout(error),
        // The pool had room, but the server did not answer.
        PoolError::Timeout(_) => ConnectError::server_timeout(error),
        PoolError::Closed | PoolError::NoRuntimeSpecified => ConnectError::permanent(error),
        PoolError::PostCreateHook(_) => ConnectError::new(error),
    }
}

/// bb8 checks a connection when it is returned.
#[cfg(feature = "bb8")]
impl<C> Source for bb8::Pool<AsyncDieselConnectionManager<C>>
where
    C: SupportedConnection + PoolableConnection + 'static,
    AsyncDieselConnectionManager<C>: bb8::ManageConnection<Connection = C, Error = PoolError>,
{
    type Conn = C;
    type Held = bb8::PooledConnection<'static, AsyncDieselConnectionManager<C>>;

    async fn connect(&self, _request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        self.get_owned().await.map_err(of_bb8)
    }
}

#[cfg(feature = "bb8")]
fn of_bb8(error: bb8::RunError<PoolError>) -> ConnectError {
    match error {
        bb8::RunError::User(error) => of_diesel_async(error),
        bb8::RunError::TimedOut => ConnectError::pool_timeout(error),
    }
}

/// diesel-async 0.9 tells mobc the opposite of whether a connection is broken, so dbop takes it out.
#[cfg(feature = "mobc")]
impl<M> Source for mobc::Pool<M>
where
    M: mobc::Manager<Error = PoolError>,
    M::Connection: SupportedConnection,
{
    type Conn = M::Connection;
    type Held = mobc::Connection<M>;

    async fn connect(&self, _request: &Request<'_>) -> Result<Self::Held, ConnectError> {
        self.get().await.map_err(of_mobc)
    }

    fn discard(&self, held: Self::Held, _why: Option<Fault>) {
        drop(held.into_inner());
    }
}

#[cfg(feature = "mobc")]
fn of_mobc(error: mobc::Error<PoolError>) -> ConnectError {
    match error {
        mobc::Error::Inner(error) => of_diesel_async(error),
        mobc::Error::Timeout => ConnectError::pool_timeout(error),
        mobc::Error::PoolClosed => ConnectError::permanent(error),
        _ => ConnectError::new(error),
    }
}

/// A source behind a pointer. `&S` and `Box<S>` are not written for every `S`: a closure behind one of
/// them is a closure, for the language, and the two would overlap.
macro_rules! source_behind {
    ($($pointer:ty: [$($generics:tt)*] $source:ty;)*) => {$(
        impl<$($generics)*> Source for $pointer
        where
            $source: Source,
            Self: Sync,
        {
            type Conn = <$source as Source>::Conn;
            type Held = <$source as Source>::Held;

            const IS_POOL: bool = <$source as Source>::IS_POOL;

            fn connect(
                &self,
                request: &Request<'_>,
            ) -> impl Future<Output = Result<Self::Held, ConnectError>> + Send {
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
#[cfg(feature = "deadpool")]
source_behind!(
    &deadpool::managed::Pool<M>: [M: deadpool::managed::Manager] deadpool::managed::Pool<M>;
    Box<deadpool::managed::Pool<M>>: [M: deadpool::managed::Manager] deadpool::managed::Pool<M>;
);
#[cfg(feature = "bb8")]
source_behind!(
    &bb8::Pool<M>: [M: bb8::ManageConnection] bb8::Pool<M>;
    Box<bb8::Pool<M>>: [M: bb8::ManageConnection] bb8::Pool<M>;
);
#[cfg(feature = "mobc")]
source_behind!(
    &mobc::Pool<M>: [M: mobc::Manager] mobc::Pool<M>;
    Box<mobc::Pool<M>>: [M: mobc::Manager] mobc::Pool<M>;
);

/// The pools of diesel-async do not report the cause as a source of their errors.
#[cfg(any(feature = "deadpool", feature = "bb8", feature = "mobc"))]
fn of_diesel_async(error: PoolError) -> ConnectError {
    match error {
        PoolError::ConnectionError(error) => ConnectError::new(error),
        PoolError::QueryError(error) => ConnectError::new(error),
    }
}
