//! Which connections have an operation running on them, for operations nested in it.
//!
//! An outermost operation shares its state (the retries left, "the transaction is lost") with the
//! operations nested in it. The connection is what identifies that state, never a thread or task:
//! an operation on connection B inside one on connection A is not nested in it, and a nested
//! operation stays nested when it is polled on another thread. The key is the address of the
//! connection's transaction status. The address is stable, because the outermost operation keeps
//! the connection borrowed for as long as it runs.
//!
//! An operation looks into the [table](table::shard) once, to take its seat. The seat then holds
//! the state itself, so operations on different connections do not meet again. A leaked seat keeps
//! its state alive, so no other operation is given it: an address that is used again cannot
//! confuse the two.

use std::sync::Arc;
use std::time::Instant;

use crate::error::HookRefusal;
use crate::fault::Fault;
use crate::hooks::{Hook, discard};
use state::SharedState;
#[cfg(test)]
pub(crate) use table::locks_taken;

mod state;
mod table;

/// Which user code is running in the outermost operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserCode {
    Nothing,
    Body,
    /// A body without a transaction: what it opens is not the operation's.
    Autocommit,
    /// It looks whether the work was committed, outside the operation's transaction.
    Look,
}

/// Whether what bodies register for after the commit can be run then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakesHooks {
    /// The transaction is the caller's.
    No,
    Sync,
    /// Async ones as well.
    Async,
}

/// Registers a hook with the operation whose body is running on the connection with this key. A refused
/// hook is dropped when no lock is held.
pub(crate) fn register_hook(key: usize, hook: Hook) -> Result<(), HookRefusal> {
    let state = table::shard(key).current(key).cloned();
    let Some(state) = state else {
        return Err(HookRefusal::OutsideOperation);
    };
    match state.user_code() {
        UserCode::Body => {}
        UserCode::Autocommit => return Err(HookRefusal::WithoutTransaction),
        _ => return Err(HookRefusal::OutsideOperation),
    }
    match state.takes_hooks() {
        TakesHooks::No => Err(HookRefusal::CallersTransaction),
        TakesHooks::Sync if hook.is_async() => Err(HookRefusal::Async),
        TakesHooks::Sync | TakesHooks::Async => {
            state.add_hook(hook);
            Ok(())
        }
    }
}

/// The server dropped the transaction around a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnclosingLoss {
    /// The fault after which the loss was found.
    pub(crate) fault: Option<Fault>,
    /// The transaction was rolled back. Otherwise DDL may have committed it unseen.
    pub(crate) undone: bool,
    /// Another operation has had its own transaction since, and has saved the session's values
    /// over those that are to be restored.
    pub(crate) saved_values_overwritten: bool,
}

/// An operation's seat among those on its connection. Dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Seat {
    key: usize,
    state: Arc<SharedState>,
    outermost: bool,
    /// The deadline of the operation around this one.
    inherited: Option<Instant>,
    /// The state of an operation whose user code runs around this one, although its transaction
    /// has ended. It is put back when this operation leaves.
    stands_in_for: Option<Arc<SharedState>>,
    /// How many retries it has from that operation.
    lent: u32,
}

impl Seat {
    /// Joins the operation that is running on the connection with this key, or becomes its
    /// outermost one. `depth` is the number of transactions and savepoints open on the connection.
    pub(crate) fn join(key: usize, depth: u32, max_retries: u32) -> Self {
        let mut shard = table::shard(key);
        let current = shard.current(key);
        if let Some(state) = current.filter(|state| state.is_around(depth)) {
            return Self {
                key,
                state: Arc::clone(state),
                outermost: false,
                inherited: state.deadline(),
                stands_in_for: None,
                lent: 0,
            };
        }
        // A state without running user code was left behind by a leaked operation.
        let runs_around = |state: &&Arc<SharedState>| state.user_code() != UserCode::Nothing;
        let stands_in_for = current.filter(runs_around).cloned();
        let lender = stands_in_for.as_ref().filter(|state| state.lends());
        let lent = lender.map_or(max_retries, |state| state.retries_left().min(max_retries));
        Self {
            key,
            inherited: lender.and_then(|state| state.deadline()),
            state: shard.seat(key, depth, lent),
            outermost: true,
            stands_in_for,
            lent,
        }
    }

    /// Whether no other operation runs around this one on the same connection.
    pub(crate) const fn is_outermost(&self) -> bool {
        self.outermost
    }

    /// Whether the user code of another operation runs around this one on the same connection, in a
    /// transaction or not.
    pub(crate) const fn is_within_another(&self) -> bool {
        !self.outermost || self.stands_in_for.is_some()
    }

    /// Whether the transaction was begun by an operation, not by the caller.
    pub(crate) fn owns_transaction(&self) -> bool {
        self.current().is_some_and(|state| state.depth() == 0)
    }

    /// Shortens the deadline in force to `own`, and returns the result: the earlier of `own` and
    /// the deadline around this operation.
    pub(crate) fn join_deadline(&self, own: Option<Instant>) -> Option<Instant> {
        let deadline = [own, self.inherited].into_iter().flatten().min();
        if let Some(state) = self.current() {
            state.set_deadline(deadline);
        }
        deadline
    }

    pub(crate) fn set_immediate(&self) {
        if let Some(state) = self.current() {
            state.set_immediate();
        }
    }

    pub(crate) fn is_immediate(&self) -> bool {
        self.current().is_some_and(SharedState::is_immediate)
    }

    /// Takes one of the retries that the outermost operation has for itself and everything nested
    /// in it.
    pub(crate) fn take_retry(&self) -> bool {
        self.current().is_some_and(SharedState::take_retry)
    }

    /// Gives one of them back.
    pub(crate) fn give_back_retry(&self) {
        if let Some(state) = self.current() {
            state.give_back_retry();
        }
    }

    /// Says what becomes of hooks, if this is the outermost operation.
    pub(crate) fn set_takes_hooks(&self, takes: TakesHooks) {
        if let Some(state) = self.current().filter(|_| self.outermost) {
            state.set_takes_hooks(takes);
        }
    }

    /// How many hooks are registered.
    pub(crate) fn hooks(&self) -> usize {
        self.current().map_or(0, SharedState::hooks)
    }

    /// Takes the hooks that were registered after the first ones, as many as `mark` says.
    pub(crate) fn take_hooks(&self, mark: usize) -> Vec<Hook> {
        self.current()
            .map_or_else(Vec::new, |state| state.take_hooks(mark))
    }

    /// How many retries are left for the outermost operation and everything nested in it.
    pub(crate) fn retries_left(&self) -> u32 {
        self.current().map_or(0, SharedState::retries_left)
    }

    pub(crate) fn lost(&self) -> Option<EnclosingLoss> {
        self.current()?.loss()
    }

    /// Records a loss. The first one is kept.
    pub(crate) fn set_lost(&self, loss: EnclosingLoss) {
        if let Some(state) = self.current() {
            state.set_loss(loss);
        }
    }

    /// Forgets the loss: a new transaction is about to begin.
    pub(crate) fn clear_lost(&self) {
        if let Some(state) = self.current() {
            state.clear_loss();
        }
    }

    /// Says which user code is running, if this is the outermost operation.
    pub(crate) fn set_user_code(&self, code: UserCode) {
        if let Some(state) = self.current().filter(|_| self.outermost) {
            state.set_user_code(code);
        }
    }

    /// The shared state. `None` while another operation runs in the place of the outermost one,
    /// and once that has left.
    fn current(&self) -> Option<&SharedState> {
        Some(&*self.state).filter(|state| state.is_current())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(state) = self.current() else {
            return;
        };
        if !self.outermost {
            return state.set_deadline(self.inherited);
        }
        // Left over only if the operation was dropped half-way, where no panic may get out.
        _ = discard(state.take_hooks(0));
        match &self.stands_in_for {
            None => state.leave(),
            Some(other) => {
                if other.lends() {
                    other.lose_retries(self.lent.saturating_sub(state.retries_left()));
                }
                table::shard(self.key).put_back(self.key, &self.state, other);
            }
        }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
