//! Errors in other languages than English: known by the hashes of their texts, and by the number that
//! the server keeps.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Code, FaultClass, Outcome, StopReason};
use dbop_tests::InstantClock;
use diesel::QueryResult;

use super::money::add;
use super::steps::{Winner, lose_deadlock};
use super::{Bed, Conn, Runner, SimpleConnection as _, helper, scenario};

const LANGUAGES: [&str; 6] = ["de_DE", "es_ES", "fr_FR", "it_IT", "ja_JP", "ru_RU"];

#[helper]
async fn speak(conn: &mut Conn, language: &str) {
    let speak = format!("SET lc_messages = '{language}'");
    conn.batch_execute(&speak).await.expect("a language");
}

#[scenario]
async fn a_deadlock_is_retried() {
    for language in LANGUAGES {
        for as_text in [false, true] {
            let bed = Bed::new();
            let mut conn = bed.connect();
            speak(&mut conn, language).await;
            let bodies = AtomicU32::new(0);
            let report = Runner::default()
                .with_clock(InstantClock::new())
                .run_report(&mut conn, async |conn: &mut Conn| -> QueryResult<()> {
                    add(conn, 1, 10).await?;
                    if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                        if as_text {
                            let winner = Winner::waiting(&bed);
                            let sql = "UPDATE accounts SET balance = 1 WHERE id = 2";
                            let lost = conn.batch_execute(sql).await;
                            winner.leave();
                            lost?;
                        } else {
                            lose_deadlock(conn, &bed).await?;
                        }
                    }
                    Ok(())
                })
                .await;
            assert_eq!(report.result, Ok(()), "{language}");
            assert_eq!((report.attempts, report.outcome), (2, Outcome::Committed));
            let fault = report.failures[0].fault.expect("a database error");
            assert_eq!(fault.class(), FaultClass::Deadlock, "{language}");
            assert_eq!(fault.code(), Some(Code::Errno(1213)), "{language}");
            assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
        }
    }
}

#[scenario]
async fn a_lock_that_does_not_come_in_time_is_retried() {
    for language in LANGUAGES {
        let bed = Bed::new();
        let mut conn = bed.connect();
        speak(&mut conn, language).await;
        let opponent = bed.opponent();
        opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .operation("wait")
            .lock_timeout(Duration::from_secs(1))
            .max_retries(1)
            .run_report(&mut conn, async |conn: &mut Conn| add(conn, 2, 10).await)
            .await;
        opponent.execute("ROLLBACK");
        assert_eq!(
            (report.attempts, report.stop),
            (2, StopReason::RetriesExhausted)
        );
        assert_eq!(report.outcome, Outcome::Undone, "{language}");
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::LockTimeout, "{language}");
        assert_eq!(fault.code(), Some(Code::Errno(1205)), "{language}");
    }
}

#[scenario]
async fn what_is_hopeless_is_tried_once() {
    for language in LANGUAGES {
        for (sql, errno, class) in [
            (
                "INSERT INTO accounts VALUES (1, 0)",
                1062,
                FaultClass::Constraint,
            ),
            ("SELECT nonsense FROM accounts", 1054, FaultClass::Permanent),
            ("SELEKT 1", 1064, FaultClass::Permanent),
        ] {
            let bed = Bed::new();
            let mut conn = bed.connect();
            speak(&mut conn, language).await;
            let report = Runner::default()
                .run_report(&mut conn, async |conn: &mut Conn| -> QueryResult<()> {
                    add(conn, 1, 10).await?;
                    conn.batch_execute(sql).await
                })
                .await;
            report.result.expect_err(sql);
            assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
            let fault = report.failures.last().and_then(|failure| failure.fault);
            let fault = fault.expect("a database error");
            assert_eq!(fault.class(), class, "{language}");
            // Where the kind in Diesel's error says enough, the server is not asked.
            let code = fault.code();
            let needs_none = class == FaultClass::Constraint && code.is_none();
            assert!(
                needs_none || code == Some(Code::Errno(errno)),
                "{language}: {code:?}"
            );
            assert_eq!(bed.balances()[0], (1, 100));
        }
    }
}

/// The body sends statements after the error, so that the server keeps another one, or none.
#[scenario]
async fn what_the_server_keeps_about_another_error_is_not_believed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    speak(&mut conn, "fr_FR").await;
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| -> QueryResult<()> {
            let first = conn.batch_execute("SELECT nonsense FROM accounts").await;
            let second = "INSERT INTO accounts VALUES (1, 0)";
            conn.batch_execute(second).await.expect_err("a duplicate");
            first
        })
        .await;
    report.result.expect_err("no such column");
    assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
    let fault = report.failures.last().and_then(|failure| failure.fault);
    assert_eq!(
        fault.expect("a database error").class(),
        FaultClass::Unknown
    );
}
