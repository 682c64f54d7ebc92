use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};
use std::thread;

use proptest::prelude::*;

use super::keyed;
use super::named::{Entry, NamedGate};
use super::queue::{Queue, Ticket};
use super::*;
use crate::event::Name;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// Counts how often it is woken.
#[derive(Default)]
struct Counts(AtomicU32);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn waker() -> (Arc<Counts>, Waker) {
    let counts = Arc::new(Counts::default());
    (Arc::clone(&counts), Waker::from(counts))
}

fn woken(counts: &Counts) -> u32 {
    counts.0.load(Ordering::Relaxed)
}

/// A clock that stands where the test has put it.
struct Time(std::cell::Cell<Instant>);

impl Time {
    fn new() -> Self {
        Self(std::cell::Cell::new(Instant::now()))
    }

    fn pass(&self, time: Duration) {
        self.0.set(self.0.get() + time);
    }

    fn now(&self) -> Instant {
        self.0.get()
    }
}

fn wait(turn: &mut Turn<'_>, time: &Time) -> Wait {
    turn.wait(LONG, Waker::noop(), &|| time.now())
}

fn is_in(turn: &mut Turn<'_>, time: &Time) -> bool {
    matches!(wait(turn, time), Wait::Over(_))
}

#[test]
fn the_first_to_come_is_the_first_to_be_served() {
    let mut queue = Queue::default();
    let now = Instant::now();
    assert!(queue.enter(1));
    let (first, first_waker) = waker();
    let (second, second_waker) = waker();
    assert!(!queue.enter(1));
    let a = queue.wait(&first_waker);
    let b = queue.wait(&second_waker);
    assert_eq!((queue.inside(), queue.waiting()), (1, 2));
    queue.leave(1).wake();
    assert_eq!((woken(&first), woken(&second)), (1, 0));
    // An operation that comes now does not overtake.
    assert!(!queue.enter(1));
    assert!(!queue.claim(b, &second_waker));
    assert!(queue.claim(a, &first_waker));
    queue.leave(1).wake();
    assert_eq!(woken(&second), 1);
    assert!(queue.claim(b, &second_waker));
    queue.leave(1).wake();
    assert!(queue.is_unused());
    _ = queue.give_up_on_missing(1, now);
}

#[test]
fn whoever_waits_is_woken_by_its_last_waker() {
    let mut queue = Queue::default();
    assert!(queue.enter(1));
    let (old, old_waker) = waker();
    let (new, new_waker) = waker();
    let ticket = queue.wait(&old_waker);
    assert!(!queue.claim(ticket, &new_waker));
    queue.leave(1).wake();
    assert_eq!((woken(&old), woken(&new)), (0, 1));
}

#[test]
fn whoever_goes_away_hands_its_turn_on() {
    let mut queue = Queue::default();
    assert!(queue.enter(1));
    let (_, gone) = waker();
    let (next, next_waker) = waker();
    let (last, last_waker) = waker();
    let a = queue.wait(&gone);
    let b = queue.wait(&next_waker);
    let c = queue.wait(&last_waker);
    queue.leave(1).wake();
    queue.cancel(a, 1).wake();
    assert_eq!(woken(&next), 1);
    // One that still waits has no turn to hand on.
    queue.cancel(c, 1).wake();
    assert_eq!((woken(&last), queue.waiting(), queue.inside()), (0, 0, 1));
    assert!(queue.claim(b, &next_waker));
}

#[test]
fn whoever_does_not_come_loses_its_turn_and_keeps_its_place_at_the_end() {
    let mut queue = Queue::default();
    let now = Instant::now();
    assert!(queue.enter(1));
    let (_, asleep) = waker();
    let (next, next_waker) = waker();
    let a = queue.wait(&asleep);
    let b = queue.wait(&next_waker);
    queue.leave(1).wake();
    queue.give_up_on_missing(1, now).wake();
    queue.give_up_on_missing(1, now + RECHECK - MS).wake();
    assert_eq!(woken(&next), 0);
    queue.give_up_on_missing(1, now + RECHECK).wake();
    assert_eq!(woken(&next), 1);
    assert!(!queue.claim(a, &asleep) && queue.claim(b, &next_waker));
    queue.leave(1).wake();
    assert!(queue.claim(a, &asleep));
}

#[test]
fn those_who_are_called_for_two_reasons_are_all_woken() {
    let called = |waker: &Waker| {
        let mut queue = Queue::default();
        assert!(queue.enter(1));
        _ = queue.wait(waker);
        queue.leave(1)
    };
    let [(one, its), (other, others)] = [waker(), waker()];
    let mut to_wake = called(&its);
    to_wake.and(called(&others));
    to_wake.wake();
    assert_eq!((woken(&one), woken(&other)), (1, 1));
}

#[test]
fn of_those_whose_patience_has_ended_one_goes_in_at_a_time() {
    let mut queue = Queue::default();
    let now = Instant::now();
    assert!(queue.enter(1));
    let tickets = [(); 3].map(|()| queue.wait(Waker::noop()));
    let cost = Duration::from_secs(1);
    assert!(queue.let_pass(tickets[1], cost, now));
    assert!(!queue.let_pass(tickets[0], cost, now + cost - MS));
    assert!(queue.let_pass(tickets[0], cost, now + cost));
    assert_eq!((queue.inside(), queue.waiting()), (3, 1));
    // The last one waits until all of them have left.
    _ = queue.leave(1);
    _ = queue.leave(1);
    assert!(!queue.claim(tickets[2], Waker::noop()));
    _ = queue.leave(1);
    assert!(queue.claim(tickets[2], Waker::noop()));
}

/// Between the two calls another one has left, so that it is its turn.
#[test]
fn whoever_gets_its_turn_while_its_patience_ends_goes_in_once() {
    let mut queue = Queue::default();
    let now = Instant::now();
    assert!(queue.enter(1));
    let ticket = queue.wait(Waker::noop());
    assert!(!queue.claim(ticket, Waker::noop()));
    _ = queue.leave(1);
    assert!(queue.let_pass(ticket, MS, now));
    assert_eq!((queue.inside(), queue.waiting()), (1, 0));
    _ = queue.leave(1);
    assert!(queue.is_unused());
}

proptest! {
    /// Against a model: no one is lost, no one overtakes, and no more are inside than the limit.
    #[test]
    fn any_order_of_calls(limit in 1u32..4, steps in prop::collection::vec((0u8..4, any::<u8>()), 0..200)) {
        let mut queue = Queue::default();
        let (mut inside, mut line): (u32, VecDeque<Ticket>) = (0, VecDeque::new());
        for (step, which) in steps {
            match step {
                0 => {
                    let has_room = line.is_empty() && inside < limit;
                    prop_assert_eq!(queue.enter(limit), has_room);
                    if has_room { inside += 1 } else { line.push_back(queue.wait(Waker::noop())) }
                }
                1 if inside > 0 => {
                    inside -= 1;
                    _ = queue.leave(limit);
                }
                2 if !line.is_empty() => {
                    let ticket = line.remove(usize::from(which) % line.len()).expect("there is one");
                    _ = queue.cancel(ticket, limit);
                }
                _ => {}
            }
            // Those whose turn it is claim it, in their order.
            while inside < limit {
                let Some(ticket) = line.pop_front() else { break };
                prop_assert!(queue.claim(ticket, Waker::noop()));
                inside += 1;
            }
            for ticket in &line {
                prop_assert!(!queue.claim(*ticket, Waker::noop()));
            }
            prop_assert_eq!((queue.inside(), queue.waiting()), (inside, line.len()));
        }
    }
}

#[test]
fn operations_that_share_a_key_run_one_at_a_time() {
    let time = Time::new();
    let (both, one, other) = (
        Keys::new("gate-test-1", [1, 2]),
        Keys::new("gate-test-1", [2]),
        Keys::new("gate-test-1", [3]),
    );
    let mut first = Turn::at(Gate::Keys(both.hashes()));
    let mut second = Turn::at(Gate::Keys(one.hashes()));
    let mut third = Turn::at(Gate::Keys(other.hashes()));
    assert_eq!(wait(&mut first, &time), Wait::Over(None));
    assert_eq!(wait(&mut second, &time), Wait::For(RECHECK));
    assert_eq!(wait(&mut third, &time), Wait::Over(None));
    time.pass(7 * MS);
    first.end();
    assert_eq!(first.settle(|| unreachable!("it needs no clock")), None);
    assert_eq!(wait(&mut second, &time), Wait::Over(Some(7 * MS)));
    drop((second, third));
    assert_eq!(keyed::in_use(&both) + keyed::in_use(&other), 0);
}

/// An operation that has one key and waits for another keeps the first, and gives both back.
#[test]
fn who_waits_for_its_second_key_and_goes_away_holds_none() {
    let time = Time::new();
    let keys = Keys::new("gate-test-2", [1, 2]);
    let (low, high) = (&keys.hashes()[..1], &keys.hashes()[1..]);
    let mut holds_high = Turn::at(Gate::Keys(high));
    let mut wants_both = Turn::at(Gate::Keys(keys.hashes()));
    let mut wants_low = Turn::at(Gate::Keys(low));
    assert!(is_in(&mut holds_high, &time));
    assert!(!is_in(&mut wants_both, &time));
    assert!(!is_in(&mut wants_low, &time));
    drop(wants_both);
    assert!(is_in(&mut wants_low, &time));
    drop((holds_high, wants_low));
    assert_eq!(keyed::in_use(&keys), 0);
}

#[test]
fn patience_with_a_key_ends() {
    let time = Time::new();
    let keys = Keys::new("gate-test-3", [1]);
    let mut holder = Turn::at(Gate::Keys(keys.hashes()));
    let mut second = Turn::at(Gate::Keys(keys.hashes()));
    let mut third = Turn::at(Gate::Keys(keys.hashes()));
    let wait = |turn: &mut Turn<'_>| turn.wait(3 * RECHECK, Waker::noop(), &|| time.now());
    assert_eq!(wait(&mut holder), Wait::Over(None));
    assert_eq!(wait(&mut second), Wait::For(RECHECK));
    assert_eq!(wait(&mut third), Wait::For(RECHECK));
    time.pass(3 * RECHECK - MS);
    assert_eq!(wait(&mut second), Wait::For(RECHECK));
    time.pass(MS);
    assert_eq!(wait(&mut second), Wait::Over(Some(3 * RECHECK)));
    assert_eq!(wait(&mut third), Wait::For(RECHECK));
    time.pass(Duration::from_secs(1));
    assert!(matches!(wait(&mut third), Wait::Over(Some(_))));
}

#[test]
fn threads_that_share_keys_are_never_inside_together() {
    static INSIDE: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
    let work = |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let unparks = thread::current();
        struct Unparks(thread::Thread);
        impl Wake for Unparks {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unparks(unparks)));
        for _ in 0..500 {
            let rows = [rng.usize(0..4), rng.usize(0..4)];
            let keys = Keys::new("gate-test-4", rows);
            let mut turn = Turn::at(Gate::Keys(keys.hashes()));
            while let Wait::For(time) = turn.wait(LONG, &waker, &Instant::now) {
                thread::park_timeout(time);
            }
            let mut rows = rows.to_vec();
            rows.dedup();
            for row in &rows {
                assert_eq!(INSIDE[*row].fetch_add(1, Ordering::Relaxed), 0, "row {row}");
            }
            for row in &rows {
                INSIDE[*row].fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || work(seed));
        }
    });
    assert_eq!(keyed::in_use(&Keys::new("gate-test-4", 0..4)), 0);
}

fn at(gate: &NamedGate) -> Turn<'_> {
    Turn::at(Gate::Named(gate))
}

fn conflict(turn: &mut Turn<'_>, time: &Time) -> Option<u32> {
    turn.meet_conflict();
    turn.end();
    turn.settle(|| time.now())
}

#[test]
fn an_open_gate_reads_no_clock_and_a_conflict_closes_it() {
    let time = Time::new();
    let gate = NamedGate::default();
    let mut turns = [(); 3].map(|()| at(&gate));
    for turn in &mut turns {
        let entered = turn.wait(LONG, Waker::noop(), &|| unreachable!("it needs no clock"));
        assert_eq!(entered, Wait::Over(None));
    }
    assert_eq!(gate.status().limit, None);
    assert_eq!(conflict(&mut turns[0], &time), Some(1));
    // The others were in before that: theirs is the same conflict.
    assert_eq!(conflict(&mut turns[1], &time), None);
    turns[2].end();
    assert_eq!(turns[2].settle(|| unreachable!("it needs no clock")), None);
    assert_eq!(
        gate.status(),
        GateStatus {
            limit: Some(1),
            inside: 0,
            waiting: 0
        }
    );
    assert!(is_in(&mut turns[0], &time));
    assert!(!is_in(&mut turns[1], &time));
    assert_eq!(
        gate.status(),
        GateStatus {
            limit: Some(1),
            inside: 1,
            waiting: 1
        }
    );
    assert_eq!(turns[0].status(), Some(gate.status()));
    assert_eq!(Turn::at(Gate::None).status(), None);
    drop(turns);
    assert_eq!((gate.status().inside, gate.status().waiting), (0, 0));
}

#[test]
fn one_more_is_let_in_after_twenty_times_what_the_conflict_cost() {
    let time = Time::new();
    let gate = NamedGate::default();
    let mut turns = [(); 6].map(|()| at(&gate));
    assert!(turns.iter_mut().all(|turn| is_in(turn, &time)));
    assert_eq!(conflict(&mut turns[0], &time), Some(1));
    let inside = |turns: &mut [Turn<'_>], time: &Time| {
        turns
            .iter_mut()
            .map(|turn| is_in(turn, time))
            .filter(|is_in| *is_in)
            .count()
    };
    for turn in &mut turns {
        turn.leave();
    }
    assert!(is_in(&mut turns[0], &time));
    assert_eq!(inside(&mut turns[1..], &time), 0);
    // The first one is taken for 100 ms.
    time.pass(Duration::from_secs(2) - MS);
    turns[1].leave();
    assert!(!is_in(&mut turns[1], &time));
    assert_eq!(gate.status().limit, Some(1));
    time.pass(MS);
    turns[1].leave();
    assert!(!is_in(&mut turns[1], &time));
    assert_eq!((gate.status().limit, gate.status().inside), (Some(2), 2));
    // Now a conflict that took 300 ms, in an attempt that knows the last one.
    assert!(is_in(&mut turns[2], &time));
    time.pass(300 * MS);
    assert_eq!(conflict(&mut turns[2], &time), Some(1));
    let changed = time.now();
    time.pass(6000 * MS - MS);
    drop(at(&gate));
    turns[1].leave();
    _ = is_in(&mut turns[1], &time);
    assert_eq!(gate.status().limit, Some(1), "{:?}", time.now() - changed);
    time.pass(MS);
    turns[1].leave();
    _ = is_in(&mut turns[1], &time);
    assert_eq!(gate.status().limit, Some(2));
}

#[test]
fn those_who_went_in_before_a_conflict_was_answered_have_the_same_one() {
    let time = Time::new();
    let gate = NamedGate::default();
    assert_eq!(gate.conflict(Entry::Open, None, time.now()), Some(1));
    let mut entries = [(); 9].map(|()| gate.enter(Waker::noop(), time.now()));
    for limit in 2..=8 {
        time.pass(Duration::from_secs(2));
        let mut claim = |at: usize| {
            let Entry::Waiting(ticket) = entries[at] else {
                unreachable!("only the first one is in");
            };
            let generation = gate.claim(ticket, Waker::noop(), time.now());
            entries[at] = generation.map_or(entries[at], Entry::Inside);
            generation.is_some()
        };
        // One that asks in vain lets the next one in.
        assert!(!claim(8) && claim(limit - 1));
        assert_eq!(gate.status().limit, u32::try_from(limit).ok());
    }
    let conflict = |entry| gate.conflict(entry, Some(20 * MS), time.now());
    assert_eq!(conflict(entries[0]), Some(4));
    assert_eq!(conflict(entries[1]), None);
    for _ in 0..5 {
        gate.leave();
    }
    let Entry::Waiting(ticket) = entries[8] else {
        unreachable!("it is the last one");
    };
    let later = gate
        .claim(ticket, Waker::noop(), time.now())
        .map(Entry::Inside);
    assert_eq!(later.and_then(conflict), Some(2));
    assert_eq!(conflict(entries[7]), None);
}

#[test]
fn a_gate_at_which_no_one_waits_opens_again() {
    let time = Time::new();
    let gate = NamedGate::default();
    let mut turn = at(&gate);
    assert!(is_in(&mut turn, &time));
    assert_eq!(conflict(&mut turn, &time), Some(1));
    time.pass(Duration::from_secs(5) - MS);
    assert!(is_in(&mut turn, &time));
    assert!(gate.is_closed());
    let mut second = at(&gate);
    turn.leave();
    time.pass(MS);
    assert!(is_in(&mut second, &time));
    assert!(!gate.is_closed() && gate.status().limit.is_none());
}

/// That there is no conflict is no reason to open it: it may be why.
#[test]
fn a_gate_at_which_someone_waits_stays_closed() {
    let time = Time::new();
    let gate = NamedGate::default();
    // The limit stays what it is for eight seconds.
    let took = Some(400 * MS);
    assert_eq!(gate.conflict(Entry::Open, took, time.now()), Some(1));
    for _ in 0..20 {
        let mut turns = [(); 9].map(|()| at(&gate));
        let waiting = turns
            .iter_mut()
            .filter_map(|turn| (!is_in(turn, &time)).then_some(()));
        assert!(waiting.count() > 0);
        time.pass(500 * MS);
    }
    assert!(gate.is_closed());
}

#[test]
fn patience_with_a_name_ends_one_by_one() {
    let time = Time::new();
    let gate = NamedGate::default();
    let mut holder = at(&gate);
    assert!(is_in(&mut holder, &time));
    assert_eq!(conflict(&mut holder, &time), Some(1));
    assert!(is_in(&mut holder, &time));
    let (mut second, mut third) = (at(&gate), at(&gate));
    assert!(!is_in(&mut second, &time) && !is_in(&mut third, &time));
    time.pass(Duration::from_secs(1) - MS);
    assert!(!is_in(&mut second, &time));
    time.pass(MS);
    assert!(is_in(&mut second, &time));
    assert!(!is_in(&mut third, &time));
    time.pass(100 * MS);
    assert!(is_in(&mut third, &time));
}

#[test]
fn each_name_has_a_gate_of_its_own() {
    let gates = NamedGates::new();
    let time = Time::new();
    let gate = gates.of(Name::Given("transfer"));
    let mut turn = at(gate);
    assert!(is_in(&mut turn, &time));
    assert_eq!(conflict(&mut turn, &time), Some(1));
    assert!(gates.clone().of(Name::Given("transfer")).is_closed());
    assert!(!gates.of(Name::Given("balance")).is_closed());
    let here = std::panic::Location::caller();
    assert!(!gates.of(Name::Call(here)).is_closed());
    assert_eq!(format!("{gates:?}"), "NamedGates { closed: 1 }");
}

#[test]
fn without_a_gate_no_one_waits() {
    let mut turn = Turn::at(Gate::None);
    assert!(!turn.has_gate() && !turn.is_contended());
    let entered = turn.wait(LONG, Waker::noop(), &|| unreachable!("it needs no clock"));
    assert_eq!(entered, Wait::Over(None));
    turn.meet_conflict();
    turn.end();
    assert_eq!(turn.settle(|| unreachable!("it needs no clock")), None);
}
