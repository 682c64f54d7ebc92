//! Searches among nodes, with a clock of the test's own.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Fit, Lent, Nodes, Order, Search, Try};
use crate::dialect::Dialect;
use crate::fault::{Fault, FaultClass};
use crate::request::{Purpose, Request};
use crate::retry::Advice;

struct Clock(Mutex<Instant>);

impl Clock {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn now(&self) -> Instant {
        *self.0.lock().expect("no panic")
    }

    fn pass(&self, time: Duration) {
        *self.0.lock().expect("no panic") += time;
    }
}

const REST: Duration = Duration::from_secs(1);

/// Each rests for one to two seconds after its first failure.
fn nodes() -> Nodes<char> {
    Nodes::new(['a', 'b', 'c'])
        .with_back_off(2 * REST, 8 * REST)
        .with_connect_timeout(None)
}

fn fault(class: FaultClass) -> Fault {
    Fault::from_class(Dialect::Postgres, class)
}

/// Asks for a connection, while these nodes are down. Returns who was asked, and the connection.
fn search(nodes: &Nodes<char>, request: &Request<'_>, down: &str) -> (String, Option<Lent<char>>) {
    let (mut search, mut asked) = (Search::new(nodes, request), String::new());
    while let Some(node) = search.next_node() {
        asked.push(*node.source);
        match down.contains(*node.source) {
            true => _ = search.failed(fault(FaultClass::NotConnected), Advice::Judge),
            false => return (asked, Some(search.found(*node.source))),
        }
    }
    (asked, None)
}

fn asked(nodes: &Nodes<char>, request: &Request<'_>, down: &str) -> String {
    search(nodes, request, down).0
}

#[test]
fn the_node_in_use_is_asked_until_it_fails() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    assert_eq!(asked(&nodes, &request, ""), "a");
    assert_eq!(asked(&nodes, &request, ""), "a");
    assert_eq!(asked(&nodes, &request, "a"), "ab");
    // It rests, and after that the other one stays.
    assert_eq!(asked(&nodes, &request, "a"), "b");
    clock.pass(100 * REST);
    assert_eq!(asked(&nodes, &request, ""), "b");
    assert_eq!(asked(&nodes, &request, "b"), "bc");
}

#[test]
fn a_connection_knows_its_node() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    assert_eq!(nodes.sources(), ['a', 'b', 'c']);
    for (down, node) in [("", 0), ("a", 1), ("ab", 2)] {
        let lent = search(&nodes, &request, down).1.expect("one is left");
        assert_eq!((lent.node(), *lent.held()), (node, nodes.sources()[node]));
    }
}

#[test]
fn all_nodes_have_their_turn() {
    let (nodes, clock) = (nodes().with_order(Order::RoundRobin), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let turns: String = (0..6).map(|_| asked(&nodes, &request, "")).collect();
    assert_eq!(turns, "abcabc");
    // One that is down is asked once, and then again when it has rested: of a hundred searches, each of
    // which takes ten milliseconds.
    let mut lost = 0;
    for _ in 0..100 {
        lost += asked(&nodes, &request, "b").matches('b').count();
        clock.pass(Duration::from_millis(10));
    }
    assert_eq!(lost, 1);
    clock.pass(2 * REST);
    let turns: String = (0..6).map(|_| asked(&nodes, &request, "b")).collect();
    assert_eq!(turns.matches('b').count(), 1, "{turns}");
}

#[test]
fn if_all_rest_the_one_that_has_rested_the_longest_is_asked() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    assert_eq!(asked(&nodes, &request, "abc"), "abc");
    let mut tried: Vec<_> = (0..3).map(|_| asked(&nodes, &request, "abc")).collect();
    tried.sort();
    assert_eq!(tried, ["a", "b", "c"], "each of them, one a time");
    // Who can ask elsewhere does not wait for them.
    let elsewhere = request.with_alternative(true);
    assert_eq!(asked(&nodes, &elsewhere, ""), "");
}

#[test]
fn a_question_goes_to_the_node_of_the_commit_first() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let work = Request::new(&now);
    let (_, lent) = search(&nodes, &work, "a");
    let lent = lent.expect("b is there");
    let place = Some(nodes.place_in_all(&lent, None));
    // It is said to be full, so it rests.
    _ = lent.discarded(Some(fault(FaultClass::ServerUnavailable)));
    assert_eq!(asked(&nodes, &work, ""), "c");
    let question = work.with_purpose(Purpose::Question).with_place(place);
    assert_eq!(asked(&nodes, &question, ""), "b");
    assert_eq!(asked(&nodes, &question, "b"), "bc");
    // Where it was lost does not matter to other work.
    assert_eq!(asked(&nodes, &work.with_place(place), ""), "c");
}

#[test]
fn each_node_gets_its_share_of_the_time() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now).with_within(Some(Duration::from_secs(9)));
    let given = |nodes: &Nodes<char>| {
        let (mut search, mut given) = (Search::new(nodes, &request), Vec::new());
        while let Some(node) = search.next_node() {
            let within = node.request.within.expect("there is a deadline");
            given.push((within.as_millis(), node.request.has_alternative));
            clock.pass(within);
            search.failed(fault(FaultClass::NotConnected), Advice::Judge);
        }
        given
    };
    assert_eq!(given(&nodes), [(3000, true), (3000, true), (3000, false)]);
    // They rest: only one is asked, and has all of it.
    let nodes = self::nodes().with_back_off(1000 * REST, 1000 * REST);
    given(&nodes);
    assert_eq!(given(&nodes), [(9000, false)]);
    let limited = self::nodes().with_connect_timeout(Some(Duration::from_secs(2)));
    assert_eq!(given(&limited)[0], (2000, true));
    let unlimited = Request::new(&now);
    let mut search = Search::new(&limited, &unlimited);
    let within = search.next_node().expect("a").request.within;
    assert_eq!(within, Some(Duration::from_secs(2)));
}

#[test]
fn none_is_asked_when_the_time_is_over() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now).with_within(Some(REST));
    let mut search = Search::new(&nodes, &request);
    assert!(search.next_node().is_some());
    clock.pass(2 * REST);
    search.failed(fault(FaultClass::NotConnected), Advice::Judge);
    assert!(search.next_node().is_none());
}

#[test]
fn a_node_is_asked_whether_it_is_fit_before_its_first_connection_and_after_a_fault() {
    let (nodes, clock) = (nodes().with_fit(Fit::TakesWrites), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let needs_proof = || {
        let mut search = Search::new(&nodes, &request);
        let node = search.next_node().expect("a");
        (
            node.proof(Dialect::Postgres).is_some(),
            search.found(*node.source),
        )
    };
    let (first, lent) = needs_proof();
    drop(lent);
    let (second, lent) = needs_proof();
    _ = lent.discarded(Some(fault(FaultClass::ConnectionLost)));
    let (third, _) = needs_proof();
    assert_eq!((first, second, third), (true, false, true));
    let sqlite = Search::new(&nodes, &request)
        .next_node()
        .map(|node| node.proof(Dialect::Sqlite));
    assert_eq!(sqlite, Some(None));
}

/// It takes statements all the same. The question is one query, of which each server understands its part.
#[test]
fn a_member_of_a_group_that_agrees_with_no_other_takes_no_writes() {
    let (nodes, clock) = (nodes().with_fit(Fit::TakesWrites), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let mut search = Search::new(&nodes, &request);
    let proof = search
        .next_node()
        .and_then(|node| node.proof(Dialect::Mysql));
    let proof = proof.expect("a query");
    let (_, of_mysql) = proof
        .split_once("/*!80000 AND NOT EXISTS(")
        .expect("of MySQL alone");
    for part in [
        "s.VARIABLE_NAME = 'Gr_last_consensus_end_timestamp'",
        "s.VARIABLE_VALUE < UTC_TIMESTAMP(6) - INTERVAL 5 + v.VARIABLE_VALUE SECOND",
        "i.SET_USER = 'mysql.session'",
    ] {
        assert!(of_mysql.contains(part), "{part}");
    }
    assert!(!proof.contains(';'), "one query");
}

/// What another caller has found since is newer.
#[test]
fn a_search_that_has_not_asked_does_not_say_that_its_node_is_fit() {
    let (nodes, clock) = (nodes().with_fit(Fit::TakesWrites), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let asks = |node: &Try<'_, char>| node.proof(Dialect::Postgres).is_some();
    let mut search = Search::new(&nodes, &request);
    assert!(asks(&search.next_node().expect("a")));
    let first = search.found('a');
    let mut search = Search::new(&nodes, &request);
    assert!(!asks(&search.next_node().expect("a")));
    _ = first.discarded(Some(fault(FaultClass::ConnectionLost)));
    let _second = search.found('a');
    let mut search = Search::new(&nodes, &request);
    assert!(asks(&search.next_node().expect("a")));
}

/// As when the time of the request is over, or the future is dropped.
#[test]
fn a_node_that_was_not_waited_for_rests_if_it_had_the_time_of_a_rest() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let failures = |time| {
        let mut search = Search::new(&nodes, &request);
        assert_eq!(search.next_node().map(|node| *node.source), Some('a'));
        clock.pass(time);
        drop(search);
        nodes.status()[0].failures
    };
    assert_eq!(failures(2 * REST), 0);
    assert_eq!(failures(3 * REST), 1);
    assert_eq!(asked(&nodes, &request, ""), "b");
    // One that has answered does not.
    let mut search = Search::new(&nodes, &request);
    assert!(search.next_node().is_some());
    let _lent = search.found('b');
    clock.pass(3 * REST);
    drop(search);
    assert_eq!(nodes.status()[1].failures, 0);
    let mut search = Search::new(&nodes, &request);
    assert!(search.next_node().is_some());
    search.failed(fault(FaultClass::NotConnected), Advice::Judge);
    clock.pass(30 * REST);
    drop(search);
    assert_eq!(nodes.status()[1].failures, 1);
}

#[test]
fn the_node_that_took_over_stays_even_if_that_took_longer_than_the_rest() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let mut search = Search::new(&nodes, &request);
    assert!(search.next_node().is_some());
    search.failed(fault(FaultClass::NotConnected), Advice::Judge);
    assert_eq!(search.next_node().map(|node| *node.source), Some('b'));
    clock.pass(3 * REST);
    let _lent = search.found('b');
    assert_eq!(asked(&nodes, &request, ""), "b");
}

#[test]
fn the_error_that_is_worth_another_attempt_is_reported() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let mut search = Search::new(&nodes, &request);
    let mut failed = |class, advice| {
        assert!(search.next_node().is_some());
        search.failed(fault(class), advice)
    };
    assert!(
        failed(FaultClass::Permanent, Advice::Judge),
        "better than none"
    );
    assert!(failed(FaultClass::ServerUnavailable, Advice::Judge));
    assert!(!failed(FaultClass::NotConnected, Advice::Never));
}

#[test]
fn the_places_of_nodes_among_nodes_are_told_apart() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let (_, lent) = search(&nodes, &request, "ab");
    let lent = lent.expect("c");
    for inner in [None, Some(0), Some(1), Some(5)] {
        let place = nodes.place_in_all(&lent, inner);
        assert_eq!(nodes.node_of(place), (2, inner));
        let question = request
            .with_purpose(Purpose::Question)
            .with_place(Some(place));
        let mut search = Search::new(&nodes, &question);
        assert_eq!(
            search.next_node().map(|node| node.request.place),
            Some(inner)
        );
    }
}

#[test]
fn how_the_nodes_stand_can_be_seen() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let (_, lent) = search(&nodes, &Request::new(&now), "a");
    let [a, b, c] = nodes.clone().status()[..] else {
        panic!("three nodes");
    };
    assert_eq!((a.failures, b.failures, c.failures), (1, 0, 0));
    assert_eq!((a.asked, b.asked, c.asked), (1, 1, 0));
    assert_eq!((a.lent, b.lent, c.lent), (0, 1, 0));
    assert_eq!((a.is_current, b.is_current), (false, true));
    assert!(a.rests_until.is_some_and(|until| until > clock.now()));
    assert_eq!(a.fault, Some(fault(FaultClass::NotConnected)));
    drop(lent);
    assert_eq!(nodes.status()[1].lent, 0);
}

#[test]
#[should_panic(expected = "from 1 to 64 nodes")]
fn there_is_at_least_one_node() {
    _ = Nodes::<char>::new([]);
}

/// A server that is gone loses many connections at once. Not all who come next wait for it.
#[test]
fn after_a_lost_connection_one_caller_asks_its_node_and_the_others_have_the_next_turn() {
    let (nodes, clock) = (nodes().with_order(Order::RoundRobin), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let lose = || {
        let (who, lent) = search(&nodes, &request, "");
        assert_eq!(who, "a");
        let lost = fault(FaultClass::ConnectionLost);
        _ = lent.expect("a").discarded(Some(lost));
        assert_eq!(asked(&nodes, &request, ""), "b");
        assert_eq!(asked(&nodes, &request, ""), "c");
    };
    lose();
    let mut trial = Search::new(&nodes, &request);
    assert_eq!(trial.next_node().map(|node| *node.source), Some('a'));
    // However long that takes.
    for _ in 0..10 {
        clock.pass(REST);
        let turns: String = (0..3).map(|_| asked(&nodes, &request, "")).collect();
        assert!(!turns.contains('a'), "{turns}");
    }
    drop(trial.found('a'));
    let turns: String = (0..6).map(|_| asked(&nodes, &request, "")).collect();
    assert_eq!(turns.matches('a').count(), 2, "{turns}");
    // Who gives up soon has not found anything out.
    while asked(&nodes, &request, "") != "c" {}
    lose();
    let mut trial = Search::new(&nodes, &request);
    assert_eq!(trial.next_node().map(|node| *node.source), Some('a'));
    drop(trial);
    let turns: String = (0..6).map(|_| asked(&nodes, &request, "")).collect();
    assert_eq!(turns.matches('a').count(), 2, "{turns}");
}

/// The question may have another limit than the work, and its connection may be lost as well.
#[test]
fn a_question_leaves_no_node_on_trial() {
    let (nodes, clock) = (nodes().with_order(Order::RoundRobin), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let (_, lent) = search(&nodes, &request, "");
    let lent = lent.expect("a is there");
    let place = Some(nodes.place_in_all(&lent, None));
    _ = lent.discarded(Some(fault(FaultClass::ConnectionLost)));
    let question = request.with_purpose(Purpose::Question).with_place(place);
    let (who, lent) = search(&nodes, &question, "");
    assert_eq!(who, "a");
    _ = lent.expect("a is there again").discarded(None);
    let turns: String = (0..6).map(|_| asked(&nodes, &request, "")).collect();
    assert_eq!(turns.matches('a').count(), 2, "{turns}");
}

/// To leave it would let two nodes take writes at a time.
#[test]
fn the_node_in_use_is_not_left_because_of_a_lost_connection() {
    let (nodes, clock) = (nodes(), Clock::new());
    let now = || clock.now();
    let request = Request::new(&now);
    let (_, lent) = search(&nodes, &request, "");
    _ = lent
        .expect("a")
        .discarded(Some(fault(FaultClass::ConnectionLost)));
    let mut first = Search::new(&nodes, &request);
    assert_eq!(first.next_node().map(|node| *node.source), Some('a'));
    assert_eq!(asked(&nodes, &request, ""), "a");
}
