//! What only PostgreSQL's connections and constraints make of a lost connection.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Ledger, Outcome, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, blocking, is_unknown};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

use super::money::{add, balance};
use super::{
    Bed, Conn, Connection as _, Runner, SimpleConnection as _, backend, scenario, together,
};

/// libpq knows that it had no connection any more when it was to send COMMIT, even where Diesel has
/// not noticed: that is undone for certain. What diesel-async says could also come from a COMMIT on
/// its way.
#[scenario]
async fn a_commit_that_libpq_could_not_send_is_undone_and_done_again() {
    for when in [When::statement("UPDATE").nth(2), When::prepared("SELECT")] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(when.clone(), Cut::BeforeSent);
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    _ = add(conn, 1, 10).await;
                    _ = add(conn, 1, 10).await;
                    _ = balance(conn, 1).await;
                    QueryResult::Ok("all is well")
                },
            )
            .await;
        if super::LOSS_IS_NOTICED {
            assert_eq!(report.result, Ok("all is well"), "{when:?}");
            assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
            assert_eq!(bed.balances()[0], (1, 120), "{when:?}");
        } else {
            let error = report.result.expect_err("nobody knows");
            assert!(is_unknown(&error), "{when:?}: {error}");
            assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
            assert_eq!(bed.balances()[0], (1, 100), "{when:?}");
        }
    }
}

/// The server has refused to commit. What becomes of the ROLLBACK after that changes nothing.
#[scenario]
async fn a_refused_commit_is_undone_also_if_its_rollback_is_lost() {
    for cut in [Cut::BeforeSent, Cut::AnswerLost] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        conn.batch_execute("CREATE TABLE tokens (n INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            .await
            .expect("a new table");
        let proxy = Proxy::start(bed.url());
        let planned = proxy.cut(When::statement("ROLLBACK"), cut);
        let report = Runner::default()
            .operation("twice")
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    add(conn, 1, 10).await?;
                    conn.batch_execute("INSERT INTO tokens VALUES (1), (1)")
                        .await
                },
            )
            .await;
        assert_eq!(planned.reached(), 1);
        let error = report.result.expect_err("a duplicate");
        let is_duplicate = matches!(
            error,
            Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)
        );
        assert!(is_duplicate, "{error:?}");
        assert_eq!(
            (report.outcome, report.stop, report.attempts),
            (Outcome::Undone, StopReason::NotRetryable, 1)
        );
        assert_eq!(bed.balances()[0], (1, 100));
    }
}

/// The answer that was lost was an error: the next attempt gets it.
#[scenario]
async fn the_lost_answer_of_a_violated_constraint_is_given_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("CREATE TABLE tokens (n INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        .await
        .expect("a new table");
    conn.batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let ledger = Ledger::new();
    let report = Runner::default()
        .operation("take")
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                conn.batch_execute("INSERT INTO tokens VALUES (7), (7)")
                    .await
            },
        )
        .await;
    assert!(matches!(
        report.result,
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
    ));
    assert_eq!(report.attempts, 2);
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bed.balances()[0], (1, 100));
}

/// These options find a dead peer. A server that takes its time is none.
#[scenario]
async fn keepalives_and_tcp_user_timeout_do_not_take_a_slow_answer_for_a_lost_one() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let planned = proxy.cut(When::commit(), Cut::StallAnswer);
    // libpq counts the last one in milliseconds, tokio-postgres in seconds.
    let user_timeout = if super::LOSS_IS_NOTICED { 1000 } else { 1 };
    let url = format!(
        "{}&keepalives=1&keepalives_idle=1&keepalives_interval=1&tcp_user_timeout={user_timeout}",
        proxy.url()
    );
    let runner = Runner::default();
    let (result, ()) = together(
        async || {
            runner
                .run_on(
                    &async || Conn::establish(&url).await,
                    async |conn: &mut Conn| add(conn, 1, 10).await,
                )
                .await
        },
        async || {
            blocking(|| {
                planned.wait_until_reached();
                // As long as the options need, twice.
                std::thread::sleep(Duration::from_secs(3));
            });
            proxy.resume();
        },
    )
    .await;
    assert_eq!(result, Ok(1));
    assert_eq!(proxy.connections(), 1);
    assert_eq!(bed.balances()[0], (1, 110));
}
