//! Diesel's transaction manager: how deep it is, and what a batch makes of it.

use std::num::NonZeroU32;

use dbop_core::Dialect;
use dbop_core::machine::{BatchPurpose, DepthChange};
use diesel::QueryResult;
use diesel::connection::{InstrumentationEvent, TransactionDepthChange, TransactionManagerStatus};

/// How many transactions and savepoints are open; `None` if the transaction manager is broken.
pub fn depth(status: &TransactionManagerStatus) -> Option<u32> {
    let depth = status.transaction_depth().ok()?;
    Some(depth.map_or(0, NonZeroU32::get))
}

/// What Diesel's instrumentation is told about a batch of an operation that began at `base` open
/// transactions and savepoints: what it would be told about Diesel's own.
#[must_use]
pub fn instrumentation_event(
    purpose: BatchPurpose,
    base: u32,
) -> Option<InstrumentationEvent<'static>> {
    let level = NonZeroU32::MIN.saturating_add(base);
    match purpose {
        BatchPurpose::Begin => Some(InstrumentationEvent::begin_transaction(level)),
        BatchPurpose::Commit => Some(InstrumentationEvent::commit_transaction(level)),
        BatchPurpose::Ask => instrumentation_event(BatchPurpose::Begin, base),
        BatchPurpose::CommitAnswer => instrumentation_event(BatchPurpose::Commit, base),
        BatchPurpose::Rollback => Some(InstrumentationEvent::rollback_transaction(level)),
        BatchPurpose::BeginAgain
        | BatchPurpose::CommitAgain
        | BatchPurpose::RollbackAgain
        | BatchPurpose::CheckUndone
        | BatchPurpose::Contain => None,
    }
}

/// Puts the status of the transaction manager back after a batch, and changes its depth.
///
/// While a batch is in progress the status is `InError`. A connection on which the answer was never
/// awaited so refuses every further transaction, and pools throw it away.
///
/// # Errors
///
/// The error of the batch.
pub fn settle(
    status: &mut TransactionManagerStatus,
    saved: TransactionManagerStatus,
    dialect: Dialect,
    purpose: BatchPurpose,
    base: u32,
    result: QueryResult<()>,
) -> QueryResult<()> {
    // Whatever the connection made of the batch by itself: what counts is what we know.
    *status = saved;
    let TransactionManagerStatus::Valid(valid) = status else {
        return result;
    };
    match purpose.depth_change(result.is_ok()) {
        DepthChange::Open => {
            valid.change_transaction_depth(TransactionDepthChange::IncreaseDepth)?;
            // When the server drops the whole transaction, the ROLLBACK TO of a nested transaction
            // of Diesel's own fails. With this, Diesel hands on the error that led to it.
            if dialect == Dialect::Mysql {
                status.set_requires_rollback_maybe_up_to_top_level(true);
            }
        }
        // Whatever the body left open goes with it; and a failed ROLLBACK leaves nothing that a
        // second one could roll back better.
        DepthChange::Close => {
            while valid.transaction_depth().map_or(0, NonZeroU32::get) > base {
                valid.change_transaction_depth(TransactionDepthChange::DecreaseDepth)?;
            }
            // A statement that failed in there is undone, so Diesel need not fear for the rest.
            if result.is_ok() && dialect != Dialect::Mysql {
                status.set_requires_rollback_maybe_up_to_top_level(false);
            }
        }
        DepthChange::None => {}
    }
    result
}
