use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A clock on which time passes only while a runner sleeps. Something happens meanwhile: it is
/// told the number of the sleep, from 1.
pub struct Meanwhile {
    started: Instant,
    slept: Mutex<Vec<Duration>>,
    happens: Box<dyn Fn(usize) + Send + Sync>,
}

impl Meanwhile {
    /// A new one, ready to be shared with a runner.
    #[must_use]
    pub fn new(happens: impl Fn(usize) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            slept: Mutex::default(),
            happens: Box::new(happens),
        })
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

impl dbop_diesel::Clock for Meanwhile {
    fn now(&self) -> Instant {
        self.started + self.slept().iter().sum()
    }

    fn sleep(&self, duration: Duration) {
        let number = {
            let mut slept = self.slept.lock().unwrap_or_else(PoisonError::into_inner);
            slept.push(duration);
            slept.len()
        };
        (self.happens)(number);
    }
}

impl dbop_diesel_async::Clock for Meanwhile {
    fn now(&self) -> tokio::time::Instant {
        dbop_diesel::Clock::now(self).into()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        // What happens meanwhile may block, as everything that asks a server does.
        crate::blocking(|| dbop_diesel::Clock::sleep(self, duration));
        Box::pin(std::future::ready(()))
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile")
            .field("slept", &self.slept())
            .finish_non_exhaustive()
    }
}
