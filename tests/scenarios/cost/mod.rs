//! What an operation costs: statements and round trips.

use super::*;

pub(super) mod round_trips;
pub(super) mod statements;
