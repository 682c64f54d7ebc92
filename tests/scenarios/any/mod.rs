//! What holds on every backend and every kind of connection.

use super::*;

mod basics;
mod fallback;
mod nesting;
mod panics;
