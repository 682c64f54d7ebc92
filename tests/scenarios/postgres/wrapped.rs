//! A lock timeout is retried whatever the operation's error has made of it, and what an application
//! raises with the text of a fault is not.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, OperationError, Report};
use dbop_tests::{Capture, InstantClock};
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;

use super::money::add;
use super::steps::{connect, opponent_commits, opponent_goes_on_during};
use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, helper, scenario,
};

const HOLD_1: &str = "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 1";

type AnyError = Box<dyn StdError + Send + Sync>;

/// `source()` skips the Diesel error.
#[derive(Debug, thiserror::Error)]
enum Transparent {
    #[error(transparent)]
    Database(#[from] Error),
}

/// As that of diesel_migrations: no `source()`.
#[derive(Debug)]
struct Migration(Error);

impl std::fmt::Display for Migration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Failed to run 20260101_accounts with: {}", self.0)
    }
}

impl StdError for Migration {}

/// Nothing is left but the text.
#[derive(Debug)]
struct Text(String);

impl From<Error> for Text {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl OperationError for Text {
    fn diesel_error(&self) -> Option<&Error> {
        None
    }

    fn database_message(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.0))
    }
}

/// Runs an operation that meets a lock timeout once, and makes this of the error.
#[helper]
async fn meets_a_lock_timeout<E: OperationError + Debug + Send>(wrap: fn(Error) -> E) {
    let bed = Bed::new();
    let opponent = Arc::new(bed.opponent());
    opponent.execute(HOLD_1);
    let mut conn = bed.connect();
    let report = Runner::default()
        .with_clock(opponent_commits(&opponent))
        .operation("add")
        .lock_timeout(Duration::from_millis(50))
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await.map_err(wrap)
        })
        .await;
    assert_eq!(report.result.expect("at the second attempt"), 1);
    assert_eq!(report.attempts, 2);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert_eq!(fault.code().expect("a code").to_string(), "55P03");
}

#[scenario]
async fn a_fault_behind_what_hides_it_is_retried() {
    let boxes: [fn(Error) -> AnyError; 6] = [
        |error| Box::new(Transparent::from(error)),
        |error| Box::new(Migration(error)),
        |error| Box::new(std::io::Error::other(error)),
        |error| Box::new(Arc::new(error)),
        |error| Box::new(std::io::Error::other(Transparent::from(error))),
        |error| anyhow::Error::new(error).into(),
    ];
    for wrap in boxes {
        meets_a_lock_timeout(wrap).await;
    }
    meets_a_lock_timeout(|error| anyhow::Error::new(Transparent::from(error)).context("add")).await;
    meets_a_lock_timeout(|error| anyhow::Error::new(Arc::new(error))).await;
    meets_a_lock_timeout(Text::from).await;
    meets_a_lock_timeout(|error| Error::QueryBuilderError(Box::new(error))).await;
}

/// What a real fault has and a raised one lacks, or the other way round.
#[scenario]
async fn the_text_of_a_fault_that_an_application_raises_is_not_retried() {
    let bed = Bed::new();
    for raised in [
        "'deadlock detected'",
        "'deadlock detected' USING ERRCODE = '40P01'",
        "'deadlock detected' USING ERRCODE = '40P01', HINT = 'x'",
        "'deadlock detected' USING DETAIL = 'x', TABLE = 'accounts'",
        "'canceling statement due to lock timeout' USING COLUMN = 'balance'",
        "'canceling statement due to lock timeout' USING CONSTRAINT = 'enough'",
    ] {
        for as_text in [false, true] {
            let report = raise(&bed, raised, as_text).await;
            assert_eq!(report.attempts, 1, "{raised}");
            assert!(report.result.is_err(), "{raised}");
        }
    }
}

#[helper]
async fn raise(bed: &Bed, raised: &str, as_text: bool) -> Report<usize, Error> {
    let mut conn = bed.connect();
    let statement = format!("DO $$ BEGIN RAISE {raised}; END $$");
    Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            if as_text {
                conn.batch_execute(&statement).await?;
                return QueryResult::Ok(0);
            }
            sql_query(&statement).execute(conn).await
        })
        .await
}

/// The details are there on every path: a deadlock is a deadlock.
#[scenario]
async fn a_real_deadlock_is_one_on_each_path() {
    for as_text in [false, true] {
        let bed = Arc::new(Bed::new());
        let opponent = Arc::new(bed.opponent());
        opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2");
        let mut conn = connect(&bed).await;
        let bodies = AtomicU32::new(0);
        let report: Report<(), Error> = Runner::default()
            .with_clock(opponent_goes_on_during(1, &bed, &opponent))
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                    opponent.start("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
                    bed.wait_until_blocked(opponent.id());
                }
                let take = "UPDATE accounts SET balance = balance + 10 WHERE id = 2";
                if as_text {
                    return conn.batch_execute(take).await;
                }
                sql_query(take).execute(conn).await.map(drop)
            })
            .await;
        assert_eq!((report.result, report.attempts), (Ok(()), 2));
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::Deadlock);
    }
}

/// It has lost Diesel's error, and the message with it.
#[derive(Debug)]
struct Lossy(&'static str);

impl From<Error> for Lossy {
    fn from(_: Error) -> Self {
        Self("the database said no")
    }
}

impl OperationError for Lossy {
    fn diesel_error(&self) -> Option<&Error> {
        None
    }
}

/// Otherwise it would never be retried, and nothing would say why.
#[scenario]
async fn an_error_that_hides_a_failed_statement_is_said_to_do_so_once() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default().with_logger(log.clone());
    for in_step in [false, true] {
        let name = if in_step { "step" } else { "open" };
        for _ in 0..2 {
            let hides = async |conn: &mut Conn| -> Result<usize, Lossy> {
                sql_query("INSERT INTO accounts VALUES (1, 0)")
                    .execute(conn)
                    .await?;
                Ok(1)
            };
            let operation = runner.operation(name);
            let result: Result<usize, Lossy> = match in_step {
                false => operation.run(&mut conn, hides).await,
                true => {
                    conn.transaction(async |conn: &mut Conn| {
                        let result = operation.run(conn, hides).await;
                        // The transaction around the step is as it was.
                        add(conn, 2, 7).await?;
                        result
                    })
                    .await
                }
            };
            assert_eq!(result.expect_err("taken").0, "the database said no");
        }
    }
    let said: Vec<_> = log
        .records()
        .iter()
        .map(|record| format!("{} {}", record.level, record.keys["operation"]))
        .collect();
    assert_eq!(said, ["WARN open", "DEBUG open", "WARN step", "DEBUG step"]);
    let text = &log.records()[0].text;
    assert!(text.contains("a statement had failed"), "{text}");
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

/// An error of the operation's own hides nothing if nothing has failed.
#[scenario]
async fn an_error_of_the_operations_own_is_a_normal_answer() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let result: Result<usize, Lossy> = Runner::default()
        .with_logger(log.clone())
        .operation("pay")
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            Err(Lossy("no money"))
        })
        .await;
    assert_eq!(result.expect_err("its own").0, "no money");
    assert_eq!(log.records().len(), 1);
    assert_eq!(log.records()[0].level, log::Level::Debug);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}
