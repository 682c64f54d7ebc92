//! The table of keys: one queue for each key that is in use, in this process.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::queue::{Queue, Ticket, ToWake};

/// One at a time.
const LIMIT: u32 = 1;

/// Of those whose patience has ended, one is let in each time that this has passed: PostgreSQL looks for a
/// deadlock after a second.
const COST: Duration = Duration::from_secs(1);

type Shard = HashMap<u64, Queue, BuildHasherDefault<Same>>;

const SHARDS: usize = 64;

static TABLE: LazyLock<[Mutex<Shard>; SHARDS]> =
    LazyLock::new(|| std::array::from_fn(|_| Mutex::default()));

fn shard(key: u64) -> MutexGuard<'static, Shard> {
    let at = usize::try_from(key % SHARDS as u64).unwrap_or(0);
    // Nothing in here can leave a shard half changed.
    TABLE[at].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Goes in, or waits with this ticket.
pub(super) fn enter(key: u64, waker: &Waker) -> Result<(), Ticket> {
    let mut shard = shard(key);
    let queue = shard.entry(key).or_default();
    match queue.enter(LIMIT) {
        true => Ok(()),
        false => Err(queue.wait(waker)),
    }
}

/// Whether it is its turn.
pub(super) fn claim(key: u64, ticket: Ticket, waker: &Waker, now: Instant) -> bool {
    let mut shard = shard(key);
    let Some(queue) = shard.get_mut(&key) else {
        return true;
    };
    if queue.claim(ticket, waker) {
        return true;
    }
    let to_wake = queue.give_up_on_missing(LIMIT, now);
    // It can be its own turn now.
    let is_in = queue.claim(ticket, waker);
    drop(shard);
    to_wake.wake();
    is_in
}

/// Whether it goes in although it is not its turn.
pub(super) fn let_pass(key: u64, ticket: Ticket, now: Instant) -> bool {
    let mut shard = shard(key);
    let queue = shard.get_mut(&key);
    queue.is_none_or(|queue| queue.let_pass(ticket, COST, now))
}

pub(super) fn leave(key: u64) {
    change(key, |queue| queue.leave(LIMIT));
}

pub(super) fn cancel(key: u64, ticket: Ticket) {
    change(key, |queue| queue.cancel(ticket, LIMIT));
}

/// A queue that is not used any more is forgotten.
fn change(key: u64, change: impl FnOnce(&mut Queue) -> ToWake) {
    let mut shard = shard(key);
    let Some(queue) = shard.get_mut(&key) else {
        return;
    };
    let to_wake = change(queue);
    if queue.is_unused() {
        shard.remove(&key);
    }
    drop(shard);
    to_wake.wake();
}

/// How many keys are in use, among these.
#[cfg(test)]
pub(super) fn in_use(keys: &super::Keys) -> usize {
    keys.hashes()
        .iter()
        .filter(|key| shard(**key).contains_key(*key))
        .count()
}

/// The keys are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
