//! The connection of a run: the caller's, or one from a source.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dbop_core::Handling;

use crate::connection::status;
use crate::{ConnectError, Connection, Source};

/// Where the driver has its connection.
pub(crate) trait Hold: Send {
    type Conn: Connection;

    /// Whether it can have another one.
    const IS_FRESH: bool;

    /// Makes sure that there is one, within this time if there is a deadline.
    fn connect(
        &mut self,
        within: Option<Duration>,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send;

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

    async fn connect(&mut self, _within: Option<Duration>) -> Result<(), ConnectError> {
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

    async fn connect(&mut self, within: Option<Duration>) -> Result<(), ConnectError> {
        if self.conn.is_none() {
            let connect = self.source.connect();
            let conn = match within {
                Some(within) => tokio::time::timeout(within, connect)
                    .await
                    .map_err(ConnectError::pool_timeout)?,
                None => connect.await,
            };
            self.conn = Some(conn?);
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

/// Holds the connection while an operation runs on it. Dropped before it is disarmed, that is
/// when the operation's future is dropped half-way, it makes the connection refuse every further
/// transaction, so that pools throw it away.
pub(crate) struct Guard<H: Hold> {
    pub(crate) hold: H,
    armed: bool,
}

impl<H: Hold> Guard<H> {
    pub(crate) const fn new(hold: H) -> Self {
        Self { hold, armed: true }
    }

    pub(crate) const fn disarm(&mut self) {
        self.armed = false;
    }
}

impl<H: Hold> Drop for Guard<H> {
    fn drop(&mut self) {
        if self.armed {
            // diesel-async's wrapper of sync connections panics if a statement was cancelled under
            // it on a current-thread runtime. Let out while panicking, that would abort.
            let discard = || self.hold.let_go(Handling::Discard);
            _ = catch_unwind(AssertUnwindSafe(discard));
        }
    }
}
