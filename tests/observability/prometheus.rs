//! A service whose metrics Prometheus collects: a transfer that meets a lock, and what is to be seen of it.
//!
//! ```sh
//! cargo run -p dbop-observability --features sqlite --bin prometheus
//! ```
//!
//! It prints what a real service answers to `GET /metrics`: the text of [`PrometheusHandle::render`], or
//! whatever the feature `http-listener` of the exporter serves.

#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::error::Error;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use dbop_diesel::{
    FaultClass, Jitter, Keys, Metrics, Nodes, RetryBudget, RetryPolicy, Runner, Seen,
};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

diesel::table! {
    accounts (id) {
        id -> Integer,
        balance -> BigInt,
    }
}

/// Installs the recorder. Before the first [`Metrics`], which describes its metrics to it.
fn install() -> Result<PrometheusHandle, Box<dyn Error>> {
    let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
    for name in [
        Metrics::DURATION,
        Metrics::RETRY_DELAY,
        Metrics::CONNECTION_WAIT,
        Metrics::GATE_WAIT,
    ] {
        let matcher = Matcher::Full(name.to_owned());
        builder = builder.set_buckets_for_metric(matcher, &Metrics::DURATION_BUCKETS)?;
    }
    let attempts = Matcher::Full(Metrics::ATTEMPTS.to_owned());
    builder = builder.set_buckets_for_metric(attempts, &Metrics::ATTEMPTS_BUCKETS)?;
    Ok(builder.install_recorder()?)
}

fn transfer(conn: &mut SqliteConnection) -> QueryResult<usize> {
    let withdraw = accounts::balance.eq(accounts::balance - 10);
    diesel::update(accounts::table.find(1))
        .set(withdraw)
        .execute(conn)?;
    let deposit = accounts::balance.eq(accounts::balance + 10);
    diesel::update(accounts::table.find(2))
        .set(deposit)
        .execute(conn)
}

/// A number that another session has taken since it was looked up is a conflict like others.
fn taken_meanwhile(seen: &Seen<'_>) -> Option<FaultClass> {
    (seen.class() == FaultClass::Constraint).then_some(FaultClass::SerializationFailure)
}

#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let metrics = install()?;
    // One retry is enough: its delay is longer than the lock is held.
    let policy = RetryPolicy::new()
        .with_initial_delay(Duration::from_millis(100))
        .with_jitter(Jitter::None);
    let folder = tempfile::tempdir()?;
    let url = folder.path().join("bank.db");
    let url = url.to_str().ok_or("a path in UTF-8")?.to_owned();
    let pool = Pool::builder()
        .max_size(2)
        .build(ConnectionManager::<SqliteConnection>::new(&url))?;
    let pool = Nodes::new([pool]);
    let observed = Metrics::new()
        .with_operation_names()
        .with_pool("accounts")
        .with_nodes(pool.health());
    let runner = Runner::new(policy)
        .with_gates(true)
        .with_retry_budget(RetryBudget::default())
        .with_observer(observed);
    runner.operation("create").run_on(&pool, |conn| {
        conn.batch_execute(
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL);
             INSERT INTO accounts VALUES (1, 100), (2, 0)",
        )
    })?;

    // Another program holds the write lock for a moment.
    let mut other = SqliteConnection::establish(&url)?;
    other.batch_execute("BEGIN IMMEDIATE")?;
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        other.batch_execute("COMMIT")
    });
    let rows = Keys::new("account", [1, 2]);
    let operation = runner.operation("transfer").exclusive_by(&rows);
    operation.run_on(&pool, transfer)?;
    other.join().map_err(|_| "the other program panicked")??;
    // One that meets a conflict, which closes its gate.
    let next = AtomicI32::new(2);
    let operation = runner.operation("number").classify(&taken_meanwhile);
    operation.run_on(&pool, |conn| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        diesel::insert_into(accounts::table)
            .values((accounts::id.eq(number), accounts::balance.eq(0)))
            .execute(conn)
    })?;
    // Two that fail: by themselves, and for the database.
    let missing = runner.operation("look up").run_on(&pool, |conn| {
        accounts::table.find(4).first::<(i32, i64)>(conn)
    });
    assert_eq!(missing, Err(diesel::result::Error::NotFound));
    let taken = runner.operation("open").run_on(&pool, |conn| {
        diesel::sql_query("INSERT INTO accounts VALUES (1, 0)").execute(conn)
    });
    assert!(taken.is_err());

    print!("{}", metrics.render());
    Ok(())
}
