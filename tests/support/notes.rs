use std::sync::{Arc, Mutex, PoisonError};

use dbop_diesel::{Event, Observer, Subject, Summary};

/// An observer that writes down what it is told, in words.
#[derive(Debug, Default)]
pub struct Notes {
    lines: Mutex<Vec<String>>,
    ends: Mutex<Vec<Summary>>,
}

impl Notes {
    /// New ones, ready to be shared with a runner.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What was written down so far, and from now on on a new page.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How the operations ended, in the order of their ends.
    #[must_use]
    pub fn ends(&self) -> Vec<Summary> {
        self.ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How the only operation so far ended.
    ///
    /// # Panics
    ///
    /// If it is not the only one.
    #[must_use]
    pub fn end(&self) -> Summary {
        match self.ends()[..] {
            [end] => end,
            ref ends => panic!("one end: {ends:?}"),
        }
    }

    fn add(&self, subject: &Subject<'_>, text: &str) {
        let line = format!("{}: {text}", subject.name());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
    }
}

impl Observer for Notes {
    fn on_start(&self, subject: &Subject<'_>) {
        self.add(subject, "start");
    }

    fn on_attempt(&self, subject: &Subject<'_>, number: u32) {
        self.add(subject, &format!("attempt {number}"));
    }

    fn on_event(&self, subject: &Subject<'_>, event: &Event) {
        self.add(subject, &format!("{:?}", event.kind()));
    }

    fn on_end(&self, subject: &Subject<'_>, summary: &Summary) {
        let (attempts, outcome, stop) = (summary.attempts(), summary.outcome(), summary.stop());
        self.add(subject, &format!("end {attempts} {outcome} {stop}"));
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.push(*summary);
    }
}
