//! Where a run has its connection: the caller's, or one from a source.

use dbop_core::machine::ConnectionAction;
use dbop_core::{Fault, Purpose, Request};
use diesel::connection::Connection as DieselConnection;

use crate::adapter::status::depth;
use crate::connection::{SupportedConnection, status};
use crate::source::{ConnectError, Source};

/// Where a run has its connection.
pub(crate) trait Slot {
    type Conn: SupportedConnection;

    /// Whether it can get another one.
    const CAN_RECONNECT: bool;

    /// Makes sure that there is one.
    fn connect(&mut self, request: Request<'_>) -> Result<(), ConnectError>;

    /// The connection.
    fn conn(&mut self) -> &mut Self::Conn;

    /// Does with the connection what the machine says. `why`: the fault that it is discarded for.
    fn apply(&mut self, action: ConnectionAction, why: Option<Fault>);

    /// An attempt is over. If its connection is kept, the next one has its place there: it can be the
    /// connection on which the outcome of a lost COMMIT was found out.
    fn note_place(&mut self) {}

    /// Gives the connection back at the end of a run.
    fn release(&mut self);

    /// How many transactions and savepoints are open on the connection; `None` if its transaction
    /// manager is broken.
    fn depth(&mut self) -> Option<u32> {
        depth(status(self.conn()))
    }
}

/// The backend of the connection.
pub(crate) type BackendOf<S> = <<S as Slot>::Conn as DieselConnection>::Backend;

/// The caller's connection.
pub(crate) struct Borrowed<'c, C>(pub(crate) &'c mut C);

impl<C: SupportedConnection> Slot for Borrowed<'_, C> {
    type Conn = C;

    const CAN_RECONNECT: bool = false;

    fn connect(&mut self, _request: Request<'_>) -> Result<(), ConnectError> {
        Ok(())
    }

    fn conn(&mut self) -> &mut C {
        self.0
    }

    fn apply(&mut self, action: ConnectionAction, _why: Option<Fault>) {
        match action {
            ConnectionAction::Discard => status(self.0).set_in_error(),
            // The caller has it back when the run is over.
            ConnectionAction::GiveBack
            | ConnectionAction::Keep
            | ConnectionAction::ClearStatementCache => {}
        }
    }

    // The caller has it back when the run is over.
    fn release(&mut self) {}
}

/// A connection from a source.
pub(crate) struct FromSource<'s, S: Source> {
    source: &'s S,
    held: Option<S::Held>,
    /// Where the last attempt had its connection.
    place: Option<usize>,
}

impl<'s, S: Source> FromSource<'s, S> {
    pub(crate) const fn new(source: &'s S) -> Self {
        Self {
            source,
            held: None,
            place: None,
        }
    }
}

impl<S: Source> Slot for FromSource<'_, S> {
    type Conn = S::Conn;

    const CAN_RECONNECT: bool = true;

    fn connect(&mut self, request: Request<'_>) -> Result<(), ConnectError> {
        if self.held.is_none() {
            let held = self.source.connect(&request.with_place(self.place))?;
            self.held = Some(held);
            // A question is about the COMMIT, wherever it is asked.
            if request.purpose == Purpose::Work {
                self.note_place();
            }
        }
        Ok(())
    }

    fn conn(&mut self) -> &mut S::Conn {
        self.held.as_mut().expect("connected before it is used")
    }

    fn apply(&mut self, action: ConnectionAction, why: Option<Fault>) {
        match action {
            ConnectionAction::GiveBack if S::IS_POOL => self.held = None,
            ConnectionAction::Discard => {
                if let Some(held) = self.held.take() {
                    self.source.discard(held, why);
                }
            }
            ConnectionAction::GiveBack
            | ConnectionAction::Keep
            | ConnectionAction::ClearStatementCache => {}
        }
    }

    fn note_place(&mut self) {
        if let Some(held) = &self.held {
            self.place = self.source.place(held);
        }
    }

    fn release(&mut self) {
        self.held = None;
    }
}
