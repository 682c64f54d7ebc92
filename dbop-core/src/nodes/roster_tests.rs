//! The arithmetic of rests.

use std::time::{Duration, Instant};

use super::{Fit, Order, Roster, Rules, back_off};
use crate::dialect::Dialect;
use crate::fault::{Fault, FaultClass};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

const RULES: Rules = Rules {
    order: Order::Sticky,
    fit: Fit::Any,
    back_off: back_off(FIRST, LONGEST),
    connect_timeout: None,
};

fn fault(class: FaultClass) -> Fault {
    Fault::from_class(Dialect::Postgres, class)
}

fn roster(nodes: usize) -> (Roster, Instant) {
    let mut roster = Roster::new(nodes);
    roster.seed(7);
    (roster, Instant::now())
}

fn rest(roster: &Roster, at: usize, now: Instant) -> Duration {
    let until = roster.status(Order::Sticky)[at].rests_until;
    until.expect("it rests").saturating_duration_since(now)
}

#[test]
fn each_failure_doubles_the_rest_up_to_the_longest() {
    let (mut roster, mut now) = roster(1);
    for failure in 0..10 {
        let ceiling = LONGEST.min(FIRST * (1 << failure));
        roster.failed(0, None, &RULES, now);
        let rests = rest(&roster, 0, now);
        assert!(
            (ceiling / 2..=ceiling).contains(&rests),
            "{failure}: {rests:?}"
        );
        assert_eq!(roster.status(Order::Sticky)[0].failures, failure + 1);
        now += rests;
    }
}

#[test]
fn rests_are_not_in_step() {
    let (mut roster, now) = roster(20);
    for at in 0..20 {
        roster.failed(at, None, &RULES, now);
    }
    let mut rests: Vec<_> = (0..20).map(|at| rest(&roster, at, now)).collect();
    rests.sort();
    rests.dedup();
    assert!(rests.len() > 10, "{rests:?}");
}

/// All workers lose their connections at the same moment.
#[test]
fn a_node_that_rests_fails_only_once() {
    let (mut roster, now) = roster(1);
    roster.failed(0, None, &RULES, now);
    let before = roster.status(Order::Sticky);
    for _ in 0..32 {
        roster.failed(0, None, &RULES, now);
        roster.discarded(0, Some(fault(FaultClass::ServerUnavailable)));
        roster.settle(&RULES, now);
    }
    assert_eq!(roster.status(Order::Sticky), before);
}

#[test]
fn what_a_connection_is_discarded_for_tells_whether_its_node_rests() {
    for (class, rests) in [
        (FaultClass::ConnectionLost, false),
        (FaultClass::Deadlock, false),
        (FaultClass::ServerUnavailable, true),
        (FaultClass::ReadOnlyServer, true),
        (FaultClass::NotConnected, true),
        (FaultClass::OutcomeUnknown, true),
    ] {
        let (mut roster, now) = roster(2);
        roster.lend(0);
        roster.found(0, true);
        roster.discarded(0, Some(fault(class)));
        roster.settle(&RULES, now);
        assert_eq!(
            roster.well(0, 0, now).count(),
            2 - usize::from(rests),
            "{class}"
        );
        assert!(!roster.is_proven(0), "it has to be asked again");
        assert_eq!(roster.status(Order::Sticky)[0].lent, 0);
    }
}

#[test]
fn a_connection_that_is_given_back_shows_that_its_node_is_well() {
    let (mut roster, now) = roster(1);
    roster.failed(0, Some(fault(FaultClass::NotConnected)), &RULES, now);
    let incident = roster.lend(0);
    roster.given_back(0, incident);
    let status = roster.status(Order::Sticky)[0];
    assert_eq!((status.failures, status.rests_until), (0, None));
    assert_eq!(status.fault, None);
}

#[test]
fn one_that_was_lent_before_the_failure_shows_nothing() {
    let (mut roster, now) = roster(1);
    let before = roster.lend(0);
    roster.failed(0, None, &RULES, now);
    roster.given_back(0, before);
    assert_eq!(roster.status(Order::Sticky)[0].failures, 1);
    // Nor is it a contradiction to what another one was discarded for a moment ago.
    let (mut roster, now) = self::roster(1);
    let (first, _second) = (roster.lend(0), roster.lend(0));
    roster.discarded(0, Some(fault(FaultClass::ReadOnlyServer)));
    roster.given_back(0, first);
    roster.settle(&RULES, now);
    assert_eq!(roster.status(Order::Sticky)[0].failures, 1);
}

/// While one caller finds out, the others go on without it.
#[test]
fn a_node_that_has_rested_is_tried_by_one_caller() {
    let (mut roster, mut now) = roster(2);
    roster.failed(0, None, &RULES, now);
    now += FIRST;
    assert_eq!(roster.well(0, 0, now).next(), Some(0));
    roster.ask(0, &RULES, now);
    assert_eq!(roster.well(0, 0, now).next(), Some(1));
    // The trial fails, after a while: the next rest begins then.
    now += LONGEST;
    assert_eq!(roster.well(0, 0, now).next(), Some(1));
    roster.failed(0, None, &RULES, now);
    assert_eq!(roster.status(Order::Sticky)[0].failures, 2);
    assert!(rest(&roster, 0, now) >= FIRST);
}

#[test]
fn the_node_in_use_changes_only_if_it_rests() {
    let (mut roster, now) = roster(3);
    roster.found(2, true);
    assert_eq!(roster.first(Order::Sticky), 0);
    roster.failed(0, None, &RULES, now);
    roster.found(2, true);
    assert_eq!(roster.first(Order::Sticky), 2);
    // Also after the first one is well again.
    let incident = roster.lend(0);
    roster.given_back(0, incident);
    roster.found(0, true);
    assert_eq!(roster.first(Order::Sticky), 2);
}

#[test]
fn a_node_that_was_tried_is_not_asked_again() {
    let (mut roster, now) = roster(4);
    let well = |roster: &Roster, first, tried| roster.well(first, tried, now).collect::<Vec<_>>();
    assert_eq!(well(&roster, 2, 0), [2, 3, 0, 1]);
    assert_eq!(well(&roster, 0, 0b0110), [0, 3]);
    assert_eq!(well(&roster, 0, 0b1111), [0; 0]);
    for at in [3, 1, 2, 0] {
        let later = Duration::from_secs(100) * u32::try_from(at).expect("few");
        roster.failed(at, None, &RULES, now + later);
    }
    for (tried, expected) in [
        (0, Some(0)),
        (0b0001, Some(1)),
        (0b0111, Some(3)),
        (0b1111, None),
    ] {
        assert_eq!(roster.least_unwell(tried), expected, "{tried:b}");
    }
}

#[test]
fn a_trial_rests_as_long_as_the_failure_before_it() {
    for failures in 1..4 {
        let (mut roster, mut now) = roster(1);
        for _ in 0..failures {
            roster.failed(0, None, &RULES, now);
            now += 2 * LONGEST;
        }
        roster.ask(0, &RULES, now);
        let ceiling = FIRST * (1 << (failures - 1));
        let rests = rest(&roster, 0, now);
        assert!(
            (ceiling / 2..=ceiling).contains(&rests),
            "{failures}: {rests:?}"
        );
    }
}
