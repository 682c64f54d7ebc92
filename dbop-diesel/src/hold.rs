//! The connection of a run: the caller's, or one from a source.

use std::time::Duration;

use dbop_core::Handling;

use crate::connection::status;
use crate::{ConnectError, Connection, Source};

/// Where the driver has its connection.
pub(crate) trait Hold {
    type Conn: Connection;

    /// Whether it can have another one.
    const IS_FRESH: bool;

    /// Makes sure that there is one, within this time if there is a deadline.
    fn connect(&mut self, within: Option<Duration>) -> Result<(), ConnectError>;

    /// The one there is.
    fn conn(&mut self) -> &mut Self::Conn;

    /// Lets go of it.
    fn let_go(&mut self, handling: Handling);
}

/// The caller's connection.
pub(crate) struct Given<'c, C>(pub(crate) &'c mut C);

impl<C: Connection> Hold for Given<'_, C> {
    type Conn = C;

    const IS_FRESH: bool = false;

    fn connect(&mut self, _within: Option<Duration>) -> Result<(), ConnectError> {
        Ok(())
    }

    fn conn(&mut self) -> &mut C {
        self.0
    }

    fn let_go(&mut self, handling: Handling) {
        if handling == Handling::Discard {
            status(self.0).set_in_error();
        }
    }
}

/// A connection from a source.
pub(crate) struct Fresh<'s, S: Source> {
    source: &'s S,
    conn: Option<S::Conn>,
}

impl<'s, S: Source> Fresh<'s, S> {
    pub(crate) const fn from(source: &'s S) -> Self {
        Self { source, conn: None }
    }
}

impl<S: Source> Hold for Fresh<'_, S> {
    type Conn = S::Conn;

    const IS_FRESH: bool = true;

    fn connect(&mut self, within: Option<Duration>) -> Result<(), ConnectError> {
        if self.conn.is_none() {
            self.conn = Some(self.source.connect(within)?);
        }
        Ok(())
    }

    fn conn(&mut self) -> &mut S::Conn {
        self.conn.as_mut().expect("connected before it is used")
    }

    fn let_go(&mut self, handling: Handling) {
        match handling {
            Handling::Discard => {
                if let Some(conn) = self.conn.take() {
                    self.source.discard(conn);
                }
            }
            Handling::GiveBack if S::IS_POOL => self.conn = None,
            _ => {}
        }
    }
}
