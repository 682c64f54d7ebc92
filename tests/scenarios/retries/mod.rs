//! What is retried, how often, and what is not.

use super::*;

mod displaced;
mod limits;
mod negative;
mod own_errors;
