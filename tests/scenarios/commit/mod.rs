//! COMMIT tells the truth: lost answers, `verify`, ledger. On servers.

use super::*;

mod asking;
mod faults;
mod forgetting;
mod hooks;
mod keys;
pub(super) mod ledger;
pub(super) mod lost;
mod matrix;
pub(super) mod question;
