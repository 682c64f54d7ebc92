//! Settings and deadlines that are asked for are in force, or refused.

use super::*;

mod common;
pub(super) mod deadline;
mod ladder;
mod read_only;
mod refused;
mod steps;
