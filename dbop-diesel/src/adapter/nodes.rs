//! What several nodes have in common in both adapters.

use std::error::Error as StdError;
use std::fmt;

use dbop_core::{Advice, Dialect, Fault, Position};
use diesel::QueryResult;

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

/// A replica that has not yet applied what its reader has to see.
#[must_use]
pub fn behind() -> ConnectError {
    ConnectError::unfit("the replica is behind the position that the operation has to see")
}

/// The position in an answer to [`Position::query`].
///
/// # Errors
///
/// If there is none.
pub fn position(dialect: Dialect, answer: Option<&str>) -> QueryResult<Position> {
    Position::answered(dialect, answer)
        .map_err(|error| diesel::result::Error::QueryBuilderError(error.into()))
}

/// The fault in an error of connecting, and whether it alone decides.
#[must_use]
pub fn fault_of(error: &ConnectError, dialect: Dialect) -> (Fault, Advice) {
    error.fault(dialect)
}
