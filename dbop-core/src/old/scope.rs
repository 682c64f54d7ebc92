//! Which connections have an operation running on them, for operations nested in it.
//!
//! What an outermost operation hands down to those nested in it (retries left, "the transaction
//! is lost") is keyed by the connection, never by thread or task: an operation on connection B
//! inside one on connection A is not nested in it, and a nested one stays nested when it is polled
//! on another thread. The key is the address of the connection's transaction status. It is stable,
//! because the outermost operation holds the connection borrowed for as long as it runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::old::Fault;

/// What all operations on one connection share while the outermost one runs.
#[derive(Clone, Copy, Debug)]
struct Shared {
    /// Whose entry it is: an address can be used again.
    id: u64,
    /// The depth at which the outermost operation started. 0: it began the transaction itself.
    depth: u32,
    retries_left: u32,
    immediate: bool,
    lost: Option<Lost>,
    deadline: Option<Instant>,
    runs: Runs,
    /// Another operation has run in its place. It is there for its owner only.
    displaced: bool,
}

/// Which code of the user's is running in the outermost operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    Nothing,
    Body,
    /// It looks whether the work is there, outside of the operation's transaction.
    Look,
}

/// The server dropped the transaction around a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The fault in whose wake that was found.
    pub(crate) fault: Option<Fault>,
    /// It was rolled back. Otherwise it can have been committed behind our back, by DDL.
    pub(crate) undone: bool,
    /// Another operation has had a transaction of its own since, and the values that are to be
    /// restored are those that it found.
    pub(crate) displaced: bool,
}

/// One operation's membership in the table. Leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Membership {
    key: usize,
    id: u64,
    outermost: bool,
    /// The deadline of the operation around it.
    inherited: Option<Instant>,
    /// That of an operation whose code is running around this one, although this one is not in its
    /// transaction: that one has ended.
    displaced: Option<Shared>,
}

impl Membership {
    /// Joins the operation that is running on the connection with this key, or becomes its
    /// outermost one. `depth` is the number of transactions and savepoints that are open on it.
    pub(crate) fn join(key: usize, depth: u32, max_retries: u32) -> Self {
        let mut table = table();
        let there = table.get(&key).copied();
        let is_around = |shared: &Shared| {
            // After a loss every step is refused, wherever it would run.
            let is_lost = shared.lost.is_some() && shared.runs == Runs::Body;
            !shared.displaced && (shared.depth < depth || is_lost)
        };
        if let Some(shared) = there.filter(is_around) {
            return Self {
                key,
                id: shared.id,
                outermost: false,
                inherited: shared.deadline,
                displaced: None,
            };
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let shared = Shared {
            id,
            depth,
            retries_left: max_retries,
            immediate: false,
            lost: None,
            deadline: None,
            runs: Runs::Nothing,
            displaced: false,
        };
        table.insert(key, shared);
        Self {
            key,
            id,
            outermost: true,
            inherited: None,
            // Where no code of the user's is running, it is what a leaked operation has left.
            displaced: there.filter(|shared| shared.runs != Runs::Nothing),
        }
    }

    /// Whether no other operation runs around this one on the same connection.
    pub(crate) const fn is_outermost(&self) -> bool {
        self.outermost
    }

    /// Whether the transaction was begun by an operation, not by the caller.
    pub(crate) fn owns_transaction(&self) -> bool {
        self.read(|shared| shared.depth == 0)
    }

    /// Brings a deadline of its own, unless the one around it is earlier: which one holds?
    pub(crate) fn join_deadline(&self, own: Option<Instant>) -> Option<Instant> {
        let deadline = [own, self.inherited].into_iter().flatten().min();
        self.write(|shared| shared.deadline = deadline);
        deadline
    }

    pub(crate) fn set_immediate(&self) {
        self.write(|shared| shared.immediate = true);
    }

    pub(crate) fn is_immediate(&self) -> bool {
        self.read(|shared| shared.immediate)
    }

    /// Takes one of the retries that the outermost operation has for itself and everything nested
    /// in it.
    pub(crate) fn take_retry(&self) -> bool {
        self.write(|shared| match shared.retries_left.checked_sub(1) {
            Some(left) => {
                shared.retries_left = left;
                true
            }
            None => false,
        })
    }

    /// How many retries are left for all of them.
    pub(crate) fn retries_left(&self) -> u32 {
        self.read(|shared| shared.retries_left)
    }

    pub(crate) fn lost(&self) -> Option<Lost> {
        self.read(|shared| shared.lost)
    }

    /// The first loss is the one that is kept.
    pub(crate) fn set_lost(&self, lost: Lost) {
        self.write(|shared| shared.lost = shared.lost.or(Some(lost)));
    }

    /// A new transaction is about to begin.
    pub(crate) fn clear_lost(&self) {
        self.write(|shared| shared.lost = None);
    }

    /// Which code of the user's is running in the outermost operation, if this is it.
    pub(crate) fn set_runs(&self, runs: Runs) {
        if self.outermost {
            self.write(|shared| {
                shared.runs = runs;
                shared.displaced = false;
            });
        }
    }

    fn read<R: Default>(&self, f: impl FnOnce(&Shared) -> R) -> R {
        self.write(|shared| f(shared))
    }

    fn write<R: Default>(&self, f: impl FnOnce(&mut Shared) -> R) -> R {
        let mut table = table();
        let shared = table.get_mut(&self.key);
        shared
            .filter(|shared| shared.id == self.id)
            .map(f)
            .unwrap_or_default()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.outermost {
            return self.write(|shared| shared.deadline = self.inherited);
        }
        let mut table = table();
        if table
            .get(&self.key)
            .is_none_or(|shared| shared.id != self.id)
        {
            return;
        }
        let Some(mut displaced) = self.displaced else {
            table.remove(&self.key);
            return;
        };
        displaced.displaced = true;
        if displaced.runs == Runs::Body {
            let lost = displaced.lost.get_or_insert(Lost {
                fault: None,
                undone: false,
                displaced: true,
            });
            lost.displaced = true;
        }
        table.insert(self.key, displaced);
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The table keeps its room when entries leave, so that joining does not allocate in the long run.
static TABLE: LazyLock<Mutex<HashMap<usize, Shared>>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, HashMap<usize, Shared>> {
    // Nothing in here can leave an entry half changed.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}
