//! Spans where several operations take turns on one thread, on several, or are dropped.

use std::future::pending;

use dbop_tests::asynchronous::{Moment, dropped_when};
use diesel::QueryResult;
use tokio::task::yield_now;

use super::money::set;
use super::{Bed, Conn, Runner, backend, scenario};
use crate::seen;

/// An operation that lets others take their turns, and says so in between.
async fn operation(mut conn: Conn, name: String) {
    let result = Runner::default()
        .operation(&name)
        .run(&mut conn, async |conn: &mut Conn| {
            for _ in 0..3 {
                yield_now().await;
                tracing::info!(name, "turn");
            }
            set(conn, 2, 1).await
        })
        .await;
    assert!(result.is_ok(), "{result:?}");
}

fn names(what: &str) -> [String; 2] {
    [1, 2].map(|number| format!("{what} {number} {}", backend::BACKEND))
}

fn assert_apart(names: &[String; 2]) {
    for name in names {
        assert_eq!(
            seen::tree(name),
            [
                "INFO dbop.operation",
                "  DEBUG dbop.attempt",
                "    INFO event turn",
                "    INFO event turn",
                "    INFO event turn",
                "    DEBUG event done",
            ]
        );
        let nodes = seen::of(name);
        assert!(nodes[2..5].iter().all(|node| node.fields["name"] == *name));
    }
}

#[scenario]
async fn of_operations_that_take_turns_in_one_task() {
    seen::watch();
    let (first, second) = (Bed::new(), Bed::new());
    let names = names("joined");
    let (one, other) = (first.connect(), second.connect());
    tokio::join!(
        operation(one, names[0].clone()),
        operation(other, names[1].clone())
    );
    assert_apart(&names);
}

#[scenario]
async fn of_operations_in_tasks_of_their_own() {
    seen::watch();
    let (first, second) = (Bed::new(), Bed::new());
    let names = names("spawned");
    let (one, other) = (first.connect(), second.connect());
    let one = tokio::spawn(operation(one, names[0].clone()));
    let other = tokio::spawn(operation(other, names[1].clone()));
    one.await.expect("no panic");
    other.await.expect("no panic");
    assert_apart(&names);
}

#[scenario]
async fn of_an_operation_that_is_dropped() {
    seen::watch();
    let bed = Bed::new();
    let mut conn = bed.connect();
    let name = format!("dropped {}", backend::BACKEND);
    let runner = Runner::default();
    let reached = std::sync::atomic::AtomicBool::new(false);
    let run = runner
        .operation(&name)
        .run(&mut conn, async |_: &mut Conn| {
            reached.store(true, std::sync::atomic::Ordering::Relaxed);
            pending::<QueryResult<()>>().await
        });
    let never = dropped_when(run, Moment::UnderWay, || {
        reached.load(std::sync::atomic::Ordering::Relaxed)
    })
    .await;
    assert!(never.is_none());
    let root = &seen::of(&name)[0].fields;
    assert_eq!(root["dbop.outcome"], "undone");
    assert_eq!(root["dbop.stop"], "cancelled");
    assert!(!root.contains_key("otel.status_code"));
}
