//! What is retried, how often, and what is not.

use super::*;

mod budget;
mod classes;
mod displaced;
mod judged;
mod limits;
mod negative;
mod own_errors;
#[allow(dead_code, reason = "not every backend has rows of every kind")]
pub(super) mod rows;
pub(super) mod walk;
