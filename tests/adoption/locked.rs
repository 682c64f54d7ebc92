//! A database file that another connection has locked when an operation begins.

use std::sync::Arc;

use dbop_diesel::{BeginMode, Jitter, RetryPolicy};
use dbop_tests::{Capture, Meanwhile, Opponent};

use super::Runner;

/// The other connection, and what the runner logs.
pub(super) struct Locked {
    opponent: Arc<Opponent>,
    log: Arc<Capture>,
}

impl Locked {
    pub(super) fn new(bed: &dbop_tests::sqlite::Bed) -> Self {
        let opponent = bed.opponent();
        opponent.execute("BEGIN IMMEDIATE");
        Self {
            opponent: Arc::new(opponent),
            log: Capture::new(),
        }
    }

    /// A runner during whose first delay the lock is released.
    pub(super) fn runner(&self) -> Runner {
        self.runner_while(|| ())
    }

    /// The same; this happens during each delay as well. The operation's own statement meets the lock, not
    /// already its BEGIN, so that the error passes through the types of the service.
    pub(super) fn runner_while(&self, happens: impl Fn() + Send + Sync + 'static) -> Runner {
        let opponent = Arc::clone(&self.opponent);
        let clock = Meanwhile::new(move |delay| {
            happens();
            if delay == 1 {
                opponent.execute("COMMIT");
            }
        });
        // Long enough for a connection to be returned to its pool meanwhile.
        Runner::new(RetryPolicy::new().with_jitter(Jitter::None))
            .with_clock(clock)
            .with_logger(self.log.clone())
            .with_default_begin_mode(BeginMode::Deferred)
    }

    /// How many attempts the last operation had.
    pub(super) fn attempts(&self) -> u32 {
        self.log.last("attempt").parse().expect("a number")
    }

    /// What the log calls the last operation.
    pub(super) fn name(&self) -> String {
        self.log.last("operation")
    }
}
