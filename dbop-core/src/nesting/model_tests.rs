//! The table against a model of it, in random orders: one map for all connections, in which every
//! access looks for its entry by key and number.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::*;
use crate::{Dialect, FaultClass};

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    depth: u32,
    retries_left: u32,
    immediate: bool,
    lost: Option<EnclosingLoss>,
    deadline: Option<Instant>,
    user_code: UserCode,
    overtaken: bool,
}

#[derive(Debug)]
struct ModelSeat {
    key: usize,
    number: u64,
    outermost: bool,
    inherited: Option<Instant>,
    stands_in_for: Option<Entry>,
}

#[derive(Debug, Default)]
struct Model {
    entries: HashMap<usize, Entry>,
    next: u64,
}

impl Model {
    fn join(&mut self, key: usize, depth: u32, max_retries: u32) -> ModelSeat {
        let there = self.entries.get(&key).copied();
        let is_around = |entry: &Entry| {
            let refuses = entry.lost.is_some() && entry.user_code == UserCode::Body;
            !entry.overtaken && (entry.depth < depth || refuses)
        };
        if let Some(entry) = there.filter(is_around) {
            return ModelSeat {
                key,
                number: entry.number,
                outermost: false,
                inherited: entry.deadline,
                stands_in_for: None,
            };
        }
        self.next += 1;
        let entry = Entry {
            number: self.next,
            depth,
            retries_left: max_retries,
            immediate: false,
            lost: None,
            deadline: None,
            user_code: UserCode::Nothing,
            overtaken: false,
        };
        self.entries.insert(key, entry);
        ModelSeat {
            key,
            number: self.next,
            outermost: true,
            inherited: None,
            stands_in_for: there.filter(|entry| entry.user_code != UserCode::Nothing),
        }
    }

    fn entry(&mut self, seat: &ModelSeat) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&seat.key);
        entry.filter(|entry| entry.number == seat.number)
    }

    fn join_deadline(&mut self, seat: &ModelSeat, own: Option<Instant>) -> Option<Instant> {
        let deadline = [own, seat.inherited].into_iter().flatten().min();
        if let Some(entry) = self.entry(seat) {
            entry.deadline = deadline;
        }
        deadline
    }

    fn take_retry(&mut self, seat: &ModelSeat) -> bool {
        let entry = self.entry(seat).filter(|entry| entry.retries_left > 0);
        entry.is_some_and(|entry| {
            entry.retries_left -= 1;
            true
        })
    }

    fn leave(&mut self, seat: &ModelSeat) {
        let Some(entry) = self.entry(seat) else {
            return;
        };
        if !seat.outermost {
            entry.deadline = seat.inherited;
            return;
        }
        self.entries.remove(&seat.key);
        if let Some(mut entry) = seat.stands_in_for {
            entry.overtaken = true;
            if entry.user_code == UserCode::Body {
                let lost = entry.lost.get_or_insert(EnclosingLoss {
                    fault: None,
                    undone: false,
                    saved_values_overwritten: true,
                });
                lost.saved_values_overwritten = true;
            }
            self.entries.insert(seat.key, entry);
        }
    }
}

/// Some connections, the operations on them, and what the model says about both.
#[derive(Debug)]
struct World {
    keys: [usize; 3],
    model: Model,
    seats: Vec<(Seat, ModelSeat)>,
    rng: Rng,
    start: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        // Far from the keys of the other tests of this crate, which share the table.
        static NEXT: AtomicUsize = AtomicUsize::new(usize::MAX / 2);
        Self {
            keys: std::array::from_fn(|_| NEXT.fetch_add(1, Ordering::Relaxed)),
            model: Model::default(),
            seats: Vec::new(),
            rng: Rng::with_seed(seed),
            start: Instant::now(),
        }
    }

    /// Does one thing, and compares everything.
    fn step(&mut self) {
        match self.rng.u8(..100) {
            0..30 if self.seats.len() < 8 => self.join(),
            0..45 => self.leave(),
            // Leaked.
            45..47 => drop(self.any_seat().map(|(seat, _)| std::mem::forget(seat))),
            _ => self.change(),
        }
        for (seat, expected) in &self.seats {
            let entry = self.model.entry(expected).copied();
            assert_eq!(seat.is_outermost(), expected.outermost);
            assert_eq!(seat.inherited, expected.inherited);
            let owns = entry.is_some_and(|entry| entry.depth == 0);
            assert_eq!(seat.owns_transaction(), owns);
            let immediate = entry.is_some_and(|entry| entry.immediate);
            assert_eq!(seat.is_immediate(), immediate);
            let left = entry.map_or(0, |entry| entry.retries_left);
            assert_eq!(seat.retries_left(), left);
            assert_eq!(seat.lost(), entry.and_then(|entry| entry.lost));
        }
    }

    fn join(&mut self) {
        let key = self.keys[self.rng.usize(..self.keys.len())];
        let (depth, retries) = (self.rng.u32(..4), self.rng.u32(..4));
        let seat = Seat::join(key, depth, retries);
        let expected = self.model.join(key, depth, retries);
        let stands_in = expected.stands_in_for.is_some();
        assert_eq!(seat.stands_in_for.is_some(), stands_in);
        self.seats.push((seat, expected));
    }

    /// The last one mostly, as where operations are nested. Others leave out of order.
    fn any_seat(&mut self) -> Option<(Seat, ModelSeat)> {
        match self.rng.u8(..4) {
            0 if !self.seats.is_empty() => {
                let at = self.rng.usize(..self.seats.len());
                Some(self.seats.remove(at))
            }
            _ => self.seats.pop(),
        }
    }

    fn leave(&mut self) {
        if let Some((seat, expected)) = self.any_seat() {
            drop(seat);
            self.model.leave(&expected);
        }
    }

    fn change(&mut self) {
        let Self {
            model, seats, rng, ..
        } = self;
        let Some((seat, expected)) = rng.choice(seats.iter()) else {
            return;
        };
        match rng.u8(..6) {
            0 => assert_eq!(seat.take_retry(), model.take_retry(expected)),
            1 => {
                let code = rng.choice([UserCode::Nothing, UserCode::Body, UserCode::Look]);
                let code = code.expect("there are three");
                seat.set_user_code(code);
                if let Some(entry) = model.entry(expected).filter(|_| expected.outermost) {
                    (entry.user_code, entry.overtaken) = (code, false);
                }
            }
            2 => {
                let deadlock = Fault::from_class(Dialect::Mysql, FaultClass::Deadlock);
                let loss = EnclosingLoss {
                    fault: rng.bool().then_some(deadlock),
                    undone: rng.bool(),
                    saved_values_overwritten: rng.bool(),
                };
                seat.set_lost(loss);
                if let Some(entry) = model.entry(expected) {
                    entry.lost.get_or_insert(loss);
                }
            }
            3 => {
                seat.clear_lost();
                if let Some(entry) = model.entry(expected) {
                    entry.lost = None;
                }
            }
            4 => {
                let at = self.start + Duration::from_secs(rng.u64(..100));
                let own = rng.bool().then_some(at);
                let deadline = model.join_deadline(expected, own);
                assert_eq!(seat.join_deadline(own), deadline);
            }
            _ => {
                seat.set_immediate();
                if let Some(entry) = model.entry(expected) {
                    entry.immediate = true;
                }
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        while self.seats.pop().is_some() {}
    }
}

#[test]
fn agrees_with_one_map_in_random_orders() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step();
        }
    }
}

/// Connections go from thread to thread, in the middle of operations.
#[test]
fn agrees_with_one_map_on_sixteen_threads() {
    let worlds = Mutex::new((1_000..1_024).map(World::new).collect::<Vec<_>>());
    let turns = AtomicU32::new(0);
    let (deadline, enough) = (Instant::now() + Duration::from_secs(1), 4_000);
    thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                while Instant::now() < deadline && turns.load(Ordering::Relaxed) < enough {
                    let world = worlds.lock().expect("no thread panicked").pop();
                    let mut world = world.expect("more worlds than threads");
                    for _ in 0..20 {
                        world.step();
                    }
                    turns.fetch_add(1, Ordering::Relaxed);
                    worlds.lock().expect("no thread panicked").insert(0, world);
                }
            });
        }
    });
    assert!(
        turns.into_inner() >= 16,
        "at least one turn for each thread"
    );
}

/// Each operation is on a connection that has just been made, and nested operations follow.
#[test]
fn short_lived_connections_on_sixteen_threads() {
    let deadline = Instant::now() + Duration::from_secs(1);
    thread::scope(|threads| {
        for thread in 0..16 {
            threads.spawn(move || {
                let first = usize::MAX / 4 + thread * 1_000_000;
                for key in first..first + 5_000 {
                    let outer = Seat::join(key, 0, 3);
                    outer.set_user_code(UserCode::Body);
                    let inner = Seat::join(key, 1, 9);
                    let alone = Seat::join(key + 500_000, 0, 7);
                    assert!(outer.is_outermost() && !inner.is_outermost());
                    assert!(alone.is_outermost() && inner.take_retry());
                    assert_eq!((outer.retries_left(), alone.retries_left()), (2, 7));
                    assert_eq!((outer.lost(), alone.lost()), (None, None));
                    drop((inner, outer));
                    if Instant::now() > deadline {
                        return;
                    }
                }
            });
        }
    });
}
