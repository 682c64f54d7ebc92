//! What several nodes have in common in both adapters.

use std::error::Error as StdError;
use std::fmt;

use dbop_core::{Advice, Dialect, Fault};

use crate::source::ConnectError;

/// No node was asked: all of them rest.
#[derive(Clone, Copy, Debug)]
pub struct AllRest;

impl fmt::Display for AllRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every node has failed a moment ago")
    }
}

impl StdError for AllRest {}

/// A node that answers, but takes no writes.
#[must_use]
pub fn unfit() -> ConnectError {
    ConnectError::unfit("the node takes no writes")
}

/// The fault in an error of connecting, and whether it alone decides.
#[must_use]
pub fn fault_of(error: &ConnectError, dialect: Dialect) -> (Fault, Advice) {
    error.fault(dialect)
}
