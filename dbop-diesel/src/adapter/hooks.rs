//! The hooks of a run without a run, and those of a sync one.

use dbop_core::Error;
use dbop_core::machine::{DueHooks, Hooks};

use super::results::caught;
use super::run::Run;

/// The operation was refused before it began: there is no run. Calls the hook for that.
pub(super) fn refused(error: Error, hooks: &Hooks<'_>) -> Error {
    let mut due = DueHooks::after_refusal(hooks, 0);
    while let Some(hook) = due.next_due() {
        drop(hook.call());
    }
    error
}

impl Run<'_> {
    /// Calls these hooks of a sync run.
    pub fn call_hooks(&mut self, mut due: DueHooks<'_>) {
        while let Some(hook) = due.next_due() {
            let end = caught(|| drop(hook.call()));
            self.hook_called(end);
        }
    }
}
