//! Delays by the user's own function.

use std::fmt;
use std::time::Duration;

use crate::fault::FaultClass;
use crate::outcome::Phase;

/// A retry that is about to be made, as a function given to
/// [`RetryPolicy::with_backoff_fn`](crate::RetryPolicy::with_backoff_fn) sees it.
///
/// ```
/// use std::time::Duration;
/// use dbop_core::{FaultClass, RetryContext};
///
/// /// After a lock timeout the next attempt waits long enough already.
/// fn delay(retry: &RetryContext) -> Duration {
///     match retry.class() {
///         Some(FaultClass::LockTimeout) => Duration::ZERO,
///         _ => retry.delay(),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryContext {
    pub(crate) class: Option<FaultClass>,
    pub(crate) phase: Phase,
    pub(crate) attempt: u32,
    pub(crate) class_retries: u32,
    pub(crate) delay: Duration,
    pub(crate) previous_delay: Option<Duration>,
}

impl RetryContext {
    /// The class of the fault, as the user judges it. `None` if the operation's own error asks for the
    /// retry.
    #[must_use]
    pub const fn class(&self) -> Option<FaultClass> {
        self.class
    }

    /// The part of the attempt that failed.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of the attempt that failed, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often this run was retried after this class before, from 0. Counted up to 65535.
    #[must_use]
    pub const fn class_retries(&self) -> u32 {
        self.class_retries
    }

    /// The delay that the policy would have without the function.
    #[must_use]
    pub const fn delay(&self) -> Duration {
        self.delay
    }

    /// The delay before the last retry of this run. `None` before the first one.
    #[must_use]
    pub const fn previous_delay(&self) -> Option<Duration> {
        self.previous_delay
    }
}

/// A function that says how long to wait.
#[derive(Clone, Copy)]
pub(crate) struct BackoffFn(pub(crate) fn(&RetryContext) -> Duration);

/// By address. One function can have several addresses, and two that do the same can share one.
impl PartialEq for BackoffFn {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for BackoffFn {}

impl fmt::Debug for BackoffFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("own")
    }
}
