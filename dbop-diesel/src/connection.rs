//! The one primitive that opens and closes transactions and savepoints.

use dbop_core::machine::Batch;
use diesel::QueryResult;
use diesel::connection::{
    Connection as DieselConnection, LoadConnection, TransactionManager, TransactionManagerStatus,
};

use crate::adapter::statements::{is_of_pooler, sizes_to_forget};
use crate::adapter::status::{instrumentation_event, settle};
use crate::backend::SupportedBackend;

/// A connection that operations can run on: `PgConnection`, `MysqlConnection`, `SqliteConnection`
/// and r2d2's `PooledConnection` of each. Implemented for everything that fits; use it as a bound
/// in generic code.
///
/// ```
/// use diesel::prelude::*;
/// use dbop_diesel::{Runner, SupportedConnection};
///
/// fn nothing<C: SupportedConnection>(runner: &Runner, conn: &mut C) -> QueryResult<()> {
///     runner.run(conn, |_conn| Ok(()))
/// }
/// ```
pub trait SupportedConnection:
    DieselConnection<Backend: SupportedBackend> + LoadConnection
{
}

impl<C> SupportedConnection for C where
    C: DieselConnection<Backend: SupportedBackend> + LoadConnection
{
}

/// The transaction manager's status of a connection, the raw one inside a pooled one.
pub(crate) fn status<C: DieselConnection>(conn: &mut C) -> &mut TransactionManagerStatus {
    C::TransactionManager::transaction_manager_status_mut(conn)
}

/// Sends a batch of an operation that began at `base` open transactions and savepoints.
pub(crate) fn execute<C: SupportedConnection>(
    conn: &mut C,
    batch: Batch<'_>,
    base: u32,
) -> QueryResult<()> {
    if let Some(event) = instrumentation_event(batch.purpose, base) {
        conn.instrumentation().on_connection_event(event);
    }
    let saved = std::mem::replace(status(conn), TransactionManagerStatus::InError);
    let result = match batch.is_compound {
        true => C::Backend::send_as_one(conn, batch),
        false => C::Backend::send(conn, batch.sql),
    };
    let dialect = C::Backend::DIALECT;
    settle(status(conn), saved, dialect, batch.purpose, base, result)
}

/// Forgets the prepared statements, whose plans no longer fit the schema. The cache stays as the caller
/// has set it, on or off. Returns whether a pooler keeps them as well.
pub(crate) fn clear_statement_cache<C: SupportedConnection>(conn: &mut C) -> bool {
    let first = C::Backend::read_cache_mark(conn);
    let second = C::Backend::read_cache_mark(conn);
    let pooler_keeps_statements = is_of_pooler(&second);
    for &size in sizes_to_forget(C::Backend::DIALECT, first, second) {
        conn.set_prepared_statement_cache_size(size);
    }
    pooler_keeps_statements
}
