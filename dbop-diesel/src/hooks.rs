//! Hooks that the body of an operation registers.

use dbop_core::machine::{Hook, register_hook};
use diesel::QueryResult;

use crate::connection::{SupportedConnection, status};
use crate::error::OperationError as _;

/// Calls this function once, after the COMMIT of the operation that is running on this connection.
///
/// It is for what the database cannot undo: a message to a queue, a cache that has to forget a row. It
/// belongs to the attempt that registers it. When the attempt is rolled back, it is dropped; the next
/// attempt registers its own. In a nested operation it waits for the outermost one to commit. It is not
/// called after an unknown outcome, unless the COMMIT was found.
///
/// Hooks are called in the order in which they were registered, when the connection is back in its
/// source. One that panics does not stop the others; then the panic continues, and the work is committed
/// all the same. A process that dies between the COMMIT and the hook does not call it: what must not be
/// lost belongs into a table, in the same transaction ([the guide](crate::guide::hooks) has an example).
///
/// A savepoint of Diesel's own, `conn.transaction(..)` in the body, is not seen: a hook that is
/// registered in one that is rolled back is called.
///
/// ```
/// # use diesel::prelude::*;
/// use std::sync::{Arc, Mutex};
///
/// use dbop_diesel::{Runner, after_commit};
///
/// # diesel::table! { users { id -> Integer, name -> Text } }
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// # diesel::sql_query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)").execute(&mut conn)?;
/// let sent = Arc::new(Mutex::new(Vec::new())); // a queue, for example
/// Runner::default().run(&mut conn, |conn| {
///     let sent = Arc::clone(&sent);
///     diesel::insert_into(users::table).values(users::name.eq("Ada")).execute(conn)?;
///     after_commit(conn, move || sent.lock().unwrap().push("Welcome, Ada"))
/// })?;
/// assert_eq!(*sent.lock().unwrap(), ["Welcome, Ada"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// One of dbop's errors, as Diesel's, so that the body can return it with `?`
/// ([`is_hook_refused`](crate::Error::is_hook_refused)): if no body of an operation is running on this
/// connection, and if the operation runs in the caller's transaction, whose commit dbop does not see
/// (a runner [`for_tests`](crate::Runner::for_tests) takes the end of the outermost operation for it).
pub fn after_commit<C, H>(conn: &mut C, hook: H) -> QueryResult<()>
where
    C: SupportedConnection,
    H: FnOnce() + Send + 'static,
{
    let key = std::ptr::from_mut(status(conn)).addr();
    register_hook(key, Hook::sync(hook)).map_err(diesel::result::Error::from_dbop)
}
