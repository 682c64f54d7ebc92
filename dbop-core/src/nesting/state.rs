//! What all operations on one connection share while the outermost one runs.
//!
//! Operations on one connection never run at the same time, because a nested one borrows the
//! connection from the one around it. An operation that continues on another thread sees what was
//! written before, because handing it over synchronizes the two threads. So relaxed accesses
//! suffice.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{EnclosingLoss, TakesHooks, UserCode};
use crate::hooks::Hook;

/// The state of an outermost operation.
///
/// Everything that an operation without trouble touches is atomic. The lock is for a loss, a
/// deadline and hooks only, and no other connection takes it. The alignment keeps the states of two
/// connections out of one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct SharedState {
    /// The depth at which the outermost operation started. 0: it began the transaction itself.
    depth: u32,
    retries_left: AtomicU32,
    /// The operation has not left, and no other one runs in its place.
    is_current: AtomicBool,
    /// Another operation has run in its place, so that no further one is nested in it.
    is_overtaken: AtomicBool,
    is_immediate: AtomicBool,
    /// A [`UserCode`].
    user_code: AtomicU8,
    /// Whether [`Details::loss`] is there.
    is_lost: AtomicBool,
    /// Whether [`Details::deadline`] is there.
    has_deadline: AtomicBool,
    /// A [`TakesHooks`].
    takes_hooks: AtomicU8,
    /// How many there are in [`Details::hooks`].
    hooks: AtomicUsize,
    details: Mutex<Details>,
}

#[derive(Debug, Default)]
struct Details {
    loss: Option<EnclosingLoss>,
    deadline: Option<Instant>,
    hooks: Vec<Hook>,
}

impl SharedState {
    /// Makes this the current state of a new operation.
    pub(super) fn restart(&mut self, depth: u32, max_retries: u32) {
        let has_details =
            *self.is_lost.get_mut() || *self.has_deadline.get_mut() || *self.hooks.get_mut() > 0;
        // Some platforms allocate for a new mutex.
        let mut details = std::mem::take(&mut self.details);
        if has_details {
            *details.get_mut().unwrap_or_else(PoisonError::into_inner) = Details::default();
        }
        *self = Self {
            depth,
            retries_left: AtomicU32::new(max_retries),
            is_current: AtomicBool::new(true),
            details,
            ..Self::default()
        };
    }

    pub(super) const fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether an operation that starts at `depth` is nested in this one.
    pub(super) fn is_around(&self, depth: u32) -> bool {
        // After a loss every step is refused, wherever it would run.
        let refuses = || self.is_lost.load(Relaxed) && self.user_code() == UserCode::Body;
        !self.is_overtaken.load(Relaxed) && !self.lends() && (self.depth < depth || refuses())
    }

    /// Whether its body has no transaction. An operation in there is not nested in it, but has its retries
    /// and its deadline from it.
    pub(super) fn lends(&self) -> bool {
        self.user_code() == UserCode::Autocommit
    }

    pub(super) fn is_current(&self) -> bool {
        self.is_current.load(Relaxed)
    }

    /// The operation has left, or another one takes its place.
    pub(super) fn leave(&self) {
        self.is_current.store(false, Relaxed);
    }

    /// The operation that took its place has left. The outermost one finds its state as it left
    /// it, except that its transaction is gone if its body is running.
    pub(super) fn come_back(&self) {
        if self.user_code() == UserCode::Body {
            let mut details = self.details();
            let loss = details.loss.get_or_insert(EnclosingLoss {
                fault: None,
                undone: false,
                saved_values_overwritten: true,
            });
            loss.saved_values_overwritten = true;
            self.is_lost.store(true, Relaxed);
        }
        self.is_overtaken.store(true, Relaxed);
        self.is_current.store(true, Relaxed);
    }

    pub(super) fn set_immediate(&self) {
        self.is_immediate.store(true, Relaxed);
    }

    pub(super) fn is_immediate(&self) -> bool {
        self.is_immediate.load(Relaxed)
    }

    pub(super) fn take_retry(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.retries_left
            .fetch_update(Relaxed, Relaxed, less)
            .is_ok()
    }

    pub(super) fn give_back_retry(&self) {
        self.retries_left.fetch_add(1, Relaxed);
    }

    pub(super) fn takes_hooks(&self) -> TakesHooks {
        const SYNC: u8 = TakesHooks::Sync as u8;
        const ASYNC: u8 = TakesHooks::Async as u8;
        match self.takes_hooks.load(Relaxed) {
            SYNC => TakesHooks::Sync,
            ASYNC => TakesHooks::Async,
            _ => TakesHooks::No,
        }
    }

    pub(super) fn set_takes_hooks(&self, takes: TakesHooks) {
        self.takes_hooks.store(takes as u8, Relaxed);
    }

    pub(super) fn hooks(&self) -> usize {
        self.hooks.load(Relaxed)
    }

    pub(super) fn add_hook(&self, hook: Hook) {
        let mut details = self.details();
        details.hooks.push(hook);
        self.hooks.store(details.hooks.len(), Relaxed);
    }

    /// Those behind the first ones.
    pub(super) fn take_hooks(&self, mark: usize) -> Vec<Hook> {
        if self.hooks() <= mark {
            return Vec::new();
        }
        self.hooks.store(mark, Relaxed);
        self.details().hooks.split_off(mark)
    }

    /// The operation to which it has lent its retries has taken so many.
    pub(super) fn lose_retries(&self, taken: u32) {
        let less = self.retries_left().saturating_sub(taken);
        self.retries_left.store(less, Relaxed);
    }

    pub(super) fn retries_left(&self) -> u32 {
        self.retries_left.load(Relaxed)
    }

    pub(super) fn loss(&self) -> Option<EnclosingLoss> {
        match self.is_lost.load(Relaxed) {
            true => self.details().loss,
            false => None,
        }
    }

    pub(super) fn set_loss(&self, loss: EnclosingLoss) {
        self.details().loss.get_or_insert(loss);
        self.is_lost.store(true, Relaxed);
    }

    pub(super) fn clear_loss(&self) {
        if self.is_lost.swap(false, Relaxed) {
            self.details().loss = None;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.has_deadline.load(Relaxed) {
            true => self.details().deadline,
            false => None,
        }
    }

    pub(super) fn set_deadline(&self, deadline: Option<Instant>) {
        if self.has_deadline.load(Relaxed) || deadline.is_some() {
            self.details().deadline = deadline;
            self.has_deadline.store(deadline.is_some(), Relaxed);
        }
    }

    pub(super) fn user_code(&self) -> UserCode {
        const BODY: u8 = UserCode::Body as u8;
        const AUTOCOMMIT: u8 = UserCode::Autocommit as u8;
        const LOOK: u8 = UserCode::Look as u8;
        match self.user_code.load(Relaxed) {
            BODY => UserCode::Body,
            AUTOCOMMIT => UserCode::Autocommit,
            LOOK => UserCode::Look,
            _ => UserCode::Nothing,
        }
    }

    pub(super) fn set_user_code(&self, code: UserCode) {
        self.user_code.store(code as u8, Relaxed);
        self.is_overtaken.store(false, Relaxed);
    }

    fn details(&self) -> MutexGuard<'_, Details> {
        // Nothing in here can leave them half changed.
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
