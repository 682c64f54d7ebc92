//! Time, which tests can replace.

use std::time::{Duration, Instant};

/// Where a runner gets the time from and how it waits.
///
/// ```
/// use std::sync::Mutex;
/// use std::time::{Duration, Instant};
///
/// use dbop_diesel::Clock;
///
/// /// For tests: it remembers the delays and does not wait.
/// #[derive(Default)]
/// struct Remembers(Mutex<Vec<Duration>>);
///
/// impl Clock for Remembers {
///     fn now(&self) -> Instant {
///         Instant::now()
///     }
///
///     fn sleep(&self, duration: Duration) {
///         self.0.lock().expect("no panic").push(duration);
///     }
/// }
/// # let clock = Remembers::default();
/// # clock.sleep(Duration::from_secs(1));
/// # assert_eq!(clock.0.into_inner().expect("no panic"), [Duration::from_secs(1)]);
/// ```
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
