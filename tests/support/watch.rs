use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use diesel::connection::{Connection, TransactionManager, TransactionManagerStatus};
use log::LevelFilter;

use crate::{Capture, Captured};

/// What a panic came with, or what there is without one.
///
/// # Errors
///
/// The payload of the panic.
pub fn caught<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

/// What comes out of a function that calls itself: a future in a box for the async adapter.
pub type Deep<'a, T> = T;

/// Calls it.
pub fn deep<T>(f: impl FnOnce() -> T) -> T {
    f()
}

/// How many transactions and savepoints Diesel thinks are open. `None` if the connection refuses
/// to have any.
pub fn depth<C: Connection>(conn: &mut C) -> Option<u32> {
    match C::TransactionManager::transaction_manager_status_mut(conn) {
        TransactionManagerStatus::Valid(status) => {
            Some(status.transaction_depth().map_or(0, u32::from))
        }
        TransactionManagerStatus::InError => None,
    }
}

/// Whether Diesel's `begin_test_transaction` is in force: a transaction is open, and pools do not
/// mind.
pub fn is_test_transaction<C: Connection>(conn: &mut C) -> bool {
    depth(conn) > Some(0) && !C::TransactionManager::is_broken_transaction_manager(conn)
}

/// The records that the global logger got about this operation.
#[must_use]
pub fn global_records(operation: &str) -> Vec<Captured> {
    static GLOBAL: LazyLock<&'static Capture> = LazyLock::new(|| {
        let capture: &Capture = Box::leak(Box::default());
        log::set_logger(capture).expect("no other logger");
        log::set_max_level(LevelFilter::Trace);
        capture
    });
    let mut records = GLOBAL.records();
    records.retain(|record| {
        record
            .keys
            .get("operation")
            .is_some_and(|it| it == operation)
    });
    records
}
