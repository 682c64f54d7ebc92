//! What an application raises by SIGNAL with the text of a fault. The server keeps the number, which
//! tells it from the fault itself. (MySQL does not prepare a SIGNAL, so it is sent as text.)

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Code, FaultClass, OperationError as _, Outcome, StopReason};
use dbop_tests::InstantClock;
use diesel::QueryResult;

use super::money::add;
use super::{Bed, Conn, Runner, SimpleConnection as _, scenario};

const DEADLOCK: &str = "Deadlock found when trying to get lock; try restarting transaction";

const TEXTS: [&str; 3] = [
    DEADLOCK,
    "Record has changed since last read in table 't'",
    "Prepared statement needs to be re-prepared",
];

fn signal(text: &str) -> String {
    format!(
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{}'",
        text.replace('\'', "''")
    )
}

#[scenario]
async fn the_text_of_a_fault_that_an_application_raises_is_not_retried() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for text in TEXTS {
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .run_report(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await?;
                conn.batch_execute(&signal(text)).await
            })
            .await;
        assert_eq!(bodies.into_inner(), 1, "{text}");
        assert_eq!(report.result.expect_err("raised").to_string(), text);
        assert_eq!(
            (report.stop, report.outcome),
            (StopReason::NotRetryable, Outcome::Undone),
            "{text}"
        );
        let fault = report.failures[0].fault.expect("a fault");
        assert_eq!(fault.code(), Some(Code::Errno(1644)), "{text}");
        assert_eq!(fault.class(), FaultClass::Permanent, "{text}");
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn nor_in_a_step() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            let step: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    inner.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await?;
                    conn.batch_execute(&signal(DEADLOCK)).await
                })
                .await;
            assert_eq!(step.expect_err("raised").to_string(), DEADLOCK);
            // The transaction around the step is as it was.
            add(conn, 2, 7).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!((outer.into_inner(), inner.into_inner()), (1, 1));
    assert_eq!(bed.balances(), [(1, 100), (2, 107), (3, 100)]);
}

/// After its COMMIT the transaction is gone, as after a deadlock.
#[scenario]
async fn a_procedure_that_commits_and_then_signals_is_not_done_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(&format!(
        "CREATE PROCEDURE pay() BEGIN \
         UPDATE accounts SET balance = balance + 10 WHERE id = 1; COMMIT; {}; END",
        signal(DEADLOCK)
    ))
    .await
    .expect("a procedure");
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            conn.batch_execute("CALL pay()").await
        })
        .await;
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(report.outcome, Outcome::Unknown);
    let error = report.result.expect_err("raised");
    let error = error.dbop_error().expect("dbop's own");
    assert!(error.is_outcome_unknown());
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}

/// Who names the number asks for what it means.
#[scenario]
async fn a_signal_with_the_number_of_a_deadlock_is_retried_like_one() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = Runner::default()
        .with_clock(InstantClock::new())
        .run(&mut conn, async |conn: &mut Conn| {
            let done = add(conn, 1, 10).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                let number = signal(DEADLOCK).replace("SET ", "SET MYSQL_ERRNO = 1213, ");
                conn.batch_execute(&number).await?;
            }
            Ok(done)
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}
