//! A deadlock of two operations on a server, as spans and metrics show it: the victim's attempts with the
//! code, one retry, and two successes. No value that was bound is in any of them, nor the URL.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use dbop_diesel::{Event, Metrics, Observer, Subject, Summary};
use dbop_tests::blocking;
use diesel::QueryResult;
use metrics_util::debugging::DebuggingRecorder;

use super::money::add;
use super::{Bed, Conn, MODE, Runner, backend, helper, scenario, together};
use crate::{recorded, seen};

/// The server's code for it.
const DEADLOCK: &str = match backend::BACKEND.as_bytes() {
    b"postgresql" => "40P01",
    _ => "1213",
};

/// No other number that is to be seen looks like this.
const AMOUNT: i64 = 471_108_154_711;

/// [`Metrics`] with a recorder of its own, whatever thread it is told on.
struct Recorded {
    recorder: DebuggingRecorder,
    metrics: Metrics,
}

impl Recorded {
    fn new(recorder: DebuggingRecorder) -> Self {
        let metrics = metrics::with_local_recorder(&recorder, Metrics::new);
        Self { recorder, metrics }
    }
}

impl Observer for Recorded {
    fn on_event(&self, subject: &Subject<'_>, event: &Event) {
        metrics::with_local_recorder(&self.recorder, || self.metrics.on_event(subject, event));
    }

    fn on_end(&self, subject: &Subject<'_>, summary: &Summary) {
        metrics::with_local_recorder(&self.recorder, || self.metrics.on_end(subject, summary));
    }
}

/// Takes the first row, waits until the other one has its own, and wants that.
#[helper]
async fn transfer(
    runner: &Runner,
    conn: &mut Conn,
    name: &str,
    [from, to]: [i32; 2],
    both_hold: &Barrier,
) -> QueryResult<usize> {
    let is_first = AtomicBool::new(true);
    runner
        .operation(name)
        .run(conn, async |conn: &mut Conn| {
            add(conn, from, -AMOUNT).await?;
            if is_first.swap(false, Ordering::Relaxed) {
                blocking(|| both_hold.wait());
            }
            add(conn, to, AMOUNT).await
        })
        .await
}

#[scenario]
async fn of_two_operations_one_is_the_victim_and_tried_again() {
    seen::watch();
    let bed = Bed::new();
    let (mut one, mut other) = (bed.connect(), bed.connect());
    let names = ["one", "other"].map(|which| format!("{which} {MODE} {}", backend::BACKEND));
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runner = Runner::default().with_observer(Recorded::new(recorder));
    let both_hold = Barrier::new(2);
    let done = together(
        async || transfer(&runner, &mut one, &names[0], [1, 2], &both_hold).await,
        async || transfer(&runner, &mut other, &names[1], [2, 1], &both_hold).await,
    )
    .await;
    assert_eq!(done, (Ok(1), Ok(1)));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);

    let [victim, winner] = match seen::of(&names[0])[0].fields["dbop.attempts"].as_str() {
        "2" => [&names[0], &names[1]],
        _ => [&names[1], &names[0]],
    };
    let winner = seen::of(winner);
    assert_eq!(winner[0].fields["dbop.attempts"], "1", "{winner:?}");
    assert_eq!(
        seen::tree(victim),
        [
            "INFO dbop.operation",
            "  DEBUG dbop.attempt",
            "    WARN event retry",
            "  DEBUG dbop.attempt",
            "    INFO event done",
        ]
    );
    let victim = seen::of(victim);
    let (root, failed, retry, again) = (&victim[0], &victim[1], &victim[2], &victim[3]);
    for (node, key, value) in [
        (root, "db.system.name", backend::BACKEND),
        (root, "dbop.attempts", "2"),
        (root, "dbop.outcome", "committed"),
        (failed, "error.type", DEADLOCK),
        (failed, "dbop.phase", "body"),
        (retry, "class", "deadlock"),
        (retry, "code", DEADLOCK),
        (retry, "phase", "body"),
        (again, "dbop.resend_count", "1"),
    ] {
        assert_eq!(node.fields[key], value, "{key}: {victim:?}");
    }
    for key in ["error.type", "otel.status_code", "db.response.status_code"] {
        assert!(
            !root.fields.contains_key(key),
            "a retry has cured it: {key}"
        );
    }
    assert!(!again.fields.contains_key("error.type"));

    let recorded = recorded::values(&snapshotter);
    let system = format!("db.system.name={}", backend::BACKEND);
    let retries = format!("dbop.retries {system} dbop.class=deadlock dbop.phase=body");
    assert_eq!(recorded.get(&retries), Some(&vec![1.0]), "{recorded:?}");
    let all_retries = recorded
        .keys()
        .filter(|key| key.starts_with("dbop.retries"));
    assert_eq!(all_retries.count(), 1, "{recorded:?}");
    let mut attempts =
        recorded[&format!("dbop.operation.attempts {system} dbop.outcome=committed")].clone();
    attempts.sort_by(f64::total_cmp);
    assert_eq!(attempts, [1.0, 2.0]);
    let outcomes = "dbop.outcomes dbop.outcome=committed dbop.stop=succeeded";
    assert_eq!(recorded[outcomes], [2.0]);
    let durations = &recorded[&format!("db.client.operation.duration {system}")];
    assert_eq!(durations.len(), 2, "without an `error.type`");

    let shown = format!("{victim:?} {winner:?} {recorded:?}");
    for secret in [AMOUNT.to_string(), bed.url().to_owned()] {
        assert!(!shown.contains(&secret), "{secret}: {shown}");
    }
}
