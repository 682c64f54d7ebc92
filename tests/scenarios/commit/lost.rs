//! The connection is lost while COMMIT is under way: what is reported is true, and nothing that may
//! have been done is done again unless that is harmless.

use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Ledger, OperationError, Outcome, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{Capture, assert_unknown, is_unknown};
use diesel::QueryResult;
use diesel::result::Error;
use log::Level;

use super::money::{add, balance};
use super::{
    Bed, Conn, Connection as _, MODE, Runner, SimpleConnection as _, backend, depth, scenario,
};

/// Through this proxy the answer to the first COMMIT is lost.
pub(crate) fn losing_an_answer(bed: &Bed) -> Proxy {
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    proxy
}

#[scenario]
async fn what_was_read_is_read_again() {
    let bed = Bed::new();
    let proxy = losing_an_answer(&bed);
    let log = Capture::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_logger(log.clone())
        .operation("read")
        .read_only()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                balance(conn, 1).await
            },
        )
        .await;
    assert_eq!(report.result, Ok(100));
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    assert_eq!(log.levels(), [Level::Warn, Level::Info]);
    assert_eq!(log.records()[0].keys["phase"], "commit");
    assert_eq!(proxy.connections(), 2);
}

/// That the server enforced it proves that nothing was written.
#[scenario]
async fn on_the_callers_connection_what_was_read_is_undone_for_certain() {
    let bed = Bed::new();
    let proxy = losing_an_answer(&bed);
    let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
    let report = Runner::default()
        .operation("read")
        .read_only()
        .fallback(0)
        .run_report(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    let error = report.result.expect_err("no fallback value hides it");
    assert!(!is_unknown(&error), "{error}");
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.stop, StopReason::NeedsConnection);
    assert_eq!(depth(&mut conn), None);
}

#[scenario]
async fn on_the_callers_connection_nobody_knows() {
    for idempotent in [false, true] {
        let bed = Bed::new();
        let proxy = losing_an_answer(&bed);
        let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
        let bodies = AtomicU32::new(0);
        let log = Capture::new();
        let runner = Runner::default().with_logger(log.clone());
        let operation = runner.operation("pay");
        let operation = if idempotent {
            operation.idempotent()
        } else {
            operation
        };
        let report = operation
            .run_report(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            })
            .await;
        let error = report.result.expect_err("nobody knows");
        assert!(is_unknown(&error), "{error}");
        let cause = |own: &dbop_diesel::Error| own.source().is_some();
        assert!(error.dbop_error().is_some_and(cause), "with Diesel's error");
        assert_eq!(report.outcome, Outcome::Unknown);
        assert_eq!(report.stop, StopReason::OutcomeUnknown);
        assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
        assert_eq!(log.levels(), [Level::Error]);
        let keys = &log.records()[0].keys;
        assert_eq!(keys["phase"], "commit");
        assert_eq!(keys["class"], "connection_lost");
        assert_eq!(keys["mode"], MODE);
        assert_eq!(bed.balances()[0], (1, 110), "nobody but us");
        assert_eq!(depth(&mut conn), None);
        let next: QueryResult<()> = runner.run(&mut conn, async |_: &mut Conn| Ok(())).await;
        assert!(matches!(next, Err(Error::BrokenTransactionManager)));
        let bare: QueryResult<()> = conn.transaction(async |_: &mut Conn| Ok(())).await;
        assert!(matches!(bare, Err(Error::BrokenTransactionManager)));
    }
}

#[scenario]
async fn no_fallback_value_hides_that_nobody_knows() {
    let bed = Bed::new();
    let proxy = losing_an_answer(&bed);
    let report = Runner::default()
        .operation("pay")
        .fallback(0)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert_unknown(&report);
}

/// A service that tells its users.
#[derive(Debug, thiserror::Error)]
enum Payment {
    #[error("database")]
    Database(#[from] Error),
    #[error("perhaps paid")]
    Perhaps(#[source] dbop_diesel::Error),
    #[error("dbop")]
    Dbop(#[source] dbop_diesel::Error),
}

impl OperationError for Payment {
    fn diesel_error(&self) -> Option<&Error> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }

    fn from_dbop(error: dbop_diesel::Error) -> Self {
        if error.is_outcome_unknown() {
            Self::Perhaps(error)
        } else {
            Self::Dbop(error)
        }
    }

    fn dbop_error(&self) -> Option<&dbop_diesel::Error> {
        match self {
            Self::Perhaps(error) | Self::Dbop(error) => Some(error),
            Self::Database(_) => None,
        }
    }
}

#[scenario]
async fn an_application_can_have_a_variant_of_its_own_for_it() {
    let bed = Bed::new();
    let proxy = losing_an_answer(&bed);
    let result: Result<usize, Payment> = Runner::default()
        .run_on(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| Ok(add(conn, 1, 10).await?),
        )
        .await;
    assert!(matches!(result, Err(Payment::Perhaps(_))), "{result:?}");
}

/// The connection is closed where it was lost, and the commit's own error is in the story.
#[scenario]
async fn that_it_was_found_to_be_there_is_told() {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let proxy = losing_an_answer(&bed);
    let (ledger, log) = (Ledger::new(), Capture::new());
    let report = Runner::default()
        .with_logger(log.clone())
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.failures.len(), 1);
    assert!(report.failures[0].fault.is_some());
    let records = log.records();
    assert_eq!(records.len(), 2);
    let asking = "pay: attempt 1: connection_lost";
    assert!(records[0].text.starts_with(asking), "{}", records[0].text);
    let unknown = "unknown whether it was committed, asking in ";
    assert!(records[0].text.contains(unknown), "{}", records[0].text);
    assert!(records[0].keys.contains_key("delay_ms"));
    assert_eq!(
        records[1].text,
        "pay: attempt 1: commit confirmed after its answer was lost"
    );
    assert_eq!(proxy.connections(), 2);
}
