//! Spans and events of the `tracing` crate. Without the feature `tracing`: nothing, at no cost.

#[cfg(not(feature = "tracing"))]
pub use off::{Entered, Trace};
#[cfg(feature = "tracing")]
pub use on::{Entered, Trace};

#[cfg(not(feature = "tracing"))]
mod off;
#[cfg(feature = "tracing")]
mod on;
