//! PostgreSQL's own errors, locks and settings.

use super::*;

mod batches;
mod commit;
mod connection;
mod deadlock;
mod documented_options;
mod drop_in;
pub(super) mod effect;
mod ended;
mod engines;
mod judged;
mod languages;
mod leaks;
mod learned;
mod ledger;
mod locks;
mod lost_connection;
mod plan;
mod pooler;
mod pooler_safe;
mod provoked;
mod serialization;
mod settings;
mod stale_savepoint;
mod steps;
mod swallowed_deadlock;
mod synchronous_commit;
mod transaction_status;
mod without_transaction;
mod wrapped;
