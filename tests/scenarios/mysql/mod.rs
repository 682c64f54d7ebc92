//! The errors, locks and settings of MySQL and MariaDB.

use super::*;

mod batches;
mod caller_deadlock;
mod closing;
mod connection;
mod deadlock;
pub(super) mod effect;
mod errors;
mod implicit_commit;
mod languages;
mod leaks;
mod ledger;
mod lock_timeout;
mod nested_deadlock;
mod outcomes;
mod outliving;
mod plan;
mod pooler_safe;
mod position;
mod provoked;
mod server;
mod session;
mod settings;
mod signal;
mod snapshot;
mod steps;
#[path = "../commit/transaction_status_elsewhere.rs"]
mod transaction_status_elsewhere;
