//! Time, which tests can replace.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

/// Where a runner gets the time from and how it waits.
///
/// ```
/// use std::future::ready;
/// use std::pin::Pin;
/// use std::sync::Mutex;
/// use std::time::Duration;
///
/// use dbop_diesel_async::Clock;
/// use tokio::time::Instant;
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
///     fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
///         self.0.lock().expect("no panic").push(duration);
///         Box::pin(ready(()))
///     }
/// }
/// # let clock = Remembers::default();
/// # drop(clock.sleep(Duration::from_secs(1)));
/// # assert_eq!(clock.0.into_inner().expect("no panic"), [Duration::from_secs(1)]);
/// ```
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Instant;

    /// Waits for this long.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Tokio's time, which can be paused in tests. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
