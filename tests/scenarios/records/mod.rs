//! What an operation tells: records, observers, reports, Diesel's instrumentation.

use super::*;

mod instrumentation;
mod logging;
mod observing;
mod reports;
