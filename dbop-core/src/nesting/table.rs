//! The table of connections that have an operation running on them.
//!
//! It is split into shards, so that operations on different connections rarely meet in it. A shard
//! searches its places one by one: there are as many as operations ran at the same time, divided
//! by the number of shards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::SharedState;

/// A shard of the table. It keeps its room and the states of operations that have left, so that
/// joining does not allocate in the long run.
#[derive(Debug)]
pub(super) struct Shard {
    places: Vec<Place>,
    /// States of operations that stood in for others and have left.
    spare: Vec<Arc<SharedState>>,
}

/// Where the state of a connection's outermost operation is. Once that has left, the place is free
/// for any connection, so an address that never comes back takes no room for good.
#[derive(Debug)]
struct Place {
    key: usize,
    state: Arc<SharedState>,
}

impl Shard {
    const EMPTY: Self = Self {
        places: Vec::new(),
        spare: Vec::new(),
    };

    /// The state of the outermost operation on the connection with this key, if there is one.
    pub(super) fn current(&self, key: usize) -> Option<&Arc<SharedState>> {
        let place = self.places.iter().find(|place| place.key == key)?;
        Some(&place.state).filter(|state| state.is_current())
    }

    /// The state for a new outermost operation on the connection with this key. A state that is
    /// there already is not the current one any more.
    pub(super) fn seat(&mut self, key: usize, depth: u32, max_retries: u32) -> Arc<SharedState> {
        let at = self.place_for(key);
        let place = &mut self.places[at];
        place.key = key;
        loop {
            if let Some(state) = Arc::get_mut(&mut place.state) {
                state.restart(depth, max_retries);
                return Arc::clone(&place.state);
            }
            // Seats hold it: those of the operation around the new one, or leaked ones.
            place.state.leave();
            place.state = self.spare.pop().unwrap_or_default();
        }
    }

    /// The place with this key, else a free one, else a new one.
    fn place_for(&mut self, key: usize) -> usize {
        let places = &self.places;
        let own = places.iter().position(|place| place.key == key);
        let free = || places.iter().position(|place| !place.state.is_current());
        own.or_else(free).unwrap_or_else(|| {
            self.places.push(Place {
                key,
                state: self.spare.pop().unwrap_or_default(),
            });
            self.places.len() - 1
        })
    }

    /// The operation with the state `own` leaves, and that with the state `other`, for which it
    /// stood in, is the outermost one again.
    pub(super) fn put_back(
        &mut self,
        key: usize,
        own: &Arc<SharedState>,
        other: &Arc<SharedState>,
    ) {
        let is_own = |place: &&mut Place| place.key == key && Arc::ptr_eq(&place.state, own);
        if let Some(place) = self.places.iter_mut().find(is_own) {
            own.leave();
            other.come_back();
            self.spare
                .push(std::mem::replace(&mut place.state, Arc::clone(other)));
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.places.len(), self.spare.len())
    }
}

/// Alone in its cache line.
#[repr(align(128))]
struct Aligned(Mutex<Shard>);

const BITS: u32 = 6;

static TABLE: [Aligned; 1 << BITS] = [const { Aligned(Mutex::new(Shard::EMPTY)) }; 1 << BITS];

/// Locks the part of the table in which the connection with this key is.
pub(super) fn shard(key: usize) -> MutexGuard<'static, Shard> {
    #[cfg(test)]
    LOCKS.set(LOCKS.get() + 1);
    // Nothing in here can leave a shard half changed.
    TABLE[number(key)]
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// The number of a key's shard: the highest bits of its product with 2^64 divided by the golden
/// ratio, which depend on all bits of an address.
pub(super) const fn number(key: usize) -> usize {
    ((key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - BITS)) as usize
}

#[cfg(test)]
thread_local! {
    static LOCKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How many times this thread has locked a part of the table.
#[cfg(test)]
pub(crate) fn locks_taken() -> u64 {
    LOCKS.get()
}
