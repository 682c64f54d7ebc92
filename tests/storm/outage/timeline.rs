//! What happens when, in tenths of a second.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is an operation to run.
    Arrived,
    /// Someone tries to open a connection.
    Connecting,
    /// A connection is open.
    Connected,
    /// The body of an attempt begins.
    Body,
    Committed,
    Failed,
}

impl Event {
    pub(crate) const ALL: [Self; 6] = [
        Self::Arrived,
        Self::Connecting,
        Self::Connected,
        Self::Body,
        Self::Committed,
        Self::Failed,
    ];
}

/// Counts from its beginning on. What comes before that, or too late, is nothing to it.
#[derive(Debug)]
pub(crate) struct Timeline {
    begin: OnceLock<Instant>,
    tenths: Vec<[AtomicU64; Event::ALL.len()]>,
}

impl Timeline {
    pub(crate) fn new(length: Duration) -> Self {
        let tenths = usize::try_from(length.as_millis() / 100).unwrap_or(0);
        let mut timeline = Self {
            begin: OnceLock::new(),
            tenths: Vec::new(),
        };
        timeline.tenths.resize_with(tenths, Default::default);
        timeline
    }

    /// It begins now, unless it has begun.
    pub(crate) fn begin(&self) -> Instant {
        *self.begin.get_or_init(Instant::now)
    }

    /// The tenth of a second that it is now.
    pub(crate) fn now(&self) -> usize {
        let passed = self.begin().elapsed().as_millis() / 100;
        usize::try_from(passed).unwrap_or(usize::MAX)
    }

    pub(crate) fn count(&self, event: Event) {
        if self.begin.get().is_some()
            && let Some(tenth) = self.tenths.get(self.now())
        {
            tenth[event as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self, event: Event) -> Vec<u64> {
        let tenths = self.tenths.iter();
        tenths
            .map(|tenth| tenth[event as usize].load(Ordering::Relaxed))
            .collect()
    }
}
