//! The hooks at the end of a run.

use dbop_core::machine::{DueHook, DueHooks, Hooks};
use dbop_core::{Error, Fault};

use super::results::caught;
use super::run::{End, Ended, Panic};

/// Those that are due where it has ended like this.
pub(super) fn due_hooks<'a>(
    end: &mut End,
    hooks: &Hooks<'a>,
    fault: Option<Fault>,
) -> DueHooks<'a> {
    match end {
        End::Done(done) => DueHooks::after(done, hooks, fault),
        End::Refused(_) => DueHooks::after_refusal(hooks),
    }
}

/// The operation was refused before it began: there is no run. Calls the hook for that.
pub(super) fn refused(error: Error, hooks: &Hooks<'_>) -> Error {
    let mut due = DueHooks::after_refusal(hooks);
    while let Some(hook) = due.next_due() {
        drop(hook.call());
    }
    error
}

impl<'a> Ended<'a> {
    /// Whether hooks are to be called, when the connection is back.
    #[must_use]
    pub fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// The next of these hooks.
    pub fn next_hook(&mut self) -> Option<DueHook<'a>> {
        self.hooks.next_due()
    }

    /// A hook was called. The first panic continues when all of them were.
    pub fn hook_called(&mut self, end: Result<(), Panic>) {
        if let Err(payload) = end {
            self.panic.get_or_insert(payload);
        }
    }

    /// Calls the hooks of a sync run.
    pub fn call_hooks(&mut self) {
        while let Some(hook) = self.next_hook() {
            let end = caught(|| drop(hook.call()));
            self.hook_called(end);
        }
    }
}
