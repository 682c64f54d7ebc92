//! Operations are counted and timed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Metrics, RetryPolicy};
use dbop_tests::Meanwhile;
use diesel::QueryResult;
use diesel::result::Error;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::money::{insert, set};
use super::{Bed, Conn, Runner, backend};

/// Served from the beginning on, so that the first one is an increase.
const NOT_TO_BE_MISSED: [&str; 3] = [
    "dbop.outcomes dbop.outcome=undone dbop.stop=panicked",
    "dbop.outcomes dbop.outcome=unknown dbop.stop=outcome_unknown",
    "dbop.outcomes dbop.outcome=unknown dbop.stop=panicked",
];

/// The values of each metric with its labels.
fn recorded(work: impl FnOnce()) -> BTreeMap<String, Vec<f64>> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, work);
    let mut all = BTreeMap::new();
    for (key, _, description, value) in snapshotter.snapshot().into_vec() {
        assert!(description.is_some(), "{key:?}");
        let key = key.key();
        let mut name = key.name().to_owned();
        for label in key.labels() {
            name.push_str(&format!(" {}={}", label.key(), label.value()));
        }
        let values = match value {
            DebugValue::Counter(count) => vec![f64::from(u32::try_from(count).expect("few"))],
            DebugValue::Gauge(value) => vec![*value],
            DebugValue::Histogram(values) => values.into_iter().map(|value| *value).collect(),
        };
        all.insert(name, values);
    }
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
