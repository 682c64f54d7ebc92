//! Without a transaction: what is on the wire, and what a lost answer leads to.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Outcome, StopReason};
use dbop_tests::InstantClock;
use dbop_tests::proxy::{Cut, Proxy, When};
use diesel::QueryResult;

use super::money::{add, balance, set};
use super::proxy::through;
use super::{Bed, Conn, Connection as _, Runner, scenario};

/// The read is in the client's cache, so it does not have to be prepared. Diesel caches no UPDATE.
#[scenario]
async fn one_statement_is_what_it_is_without_dbop() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let taken = || {
        let count = proxy.round_trips();
        proxy.reset();
        count
    };
    let runner = Runner::default();
    let plain = runner.operation("read").without_transaction().read_only();
    balance(&mut conn, 1).await.expect("there");
    set(&mut conn, 1, 1).await.expect("there");
    taken();
    balance(&mut conn, 1).await.expect("there");
    let bare = taken();
    let seen: QueryResult<i64> = plain
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert_eq!(seen, Ok(1));
    assert_eq!((taken(), bare), (1, 1));
    let failed: QueryResult<i64> = plain
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 99).await)
        .await;
    failed.expect_err("not there");
    assert_eq!(taken(), 1, "nothing is rolled back");
    set(&mut conn, 1, 2).await.expect("there");
    let bare = taken();
    let written: QueryResult<usize> = runner
        .operation("write")
        .without_transaction()
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 3).await)
        .await;
    assert_eq!(written, Ok(1));
    assert_eq!(taken(), bare);
}

/// It was done, and dbop does not know.
#[scenario]
async fn a_statement_whose_answer_was_lost_is_not_sent_again() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::statement("UPDATE"), Cut::AnswerLost);
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("plain")
        .without_transaction()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    report.result.expect_err("the statement's own error");
    assert_eq!(
        (report.outcome, report.stop),
        (Outcome::Unknown, StopReason::OutcomeUnknown)
    );
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(bed.balances()[0], (1, 110));
    assert_eq!(proxy.connections(), 1);
}

#[scenario]
async fn with_a_promise_it_is_sent_again_on_a_fresh_connection() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let runner = Runner::default().with_clock(InstantClock::new());
    let plain = runner.operation("plain").without_transaction();
    for cut in [Cut::BeforeSent, Cut::AnswerLost] {
        _ = proxy.cut(When::statement("UPDATE"), cut);
        let report = plain
            .idempotent()
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| set(conn, 1, 7).await,
            )
            .await;
        report.result.expect("the second time");
        assert_eq!((report.outcome, report.attempts), (Outcome::Committed, 2));
        _ = proxy.cut(When::statement("SELECT"), cut);
        let report = plain
            .read_only()
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| balance(conn, 1).await,
            )
            .await;
        assert_eq!(report.result, Ok(7));
        assert_eq!((report.outcome, report.attempts), (Outcome::Committed, 2));
    }
}
