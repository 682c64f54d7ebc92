//! Without the feature `testing` there are no faults to inject, and nothing that could inject them.

use super::run::Run;
use crate::source::ConnectError;

/// No faults.
#[derive(Clone, Debug)]
pub struct Handle;

impl Handle {
    /// None.
    pub const NONE: Self = Self;
}

impl<'a> Run<'a> {
    /// There is nothing to watch for.
    pub const fn watch(&mut self, _handle: &'a Handle, _can_reconnect: bool) {}

    /// Never.
    #[must_use]
    pub const fn refused_connection(&mut self) -> Option<ConnectError> {
        None
    }
}
