//! What an operation costs: statements and round trips.

use super::*;

mod retention;
pub(super) mod round_trips;
pub(super) mod statements;
