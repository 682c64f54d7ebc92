//! Faults on demand, for tests of your own. With the feature `testing`.
//!
//! It is what [`dbop_diesel::testing`] has: its documentation says how it works. [`ManualClock`] is a
//! [`Clock`] of this crate, too.
//!
//! ```
//! use std::sync::Arc;
//!
//! use dbop_diesel_async::testing::{Faults, ManualClock, Point};
//! use dbop_diesel_async::{FaultClass, Runner};
//! use diesel::prelude::*;
//! use diesel_async::AsyncConnection;
//! # use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut conn = SyncConnectionWrapper::<SqliteConnection>::establish(":memory:").await?;
//! let (faults, clock) = (Faults::new(), ManualClock::new());
//! faults.operation("pay").fail(Point::Commit, FaultClass::Busy);
//! let runner = Runner::default().with_faults(&faults).with_clock(Arc::new(clock.clone()));
//!
//! runner.operation("pay").run(&mut conn, async |_conn| QueryResult::Ok(())).await?;
//! assert!(faults.unmet().is_empty());
//! assert_eq!(clock.sleeps().len(), 1);
//! # Ok(()) }
//! ```

use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

pub use dbop_diesel::testing::{Failure, Faults, Injection, ManualClock, Point, Ran};

use crate::clock::Clock;

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant::from_std(dbop_diesel::Clock::now(self))
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        dbop_diesel::Clock::sleep(self, duration);
        Box::pin(ready(()))
    }
}
