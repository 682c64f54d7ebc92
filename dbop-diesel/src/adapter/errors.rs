//! What went wrong in the current attempt.

use std::fmt::Display;

use dbop_core::machine::ErrorSlot;
use dbop_core::{Error, Fault};
use diesel::result::Error as DieselError;

use crate::error::OperationError;
use crate::fault::database_message;
use crate::source::ConnectError;

/// The errors of an attempt. The one that the body returned is not in here but with its value,
/// because only they have the caller's types.
#[derive(Debug, Default)]
#[allow(unnameable_types, reason = "an adapter only hands it through")]
pub struct AttemptErrors {
    first: Option<FirstError>,
    pub(super) fault: Option<Fault>,
    pub(super) rollback_error: Option<DieselError>,
}

/// The first error of an attempt: the one that is reported.
#[derive(Debug)]
enum FirstError {
    /// It is with the value.
    Body,
    Batch(DieselError),
    Connect(ConnectError),
}

impl AttemptErrors {
    pub(super) fn record_batch_error(&mut self, slot: ErrorSlot, fault: Fault, error: DieselError) {
        match slot {
            ErrorSlot::First => self.record_first(fault, FirstError::Batch(error)),
            ErrorSlot::Rollback => _ = self.rollback_error.get_or_insert(error),
            ErrorSlot::Dropped => {}
        }
    }

    pub(super) fn record_connect_error(
        &mut self,
        slot: ErrorSlot,
        fault: Fault,
        error: ConnectError,
    ) {
        if slot == ErrorSlot::First {
            self.record_first(fault, FirstError::Connect(error));
        }
    }

    pub(super) fn record_body_error(&mut self, fault: Option<Fault>) {
        self.fault = fault;
        self.first = Some(FirstError::Body);
    }

    /// The error that a fallback value stands for is with the value now.
    pub(super) fn record_final_error(&mut self) {
        self.first = Some(FirstError::Body);
    }

    fn record_first(&mut self, fault: Fault, error: FirstError) {
        self.fault = Some(fault);
        self.first = Some(error);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The server's message. `of_body` is the one in the body's error.
    pub(super) fn message<'a>(
        &'a self,
        of_body: impl FnOnce() -> Option<&'a DieselError>,
    ) -> Option<&'a dyn Display> {
        Some(match self.first.as_ref()? {
            FirstError::Body => of_body()?,
            FirstError::Batch(error) => error,
            FirstError::Connect(error) => error,
        })
    }

    /// The text of the first error, as the server has sent it.
    pub(super) fn server_message<'a>(
        &'a self,
        of_body: impl FnOnce() -> Option<&'a DieselError>,
    ) -> Option<&'a str> {
        let error = match self.first.as_ref()? {
            FirstError::Body => of_body()?,
            FirstError::Batch(error) => error,
            FirstError::Connect(_) => return None,
        };
        Some(database_message(error)).filter(|message| !message.is_empty())
    }

    /// Attaches the first error to one of dbop's own: the batch's, or the text of the body's, which
    /// may not be taken out of it.
    pub(super) fn explain<E: OperationError>(
        &mut self,
        error: Error,
        of_body: Option<&E>,
    ) -> Error {
        match &self.first {
            Some(FirstError::Body) => match of_body.and_then(E::diesel_error) {
                Some(cause) => error.with_source(cause.to_string()),
                None => error,
            },
            _ => match self.first.take() {
                Some(FirstError::Batch(cause)) => error.with_source(cause),
                Some(FirstError::Connect(cause)) => error.with_source(cause.into_source()),
                _ => error,
            },
        }
    }

    /// The first error, as the caller's type.
    pub(super) fn take_first<E: OperationError>(&mut self, of_body: &mut Option<E>) -> Option<E> {
        Some(match self.first.take()? {
            FirstError::Body => return of_body.take(),
            FirstError::Batch(error) => error.into(),
            FirstError::Connect(error) => E::from_dbop(Error::no_connection(error.into_source())),
        })
    }
}
