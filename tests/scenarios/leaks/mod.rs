//! Whatever an operation sets, the session is afterwards what it was before.

use super::*;

mod levels;
mod model;
mod nesting;
mod plans;
