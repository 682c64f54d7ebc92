//! COMMIT tells the truth: lost answers, `verify`, ledger. On servers.

use super::*;

mod asking;
mod hooks;
pub(super) mod ledger;
pub(super) mod lost;
mod matrix;
