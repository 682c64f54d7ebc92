//! The connection is lost before COMMIT is under way. What was not committed is certainly undone,
//! and a source of connections has another one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Dialect, Ledger, Outcome, StopReason};
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use dbop_tests::{InstantClock, Meanwhile, assert_unknown, blocking, eventually, is_unknown};
use diesel::QueryResult;

use super::LOSS_IS_NOTICED;

use super::money::{add, balance};
use super::{
    Bed, Conn, Connection as _, Runner, SimpleConnection as _, backend, scenario, together,
};

const BEGIN: &str = match backend::DIALECT {
    Dialect::Mysql => "START TRANSACTION",
    _ => "BEGIN",
};

#[scenario]
async fn in_a_statement_everything_is_done_again_on_a_fresh_connection() {
    for cut in [Cut::BeforeSent, Cut::AnswerLost, Cut::HalfClose] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::statement("UPDATE").nth(2), cut);
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, -10).await?;
                    add(conn, 2, 10).await
                },
            )
            .await;
        assert_eq!(report.result, Ok(1), "{cut:?}");
        assert_eq!(report.outcome, Outcome::Committed);
        assert_eq!((report.attempts, bodies.into_inner()), (2, 2), "{cut:?}");
        assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)], "{cut:?}");
        assert_eq!(proxy.connections(), 2, "{cut:?}");
    }
}

/// The statement waits for a lock when the connection is closed.
#[scenario]
async fn in_the_middle_of_a_statement_everything_is_done_again() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
    let proxy = Proxy::start(bed.url());
    let soon = Until::Passed(Duration::from_millis(50));
    let cut = proxy.cut(When::statement("UPDATE").nth(2), Cut::MidStatement(soon));
    let clock = Meanwhile::new(move |_| opponent.execute("COMMIT"));
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, -10).await?;
                add(conn, 2, 10).await
            },
        )
        .await;
    assert_eq!(cut.reached(), 1);
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    assert_eq!(bed.balances(), [(1, 90), (2, 1110), (3, 100)]);
}

#[scenario]
async fn in_begin_the_operation_is_begun_on_a_fresh_connection() {
    for cut in [Cut::BeforeSent, Cut::AnswerLost] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::statement(BEGIN), cut);
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                },
            )
            .await;
        assert_eq!(report.result, Ok(1), "{cut:?}");
        assert_eq!((report.attempts, bodies.into_inner()), (2, 1), "{cut:?}");
        assert_eq!(bed.balances()[0], (1, 110), "{cut:?}");
        assert_eq!(proxy.cuts_made(), 1);
    }
}

/// The first error is that of the operation, and the connection is not used any more.
#[scenario]
async fn in_rollback_it_is_undone_and_the_error_is_the_first_one() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::statement("ROLLBACK"), Cut::AnswerLost);
    let report = Runner::default()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                Err::<(), _>(diesel::result::Error::NotFound)
            },
        )
        .await;
    assert_eq!(report.result, Err(diesel::result::Error::NotFound));
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.stop, StopReason::OwnError);
    assert!(report.failures[0].rollback_error.is_some(), "attached");
    assert_eq!(bed.balances()[0], (1, 100));
}

/// Whether COMMIT got to a connection that had been closed before, no client can tell: the system
/// takes it and finds out later.
#[scenario]
async fn between_the_last_statement_and_commit_nobody_knows() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                let result = add(conn, 1, 10).await;
                blocking(|| proxy.cut_all());
                result
            },
        )
        .await;
    assert_unknown(&report);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(bed.balances()[0], (1, 100));
}

/// An operation that hides it from the runner. Then COMMIT was never sent: where that is known, it
/// is done again.
#[scenario]
async fn swallowed_by_the_operation_it_is_never_a_success() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::statement("UPDATE"), Cut::BeforeSent);
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                _ = add(conn, 1, 10).await;
                QueryResult::Ok(1)
            },
        )
        .await;
    if LOSS_IS_NOTICED {
        assert_eq!(report.result, Ok(1));
        assert_eq!(report.outcome, Outcome::Committed);
        assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
        assert_eq!(bed.balances()[0], (1, 110));
    } else {
        assert_unknown(&report);
        assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
        assert_eq!(bed.balances()[0], (1, 100));
    }
}

/// A wire on which nothing moves for a while is not a lost connection.
#[scenario]
async fn an_answer_that_takes_its_time_is_waited_for() {
    for when in [When::commit(), When::statement("UPDATE")] {
        for cut in [Cut::Stall, Cut::StallAnswer] {
            let bed = Bed::new();
            let proxy = Proxy::start(bed.url());
            let planned = proxy.cut(when.clone(), cut);
            let bodies = AtomicU32::new(0);
            let runner = Runner::default();
            let (report, ()) = together(
                async || {
                    runner
                        .run_on_report(
                            &async || Conn::establish(proxy.url()).await,
                            async |conn: &mut Conn| {
                                bodies.fetch_add(1, Ordering::Relaxed);
                                add(conn, 1, 10).await
                            },
                        )
                        .await
                },
                async || {
                    blocking(|| planned.wait_until_reached());
                    proxy.resume();
                },
            )
            .await;
            assert_eq!(report.result, Ok(1), "{cut:?}");
            assert_eq!((report.attempts, bodies.load(Ordering::Relaxed)), (1, 1));
            assert_eq!(bed.balances()[0], (1, 110), "{cut:?}");
        }
    }
}

/// A wire on which nothing moves, and which is cut in the end: the client saw the same whether the
/// server has got COMMIT or not.
#[scenario]
async fn a_commit_that_stalls_and_is_lost_is_unknown_and_the_ledger_knows() {
    for (cut, resets) in [
        (Cut::Stall, false),
        (Cut::Stall, true),
        (Cut::StallAnswer, false),
        (Cut::StallAnswer, true),
    ] {
        for has_ledger in [false, true] {
            let bed = Bed::new();
            bed.connect()
                .batch_execute(&Ledger::new().create_table(backend::DIALECT))
                .await
                .expect("a new table");
            let proxy = Proxy::start(bed.url());
            let planned = proxy.cut(When::commit(), cut);
            let (bodies, ledger) = (AtomicU32::new(0), Ledger::new());
            let runner = Runner::default().with_clock(InstantClock::new());
            let (report, ()) = together(
                async || {
                    let operation = runner.operation("pay");
                    let source = async || Conn::establish(proxy.url()).await;
                    let body = async |conn: &mut Conn| {
                        bodies.fetch_add(1, Ordering::Relaxed);
                        add(conn, 1, 10).await
                    };
                    if has_ledger {
                        operation.ledger(&ledger).run_on_report(&source, body).await
                    } else {
                        operation.run_on_report(&source, body).await
                    }
                },
                async || {
                    blocking(|| planned.wait_until_reached());
                    if cut == Cut::StallAnswer {
                        eventually("it is committed", || bed.balances()[0] == (1, 110));
                    }
                    proxy.reset_connections(resets);
                    blocking(|| proxy.cut_all());
                    proxy.resume();
                },
            )
            .await;
            let what = format!("{cut:?}, {resets}, {has_ledger}");
            let is_there = cut == Cut::StallAnswer;
            if has_ledger {
                assert_eq!(report.result, Ok(1), "{what}");
                assert_eq!(report.attempts, if is_there { 1 } else { 2 }, "{what}");
                assert_eq!(bed.balances()[0], (1, 110), "{what}");
            } else {
                let error = report.result.expect_err("nobody knows");
                assert!(is_unknown(&error), "{what}: {error}");
                let balance = if is_there { 110 } else { 100 };
                assert_eq!(bed.balances()[0], (1, balance), "{what}");
                assert_eq!(bodies.load(Ordering::Relaxed), 1, "{what}");
            }
        }
    }
}

/// Only what is sent is cut off, so what was committed can be read by others.
#[scenario]
async fn an_answer_that_is_cut_off_is_a_lost_one() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::HalfClose);
    let result = Runner::default()
        .operation("pay")
        .verify(async |conn: &mut Conn| Ok(balance(conn, 1).await? == 110))
        .run_on(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances()[0], (1, 110));
}
