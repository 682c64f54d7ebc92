//! A clock that tests move.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;

/// A clock that stands still until it is told to move, for both adapters. A delay takes no time: it is
/// remembered, and moves the clock on.
///
/// Deadlines and the times in reports follow it, and so does the patience of what waits at a gate: while the clock
/// stands still, that has no end. What others wait for does not follow it: a server's timeouts, a pool. Clones share the time. Together with
/// [`RetryPolicy::with_seed`](crate::RetryPolicy::with_seed) the delays of each test run are the same.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use dbop_diesel::testing::{Faults, ManualClock, Point};
/// use dbop_diesel::{FaultClass, RetryPolicy, Runner};
/// use diesel::prelude::*;
///
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// let (faults, clock) = (Faults::new(), ManualClock::new());
/// faults.operation("pay").attempts(..).fail(Point::BeforeBody, FaultClass::Busy);
/// let policy = RetryPolicy::new().with_max_retries(2).with_seed(7);
/// let runner = Runner::new(policy).with_faults(&faults).with_clock(Arc::new(clock.clone()));
///
/// let report = runner.operation("pay").run_report(&mut conn, |_| QueryResult::Ok(()));
/// assert_eq!(clock.sleeps().len(), 2);
/// assert_eq!(report.elapsed, clock.sleeps().iter().sum::<Duration>());
/// # Ok::<(), ConnectionError>(())
/// ```
///
/// # Default
///
/// It begins at the time at which it is made.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Instant,
    sleeps: Vec<Duration>,
}

impl ManualClock {
    /// A clock that stands still at the present time.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            now: Instant::now(),
            sleeps: Vec::new(),
        })))
    }

    /// Moves the time on by this much.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use dbop_diesel::Clock;
    /// use dbop_diesel::testing::ManualClock;
    ///
    /// let clock = ManualClock::new();
    /// let before = clock.now();
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(clock.now() - before, Duration::from_secs(60));
    /// ```
    pub fn advance(&self, by: Duration) {
        self.state().now += by;
    }

    /// The delays between attempts so far, in order.
    #[must_use]
    pub fn sleeps(&self) -> Vec<Duration> {
        self.state().sleeps.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.state().now
    }

    fn sleep(&self, duration: Duration) {
        let mut state = self.state();
        state.now += duration;
        state.sleeps.push(duration);
    }
}
