use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A clock that does not wait, but remembers for how long it should have.
#[derive(Debug, Default)]
pub struct InstantClock {
    slept: Mutex<Vec<Duration>>,
}

impl InstantClock {
    /// A new one, ready to be shared with a runner.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The delays so far.
    #[must_use]
    pub fn slept(&self) -> Vec<Duration> {
        self.slept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl dbop_diesel::Clock for InstantClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        self.slept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(duration);
    }
}

impl dbop_diesel_async::Clock for InstantClock {
    fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        dbop_diesel::Clock::sleep(self, duration);
        Box::pin(std::future::ready(()))
    }
}
