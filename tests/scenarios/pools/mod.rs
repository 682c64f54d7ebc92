//! What holds on a pooled connection.

use super::*;

mod leaks;
mod pool;
