//! Hooks: when they are called, and which of those that bodies have registered count.
//!
//! What a body registers is with the state that all operations on the connection share, in order. Each
//! operation remembers how many there were when it joined: those behind that mark are its own and those
//! of what is nested in it. They are discarded with an attempt of unknown or undone work. Only the
//! outermost operation takes them to be run, after its COMMIT.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Machine;
use super::attempt::{Failure, FailureAnswer};
use super::connecting::Placement;
use super::ending::Enclosing;
use super::step::{ConnectionAction, Pause};
use crate::error::{Error, HookRefusal, Kind};
use crate::hooks::{Hook, Retry, RetryDecision, discard};
use crate::nesting::{self, Seat, TakesHooks};
use crate::outcome::{Phase, StopReason};

/// Registers a hook with the operation that runs on the connection with this key, as in
/// [`Machine::place`]. It runs after the COMMIT of the outermost operation on the connection.
///
/// # Errors
///
/// If no body of an operation is running on the connection, if its transaction is the caller's, and if
/// the hook is async in a sync run.
pub fn register_hook(key: usize, hook: Hook) -> Result<(), Error> {
    let refused = |refusal| Error::new(Kind::HookRefused(refusal));
    nesting::register_hook(key, hook).map_err(refused)
}

/// What the machine knows of the hooks that bodies have registered.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// How many there were on the connection when the operation joined it.
    mark: usize,
    /// Those of an attempt of which it is asked whether it was committed: its connection is gone.
    parked: Vec<Hook>,
}

impl Machine<'_> {
    /// Whether the operation can have its hooks where it is placed. Says so to those that its body
    /// registers.
    pub(super) fn admit_hooks(&mut self, placement: &Placement) -> Result<(), Error> {
        let seat = placement.seat();
        let has_hook = self.spec.hooks.after_commit.is_some();
        if has_hook && self.spec.settings.without_transaction {
            let refusal = HookRefusal::WithoutTransaction;
            return Err(Error::new(Kind::HookRefused(refusal)));
        }
        if seat.is_outermost() {
            let for_tests = self.config.defaults().skip_what_open_transactions_refuse;
            let is_taken = seat.owns_transaction() || for_tests;
            seat.set_takes_hooks(match (is_taken, self.spec.awaits_hooks) {
                (false, _) => TakesHooks::No,
                (true, false) => TakesHooks::Sync,
                (true, true) => TakesHooks::Async,
            });
            if self.spec.hooks.after_commit.is_some() && !is_taken {
                return Err(Error::new(Kind::HookRefused(
                    HookRefusal::CallersTransaction,
                )));
            }
        } else if self.spec.hooks.after_commit.is_some() {
            return Err(Error::new(Kind::HookRefused(HookRefusal::Nested)));
        }
        self.registered.mark = seat.hooks();
        Ok(())
    }

    /// An attempt begins. If its hook panics there is none.
    pub(super) fn announce_attempt(&mut self, phase: Phase) {
        let Some(hook) = self.spec.hooks.before_attempt else {
            return;
        };
        let number = self.attempt.number;
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(number))) {
            self.user_code_panicked(payload);
            self.attempt.fail(phase, None, FailureAnswer::Panic);
            self.undone(Enclosing::Alive);
        }
    }

    /// What the operation's hook says about a retry that is planned. One that is not made is given back
    /// to those that share it.
    pub(super) fn ask_before_retry(
        &mut self,
        failure: &Failure,
        pause: Pause,
    ) -> Result<Pause, StopReason> {
        let Some(hook) = self.spec.hooks.before_retry else {
            return Ok(pause);
        };
        if self.attempt.is_vetoed {
            self.give_back_retry(failure);
            return Err(StopReason::Vetoed);
        }
        let retry = Retry {
            attempt: self.attempt.number,
            fault: failure.fault,
            phase: failure.phase,
            delay: pause.delay,
        };
        match catch_unwind(AssertUnwindSafe(|| hook(&retry))) {
            Ok(RetryDecision::AsPlanned) => Ok(pause),
            Ok(RetryDecision::After(delay)) => {
                if !self.may_follow(failure, delay) {
                    self.give_back_retry(failure);
                    return Err(StopReason::RetriesExhausted);
                }
                self.retries.set_delay(delay);
                Ok(self.pause_for(pause, delay))
            }
            Ok(RetryDecision::Veto) => {
                self.attempt.is_vetoed = true;
                self.give_back_retry(failure);
                Err(StopReason::Vetoed)
            }
            Err(payload) => {
                self.user_code_panicked(payload);
                self.give_back_retry(failure);
                Err(StopReason::NotRetryable)
            }
        }
    }

    /// The pause with this delay. One in which the transaction stays open keeps the connection.
    fn pause_for(&self, pause: Pause, delay: Duration) -> Pause {
        let connection = match pause.connection {
            ConnectionAction::Keep | ConnectionAction::GiveBack if pause.settled => {
                self.for_so_long(ConnectionAction::Keep, delay)
            }
            other => other,
        };
        Pause {
            delay,
            connection,
            ..pause
        }
    }

    /// The attempt does not count: neither do the hooks that were registered in it.
    pub(super) fn discard_hooks(&mut self) {
        let parked = std::mem::take(&mut self.registered.parked);
        let hooks = self.own_hooks();
        for hooks in [parked, hooks] {
            if let Err(payload) = discard(hooks) {
                self.user_code_panicked(payload);
            }
        }
    }

    /// The connection of the COMMIT will be left before it is known whether they count.
    pub(super) fn park_hooks(&mut self) {
        self.registered.parked = self.own_hooks();
    }

    /// The operation is done: those that are to run now. What is nested leaves them to the outermost
    /// operation.
    pub(super) fn committed_hooks(&mut self) -> Vec<Hook> {
        let parked = std::mem::take(&mut self.registered.parked);
        let is_outermost = self.connection.seat().is_some_and(Seat::is_outermost);
        match parked.is_empty() && is_outermost {
            true => self.own_hooks(),
            false => parked,
        }
    }

    fn own_hooks(&self) -> Vec<Hook> {
        let seat = self.connection.seat();
        seat.map_or_else(Vec::new, |seat| seat.take_hooks(self.registered.mark))
    }
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
