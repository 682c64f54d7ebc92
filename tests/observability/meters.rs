//! Operations are counted and timed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, Metrics, Nodes, RetryBudget, RetryDecision, RetryPolicy, Seen};
use dbop_tests::Meanwhile;
use diesel::QueryResult;
use diesel::result::Error;
use metrics_util::debugging::DebuggingRecorder;

use super::money::{insert, set};
use super::{Bed, Conn, Runner, backend};
use crate::recorded;

/// Served from the beginning on, so that the first one is an increase.
const NOT_TO_BE_MISSED: [&str; 3] = [
    "dbop.outcomes dbop.outcome=undone dbop.stop=panicked",
    "dbop.outcomes dbop.outcome=unknown dbop.stop=outcome_unknown",
    "dbop.outcomes dbop.outcome=unknown dbop.stop=panicked",
];

/// What is recorded meanwhile.
fn recorded(work: impl FnOnce()) -> BTreeMap<String, Vec<f64>> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, work);
    let mut all = recorded::values(&snapshotter);
    for name in NOT_TO_BE_MISSED {
        assert_eq!(all.remove(name), Some(vec![0.0]), "{name}");
    }
    all
}

#[test]
fn retries_and_what_becomes_of_operations() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let policy = RetryPolicy::new()
        .with_max_retries(1)
        .with_retry_on(FaultClass::Constraint)
        .with_seed(7);
    let delay = policy.delays().next().expect("a delay").as_secs_f64();
    let bodies = AtomicU32::new(0);
    let all = recorded(|| {
        let runner = Runner::new(policy)
            .with_clock(Meanwhile::new(|_| ()))
            .with_observer(Metrics::new());
        let done = runner.run(&mut conn, |conn| {
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => insert(conn, 1),
                _ => set(conn, 1, 1),
            }
        });
        assert_eq!(done, Ok(1));
        let failed: QueryResult<usize> = runner.run(&mut conn, |conn| insert(conn, 1));
        assert!(failed.is_err());
        let own: QueryResult<()> = runner.run(&mut conn, |_: &mut Conn| Err(Error::NotFound));
        assert_eq!(own, Err(Error::NotFound));
    });
    let code = backend::UNIQUE_VIOLATION;
    let expected = [
        (
            "db.client.operation.duration db.system.name=sqlite",
            vec![delay, 0.0],
        ),
        (
            &*format!("db.client.operation.duration db.system.name=sqlite error.type={code}"),
            vec![delay],
        ),
        (
            "dbop.operation.attempts db.system.name=sqlite dbop.outcome=committed",
            vec![2.0],
        ),
        (
            "dbop.operation.attempts db.system.name=sqlite dbop.outcome=undone",
            vec![2.0, 1.0],
        ),
        (
            "dbop.outcomes dbop.outcome=committed dbop.stop=succeeded",
            vec![1.0],
        ),
        (
            "dbop.outcomes dbop.outcome=undone dbop.stop=own_error",
            vec![1.0],
        ),
        (
            "dbop.outcomes dbop.outcome=undone dbop.stop=retries_exhausted",
            vec![1.0],
        ),
        (
            "dbop.retries db.system.name=sqlite dbop.class=constraint dbop.phase=body",
            vec![2.0],
        ),
        ("dbop.retry.delay db.system.name=sqlite", vec![delay, delay]),
    ];
    let expected = expected.map(|(name, values)| (name.to_owned(), values));
    assert_eq!(all, BTreeMap::from(expected));
}

#[test]
fn names_of_operations_and_of_the_pool_when_asked_for() {
    let bed = Bed::new();
    let all = recorded(|| {
        let source = || <Conn as diesel::Connection>::establish(bed.url());
        let runner = Runner::default();
        let runner = runner.with_observer(Metrics::new().with_operation_names().with_pool("main"));
        let done = runner
            .operation("pay")
            .run_on(&source, |conn| set(conn, 1, 1));
        assert_eq!(done, Ok(1));
    });
    let names: Vec<_> = all.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "db.client.operation.duration db.system.name=sqlite db.query.summary=pay",
            "dbop.connection.wait_time dbop.pool=main",
            "dbop.operation.attempts db.system.name=sqlite dbop.outcome=committed",
            "dbop.outcomes dbop.outcome=committed dbop.stop=succeeded",
        ]
    );
}

/// A unique violation is what a conflict is made of.
fn conflict(seen: &Seen<'_>) -> Option<FaultClass> {
    (seen.class() == FaultClass::Constraint).then_some(FaultClass::SerializationFailure)
}

/// Operations that meet conflicts at their gates, and what is recorded of gates and of the budget.
fn at_gates(metrics: impl FnOnce() -> Metrics) -> Vec<(String, Vec<f64>)> {
    let bed = Bed::new();
    let source = || <Conn as diesel::Connection>::establish(bed.url());
    let all = recorded(|| {
        let runner = Runner::new(RetryPolicy::new().with_max_retries(1))
            .with_clock(Meanwhile::new(|_| ()))
            .with_gates(true)
            .with_retry_budget(RetryBudget::token_bucket(50))
            .with_observer(metrics());
        let bodies = AtomicU32::new(0);
        let pay = runner.operation("pay").classify(&conflict);
        let once = |conn: &mut Conn| match bodies.fetch_add(1, Ordering::Relaxed) {
            0 => insert(conn, 1),
            _ => set(conn, 1, 1),
        };
        assert_eq!(pay.run_on(&source, once), Ok(1));
        let gate = runner.gate_status("pay").expect("there are gates");
        assert_eq!(gate.limit, Some(1));
        // A pause in which the gate is not needed: the next operation finds that it can be opened.
        let later = |_: &dbop_diesel::Retry| RetryDecision::After(Duration::from_secs(10));
        let open = runner.operation("open").classify(&conflict);
        let opened = open
            .before_retry(&later)
            .run_on(&source, |conn| insert(conn, 1));
        assert!(opened.is_err());
        assert_eq!(pay.run_on(&source, |conn| set(conn, 1, 2)), Ok(1));
    });
    let is_asked_for = |name: &str| name.starts_with("dbop.gate") || name.contains("budget");
    let mut all: Vec<_> = all.into_iter().collect();
    all.retain(|(name, _)| is_asked_for(name));
    all
}

#[test]
fn what_gates_let_in_and_what_the_budget_has_left() {
    let expected = |pairs: &[(&str, f64)]| -> Vec<(String, Vec<f64>)> {
        let owned = |(name, value): &(&str, f64)| ((*name).to_owned(), vec![*value]);
        pairs.iter().map(owned).collect()
    };
    // Ten retries: one was paid back by its success, and one was lost.
    assert_eq!(
        at_gates(|| Metrics::new().with_operation_names().with_pool("main")),
        expected(&[
            (
                "dbop.gate.conflicts db.system.name=sqlite dbop.gate=open",
                2.0
            ),
            (
                "dbop.gate.conflicts db.system.name=sqlite dbop.gate=pay",
                1.0
            ),
            ("dbop.gate.limit db.system.name=sqlite dbop.gate=open", 1.0),
            ("dbop.gate.limit db.system.name=sqlite dbop.gate=pay", 0.0),
            ("dbop.retry.budget dbop.pool=main", 9.0),
        ])
    );
    // One number for all gates would say nothing.
    assert_eq!(
        at_gates(Metrics::new),
        expected(&[
            ("dbop.gate.conflicts db.system.name=sqlite", 3.0),
            ("dbop.retry.budget", 9.0),
        ])
    );
}

/// Two nodes, the first of which is down.
#[test]
fn how_often_each_node_has_failed() {
    let bed = Bed::new();
    let url = |is_there: bool| match is_there {
        true => bed.url().to_owned(),
        false => "/nowhere/at/all".to_owned(),
    };
    let connect = |url: String| move || <Conn as diesel::Connection>::establish(&url);
    let nodes = Nodes::new([url(false), url(true)].map(connect));
    let all = recorded(|| {
        let metrics = Metrics::new().with_pool("main").with_nodes(nodes.health());
        let runner = Runner::default().with_observer(metrics);
        assert_eq!(runner.run_on(&nodes, |conn| set(conn, 1, 1)), Ok(1));
    });
    let failures: Vec<_> = all
        .into_iter()
        .filter(|(name, _)| name.starts_with("dbop.node"))
        .collect();
    let expected = [
        ("dbop.node.failures dbop.pool=main dbop.node=0", 1.0),
        ("dbop.node.failures dbop.pool=main dbop.node=1", 0.0),
    ];
    assert_eq!(
        failures,
        expected.map(|(name, value)| (name.to_owned(), vec![value]))
    );
}
