//! A statement like CREATE TABLE commits behind everybody's back, and so does a COMMIT in the
//! body. Such an operation is never reported as done, never tried again and never done twice; the
//! session is what it was.

use dbop_tests::{assert_unknown, is_unknown};
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Outcome, StopReason};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::add;
use super::steps::{assert_unchanged, session};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, depth, scenario};

const CREATE_TABLE: &str = "CREATE TABLE more (n INT)";

/// What is before the implicit commit is kept, what comes after it is not.
#[scenario]
async fn in_a_body_that_returns_ok_the_outcome_is_unknown() {
    for statement in [CREATE_TABLE, "COMMIT", "START TRANSACTION", "COMMIT; BEGIN"] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        let before = session(&mut conn).await;
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .run_report(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await?;
                conn.batch_execute(statement).await?;
                add(conn, 3, 10).await
            })
            .await;
        let error = report.result.expect_err("committed in between");
        assert!(is_unknown(&error), "{statement}: {error}");
        assert_eq!(report.outcome, Outcome::Unknown);
        assert_eq!(report.stop, StopReason::OutcomeUnknown);
        assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
        assert_eq!(
            bed.balances(),
            [(1, 110), (2, 100), (3, 100)],
            "{statement}"
        );
        assert_unchanged(&mut conn, &before).await;
        assert_eq!(add(&mut conn, 2, 1).await, Ok(1));
        assert_eq!(bed.balances()[1], (2, 101), "in autocommit again");
    }
}

#[scenario]
async fn in_a_body_that_fails_the_outcome_is_unknown_too() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .operation("create")
        .fallback(77)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            conn.batch_execute(CREATE_TABLE).await?;
            add(conn, 3, 10).await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_unknown(&report);
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}

/// What the savepoint is called that is not there is the same in every language.
#[scenario]
async fn whatever_language_the_server_speaks() {
    for language in ["fr_FR", "ja_JP", "ru_RU", "es_ES", "cs_CZ"] {
        let bodies = [
            "CREATE TABLE {}; SELECT nonsense",
            "CREATE TABLE {}; INSERT INTO accounts VALUES (1, 0)",
            "CREATE TABLE {}",
        ];
        for (number, body) in bodies.iter().enumerate() {
            let bed = Bed::new();
            let mut conn = bed.connect();
            let speak = format!("SET lc_messages = '{language}'");
            conn.batch_execute(&speak).await.expect("a language");
            let body = body.replace("{}", &format!("t{number}"));
            let report = Runner::default()
                .operation("create")
                .fallback(0)
                .run_report(&mut conn, async |conn: &mut Conn| {
                    let paid = add(conn, 1, 10).await?;
                    conn.batch_execute(&body).await?;
                    Ok::<_, Error>(paid)
                })
                .await;
            let error = report.result.expect_err("committed in between");
            assert!(is_unknown(&error), "{language}, {body}: {error}");
            assert_eq!(report.outcome, Outcome::Unknown);
            assert_eq!(bed.balances()[0], (1, 110));
        }
    }
}

#[scenario]
async fn in_a_step_the_outcome_of_the_whole_operation_is_unknown() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let before = session(&mut conn).await;
    let runner = Runner::default();
    let [outer, step] = [const { AtomicU32::new(0) }; 2];
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            let step: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    step.fetch_add(1, Ordering::Relaxed);
                    conn.batch_execute(CREATE_TABLE).await
                })
                .await;
            step.expect_err("its savepoint is gone");
            add(conn, 3, 10).await
        })
        .await;
    assert_unknown(&report);
    assert_eq!([outer, step].map(AtomicU32::into_inner), [1, 1]);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
    assert_unchanged(&mut conn, &before).await;
}

#[scenario]
async fn in_the_callers_transaction_the_caller_gets_no_ok() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step = runner
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    conn.batch_execute(CREATE_TABLE).await
                })
                .await;
            assert_eq!(step.outcome, Outcome::Unknown);
            step.result.expect_err("its savepoint is gone");
            add(conn, 3, 10).await
        })
        .await;
    assert!(
        matches!(result, Err(Error::BrokenTransactionManager)),
        "{result:?}"
    );
    assert_eq!(depth(&mut conn), None);
    assert_eq!(bodies.into_inner(), 1);
    drop(conn);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}
