//! Time, which tests can replace.

use std::time::{Duration, Instant};

/// Where a runner gets the time from and how it waits.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Instant;

    /// Waits for this long.
    fn sleep(&self, duration: Duration);
}

/// The system's time. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
