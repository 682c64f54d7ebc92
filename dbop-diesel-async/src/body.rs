//! What an async operation is.

use std::future::Future;

/// An operation: an async closure or an async function that takes the connection and returns a
/// `Send` future, and that can be cloned for each attempt. Implemented for everything that fits.
///
/// It can borrow (`async |conn| ..`), own (`async move |conn| ..`) or be a plain `async fn`. A
/// captured `&mut` cannot be cloned and so does not compile: an attempt must not see what an
/// earlier attempt has changed.
///
/// ```
/// # use dbop_diesel_async::Runner;
/// # use diesel::prelude::*;
/// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
/// # use diesel_async::{AsyncConnection, RunQueryDsl};
/// # type Conn = SyncConnectionWrapper<SqliteConnection>;
/// use dbop_diesel_async::Body;
///
/// /// Runs any operation with a name.
/// async fn named<B>(runner: &Runner, conn: &mut Conn, name: &str, body: B) -> QueryResult<usize>
/// where
///     B: for<'r> Body<&'r mut Conn, QueryResult<usize>>,
/// {
///     runner.operation(name).run(conn, body).await
/// }
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let mut conn = Conn::establish(":memory:").await?;
///
/// named(&Runner::default(), &mut conn, "create", async |conn: &mut Conn| {
///     diesel::sql_query("CREATE TABLE users (id INTEGER)").execute(conn).await
/// }).await?;
/// # Ok(()) }
/// ```
///
/// [The guide](dbop_diesel::guide::adopting) has helpers that keep the name of their caller in the log.
#[diagnostic::on_unimplemented(
    message = "this cannot be run as an operation",
    label = "not an operation on this connection",
    note = "an operation is an `async |conn| ..` closure or an `async fn` that returns a \
            `Result`, is `Clone` and has a `Send` future",
    note = "a closure that captures `&mut` is not `Clone`: every attempt has to start from the \
            same state, so return the result from the operation instead",
    note = "on a connection of a pool, `run(&mut *conn, ..)` or `run_on(&pool, ..)` gives the \
            operation the connection itself, without what the pool puts around it",
    note = "if the future cannot be `Send`, `runner.operation(..).run_local(conn, ..)` and \
            `run_on_local(&pool, ..)` run it on this thread"
)]
pub trait Body<C, R>: AsyncFnOnce(C) -> R + FnOnce(C) -> Self::Future + Clone + Send {
    /// The future that a call returns.
    type Future: Future<Output = R> + Send;
}

impl<F, C, R, Fut> Body<C, R> for F
where
    F: AsyncFnOnce(C) -> R + FnOnce(C) -> Fut + Clone + Send,
    Fut: Future<Output = R> + Send,
{
    type Future = Fut;
}

/// What is called in each attempt: a [`Body`], or one whose errors are turned into another type.
pub(crate) trait Work<C, T, E>: Clone + Send {
    fn start(self, conn: &mut C) -> impl Future<Output = Result<T, E>> + Send;
}

impl<B, C, T, E> Work<C, T, E> for B
where
    B: for<'r> Body<&'r mut C, Result<T, E>>,
{
    fn start(self, conn: &mut C) -> impl Future<Output = Result<T, E>> + Send {
        self(conn)
    }
}
