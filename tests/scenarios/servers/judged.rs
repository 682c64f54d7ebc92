//! What the user calls an error does not change what has happened: a COMMIT whose answer was lost is
//! still unknown, and a connection that broke is still replaced.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Outcome, Seen};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{Capture, InstantClock, assert_unknown};
use log::Level;

use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, scenario};

/// Calls everything a deadlock.
fn deadlock(_: &Seen<'_>) -> Option<FaultClass> {
    Some(FaultClass::Deadlock)
}

#[scenario]
async fn a_lost_answer_to_commit_is_unknown_whatever_it_is_called() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let (bodies, log) = (AtomicU32::new(0), Capture::new());
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .with_logger(log.clone())
        .with_classifier(deadlock)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_unknown(&report);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(log.levels(), [Level::Error]);
    assert_eq!(log.records()[0].keys["class"], "deadlock");
    assert_eq!(log.records()[0].keys["recognized"], "connection_lost");
    assert_eq!(bed.balances()[0], (1, 110), "done once");
}

#[scenario]
async fn a_connection_that_broke_is_replaced_whatever_it_is_called() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::statement("UPDATE"), Cut::AnswerLost);
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .with_classifier(deadlock)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::Deadlock);
    assert_eq!(fault.recognized_class(), FaultClass::ConnectionLost);
    assert_eq!(proxy.connections(), 2);
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn a_loss_that_is_excluded_is_not_retried() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::statement("UPDATE"), Cut::AnswerLost);
    let runner = Runner::default().with_clock(InstantClock::new());
    let report = runner
        .operation("add")
        .never_retry_on(FaultClass::ConnectionLost)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert!(report.result.is_err());
    assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
    assert_eq!(proxy.connections(), 1);
    assert_eq!(bed.balances()[0], (1, 100));
}
