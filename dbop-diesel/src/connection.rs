//! The one primitive that opens and closes transactions and savepoints.

use std::num::NonZeroU32;

use dbop_core::{Batch, Purpose};
use diesel::QueryResult;
use diesel::connection::{CacheSize, Connection as DieselConnection};
use diesel::connection::{
    InstrumentationEvent, LoadConnection, TransactionDepthChange, TransactionManager,
    TransactionManagerStatus,
};

use crate::SupportedBackend;

/// A connection that operations can run on: `PgConnection`, `MysqlConnection`, `SqliteConnection`
/// and r2d2's `PooledConnection` of each. Implemented for everything that fits; use it as a bound
/// in generic code.
///
/// ```
/// use diesel::prelude::*;
/// use dbop_diesel::{Connection, Runner};
///
/// fn nothing<C: Connection>(runner: &Runner, conn: &mut C) -> QueryResult<()> {
///     runner.run(conn, |_conn| Ok(()))
/// }
/// ```
pub trait Connection: DieselConnection<Backend: SupportedBackend> + LoadConnection {}

impl<C> Connection for C where C: DieselConnection<Backend: SupportedBackend> + LoadConnection {}

/// The transaction manager's status of a connection, the raw one inside a pooled one.
pub(crate) fn status<C: DieselConnection>(conn: &mut C) -> &mut TransactionManagerStatus {
    C::TransactionManager::transaction_manager_status_mut(conn)
}

/// How many transactions and savepoints are open; `None` if the transaction manager is broken.
pub(crate) fn depth<C: DieselConnection>(conn: &mut C) -> Option<u32> {
    let depth = status(conn).transaction_depth().ok()?;
    Some(depth.map_or(0, NonZeroU32::get))
}

/// Sends a batch of an operation that began at `base` open transactions and savepoints, and keeps
/// Diesel's own count right.
///
/// While the batch is under way the transaction manager is in its error state, so that a
/// connection on which it never came back refuses every further transaction, and pools throw it
/// away.
pub(crate) fn execute<C: DieselConnection>(
    conn: &mut C,
    batch: Batch<'_>,
    base: u32,
) -> QueryResult<()> {
    let level = NonZeroU32::MIN.saturating_add(base);
    let event = match batch.purpose {
        Purpose::Begin => Some(InstrumentationEvent::begin_transaction(level)),
        Purpose::Commit => Some(InstrumentationEvent::commit_transaction(level)),
        Purpose::Rollback => Some(InstrumentationEvent::rollback_transaction(level)),
        Purpose::RollbackAgain | Purpose::Contain => None,
    };
    if let Some(event) = event {
        conn.instrumentation().on_connection_event(event);
    }

    let saved = std::mem::replace(status(conn), TransactionManagerStatus::InError);
    let result = conn.batch_execute(batch.sql);
    let status = status(conn);
    *status = saved;

    let TransactionManagerStatus::Valid(valid) = status else {
        return result;
    };
    match (batch.purpose, &result) {
        (Purpose::Begin, Ok(())) => {
            valid.change_transaction_depth(TransactionDepthChange::IncreaseDepth)?;
        }
        // Whatever the body left open goes with it; and a failed ROLLBACK leaves nothing that a
        // second one could roll back better.
        (Purpose::Commit, Ok(())) | (Purpose::Rollback, _) => {
            while valid.transaction_depth().map_or(0, NonZeroU32::get) > base {
                valid.change_transaction_depth(TransactionDepthChange::DecreaseDepth)?;
            }
            // A statement that failed in there is undone, so Diesel need not fear for the rest.
            if result.is_ok() {
                status.set_requires_rollback_maybe_up_to_top_level(false);
            }
        }
        _ => {}
    }
    result
}

/// Forgets the prepared statements, whose plans no longer fit the schema.
pub(crate) fn clear_statement_cache<C: DieselConnection>(conn: &mut C) {
    // A connection without a cache has no stale plans, so the cache was on.
    conn.set_prepared_statement_cache_size(CacheSize::Disabled);
    conn.set_prepared_statement_cache_size(CacheSize::Unbounded);
}
