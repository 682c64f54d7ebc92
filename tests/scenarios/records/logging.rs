//! Every operation leaves records with fixed keys, at the level that its end deserves, where it
//! was told to. They say what happened in dbop's own words: the server's, which can quote values,
//! only when asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, LogLevels, RetryPolicy};
use dbop_tests::{Capture, Captured, InstantClock, global_records};
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;
use log::Level;

use super::money::{insert, set};
use super::{
    Bed, Conn, MODE, RunQueryDsl, Runner, SimpleConnection as _, backend, helper, scenario,
};

/// So that a unique violation, which needs nobody else, can stand for what may be retried.
const POLICY: RetryPolicy = RetryPolicy::new()
    .with_max_retries(2)
    .with_retry_on(FaultClass::Constraint);

/// One operation of each kind.
#[helper]
async fn one_of_each(runner: &Runner) -> QueryResult<()> {
    let bed = Bed::new();
    let mut conn = bed.connect();
    runner
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await?;
    let own: QueryResult<()> = runner
        .run(&mut conn, async |_: &mut Conn| Err(Error::NotFound))
        .await;
    assert_eq!(own, Err(Error::NotFound));
    let bodies = AtomicU32::new(0);
    runner
        .run(&mut conn, async |conn: &mut Conn| {
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => insert(conn, 1).await,
                _ => set(conn, 1, 1).await,
            }
        })
        .await?;
    let failed: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(failed.is_err());
    let wrong: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            conn.batch_execute("NO SQL").await
        })
        .await;
    assert!(wrong.is_err());
    Ok(())
}

#[scenario]
async fn the_levels_tell_what_needs_a_look() {
    let log = Capture::new();
    let runner = Runner::new(POLICY)
        .with_clock(InstantClock::new())
        .with_logger(log.clone());
    one_of_each(&runner).await.expect("as planned");
    assert_eq!(
        log.levels(),
        [
            Level::Debug, // success
            Level::Debug, // its own error
            Level::Warn,  // a retry
            Level::Info,  // success after it
            Level::Warn,  // retries
            Level::Warn,
            Level::Error, // in vain
            Level::Error, // a statement that makes no sense
        ]
    );
}

#[scenario]
async fn the_levels_can_be_those_where_done_is_info() {
    let log = Capture::new();
    let runner = Runner::new(POLICY)
        .with_clock(InstantClock::new())
        .with_logger(log.clone())
        .with_log_levels(LogLevels::DONE_IS_INFO);
    one_of_each(&runner).await.expect("as planned");
    assert_eq!(
        log.levels(),
        [
            Level::Info,
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Warn,
            Level::Warn,
            Level::Error,
            Level::Error,
        ]
    );
}

#[scenario]
async fn the_keys_of_a_success() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    Runner::default()
        .with_logger(log.clone())
        .operation("pay rent")
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await
        .expect("done");
    let [record] = &log.records()[..] else {
        panic!("one record: {:?}", log.records());
    };
    assert_eq!(record.target, "dbop");
    assert_eq!(record.text, "pay rent: done");
    assert_eq!(
        record.keys,
        keys(&[
            ("operation", "pay rent"),
            ("backend", backend::BACKEND),
            ("mode", MODE),
            ("attempt", "1"),
        ])
    );
}

#[scenario]
async fn the_keys_of_retries_and_of_giving_up() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let clock = InstantClock::new();
    let result: QueryResult<usize> = Runner::new(POLICY.with_max_retries(1))
        .with_clock(clock.clone())
        .with_logger(log.clone())
        .operation("open")
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    let [retry, failure] = &log.records()[..] else {
        panic!("two records: {:?}", log.records());
    };
    let delay = clock.slept()[0].as_millis().to_string();
    let mut expected = keys(&[
        ("operation", "open"),
        ("backend", backend::BACKEND),
        ("mode", MODE),
        ("attempt", "1"),
        ("class", "constraint"),
        ("code", backend::UNIQUE_VIOLATION),
        ("phase", "body"),
        ("transient", "false"),
        ("delay_ms", &delay),
    ]);
    assert_eq!(retry.keys, expected);
    expected.remove("delay_ms");
    expected.insert("attempt".into(), "2".into());
    assert_eq!(failure.keys, expected);
}

#[scenario]
async fn the_keys_of_an_error_of_its_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let result: QueryResult<()> = Runner::default()
        .with_logger(log.clone())
        .operation("look up")
        .run(&mut conn, async |_: &mut Conn| Err(Error::NotFound))
        .await;
    assert_eq!(result, Err(Error::NotFound));
    let record = only(&log);
    assert_eq!(
        record.keys,
        keys(&[
            ("operation", "look up"),
            ("backend", backend::BACKEND),
            ("mode", MODE),
            ("attempt", "1"),
            ("phase", "body"),
            ("transient", "false"),
        ])
    );
}

#[scenario]
async fn an_operation_without_a_name_is_called_after_its_place() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default().with_logger(log.clone());
    let body = async |conn: &mut Conn| set(conn, 1, 1).await;
    let (result, line) = (runner.run(&mut conn, body).await, line!());
    assert_eq!(result, Ok(1));
    let place = format!("{}:{line}", file!());
    assert_eq!(only(&log).keys["operation"], place);
    assert_eq!(only(&log).text, format!("{place}: done"));
}

/// A step that aborts the operation around it leaves a record for both.
#[scenario]
async fn nested_operations_leave_records_of_their_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default().with_logger(log.clone());
    let result: QueryResult<()> = runner
        .operation("transfer")
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .operation("withdraw")
                .run(conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(result, Err(Error::RollbackTransaction));
    let said: Vec<_> = log
        .records()
        .into_iter()
        .map(|record| (record.level, record.text))
        .collect();
    assert_eq!(
        said,
        [
            (Level::Debug, "withdraw: done".to_owned()),
            (
                Level::Debug,
                "transfer: attempt 1: the operation returned an error, rolled back".to_owned()
            ),
        ]
    );
}

#[scenario]
async fn the_servers_message_is_not_in_any_record() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let result: QueryResult<usize> = Runner::default()
        .with_logger(log.clone())
        .run(&mut conn, async |conn: &mut Conn| {
            sql_query(backend::QUOTING_ERROR).execute(conn).await
        })
        .await;
    let message = result.expect_err("it fails").to_string();
    assert!(message.contains("secret-4711"), "{message}");
    let record = only(&log);
    assert_eq!(record.level, Level::Error);
    assert!(!format!("{record:?}").contains("secret-4711"), "{record:?}");
}

#[scenario]
async fn the_servers_message_is_there_when_asked_for() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let result: QueryResult<usize> = Runner::default()
        .with_logger(log.clone())
        .with_server_messages(true)
        .run(&mut conn, async |conn: &mut Conn| {
            sql_query(backend::QUOTING_ERROR).execute(conn).await
        })
        .await;
    let message = result.expect_err("it fails").to_string();
    let record = only(&log);
    assert_eq!(record.keys["error"], message);
    assert!(!record.text.contains("secret-4711"));
}

#[scenario]
async fn records_go_to_the_global_logger_unless_another_one_is_injected() {
    let name = format!("global, {MODE}");
    assert!(global_records(&name).is_empty());
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    runner
        .operation(&name)
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await
        .expect("done");
    assert_eq!(global_records(&name).len(), 1);

    let log = Capture::new();
    let runner = runner.with_logger(log.clone());
    runner
        .operation(&name)
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await
        .expect("done");
    assert_eq!(global_records(&name).len(), 1, "not here");
    assert_eq!(log.records().len(), 1, "but there");
}

fn only(log: &Capture) -> Captured {
    let mut records = log.records();
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
