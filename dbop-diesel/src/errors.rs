//! Of which type the errors of an operation with an idempotency key are.

use std::fmt;

use diesel::result::Error as DieselError;

use crate::adapter::mapped::{Find, Mapped, report};
use crate::error::OperationError;
use crate::report::Report;

/// Of which type the errors of a [`KeyedOperation`](crate::KeyedOperation) are: [`OwnErrors`] or
/// [`MappedErrors`].
pub trait Errors<E>: Sealed + Copy + Send + Sync {
    /// The type that they have until the run is over.
    #[doc(hidden)]
    type Inner: OperationError;

    /// What the operation has returned.
    #[doc(hidden)]
    fn returned(self, error: E) -> Self::Inner;

    /// The report in the caller's type.
    #[doc(hidden)]
    fn report<T>(self, report: Report<T, Self::Inner>) -> Report<T, E>;
}

#[doc(hidden)]
#[allow(
    unnameable_types,
    reason = "it keeps other crates from implementing `Errors`"
)]
pub trait Sealed {}

/// Errors that implement [`OperationError`]. What a [`KeyedOperation`](crate::KeyedOperation) begins with.
#[derive(Clone, Copy, Debug)]
pub struct OwnErrors;

impl Sealed for OwnErrors {}

impl<E: OperationError> Errors<E> for OwnErrors {
    type Inner = E;

    fn returned(self, error: E) -> E {
        error
    }

    fn report<T>(self, report: Report<T, E>) -> Report<T, E> {
        report
    }
}

/// Errors of any type, from [`KeyedOperation::errors`](crate::KeyedOperation::errors).
pub struct MappedErrors<E> {
    #[doc(hidden)]
    pub make: fn(DieselError) -> E,
    #[doc(hidden)]
    pub find: Find<E>,
}

// Derived, they would ask the same of `E`.
impl<E> Clone for MappedErrors<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for MappedErrors<E> {}

impl<E> fmt::Debug for MappedErrors<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedErrors").finish_non_exhaustive()
    }
}

impl<E> Sealed for MappedErrors<E> {}

impl<E> Errors<E> for MappedErrors<E> {
    type Inner = Mapped<E>;

    fn returned(self, error: E) -> Mapped<E> {
        Mapped::Returned(error, self.find)
    }

    fn report<T>(self, ended: Report<T, Mapped<E>>) -> Report<T, E> {
        report(ended, self.make)
    }
}
