//! The hooks at the end of a run.

use dbop_core::machine::{DueHook, DueHooks, Hooks};
use dbop_core::{Error, Fault, Outcome, StopReason};

use super::results::caught;
use super::run::{End, Ended, Panic};

/// Those that are due where it has ended like this.
pub(super) fn due_hooks<'a>(
    end: &mut End,
    hooks: &Hooks<'a>,
    fault: Option<Fault>,
) -> DueHooks<'a> {
    match end {
        End::Done(done) => {
            let registered = std::mem::take(&mut done.hooks);
            let how = (done.outcome, done.stop);
            DueHooks::new(hooks, registered, how, (done.attempts, fault))
        }
        End::Refused(_) => of_refused(hooks),
    }
}

/// The operation was refused before it began: there is no run. Calls the hook for that.
pub(super) fn refused(error: Error, hooks: &Hooks<'_>) -> Error {
    let mut due = of_refused(hooks);
    while let Some(hook) = due.next_due() {
        drop(hook.call());
    }
    error
}

fn of_refused<'a>(hooks: &Hooks<'a>) -> DueHooks<'a> {
    let how = (Outcome::Undone, StopReason::NotRetryable);
    DueHooks::new(hooks, Vec::new(), how, (0, None))
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
