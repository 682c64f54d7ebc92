//! Each operation has a span, and so has each of its attempts. What the operation's own code makes is
//! inside of the attempt. Nothing is told twice, and no value is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, RetryPolicy};
use dbop_tests::{Capture, InstantClock, global_records};
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;

use super::money::{insert, set};
use super::{Bed, Conn, MODE, RunQueryDsl, Runner, backend, caught, scenario};
use crate::seen;

/// So that a unique violation, which needs no other session, can stand for what may be retried.
const POLICY: RetryPolicy = RetryPolicy::new()
    .with_max_retries(1)
    .with_retry_on(FaultClass::Constraint);

/// A name that no other test has.
fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name} {MODE} {} {number}", backend::BACKEND)
}

fn fields<const N: usize>(pairs: [(&'static str, &str); N]) -> BTreeMap<&'static str, String> {
    pairs.map(|(key, value)| (key, value.to_owned())).into()
}

fn kind() -> &'static str {
    match backend::BACKEND {
        "sqlite" => "internal",
        _ => "client",
    }
}

#[scenario]
async fn of_a_success() {
    seen::watch();
    let name = unique("success");
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result = Runner::default()
        .operation(&name)
        .run(&mut conn, async |conn: &mut Conn| {
            let changed = set(conn, 1, 1).await;
            tracing::info!("in the body");
            changed
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(
        seen::tree(&name),
        [
            "INFO dbop.operation",
            "  DEBUG dbop.attempt",
            "    INFO event in the body",
            "    DEBUG event done",
        ]
    );
    let nodes = seen::of(&name);
    assert_eq!(
        nodes[0].fields,
        fields([
            ("otel.name", &name),
            ("otel.kind", kind()),
            ("db.system.name", backend::BACKEND),
            ("db.query.summary", &name),
            ("dbop.scope", "transaction"),
            ("dbop.read_only", "false"),
            ("dbop.attempts", "1"),
            ("dbop.outcome", "committed"),
        ])
    );
    assert!(nodes[1].fields.is_empty(), "{:?}", nodes[1]);
    assert_eq!(
        nodes[3].fields,
        fields([("message", "done"), ("operation", &name), ("attempt", "1")])
    );
}

#[scenario]
async fn of_a_success_after_a_retry() {
    seen::watch();
    let name = unique("retry");
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result = Runner::new(POLICY)
        .with_clock(InstantClock::new())
        .operation(&name)
        .run(&mut conn, async |conn: &mut Conn| {
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => insert(conn, 1).await,
                _ => set(conn, 1, 1).await,
            }
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(
        seen::tree(&name),
        [
            "INFO dbop.operation",
            "  DEBUG dbop.attempt",
            "    WARN event retry",
            "  DEBUG dbop.attempt",
            "    INFO event done",
        ]
    );
    let nodes = seen::of(&name);
    // An error that a retry has cured is none of the operation's.
    assert!(!nodes[0].fields.contains_key("error.type"));
    assert!(!nodes[0].fields.contains_key("otel.status_code"));
    let code = backend::UNIQUE_VIOLATION;
    assert_eq!(
        nodes[1].fields,
        fields([("dbop.phase", "body"), ("error.type", code)])
    );
    assert_eq!(nodes[3].fields, fields([("dbop.resend_count", "1")]));
    let mut retry = nodes[2].fields.clone();
    assert!(retry.remove("delay_ms").is_some());
    assert_eq!(
        retry,
        fields([
            ("message", "retry"),
            ("operation", &name),
            ("attempt", "1"),
            ("class", "constraint"),
            ("code", code),
            ("phase", "body"),
        ])
    );
}

#[scenario]
async fn of_a_failure() {
    seen::watch();
    let name = unique("failure");
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<usize> = Runner::new(POLICY)
        .with_clock(InstantClock::new())
        .operation(&name)
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    let nodes = seen::of(&name);
    assert!(
        nodes
            .last()
            .is_some_and(|node| node.is("ERROR event failed"))
    );
    let root = &nodes[0].fields;
    let code = backend::UNIQUE_VIOLATION;
    for (key, value) in [
        ("dbop.attempts", "2"),
        ("dbop.outcome", "undone"),
        ("dbop.stop", "retries_exhausted"),
        ("db.response.status_code", code),
        ("error.type", code),
        ("otel.status_code", "ERROR"),
    ] {
        assert_eq!(root[key], value, "{key}");
    }
}

#[scenario]
async fn of_answers_that_callers_expect() {
    seen::watch();
    let bed = Bed::new();
    let mut conn = bed.connect();
    let name = unique("answer");
    let result: QueryResult<()> = Runner::default()
        .operation(&name)
        .run(&mut conn, async |_: &mut Conn| Err(Error::NotFound))
        .await;
    assert_eq!(result, Err(Error::NotFound));
    let root = &seen::of(&name)[0].fields;
    assert_eq!(root["dbop.stop"], "own_error");
    assert!(!root.contains_key("otel.status_code") && !root.contains_key("error.type"));

    let name = unique("taken");
    let result: QueryResult<usize> = Runner::default()
        .operation(&name)
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    let root = &seen::of(&name)[0].fields;
    assert_eq!(root["error.type"], backend::UNIQUE_VIOLATION);
    assert!(!root.contains_key("otel.status_code"), "{root:?}");
}

#[scenario]
async fn of_a_panic() {
    seen::watch();
    let name = unique("panic");
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let panicked = caught(async || {
        let never: QueryResult<()> = runner
            .operation(&name)
            .run(&mut conn, async |_: &mut Conn| panic!("secret-4711"))
            .await;
        never
    })
    .await;
    assert!(panicked.is_err());
    let nodes = seen::of(&name);
    assert_eq!(nodes[0].fields["dbop.stop"], "panicked");
    assert_eq!(nodes[0].fields["otel.status_code"], "ERROR");
    assert!(!format!("{nodes:?}").contains("secret-4711"), "{nodes:?}");
}

#[scenario]
async fn of_nested_operations() {
    seen::watch();
    let (name, step) = (unique("outer"), unique("step"));
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result = runner
        .operation(&name)
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .operation(&step)
                .run(conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(
        seen::tree(&name),
        [
            "INFO dbop.operation",
            "  DEBUG dbop.attempt",
            "    INFO dbop.operation",
            "      DEBUG dbop.attempt",
            "        DEBUG event done",
            "    DEBUG event done",
        ]
    );
    assert_eq!(seen::of(&step)[0].fields["dbop.scope"], "savepoint");
}

/// They come when it is over.
#[scenario]
async fn of_hooks_there_is_nothing() {
    seen::watch();
    let name = unique("hooked");
    let bed = Bed::new();
    let mut conn = bed.connect();
    let hook = || tracing::info!(name, "in the hook");
    let result = Runner::default()
        .operation(&name)
        .after_commit(&hook)
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(
        seen::tree(&name),
        [
            "INFO dbop.operation",
            "  DEBUG dbop.attempt",
            "    DEBUG event done",
        ]
    );
}

#[scenario]
async fn of_one_without_a_name() {
    seen::watch();
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let body = async |conn: &mut Conn| set(conn, 1, 1).await;
    let (result, line) = (runner.run(&mut conn, body).await, line!());
    assert_eq!(result, Ok(1));
    let place = format!("{}:{line}", file!());
    let root = &seen::of(&place)[0].fields;
    assert_eq!(root["code.file.path"], file!());
    assert_eq!(root["code.line.number"], line.to_string());
}

#[scenario]
async fn the_servers_message_is_there_only_when_asked_for() {
    seen::watch();
    let bed = Bed::new();
    let mut conn = bed.connect();
    for asked in [false, true] {
        let name = unique("message");
        let result: QueryResult<usize> = Runner::default()
            .with_server_messages(asked)
            .operation(&name)
            .run(&mut conn, async |conn: &mut Conn| {
                sql_query(backend::QUOTING_ERROR).execute(conn).await
            })
            .await;
        let message = result.expect_err("it fails").to_string();
        let nodes = seen::of(&name);
        let failed = nodes.last().expect("an event");
        assert_eq!(failed.fields.get("error"), asked.then_some(&message));
        let others = &nodes[..nodes.len() - 1];
        assert!(!format!("{others:?}").contains("secret-4711"), "{others:?}");
    }
}

#[scenario]
async fn nothing_is_told_twice() {
    seen::watch();
    let name = unique("once");
    let bed = Bed::new();
    let mut conn = bed.connect();
    let body = async |conn: &mut Conn| set(conn, 1, 1).await;
    let runner = Runner::default();
    assert!(global_records(&name).is_empty());
    let result = runner.operation(&name).run(&mut conn, body).await;
    assert_eq!(result, Ok(1));
    assert!(global_records(&name).is_empty());
    assert!(seen::of(&name).iter().any(|node| node.is("done")));

    // A logger of its own is wanted in any case.
    let log = Capture::new();
    let runner = runner.with_logger(log.clone());
    let result = runner.operation(&name).run(&mut conn, body).await;
    assert_eq!(result, Ok(1));
    assert_eq!(log.records().len(), 1);
}
