//! Several sources as one: what fails rests, a question goes where the COMMIT was sent, and what only reads
//! can go elsewhere. Two doors to one server stand for two nodes; `tests/refused` has two servers.

use std::sync::Arc;
use std::time::Duration;

use dbop_diesel::{Jitter, Nodes, Order, Outcome, Report, RetryPolicy, Split};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, Meanwhile};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance};
use super::{Bed, Conn, Runner, Source, helper, scenario, source};

/// Who has failed rests for longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

/// Some pools try again for all the time that they have.
const PATIENCE: Duration = Duration::from_secs(2);

fn nodes<S>(sources: impl IntoIterator<Item = S>) -> Nodes<S> {
    Nodes::new(sources)
        .with_back_off(LONG, LONG)
        .with_connect_timeout(Some(PATIENCE))
}

/// Pays so many times. Returns how many attempts that took.
#[helper]
async fn pay<S: Source<Conn = Conn>>(nodes: &S, times: u32) -> u32 {
    let runner = Runner::default().with_clock(InstantClock::new());
    let mut attempts = 0;
    for _ in 0..times {
        let report: Report<usize, Error> = runner
            .run_on_report(nodes, async |conn: &mut Conn| add(conn, 1, 1).await)
            .await;
        assert_eq!(report.outcome, Outcome::Committed, "{report:?}");
        attempts += report.attempts;
    }
    attempts
}

#[scenario]
async fn a_node_that_is_down_costs_one_attempt_to_connect() {
    let bed = Bed::new();
    let doors = [Proxy::start(bed.url()), Proxy::start(bed.url())];
    let nodes = nodes(doors.each_ref().map(|door| source(door.url())));
    let nodes = nodes.with_order(Order::RoundRobin);
    assert_eq!(pay(&nodes, 4).await, 4);
    let [first, second] = nodes.status()[..] else {
        panic!("two nodes");
    };
    assert_eq!((first.asked, second.asked), (2, 2));
    doors[0].refuse(true);
    doors[0].cut_all();
    // A pool may have a connection that is cut.
    let attempts = pay(&nodes, 30).await;
    assert!((30..=31).contains(&attempts), "{attempts}");
    let [first, second] = nodes.status()[..] else {
        panic!("two nodes");
    };
    assert!((3..=4).contains(&first.asked), "{first:?}");
    assert_eq!((first.failures, first.lent), (1, 0));
    assert!(second.asked >= 31 && second.failures == 0, "{second:?}");
    assert_eq!(bed.balances()[0], (1, 134));
}

#[scenario]
async fn the_node_that_took_over_stays_in_use() {
    let bed = Bed::new();
    let doors = [Proxy::start(bed.url()), Proxy::start(bed.url())];
    let nodes = nodes(doors.each_ref().map(|door| source(door.url())));
    assert_eq!(pay(&nodes, 3).await, 3);
    assert_eq!(doors[1].connections(), 0);
    doors[0].refuse(true);
    doors[0].cut_all();
    pay(&nodes, 3).await;
    doors[0].refuse(false);
    let before = nodes.status()[0].asked;
    assert_eq!(pay(&nodes, 3).await, 3);
    let [first, second] = nodes.status()[..] else {
        panic!("two nodes");
    };
    assert_eq!(first.asked, before);
    assert!(second.is_current && !first.is_current);
}

/// A COMMIT whose answer is lost at the first node. `refuse`: that is not there any more when it is asked.
/// Returns how often each node was asked, and how many connections there were to the second one.
#[helper]
async fn loses_an_answer(refuse: bool) -> (Report<usize, Error>, [u64; 2], u64) {
    let bed = Bed::new();
    let first = Arc::new(Proxy::start(bed.url()));
    let second = Proxy::start(bed.url());
    _ = first.cut(When::commit(), Cut::AnswerLost);
    let sources = [source(first.url()), source(second.url())];
    let nodes = nodes(sources).with_order(Order::RoundRobin);
    let door = Arc::clone(&first);
    let clock = Meanwhile::new(move |_| door.refuse(refuse));
    let policy = RetryPolicy::new()
        .with_jitter(Jitter::None)
        .with_initial_delay(Duration::from_millis(20));
    let report = Runner::new(policy)
        .with_clock(clock.clone())
        .operation("pay")
        .verify(async |conn: &mut Conn| Ok::<_, Error>(balance(conn, 1).await? == 110))
        .run_on_report(&nodes, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(bed.balances()[0], (1, 110));
    let asked = [nodes.status()[0].asked, nodes.status()[1].asked];
    (report, asked, second.connections())
}

/// The second node would be the next one.
#[scenario]
async fn a_question_goes_to_the_node_of_the_commit_first() {
    let (report, asked, connections) = loses_an_answer(false).await;
    assert_eq!((report.outcome, report.attempts), (Outcome::Committed, 1));
    assert_eq!(report.result, Ok(1));
    assert_eq!((asked, connections), ([2, 0], 0));
    let (report, asked, connections) = loses_an_answer(true).await;
    assert_eq!((report.outcome, report.attempts), (Outcome::Committed, 1));
    assert_eq!(asked, [2, 1], "if it is gone, to another one");
    assert!(connections > 0);
}

#[scenario]
async fn what_only_reads_goes_to_the_replica_as_long_as_there_is_one() {
    let bed = Bed::new();
    let [primary, replica] = [Proxy::start(bed.url()), Proxy::start(bed.url())];
    let split = Split {
        write: nodes([source(primary.url())]),
        read: nodes([source(replica.url())]),
    };
    let runner = Runner::default().with_clock(InstantClock::new());
    assert_eq!(pay(&split, 2).await, 2);
    let look = runner.operation("look").read_only();
    let mut asked = Vec::new();
    for refuse in [false, true, true, false] {
        replica.refuse(refuse);
        if refuse {
            replica.cut_all();
        }
        let found: QueryResult<i64> = look
            .run_on(&split, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        assert_eq!(found, Ok(102));
        asked.push((split.read.status()[0].asked, split.write.status()[0].asked));
    }
    // A pool may have a connection that is cut: then the second attempt goes to the primary at once.
    assert_eq!(asked[0], (1, 2), "{asked:?}");
    assert_eq!(asked[1], (2, 3), "{asked:?}");
    assert_eq!(asked[2].1, 4, "{asked:?}");
    // It rests, although it is there again.
    assert_eq!(asked[3], (asked[2].0, 5), "{asked:?}");
    assert!(asked[2].0 <= 3, "{asked:?}");
}

/// No server has got as far as this, and none of these has such a history.
const AHEAD: [&str; 2] = [
    "lsn:FFFFFFFF/FFFFFFFF",
    "wsrep:00000000-0000-0000-0000-000000000000:1",
];

#[scenario]
async fn a_replica_that_is_behind_is_left_in_the_same_attempt() {
    let bed = Bed::new();
    let split = Split {
        write: nodes([source(bed.url())]),
        read: nodes([source(bed.url())]),
    };
    let runner = Runner::default();
    let look = runner.operation("look").read_only();
    for (ahead, times) in AHEAD.into_iter().zip(1..) {
        let position = ahead.parse().expect("a position");
        let fresh = split
            .after(&position)
            .with_patience(Duration::from_millis(3));
        let report: Report<i64, Error> = look
            .run_on_report(&fresh, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        assert_eq!((report.result, report.attempts), (Ok(100), 1));
        let [read, write] = [&split.read, &split.write].map(|nodes| nodes.status()[0]);
        assert_eq!((read.asked, write.asked), (times, times));
        // A node that is behind is well, and so is its connection.
        assert_eq!((read.failures, read.lent), (0, 0));
    }
}
