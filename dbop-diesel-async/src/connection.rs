//! The one primitive that opens and closes transactions and savepoints.

use dbop_core::machine::Batch;
use diesel::QueryResult;
use diesel::connection::TransactionManagerStatus;
use diesel_async::{AsyncConnection, TransactionManager};

use dbop_diesel::SupportedBackend as _;
use dbop_diesel::adapter::statements::{is_of_pooler, sizes_to_forget};
use dbop_diesel::adapter::status::{instrumentation_event, settle};

use crate::backend::SupportedBackend;

/// A connection that operations can run on: `AsyncPgConnection`, `AsyncMysqlConnection`,
/// `SyncConnectionWrapper<SqliteConnection>`, and what the pools of diesel-async hand out.
/// Implemented for everything that fits; use it as a bound in generic code.
///
/// ```
/// use dbop_diesel_async::{Runner, SupportedConnection};
/// use diesel::prelude::*;
///
/// async fn nothing<C: SupportedConnection>(runner: &Runner, conn: &mut C) -> QueryResult<()> {
///     runner.run(conn, async |_conn: &mut C| Ok(())).await
/// }
/// ```
pub trait SupportedConnection: AsyncConnection<Backend: SupportedBackend> {}

impl<C> SupportedConnection for C where C: AsyncConnection<Backend: SupportedBackend> {}

/// The transaction manager's status of a connection, the raw one inside a pooled one.
pub(crate) fn status<C: AsyncConnection>(conn: &mut C) -> &mut TransactionManagerStatus {
    C::TransactionManager::transaction_manager_status_mut(conn)
}

/// Sends a batch of an operation that began at `base` open transactions and savepoints.
pub(crate) async fn execute<C: SupportedConnection>(
    conn: &mut C,
    batch: Batch<'_>,
    base: u32,
) -> QueryResult<()> {
    if let Some(event) = instrumentation_event(batch.purpose, base) {
        conn.instrumentation().on_connection_event(event);
    }
    let saved = std::mem::replace(status(conn), TransactionManagerStatus::InError);
    let result = conn.batch_execute(batch.sql).await;
    let dialect = C::Backend::DIALECT;
    settle(status(conn), saved, dialect, batch.purpose, base, result)
}

/// Forgets the prepared statements, whose plans no longer fit the schema. The cache stays as the caller
/// has set it, on or off. Returns whether a pooler keeps them as well.
pub(crate) async fn clear_statement_cache<C: SupportedConnection>(conn: &mut C) -> bool {
    let first = <C::Backend as SupportedBackend>::read_cache_mark(conn).await;
    let second = <C::Backend as SupportedBackend>::read_cache_mark(conn).await;
    let pooler_keeps_statements = is_of_pooler(&second);
    for &size in sizes_to_forget(C::Backend::DIALECT, first, second) {
        conn.set_prepared_statement_cache_size(size);
    }
    pooler_keeps_statements
}
