use std::mem::{align_of, forget};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use allocation_counter::measure;

use super::*;

// The tests run in parallel, so each one has keys that no other test and no connection has.
const LOST: EnclosingLoss = EnclosingLoss {
    fault: None,
    undone: true,
    saved_values_overwritten: false,
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
    forget(Seat::join(5, 1, 2));
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
    assert!(lost.saved_values_overwritten && !lost.undone);
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

#[test]
fn a_deadline_is_inherited_and_shortened_until_its_operation_leaves() {
    let outer = Seat::join(10, 0, 5);
    assert_eq!(outer.join_deadline(None), None);
    let soon = Instant::now();
    let [sooner, later] = [soon, soon + Duration::from_secs(2)];
    let middle = Seat::join(10, 1, 5);
    assert_eq!(middle.join_deadline(Some(later)), Some(later));
    let inner = Seat::join(10, 2, 5);
    assert_eq!(inner.join_deadline(Some(sooner)), Some(sooner));
    let innermost = Seat::join(10, 3, 5);
    assert_eq!(innermost.join_deadline(Some(later)), Some(sooner));
    drop((innermost, inner));
    let next = Seat::join(10, 2, 5);
    assert_eq!(next.join_deadline(None), Some(later));
    drop((next, middle));
    assert_eq!(Seat::join(10, 1, 5).join_deadline(None), None);
}

/// An operation without trouble, as the machine runs it, and what its body does.
fn operation(key: usize, depth: u32, body: impl FnOnce()) {
    let seat = Seat::join(key, depth, 5);
    assert_eq!(seat.is_outermost(), depth == 0);
    assert_eq!(seat.join_deadline(None), None);
    assert_eq!(seat.lost(), None);
    if seat.is_outermost() {
        seat.clear_lost();
    }
    seat.set_user_code(UserCode::Body);
    body();
    seat.set_user_code(UserCode::Nothing);
    assert_eq!(seat.lost(), None);
    assert_eq!(seat.retries_left(), 5);
}

/// How many times the table is locked meanwhile.
fn locks(work: impl FnOnce()) -> u64 {
    let before = locks_taken();
    work();
    locks_taken() - before
}

#[test]
fn an_operation_locks_the_table_once() {
    assert_eq!(locks(|| operation(11, 0, || ())), 1);
    let nested = || {
        operation(11, 1, || ());
        operation(11, 1, || operation(11, 2, || ()));
    };
    assert_eq!(locks(|| operation(11, 0, nested)), 4);
}

#[test]
fn a_deadline_and_a_loss_do_not_lock_the_table_again() {
    let seats = || {
        let outer = Seat::join(12, 0, 5);
        outer.set_immediate();
        outer.join_deadline(Some(Instant::now()));
        outer.set_user_code(UserCode::Body);
        let inner = Seat::join(12, 1, 5);
        inner.join_deadline(None);
        inner.set_lost(LOST);
        assert!(inner.take_retry() && outer.is_immediate());
        drop(inner);
        assert_eq!(outer.lost(), Some(LOST));
        outer.clear_lost();
        assert_eq!(outer.lost(), None);
    };
    assert_eq!(locks(seats), 2);
}

#[test]
fn the_place_of_another_operation_is_given_back_under_a_second_lock() {
    let outer = Seat::join(13, 0, 5);
    outer.set_user_code(UserCode::Body);
    assert_eq!(locks(|| drop(Seat::join(13, 0, 5))), 2);
}

/// Keys from here on that share a part of the table.
fn keys_of_one_shard(first: usize) -> impl Iterator<Item = usize> {
    let shard = table::number(first);
    (first..).filter(move |key| table::number(*key) == shard)
}

/// Takes this many seats at the same time, in one part of the table.
fn crowd(first: usize, size: usize) {
    let keys = keys_of_one_shard(first).take(size);
    drop(keys.map(|key| Seat::join(key, 0, 5)).collect::<Vec<_>>());
}

#[test]
fn addresses_that_never_come_back_take_no_room() {
    let first = 0x4000_0000;
    let size = || table::shard(first).size().0;
    // More than all other tests together have at the same time.
    crowd(first, 1_000);
    let places = size();
    assert!(places >= 1_000);
    for key in keys_of_one_shard(first).skip(1_000).take(20_000) {
        drop(Seat::join(key, 0, 5));
    }
    crowd(first + 0x2000_0000, 900);
    assert_eq!(size(), places);
}

#[test]
fn no_allocation_in_the_long_run() {
    let first = 0x8000_0000;
    crowd(first, 1_000);
    let new_addresses = || {
        for key in keys_of_one_shard(first).skip(1_000).take(100) {
            operation(key, 0, || operation(key, 1, || ()));
        }
    };
    let same_address = || {
        for _ in 0..100 {
            operation(first, 0, || operation(first, 1, || ()));
        }
    };
    let outer = Seat::join(first + 1, 0, 5);
    outer.set_user_code(UserCode::Body);
    drop(Seat::join(first + 1, 0, 5));
    let in_its_place = || {
        for _ in 0..100 {
            operation(first + 1, 0, || operation(first + 1, 1, || ()));
        }
    };
    for work in [&new_addresses as &dyn Fn(), &same_address, &in_its_place] {
        // The seats of another test may be about to leave a place or a spare state.
        let fewest = (0..5).map(|_| measure(work).count_total).min();
        assert_eq!(fewest, Some(0));
    }
}

#[test]
fn places_that_were_given_back_do_not_pile_up() {
    let key = 0xC000_0000;
    let spare = || table::shard(key).size().1;
    // Leaked in its body: every further operation at this depth runs in its place.
    let leaked = Seat::join(key, 0, 5);
    leaked.set_user_code(UserCode::Body);
    forget(leaked);
    drop(Seat::join(key, 0, 5));
    let before = spare();
    for _ in 0..1_000 {
        drop(Seat::join(key, 0, 5));
    }
    assert!(before >= 1);
    // Those of the other tests that run meanwhile.
    assert!(spare() < before + 100, "{before} before, {} now", spare());
}

#[test]
fn a_seat_that_outlives_its_operation_touches_no_other() {
    let keys: Vec<_> = keys_of_one_shard(0xD000_0000).take(20).collect();
    let stale: Vec<_> = keys
        .iter()
        .map(|key| {
            let outer = Seat::join(*key, 0, 5);
            let inner = Seat::join(*key, 1, 5);
            assert!(!inner.is_outermost());
            drop(outer);
            inner
        })
        .collect();
    // The same addresses, and others in the same part of the table.
    let others = keys_of_one_shard(0xE000_0000).take(40);
    let fresh: Vec<_> = keys
        .into_iter()
        .chain(others)
        .map(|key| Seat::join(key, 0, 7))
        .collect();
    for seat in stale {
        assert!(!seat.owns_transaction() && !seat.take_retry() && !seat.is_immediate());
        assert_eq!(seat.retries_left(), 0);
        seat.set_immediate();
        seat.set_lost(LOST);
        assert_eq!(seat.lost(), None);
        let own = Instant::now();
        assert_eq!(seat.join_deadline(Some(own)), Some(own));
    }
    for seat in fresh {
        assert!(seat.is_outermost() && seat.owns_transaction() && !seat.is_immediate());
        assert_eq!((seat.retries_left(), seat.lost()), (7, None));
        let inner = Seat::join(seat.key, 1, 5);
        assert_eq!(inner.join_deadline(None), None);
    }
}

#[test]
fn an_address_that_is_used_again_is_a_new_operation_each_time() {
    let leaked: Vec<_> = (0..3).map(|_| Seat::join(14, 0, 5)).collect();
    let fresh = Seat::join(14, 0, 3);
    assert!(
        leaked
            .iter()
            .all(|seat| seat.retries_left() == 0 && !seat.take_retry())
    );
    leaked[0].set_lost(LOST);
    drop(leaked);
    assert_eq!((fresh.retries_left(), fresh.lost()), (3, None));
    assert!(!Seat::join(14, 1, 5).is_outermost());
}

#[test]
fn a_nested_operation_stays_nested_on_another_thread() {
    let outer = Seat::join(15, 0, 1);
    thread::scope(|threads| {
        threads.spawn(|| {
            let inner = Seat::join(15, 1, 5);
            assert!(!inner.is_outermost() && inner.take_retry());
            inner.set_lost(LOST);
        });
    });
    assert_eq!((outer.retries_left(), outer.lost()), (0, Some(LOST)));
}

#[test]
fn an_operation_does_not_wait_for_another_shard() {
    let (one, other) = (
        16,
        (17..).find(|key| table::number(*key) != table::number(16)),
    );
    let other = other.expect("there are several");
    let guard = table::shard(one);
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        operation(other, 0, || ());
        sender.send(())
    });
    done.recv_timeout(Duration::from_secs(10))
        .expect("it is done");
    drop(guard);
}

#[test]
fn neighbours_are_in_different_shards_and_cache_lines() {
    // As pools and allocators place their connections.
    for stride in [8, 16, 64, 4096, 1 << 20] {
        let mut keys = [0; 64];
        for n in 0..1_000 {
            keys[table::number(0x7f3a_1230 + n * stride)] += 1;
        }
        let most = keys.iter().max();
        assert!(most < Some(&64), "{stride} bytes apart: {keys:?}");
    }
    assert!(align_of::<SharedState>() >= 128);
}
