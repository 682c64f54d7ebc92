use dbop_diesel::{Advice, OperationError};
use diesel::result::Error;

/// The error of an operation that wants to be tried again, whatever has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again;

impl From<Error> for Again {
    fn from(_: Error) -> Self {
        Self
    }
}

impl OperationError for Again {
    fn diesel_error(&self) -> Option<&Error> {
        None
    }

    fn advice(&self) -> Advice {
        Advice::Retry
    }
}
