//! Errors that would be the same again: one attempt each, whatever SQLSTATE they came with, and
//! the caller gets them as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use dbop_diesel::{Code, FaultClass, Outcome, StopReason};
use dbop_tests::InstantClock;
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::add;
use super::steps::session_id;
use super::{Bed, Conn, Connection as _, RunQueryDsl as _, Runner, SimpleConnection as _};
use super::{helper, scenario};

const TABLES: &str = "
    CREATE TABLE names (id INT PRIMARY KEY, name VARCHAR(3) NOT NULL);
    CREATE TABLE owned (account INTEGER NOT NULL, FOREIGN KEY (account) REFERENCES accounts (id));
    INSERT INTO owned VALUES (1)";

/// Statements, the numbers of their errors where dbop needs to know them, and their classes.
#[rustfmt::skip] // One row, one line.
const FAILING: &[(&str, Option<u16>, FaultClass)] = &[
    ("INSERT INTO accounts VALUES (1, 0)", Some(1062), FaultClass::Constraint),
    ("INSERT INTO owned VALUES (77)", Some(1452), FaultClass::Constraint),
    ("DELETE FROM accounts WHERE id = 1", Some(1451), FaultClass::Constraint),
    ("INSERT INTO names VALUES (1, NULL)", Some(1048), FaultClass::Constraint),
    ("INSERT INTO names (id) VALUES (1)", Some(1364), FaultClass::Constraint),
    ("SELEC 1", Some(1064), FaultClass::Permanent),
    ("SELECT * FROM nowhere", Some(1146), FaultClass::Permanent),
    ("SELECT nothing FROM accounts", Some(1054), FaultClass::Permanent),
    ("INSERT INTO names VALUES (1, 'too long')", Some(1406), FaultClass::Permanent),
    ("SELECT no_such_function(1)", Some(1305), FaultClass::Permanent),
    ("USE no_such_database", Some(1049), FaultClass::Permanent),
    ("SET no_such_variable = 1", Some(1193), FaultClass::Permanent),
    ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'", Some(1644), FaultClass::Permanent),
    ("SIGNAL SQLSTATE '40001' SET MESSAGE_TEXT = 'mine'", Some(1644), FaultClass::Permanent),
];

/// Has this statement fail after another one, prepared or as text, and says what became of it.
#[helper]
async fn fail(
    bed: &Bed,
    conn: &mut Conn,
    statement: &str,
    as_text: bool,
) -> (Option<Code>, FaultClass) {
    let bodies = AtomicU32::new(0);
    let clock = InstantClock::new();
    let report = Runner::default()
        .with_clock(clock.clone())
        .run_report(conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 3, 10).await?;
            if as_text {
                conn.batch_execute(statement).await?;
            } else {
                sql_query(statement).execute(conn).await?;
            }
            Ok(())
        })
        .await;
    let error = report.result.expect_err(statement);
    assert!(matches!(error, Error::DatabaseError(..)), "{error:?}");
    assert_eq!(report.stop, StopReason::NotRetryable, "{statement}");
    assert_eq!(report.outcome, Outcome::Undone, "{statement}");
    assert_eq!(
        (report.attempts, bodies.into_inner()),
        (1, 1),
        "{statement}"
    );
    assert!(clock.slept().is_empty(), "{statement}");
    assert_eq!(bed.balances()[2], (3, 100), "{statement}");
    let fault = report.failures[0].fault.expect("a database error");
    (fault.code(), fault.class())
}

#[scenario]
async fn each_is_final_after_one_attempt() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(TABLES).await.expect("new tables");
    for &(statement, errno, class) in FAILING {
        let expected = (errno.map(Code::Errno), class);
        let as_text = fail(&bed, &mut conn, statement, true).await;
        assert_eq!(as_text, expected, "{statement}");
        if !statement.starts_with("SIGNAL") && !statement.starts_with("USE") {
            // Diesel may know the kind, which says no less about the class.
            let (_, class) = fail(&bed, &mut conn, statement, false).await;
            assert_eq!(class, expected.1, "{statement}");
        }
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn in_a_step_each_leaves_the_callers_transaction_as_it_was() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute(TABLES).await.expect("new tables");
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            for &(statement, ..) in FAILING {
                let step: QueryResult<()> = runner
                    .run(conn, async |conn: &mut Conn| {
                        bodies.fetch_add(1, Ordering::Relaxed);
                        add(conn, 3, 10).await?;
                        conn.batch_execute(statement).await
                    })
                    .await;
                step.expect_err(statement);
            }
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner() as usize, FAILING.len());
    assert_eq!(bed.balances(), [(1, 110), (2, 110), (3, 100)]);
}

#[scenario]
async fn a_statement_killed_by_somebody_else_is_not_tried_again() {
    let bed = Arc::new(Bed::new());
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = 0 WHERE id = 2");
    let killer = {
        let bed = Arc::clone(&bed);
        thread::spawn(move || {
            bed.wait_until_blocked(session);
            bed.opponent().execute(&format!("KILL QUERY {session}"));
        })
    };
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            add(conn, 2, 10).await
        })
        .await;
    killer.join().expect("no panic");
    report.result.expect_err("killed");
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(bodies.into_inner(), 1);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::Canceled);
    assert_eq!(fault.code(), Some(Code::Errno(1317)));
    opponent.execute("ROLLBACK");
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    assert_eq!(add(&mut conn, 1, 1).await, Ok(1), "the session lives");
}
