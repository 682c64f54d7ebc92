//! What holds on every backend and every kind of connection.

use super::*;

mod basics;
mod fallback;
mod forgetting;
mod hooks;
mod nesting;
mod panics;
mod without_transaction;
