//! Hooks that the body of an operation registers, and how hooks are called.

use std::future::Future;
use std::pin::{Pin, pin};

use dbop_core::machine::{DueHooks, Hook, register_hook};
use dbop_diesel::OperationError as _;
use dbop_diesel::adapter::Run;
use diesel::QueryResult;

use crate::caught::caught;
use crate::connection::{SupportedConnection, status};

/// Calls this async function once and awaits it, after the COMMIT of the operation that is running on
/// this connection.
///
/// It is for what the database cannot undo: a message to a queue, a cache that has to forget a row. It
/// belongs to the attempt that registers it. When the attempt is rolled back, it is dropped; the next
/// attempt registers its own. In a nested operation it waits for the outermost one to commit. It is not
/// called after an unknown outcome, unless the COMMIT was found.
///
/// Hooks are called in the order in which they were registered, one after the other, when the connection
/// is back in its source. One that panics does not stop the others; then the panic continues, and the work
/// is committed all the same. A run that is dropped after its COMMIT was sent calls none, or no further
/// one. Nor does a process that dies: what must not be lost belongs into a table, in the same transaction
/// ([the guide](dbop_diesel::guide::hooks) has an example).
///
/// A savepoint of Diesel's own, `conn.transaction(..)` in the body, is not seen: a hook that is
/// registered in one that is rolled back is called.
///
/// ```
/// # use diesel::prelude::*;
/// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
/// # use diesel_async::AsyncConnection;
/// use dbop_diesel_async::{Runner, after_commit};
/// use diesel_async::RunQueryDsl;
/// use tokio::sync::mpsc;
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
/// let (queue, mut mails) = mpsc::channel(8);
/// Runner::default().run(&mut conn, async |conn| {
///     let queue = queue.clone();
///     diesel::sql_query("CREATE TABLE users AS SELECT 'Ada' AS name").execute(conn).await?;
///     after_commit(conn, async move || {
///         queue.send("Welcome, Ada").await.ok();
///     })
/// }).await?;
/// assert_eq!(mails.try_recv()?, "Welcome, Ada");
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// One of dbop's errors, as Diesel's, so that the body can return it with `?`
/// ([`is_hook_refused`](crate::Error::is_hook_refused)): if no body of an operation is running on this
/// connection, if that is one of a sync run, and if the operation runs in the caller's transaction, whose
/// commit dbop does not see (a runner [`for_tests`](crate::Runner::for_tests) takes the end of the
/// outermost operation for it).
pub fn after_commit<C, H, F>(conn: &mut C, hook: H) -> QueryResult<()>
where
    C: SupportedConnection,
    H: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    register(conn, Hook::awaited(hook))
}

/// Calls this function once, after the COMMIT of the operation that is running on this connection: as
/// [`after_commit`], for a function that is not async.
///
/// ```
/// # use diesel::prelude::*;
/// # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
/// # use diesel_async::AsyncConnection;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// use dbop_diesel_async::{Runner, after_commit_sync};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
/// let commits = Arc::new(AtomicU32::new(0));
/// Runner::default().run(&mut conn, async |conn| {
///     let commits = Arc::clone(&commits);
///     after_commit_sync(conn, move || {
///         commits.fetch_add(1, Ordering::Relaxed);
///     })
/// }).await?;
/// assert_eq!(commits.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// As [`after_commit`].
pub fn after_commit_sync<C, H>(conn: &mut C, hook: H) -> QueryResult<()>
where
    C: SupportedConnection,
    H: FnOnce() + Send + 'static,
{
    register(conn, Hook::sync(hook))
}

fn register<C: SupportedConnection>(conn: &mut C, hook: Hook) -> QueryResult<()> {
    let key = std::ptr::from_mut(status(conn)).addr();
    register_hook(key, hook).map_err(diesel::result::Error::from_dbop)
}

/// Calls these hooks of a run. In a box: a run without hooks has no room for their future.
pub(crate) fn call_hooks<'r>(
    run: &'r mut Run<'_>,
    mut due: DueHooks<'r>,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'r>> {
    Box::pin(async move {
        while let Some(hook) = due.next_due() {
            let end = {
                let mut future = pin!(None);
                caught(run.trace(), None, future.as_mut(), move || hook.call()).await
            };
            run.hook_called(end.map(|_| ()));
        }
    })
}
