//! What there is without the feature.

use std::fmt::Display;
use std::marker::PhantomData;

use dbop_core::machine::{Event, Logging, Spec, Subject};
use dbop_core::{Outcome, StopReason};

/// The spans of an operation: none.
#[derive(Debug, Default)]
pub struct Trace;

/// The span of the present attempt, entered: none.
#[derive(Debug)]
pub struct Entered<'a>(PhantomData<&'a Trace>);

#[allow(
    clippy::unused_self,
    reason = "with the feature there is something to it"
)]
impl Trace {
    pub(crate) const fn begin(_: &Subject<'_>, _: &Spec<'_>, _: bool) -> Self {
        Self
    }

    pub(crate) const fn is_seen() -> bool {
        false
    }

    pub(crate) const fn attempt(&mut self, _: u32) {}

    pub(crate) const fn scope(&self, _: &'static str) {}

    pub(crate) const fn event(
        &mut self,
        _: &Subject<'_>,
        _: &Logging,
        _: &Event,
        _: Option<&dyn Display>,
    ) -> bool {
        false
    }

    pub(crate) const fn is_open(&self) -> bool {
        false
    }

    pub(crate) const fn end(&mut self, _: u32, _: Outcome, _: StopReason) {}

    /// Enters the span of the present attempt.
    #[must_use]
    pub const fn enter(&self) -> Entered<'_> {
        Entered(PhantomData)
    }
}
