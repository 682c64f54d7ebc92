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

use crate::Fault;

/// What all operations on one connection share while the outermost one runs.
#[derive(Clone, Copy, Debug)]
struct SharedState {
    /// Whose entry it is: an address can be used again.
    id: u64,
    /// The depth at which the outermost operation started. 0: it began the transaction itself.
    depth: u32,
    retries_left: u32,
    immediate: bool,
    lost: Option<EnclosingLoss>,
    deadline: Option<Instant>,
    runs: UserCode,
    /// Another operation has run in its place. It is there for its owner only.
    displaced: bool,
}

/// Which code of the user's is running in the outermost operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserCode {
    Nothing,
    Body,
    /// It looks whether the work is there, outside of the operation's transaction.
    Look,
}

/// The server dropped the transaction around a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnclosingLoss {
    /// The fault in whose wake that was found.
    pub(crate) fault: Option<Fault>,
    /// It was rolled back. Otherwise it can have been committed behind our back, by DDL.
    pub(crate) undone: bool,
    /// Another operation has had a transaction of its own since, and the values that are to be
    /// restored are those that it found.
    pub(crate) displaced: bool,
}

/// One operation's seat in the table. Leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Seat {
    key: usize,
    id: u64,
    outermost: bool,
    /// The deadline of the operation around it.
    inherited: Option<Instant>,
    /// That of an operation whose code is running around this one, although this one is not in its
    /// transaction: that one has ended.
    displaced: Option<SharedState>,
}

impl Seat {
    /// Joins the operation that is running on the connection with this key, or becomes its
    /// outermost one. `depth` is the number of transactions and savepoints that are open on it.
    pub(crate) fn join(key: usize, depth: u32, max_retries: u32) -> Self {
        let mut table = table();
        let there = table.get(&key).copied();
        let is_around = |shared: &SharedState| {
            // After a loss every step is refused, wherever it would run.
            let is_lost = shared.lost.is_some() && shared.runs == UserCode::Body;
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
        let shared = SharedState {
            id,
            depth,
            retries_left: max_retries,
            immediate: false,
            lost: None,
            deadline: None,
            runs: UserCode::Nothing,
            displaced: false,
        };
        table.insert(key, shared);
        Self {
            key,
            id,
            outermost: true,
            inherited: None,
            // Where no code of the user's is running, it is what a leaked operation has left.
            displaced: there.filter(|shared| shared.runs != UserCode::Nothing),
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

    pub(crate) fn lost(&self) -> Option<EnclosingLoss> {
        self.read(|shared| shared.lost)
    }

    /// The first loss is the one that is kept.
    pub(crate) fn set_lost(&self, lost: EnclosingLoss) {
        self.write(|shared| shared.lost = shared.lost.or(Some(lost)));
    }

    /// A new transaction is about to begin.
    pub(crate) fn clear_lost(&self) {
        self.write(|shared| shared.lost = None);
    }

    /// Which code of the user's is running in the outermost operation, if this is it.
    pub(crate) fn set_user_code(&self, runs: UserCode) {
        if self.outermost {
            self.write(|shared| {
                shared.runs = runs;
                shared.displaced = false;
            });
        }
    }

    fn read<R: Default>(&self, f: impl FnOnce(&SharedState) -> R) -> R {
        self.write(|shared| f(shared))
    }

    fn write<R: Default>(&self, f: impl FnOnce(&mut SharedState) -> R) -> R {
        let mut table = table();
        let shared = table.get_mut(&self.key);
        shared
            .filter(|shared| shared.id == self.id)
            .map(f)
            .unwrap_or_default()
    }
}

impl Drop for Seat {
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
        if displaced.runs == UserCode::Body {
            let lost = displaced.lost.get_or_insert(EnclosingLoss {
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
static TABLE: LazyLock<Mutex<HashMap<usize, SharedState>>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, HashMap<usize, SharedState>> {
    // Nothing in here can leave an entry half changed.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Keys that no connection can have, one for each test: they run in parallel.
    const LOST: EnclosingLoss = EnclosingLoss {
        fault: None,
        undone: true,
        displaced: false,
    };

    #[test]
    fn the_same_connection_is_nested_another_is_not() {
        let outer = Seat::join(1, 0, 5);
        assert!(outer.is_outermost());
        assert!(!Seat::join(1, 1, 5).is_outermost());
        assert!(Seat::join(2, 0, 5).is_outermost());
        assert!(Seat::join(2, 1, 5).is_outermost());
        drop(outer);
        assert!(Seat::join(1, 1, 5).is_outermost());
    }

    #[test]
    fn retries_are_shared_with_the_outermost() {
        let outer = Seat::join(3, 0, 2);
        let inner = Seat::join(3, 1, 100);
        assert!(inner.take_retry());
        assert!(outer.take_retry());
        assert!(!inner.take_retry());
        assert!(!outer.take_retry());
    }

    #[test]
    fn a_loss_is_seen_by_all_and_gone_with_the_outermost() {
        let outer = Seat::join(4, 1, 2);
        Seat::join(4, 2, 2).set_lost(LOST);
        assert_eq!(outer.lost(), Some(LOST));
        assert!(!outer.owns_transaction());
        drop(outer);
        assert_eq!(Seat::join(4, 1, 2).lost(), None);
    }

    #[test]
    fn a_leftover_is_replaced() {
        std::mem::forget(Seat::join(5, 1, 2));
        Seat::join(5, 3, 2).set_lost(LOST);
        let fresh = Seat::join(5, 1, 7);
        assert!(fresh.is_outermost());
        assert_eq!(fresh.lost(), None);
    }
    #[test]
    fn what_runs_in_the_place_of_another_is_noticed_by_that_one_alone() {
        let outer = Seat::join(6, 0, 5);
        outer.set_user_code(UserCode::Body);
        for _ in 0..2 {
            let inner = Seat::join(6, 0, 7);
            assert!(inner.is_outermost());
            assert_eq!(inner.retries_left(), 7);
            drop(inner);
            let other = Seat::join(6, 1, 7);
            assert!(other.is_outermost(), "the caller's transaction");
            assert_eq!(other.lost(), None);
        }
        let lost = outer.lost().expect("its transaction has ended");
        assert!(lost.displaced && !lost.undone);
        assert_eq!(outer.retries_left(), 5);
        drop(outer);
        assert_eq!(Seat::join(6, 1, 2).lost(), None);
    }

    #[test]
    fn a_look_is_no_part_of_the_operation() {
        let outer = Seat::join(7, 0, 5);
        outer.set_user_code(UserCode::Look);
        assert!(Seat::join(7, 0, 7).is_outermost());
        outer.set_user_code(UserCode::Nothing);
        assert_eq!(outer.lost(), None);
        assert!(outer.take_retry());
        assert!(!Seat::join(7, 1, 7).is_outermost());
    }

    #[test]
    fn after_a_loss_nothing_runs_in_its_place() {
        let outer = Seat::join(8, 0, 5);
        outer.set_user_code(UserCode::Body);
        Seat::join(8, 1, 2).set_lost(LOST);
        assert_eq!(Seat::join(8, 0, 2).lost(), Some(LOST));
        assert_eq!(outer.lost(), Some(LOST));
    }

    #[test]
    fn nobody_takes_away_what_is_not_his() {
        let one = Seat::join(9, 0, 2);
        let other = Seat::join(9, 0, 3);
        drop(one);
        assert_eq!(other.retries_left(), 3);
        drop(other);
        assert!(Seat::join(9, 1, 2).is_outermost());
    }
}
