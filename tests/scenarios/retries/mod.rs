//! What is retried, how often, and what is not.

use super::*;

mod displaced;
mod judged;
mod limits;
mod negative;
mod own_errors;
