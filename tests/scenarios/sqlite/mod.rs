//! SQLite's own errors, locks and pragmas.

use super::*;

mod batches;
mod begun_in_sql;
mod busy;
mod commit;
mod commit_matrix;
mod effect;
mod leaks;
mod limits;
mod loss;
mod provoked;
mod round_trips;
mod settings;
mod snapshot;
mod steps;
#[path = "../commit/transaction_status_elsewhere.rs"]
mod transaction_status_elsewhere;
