//! Another session whose transfer crosses the one of an operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dbop_tests::{Capture, Meanwhile, Opponent};

use super::{Bed, Runner};

/// It has the second account, and commits during the first delay.
pub(super) struct Crossing {
    pub(super) bed: Arc<Bed>,
    opponent: Arc<Opponent>,
    has_crossed: AtomicBool,
    log: Arc<Capture>,
}

impl Crossing {
    pub(super) fn new() -> Arc<Self> {
        let bed = Bed::new();
        let opponent = bed.opponent();
        opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2");
        Arc::new(Self {
            bed: Arc::new(bed),
            opponent: Arc::new(opponent),
            has_crossed: AtomicBool::new(false),
            log: Capture::new(),
        })
    }

    /// Where the service connects to. Its sessions find their deadlocks soon.
    pub(super) fn url(&self) -> String {
        format!("{}%20-cdeadlock_timeout%3D20ms", self.bed.url())
    }

    /// A runner during whose first delay the other session gets its lock, and commits.
    pub(super) fn runner(&self) -> Runner {
        let (bed, opponent) = (Arc::clone(&self.bed), Arc::clone(&self.opponent));
        let clock = Meanwhile::new(move |delay| {
            if delay == 1 {
                bed.wait_until_free(opponent.id());
                opponent.finish().expect("it got its lock");
                opponent.execute("COMMIT");
            }
        });
        Runner::default()
            .with_clock(clock)
            .with_logger(self.log.clone())
    }

    /// Between the two statements of the operation, which has the first account by now: the other session
    /// wants it too.
    pub(super) fn cross(&self) {
        if !self.has_crossed.swap(true, Ordering::Relaxed) {
            self.opponent
                .start("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
            self.bed.wait_until_blocked(self.opponent.id());
        }
    }

    /// How many attempts the last operation had.
    pub(super) fn attempts(&self) -> u32 {
        self.log.last("attempt").parse().expect("a number")
    }
}
