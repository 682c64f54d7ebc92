use std::sync::atomic::{AtomicU32, Ordering};

use log::{Log, Metadata, Record};

use crate::tally::Mode;

/// What the operations of a mode have been through, as their records tell.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    asked: AtomicU32,
    found: AtomicU32,
    given_up: AtomicU32,
}

impl Experience {
    /// Whether what the mode is about has happened: the commit was lost and, if somebody asks, had
    /// happened all the same.
    #[allow(dead_code, reason = "only the rounds ask")]
    pub(crate) fn is_enough(&self, mode: Mode) -> bool {
        let [_, found, given_up] = self.counts();
        match mode {
            Mode::Nothing => given_up > 0,
            Mode::Verify | Mode::Status | Mode::Ledger => found > 0,
            Mode::Hasty => true,
        }
    }

    /// How often somebody asked, found that it was committed, and gave up on finding out.
    pub(crate) fn counts(&self) -> [u32; 3] {
        [&self.asked, &self.found, &self.given_up].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Log for Experience {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        for (count, words) in [
            (&self.asked, "unknown whether it was committed, asking in"),
            (&self.found, "commit confirmed after its answer was lost"),
            (
                &self.given_up,
                "unknown whether it was committed, giving up",
            ),
        ] {
            count.fetch_add(text.contains(words).into(), Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}
