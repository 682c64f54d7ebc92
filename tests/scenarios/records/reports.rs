//! The whole story of an operation: how many attempts, what each failed with, how long it took,
//! why it ended, and whether the work is done.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{
    Advice, FaultClass, Jitter, OperationError, Outcome, RetryPolicy, StopReason, diesel_error_in,
};
use dbop_tests::{InstantClock, Meanwhile};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{insert, set};
use super::{Bed, Conn, Connection as _, Runner, scenario};

/// One that is numbered and wants another try.
#[derive(Debug, thiserror::Error)]
enum Numbered {
    #[error("failure {0}")]
    Failure(u32),
    #[error("database")]
    Database(#[from] Error),
}

impl OperationError for Numbered {
    fn diesel_error(&self) -> Option<&Error> {
        diesel_error_in(self)
    }

    fn advice(&self) -> Advice {
        Advice::Retry
    }
}

impl Numbered {
    fn number(&self) -> u32 {
        match self {
            Self::Failure(number) => *number,
            Self::Database(error) => panic!("{error}"),
        }
    }
}

#[scenario]
async fn of_a_success_at_the_first_attempt() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.attempts, 1);
    assert!(report.failures.is_empty());
    assert_eq!(report.stop, StopReason::Succeeded);
    assert_eq!(report.outcome, Outcome::Committed);
}

#[scenario]
async fn of_a_success_after_retries_it_has_the_errors_in_order() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            match bodies.fetch_add(1, Ordering::Relaxed) {
                2 => Ok("done"),
                number => Err(Numbered::Failure(number)),
            }
        })
        .await;
    assert_eq!(report.result.expect("done"), "done");
    assert_eq!(report.attempts, 3);
    let numbers: Vec<_> = report
        .failures
        .iter()
        .map(|failure| failure.error.as_ref().expect("an error").number())
        .collect();
    assert_eq!(numbers, [0, 1]);
    assert_eq!(report.stop, StopReason::Succeeded);
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!(bed.balances()[0], (1, 1));
}

#[scenario]
async fn of_each_attempt_it_has_how_long_it_took_and_the_delay_after_it() {
    const POLICY: RetryPolicy = RetryPolicy::new()
        .with_max_retries(2)
        .with_initial_delay(Duration::from_millis(20))
        .with_jitter(Jitter::None);
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::new(POLICY)
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            Err::<(), _>(Numbered::Failure(0))
        })
        .await;
    let [first, second, last] = &report.failures[..] else {
        panic!("three attempts: {report:?}");
    };
    assert_eq!(first.delay, Duration::from_millis(20));
    assert_eq!(second.delay, Duration::from_millis(40));
    assert_eq!(last.delay, Duration::ZERO);
    let taken: Duration = report.failures.iter().map(|attempt| attempt.elapsed).sum();
    assert!(last.elapsed > Duration::ZERO);
    let delays = first.delay + second.delay;
    assert!(taken + delays <= report.elapsed, "{report:?}");
    assert!(report.elapsed >= delays, "{report:?}");
}

#[scenario]
async fn of_a_failure_it_has_the_last_error_as_the_result() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::new(RetryPolicy::new().with_max_retries(2))
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let number = bodies.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(Numbered::Failure(number))
        })
        .await;
    assert_eq!(report.result.expect_err("the last").number(), 2);
    let numbers: Vec<_> = report
        .failures
        .iter()
        .map(|failure| failure.error.as_ref().map(Numbered::number))
        .collect();
    assert_eq!(numbers, [Some(0), Some(1), None]);
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!(report.outcome, Outcome::Undone);
}

#[scenario]
async fn of_a_database_error_it_has_the_fault() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert_eq!((report.attempts, report.failures.len()), (1, 1));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::Constraint);
    assert!(report.failures[0].rollback_error.is_none());
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(report.outcome, Outcome::Undone);
}

#[scenario]
async fn of_an_error_of_the_operations_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::default()
        .run_report(&mut conn, async |_: &mut Conn| {
            Err::<(), _>(Error::NotFound)
        })
        .await;
    assert_eq!(report.result, Err(Error::NotFound));
    assert_eq!(report.stop, StopReason::OwnError);
    assert_eq!(report.outcome, Outcome::Undone);
    assert!(report.failures[0].fault.is_none());
}

#[scenario]
async fn it_says_how_long_it_took_delays_included() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let policy = RetryPolicy::new()
        .with_max_retries(4)
        .with_retry_on(FaultClass::Constraint)
        .with_seed(7);
    let report = Runner::new(policy)
        .with_clock(Meanwhile::new(|_| ()))
        .run_report(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    let expected: Duration = policy.delays().take(4).sum();
    assert_eq!(report.elapsed, expected);
    assert_eq!(report.attempts, 5);
}

#[scenario]
async fn of_a_refused_operation_it_has_no_attempt() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::default()
        .operation("impatient")
        .lock_timeout(Duration::ZERO)
        .run_report(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert!(report.result.is_err());
    assert_eq!(report.attempts, 0);
    assert!(report.failures.is_empty());
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(report.outcome, Outcome::Undone);
}

#[scenario]
async fn in_a_savepoint_committed_means_a_part_of_the_transaction_around() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            let report = runner
                .run_report(conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await;
            assert_eq!(report.outcome, Outcome::Committed);
            let failed = runner
                .run_report(conn, async |conn: &mut Conn| insert(conn, 1).await)
                .await;
            assert_eq!(failed.outcome, Outcome::Undone);
            Ok(())
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(bed.balances()[0], (1, 1));
}
