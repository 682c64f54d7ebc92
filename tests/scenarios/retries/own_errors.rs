//! Operations return error types of their own. What they say goes up unchanged, the Diesel error
//! inside is found and judged, dbop's own errors fit in, and they can ask for a retry or forbid
//! it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use dbop_diesel::{Advice, FaultClass, OperationError, RetryPolicy, StopReason, diesel_error_in};
use dbop_tests::{Capture, InstantClock};
use diesel::result::{DatabaseErrorKind, Error};
use log::Level;

use super::money::{insert, set};
use super::{Bed, Conn, Runner, helper, scenario};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The Diesel error is a source.
#[derive(Debug, thiserror::Error)]
enum Sourced {
    #[error("not enough")]
    NotEnough,
    #[error("database")]
    Database(#[from] Error),
}

impl OperationError for Sourced {
    fn diesel_error(&self) -> Option<&Error> {
        diesel_error_in(self)
    }
}

/// The Diesel error is hidden from the chain of sources, and dbop's own have a variant.
#[derive(Debug, thiserror::Error)]
enum Transparent {
    #[error(transparent)]
    Database(#[from] Error),
    #[error("dbop")]
    Dbop(#[source] dbop_diesel::Error),
}

impl OperationError for Transparent {
    fn diesel_error(&self) -> Option<&Error> {
        match self {
            Self::Database(error) => Some(error),
            Self::Dbop(_) => None,
        }
    }

    fn from_dbop(error: dbop_diesel::Error) -> Self {
        Self::Dbop(error)
    }

    fn dbop_error(&self) -> Option<&dbop_diesel::Error> {
        match self {
            Self::Dbop(error) => Some(error),
            Self::Database(_) => None,
        }
    }
}

/// Says what to do about it.
#[derive(Debug, thiserror::Error)]
enum Advising {
    #[error("again, please")]
    Again,
    #[error("never again")]
    Never(#[source] Error),
    #[error("database")]
    Database(#[from] Error),
}

impl OperationError for Advising {
    fn diesel_error(&self) -> Option<&Error> {
        diesel_error_in(self)
    }

    fn advice(&self) -> Advice {
        match self {
            Self::Again => Advice::Retry,
            Self::Never(_) => Advice::Never,
            Self::Database(_) => Advice::Judge,
        }
    }
}

#[scenario]
async fn an_enum_keeps_its_own_variant() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: Result<(), Sourced> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            Err(Sourced::NotEnough)
        })
        .await;
    assert!(matches!(result, Err(Sourced::NotEnough)));
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn a_diesel_error_that_is_a_source_is_judged() {
    let error = of_a_duplicate::<Sourced>().await;
    assert!(matches!(
        error,
        Sourced::Database(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
}

#[scenario]
async fn a_diesel_error_that_is_transparent_is_judged() {
    let error = of_a_duplicate::<Transparent>().await;
    assert!(matches!(
        error,
        Transparent::Database(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
}

#[scenario]
async fn a_boxed_error_can_be_anything() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default().with_logger(log.clone());
    let result: Result<(), AnyError> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            Err("no money".into())
        })
        .await;
    assert_eq!(result.expect_err("its own").to_string(), "no money");
    assert_eq!(log.levels(), [Level::Debug]);
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn a_diesel_error_in_a_box_is_judged() {
    let error = of_a_duplicate::<AnyError>().await;
    assert!(matches!(
        error.downcast_ref(),
        Some(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
}

#[scenario]
async fn a_diesel_error_under_a_context_is_judged() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let result: anyhow::Result<usize> = Runner::default()
        .with_logger(log.clone())
        .run(&mut conn, async |conn: &mut Conn| {
            insert(conn, 1).await.context("opening the account")
        })
        .await;
    let error = result.expect_err("a duplicate");
    assert_eq!(error.to_string(), "opening the account");
    is_a_constraint(&log);
}

#[scenario]
async fn dbops_own_error_gets_the_variant_it_was_given() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: Result<(), Transparent> = Runner::default()
        .operation("impatient")
        .lock_timeout(Duration::ZERO)
        .run(&mut conn, async |_: &mut Conn| Ok(()))
        .await;
    let error = result.expect_err("zero is refused");
    assert!(matches!(&error, Transparent::Dbop(own) if own.is_invalid_setting()));
    assert!(error.dbop_error().is_some());
}

#[scenario]
async fn dbops_own_error_is_found_again_in_every_other_type() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let impatient = runner.operation("impatient").lock_timeout(Duration::ZERO);
    let sourced: Result<(), Sourced> = impatient.run(&mut conn, async |_: &mut Conn| Ok(())).await;
    let boxed: Result<(), AnyError> = impatient.run(&mut conn, async |_: &mut Conn| Ok(())).await;
    let any: anyhow::Result<()> = impatient.run(&mut conn, async |_: &mut Conn| Ok(())).await;
    let found = [
        sourced.expect_err("refused").dbop_error().is_some(),
        boxed.expect_err("refused").dbop_error().is_some(),
        any.expect_err("refused").dbop_error().is_some(),
    ];
    assert_eq!(found, [true; 3]);
}

#[scenario]
async fn retry_me_is_retried_as_often_as_the_policy_allows() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::new(RetryPolicy::new().with_max_retries(3))
        .with_clock(clock.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            Err::<(), _>(Advising::Again)
        })
        .await;
    assert!(matches!(report.result, Err(Advising::Again)));
    assert_eq!(
        (report.attempts, report.stop),
        (4, StopReason::RetriesExhausted)
    );
    assert_eq!(bodies.into_inner(), 4);
    assert_eq!(clock.slept().len(), 3);
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn never_again_forbids_what_the_class_would_allow() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let policy = RetryPolicy::new().with_retry_on(FaultClass::Constraint);
    let runner = Runner::new(policy).with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let judged: Result<usize, Advising> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            Ok(insert(conn, 1).await?)
        })
        .await;
    assert!(matches!(judged, Err(Advising::Database(_))));
    assert_eq!(bodies.swap(0, Ordering::Relaxed), 6, "the class allows it");
    let forbidden: Result<usize, Advising> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            insert(conn, 1).await.map_err(Advising::Never)
        })
        .await;
    assert!(matches!(forbidden, Err(Advising::Never(_))));
    assert_eq!(bodies.into_inner(), 1);
}

/// The error of an operation that inserts an account twice. The Diesel error in it is judged.
#[helper]
async fn of_a_duplicate<E: OperationError + From<Error> + Send + 'static>() -> E {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let result: Result<usize, E> = Runner::default()
        .with_logger(log.clone())
        .run(
            &mut conn,
            async |conn: &mut Conn| Ok(insert(conn, 1).await?),
        )
        .await;
    is_a_constraint(&log);
    result.expect_err("a duplicate")
}

fn is_a_constraint(log: &Capture) {
    let records = log.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].level, Level::Debug);
    assert_eq!(records[0].keys["class"], "constraint");
}
