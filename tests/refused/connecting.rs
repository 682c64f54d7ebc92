//! What an operation makes of a server that refuses it, on each kind of source.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use dbop_diesel::{FaultClass, Outcome, Report, StopReason};
use dbop_tests::{InstantClock, Meanwhile, Number};
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;

use super::{Conn, RunQueryDsl as _, Runner, SOURCE_TRIES_AGAIN, backend, helper, impatient};
use crate::everywhere::{Expected, Happens};

#[helper]
async fn execute(conn: &mut Conn, sql: &str) -> QueryResult<usize> {
    sql_query(sql).execute(conn).await
}

/// What has failed is what was expected, each time.
fn assert_expected(report: &Report<usize, Error>, expected: &Expected) {
    assert!(!report.failures.is_empty(), "{expected:?}: {report:?}");
    for failure in &report.failures {
        let fault = failure.fault.expect("of the database");
        assert_eq!(fault.class(), expected.class, "{expected:?}: {report:?}");
        if !expected.code.is_empty() {
            let code = fault.code().map(|code| code.to_string());
            assert_eq!(code.as_deref(), Some(expected.code), "{report:?}");
        }
    }
}

/// There is no hurry: it takes its time until a server is there again.
fn assert_slow(slept: &[Duration]) {
    let slow = Duration::from_millis(500)..=Duration::from_secs(1);
    assert!(slept.iter().all(|delay| slow.contains(delay)), "{slept:?}");
}

/// A refusal is final after one attempt if no other attempt changes it, and retried if time does.
#[helper]
pub(crate) async fn it_is_judged(expected: Expected) {
    let is_final = expected.class == FaultClass::Permanent;
    // A pool that tries again by itself takes its time for each attempt.
    let retries = if SOURCE_TRIES_AGAIN { 0 } else { 2 };
    let clock = InstantClock::new();
    let report: Report<usize, Error> = Runner::default()
        .with_clock(clock.clone())
        .operation("refused")
        .max_retries(if is_final { 5 } else { retries })
        .run_on_report(&impatient(&expected.url), async |conn: &mut Conn| {
            execute(conn, "SELECT 1").await
        })
        .await;
    assert!(report.result.is_err(), "{expected:?} lets everybody in");
    assert_expected(&report, &expected);
    assert_eq!(report.outcome, Outcome::Undone);
    let stop = (report.stop, report.attempts);
    if is_final {
        assert_eq!(stop, (StopReason::NotRetryable, 1), "{expected:?}");
    } else {
        assert_eq!(stop, (StopReason::RetriesExhausted, retries + 1));
    }
    assert_eq!(clock.slept().len() + 1, report.attempts as usize);
    assert_slow(&clock.slept());
}

/// The server lets the operation in after something has happened, here in the second delay.
#[helper]
pub(crate) async fn it_is_let_in_when(expected: Expected, happens: Happens) {
    let clock = Meanwhile::new(move |sleep| {
        if sleep == 2 {
            happens();
        }
    });
    let report: Report<usize, Error> = Runner::default()
        .with_clock(clock.clone())
        .run_on_report(&impatient(&expected.url), async |conn: &mut Conn| {
            execute(conn, "SELECT 1").await
        })
        .await;
    assert!(report.result.is_ok(), "{expected:?}: {report:?}");
    assert_expected(&report, &expected);
    assert_eq!((report.attempts, report.outcome), (3, Outcome::Committed));
    assert_slow(&clock.slept());
}

/// A server that takes no writes is left for another connection, which is one that does after
/// something has happened. If nothing does, the next one is left as well.
#[helper]
pub(crate) async fn another_one_is_tried(expected: Expected, happens: Option<Happens>) {
    let ends_well = happens.is_some();
    let clock = Meanwhile::new(move |_| happens.iter().for_each(|happens| happens()));
    let sessions = Mutex::new(BTreeSet::new());
    let report: Report<usize, Error> = Runner::default()
        .with_clock(clock.clone())
        .operation("write")
        .max_retries(1)
        .run_on_report(&impatient(&expected.url), async |conn: &mut Conn| {
            let session: Number = sql_query(backend::SESSION_ID).get_result(conn).await?;
            sessions.lock().expect("no panic").insert(session.n);
            execute(conn, "INSERT INTO written (n) VALUES (1)").await
        })
        .await;
    assert_expected(&report, &expected);
    assert_eq!(report.attempts, 2, "{expected:?}: {report:?}");
    let sessions = sessions.into_inner().expect("no panic");
    assert_eq!(sessions.len(), 2, "one for each attempt");
    assert_slow(&clock.slept());
    if ends_well {
        assert_eq!(report.result, Ok(1), "{expected:?}");
        assert_eq!(report.outcome, Outcome::Committed);
    } else {
        assert_eq!(report.outcome, Outcome::Undone, "{expected:?}");
        assert_eq!(report.stop, StopReason::RetriesExhausted);
    }
}
