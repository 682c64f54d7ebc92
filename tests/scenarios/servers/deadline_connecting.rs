//! The deadline holds while there is no server, too.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{OperationError as _, Outcome, StopReason};
use dbop_tests::Meanwhile;
use dbop_tests::proxy::Proxy;

use super::money::add;
use super::settings::deadline::POLICY;
use super::{Bed, Conn, Connection as _, Runner, scenario};

#[scenario]
async fn a_server_that_is_down_is_waited_for_no_longer() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    proxy.refuse(true);
    let clock = Meanwhile::new(|_| {});
    let bodies = AtomicU32::new(0);
    let deadline = Duration::from_secs(100);
    let report = Runner::new(POLICY.with_max_retries(50))
        .with_clock(clock.clone())
        .operation("pay")
        .deadline(deadline)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_eq!(bodies.into_inner(), 0);
    assert_eq!(
        (report.stop, report.outcome),
        (StopReason::DeadlineExceeded, Outcome::Undone)
    );
    let error = report.result.expect_err("no server");
    assert!(
        error.dbop_error().is_some_and(|own| own.is_no_connection()),
        "{error}"
    );
    let slept: Duration = clock.slept().iter().sum();
    assert!(slept < deadline, "{slept:?}");
    assert!(report.attempts >= 2, "it was worth another try");
}

/// Two retries, a minute between two attempts, and a thousand seconds.
#[scenario]
async fn a_deadline_and_not_the_number_of_retries_says_how_long_it_is_waited_for() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    proxy.refuse(true);
    let clock = Meanwhile::new(|_| {});
    let policy = POLICY.with_max_retries(2);
    let runner = Runner::new(policy).with_clock(clock.clone());
    let operation = runner.operation("pay");
    let source = async || Conn::establish(proxy.url()).await;
    let waits = operation
        .deadline(Duration::from_secs(1000))
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(waits.stop, StopReason::DeadlineExceeded);
    let slept: Duration = clock.slept().iter().sum();
    assert!(slept > Duration::from_secs(900), "{slept:?}");
    assert_eq!(bed.balances()[0], (1, 100));
    let counts = operation
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(
        (counts.stop, counts.attempts),
        (StopReason::RetriesExhausted, 3)
    );
}

#[scenario]
async fn a_server_that_comes_back_in_time_is_used() {
    let bed = Bed::new();
    let proxy = std::sync::Arc::new(Proxy::start(bed.url()));
    proxy.refuse(true);
    let clock = {
        let proxy = std::sync::Arc::clone(&proxy);
        Meanwhile::new(move |number| {
            if number == 2 {
                proxy.refuse(false);
            }
        })
    };
    let report = Runner::new(POLICY)
        .with_clock(clock.clone())
        .operation("pay")
        .deadline(Duration::from_secs(1000))
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, clock.slept().len()), (3, 2));
    assert_eq!(bed.balances()[0], (1, 110));
}
