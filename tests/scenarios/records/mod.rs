//! What an operation tells: records, reports, Diesel's instrumentation.

use super::*;

mod instrumentation;
mod logging;
mod reports;
