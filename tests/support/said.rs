//! What hooks say.

use std::sync::{Arc, Mutex, PoisonError};

/// What was said, in order. Clones share it, so hooks that own one can add to it.
#[derive(Clone, Debug, Default)]
pub struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says this.
    pub fn say(&self, what: impl Into<String>) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.push(what.into());
    }

    /// Everything so far.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many others have it, such as hooks that have not run.
    #[must_use]
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}
