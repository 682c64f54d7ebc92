//! The ledger finds out what nobody else can: that the operation had committed implicitly, with or
//! without the rest of it.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Ledger, Outcome, StopReason};
use dbop_tests::InstantClock;
use dbop_tests::proxy::{Cut, Proxy, When};

use super::lost_commit::is_unknown;
use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, backend, scenario};

/// TRUNCATE commits what went before, with the token. Then the connection is lost, long before
/// COMMIT.
#[scenario]
async fn what_was_committed_implicitly_and_then_lost_is_not_called_undone() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("CREATE TABLE other (n INT)")
        .await
        .expect("a table");
    conn.batch_execute(Ledger::create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::statement("UPDATE").nth(2), Cut::BeforeSent);
    let ledger = Ledger::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("truncate")
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await?;
                conn.batch_execute("TRUNCATE other").await?;
                add(conn, 2, 10).await
            },
        )
        .await;
    assert!(is_unknown(&report.result.expect_err("half of it is there")));
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
    assert_eq!(bodies.into_inner(), 1, "not done again");
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}

/// That the token is there is recognised in every language.
#[scenario]
async fn whatever_language_the_server_speaks() {
    for language in ["de_DE", "fr_FR", "ja_JP", "ru_RU", "el_GR"] {
        for done in [true, false] {
            let bed = Bed::new();
            let mut conn = bed.connect();
            conn.batch_execute("CREATE TABLE other (n INT)")
                .await
                .expect("a table");
            conn.batch_execute(Ledger::create_table(backend::DIALECT))
                .await
                .expect("a new table");
            let proxy = Proxy::start(bed.url());
            _ = if done {
                proxy.cut(When::commit(), Cut::AnswerLost)
            } else {
                proxy.cut(When::statement("UPDATE").nth(2), Cut::BeforeSent)
            };
            let ledger = Ledger::new();
            let report = Runner::default()
                .with_clock(InstantClock::new())
                .operation("pay")
                .ledger(&ledger)
                .run_on_report(
                    &async || {
                        let mut conn = Conn::establish(proxy.url()).await?;
                        let speak = format!("SET lc_messages = '{language}'");
                        conn.batch_execute(&speak).await.expect("a language");
                        diesel::ConnectionResult::Ok(conn)
                    },
                    async |conn: &mut Conn| {
                        add(conn, 1, 10).await?;
                        if !done {
                            conn.batch_execute("TRUNCATE other").await?;
                        }
                        add(conn, 2, 10).await
                    },
                )
                .await;
            let outcome = if done {
                Outcome::Committed
            } else {
                Outcome::Unknown
            };
            assert_eq!(report.outcome, outcome, "{language}: {:?}", report.result);
            assert_eq!(bed.balances()[0], (1, 110));
        }
    }
}

/// The same, and then the answer to COMMIT is lost, which the server has refused: the token is there,
/// and the second half is not.
#[scenario]
async fn what_was_committed_implicitly_is_not_the_whole() {
    for cut in [Cut::AnswerLost, Cut::BeforeSent] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        conn.batch_execute("CREATE TABLE other (n INT)")
            .await
            .expect("a table");
        conn.batch_execute(Ledger::create_table(backend::DIALECT))
            .await
            .expect("a new table");
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), cut);
        let ledger = Ledger::new();
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .operation("truncate")
            .ledger(&ledger)
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await?;
                    conn.batch_execute("TRUNCATE other").await?;
                    add(conn, 2, 10).await
                },
            )
            .await;
        assert!(is_unknown(&report.result.expect_err("half of it is there")));
        assert_eq!(report.outcome, Outcome::Unknown);
        assert_eq!(bodies.into_inner(), 1, "not done again");
        assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
    }
}
