//! A server that says nothing any more is waited for until the deadline, or a little longer.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel_async::{OperationError as _, Outcome, Runner, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::server_url;
use diesel::{QueryResult, sql_query};
use diesel_async::{AsyncConnection as _, RunQueryDsl as _};

use super::money::add;
use super::{Bed, Conn, run};

#[test]
fn a_login_that_is_never_answered_ends_with_it() {
    run(async {
        // The system accepts for whoever listens; nobody reads.
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = silent.local_addr().expect("an address");
        let url = server_url();
        let (user, rest) = url.split_once('@').expect("a user in the URL");
        let (_, database) = rest.split_once('/').expect("a database in the URL");
        let url = format!("{user}@{address}/{database}");
        let deadline = Duration::from_millis(300);
        let bodies = AtomicU32::new(0);
        let started = Instant::now();
        let report = Runner::default()
            .operation("patient")
            .deadline(deadline)
            .run_on_report(
                &async || Conn::establish(&url).await,
                async |_: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    QueryResult::Ok(())
                },
            )
            .await;
        let took = started.elapsed();
        assert!(
            took >= deadline && took < Duration::from_secs(8),
            "{took:?}"
        );
        let error = report.result.expect_err("no connection");
        let own = error.dbop_error().expect("of dbop's own");
        assert!(own.is_no_connection(), "{own}");
        assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
        assert_eq!(bodies.into_inner(), 0);
    });
}

const DEADLINE: Duration = Duration::from_millis(700);
const GRACE: Duration = Duration::from_millis(300);

/// What became of a payment in which nothing moves any more from there on.
async fn pay_until(when: When) -> Outcome {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let stalled = proxy.cut(when, Cut::Stall);
    let started = Instant::now();
    let runner = Runner::default().with_grace_period(GRACE);
    let report = runner
        .operation("pay")
        .deadline(DEADLINE)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    let took = started.elapsed();
    assert!(
        took >= DEADLINE + GRACE && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert_eq!((stalled.reached(), report.attempts), (1, 1));
    report.result.expect_err("it was not answered");
    let stop = match report.outcome {
        Outcome::Unknown => StopReason::OutcomeUnknown,
        _ => StopReason::DeadlineExceeded,
    };
    assert_eq!(report.stop, stop);
    report.outcome
}

#[test]
fn what_is_never_answered_is_cut_off_after_the_grace_period() {
    run(async {
        for (when, outcome) in [
            (When::statement("UPDATE"), Outcome::Undone),
            (When::prepared("UPDATE"), Outcome::Undone),
            (When::commit(), Outcome::Unknown),
        ] {
            assert_eq!(pay_until(when.clone()).await, outcome, "{when:?}");
        }
    });
}

/// What became of its COMMIT is not known, and the look for it is not answered.
#[test]
fn a_look_that_is_never_answered_is_cut_off_as_well() {
    run(async {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        let lost = proxy.cut(When::commit(), Cut::AnswerLost);
        let stalled = proxy.cut(When::prepared("4711"), Cut::Stall);
        let started = Instant::now();
        let runner = Runner::default().with_grace_period(GRACE);
        let report = runner
            .operation("pay")
            .deadline(DEADLINE)
            .verify(async |conn: &mut Conn| {
                let looked = sql_query("SELECT 4711").execute(conn).await;
                looked.map(|_| true)
            })
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| add(conn, 1, 10).await,
            )
            .await;
        let took = started.elapsed();
        assert!(
            took >= DEADLINE + GRACE && took < Duration::from_secs(5),
            "{took:?}"
        );
        assert_eq!((lost.reached(), stalled.reached()), (1, 1));
        report.result.expect_err("nothing is known");
        assert_eq!((report.outcome, report.attempts), (Outcome::Unknown, 1));
    });
}
