//! The value that an operation can fall back on.

/// Whether an operation has a value to fall back on: [`NoFallback`] or [`FallbackValue`].
pub trait Fallback<T>: Sealed {
    /// The value.
    #[doc(hidden)]
    fn into_value(self) -> Option<T>;
}

#[doc(hidden)]
#[allow(
    unnameable_types,
    reason = "it keeps other crates from implementing `Fallback`"
)]
pub trait Sealed {}

/// An error is returned as it is. What an [`Operation`](crate::Operation) begins with.
#[derive(Clone, Copy, Debug)]
pub struct NoFallback;

impl Sealed for NoFallback {}

impl<T> Fallback<T> for NoFallback {
    fn into_value(self) -> Option<T> {
        None
    }
}

/// The value of [`Operation::fallback`](crate::Operation::fallback), returned instead of an error.
#[derive(Clone, Copy, Debug)]
pub struct FallbackValue<T>(#[doc(hidden)] pub T);

impl<T> Sealed for FallbackValue<T> {}

impl<T> Fallback<T> for FallbackValue<T> {
    fn into_value(self) -> Option<T> {
        Some(self.0)
    }
}
