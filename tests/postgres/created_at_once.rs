//! Several sessions create the same table at the same time. PostgreSQL's `IF NOT EXISTS` does not look
//! again once it waits for the other session, and fails with 23505 on a system catalog, or 42P07.

use std::sync::Barrier;
use std::thread;

use dbop_diesel::{Dialect, FaultClass, Ledger, Runner};
use dbop_tests::postgres::{Bed, Conn};
use diesel::QueryResult;
use diesel::connection::SimpleConnection as _;

const SESSIONS: usize = 8;
const ROUNDS: usize = 5;

/// Runs `create` in all sessions at once, several times, without the tables of the time before.
fn at_once<T: Send>(drop: &str, create: impl Fn(&mut Conn) -> T + Sync) -> Vec<T> {
    let bed = Bed::new();
    let barrier = Barrier::new(SESSIONS);
    let mut results = Vec::new();
    for _ in 0..ROUNDS {
        bed.connect().batch_execute(drop).expect("dropped");
        results.extend(thread::scope(|scope| {
            let session = || {
                let mut conn = bed.connect();
                barrier.wait();
                create(&mut conn)
            };
            let sessions: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(session)).collect();
            let ends = sessions.into_iter().map(|it| it.join().expect("no panic"));
            ends.collect::<Vec<_>>()
        }));
    }
    results
}

#[test]
fn the_table_of_the_ledger_is_created_by_one_and_there_for_all() {
    let create = &Ledger::new().create_table(Dialect::Postgres);
    let runner = Runner::default();
    for in_operation in [false, true] {
        let results = at_once("DROP TABLE IF EXISTS dbop_ledger", |conn| {
            match in_operation {
                false => conn.batch_execute(create)?,
                true => runner.run(conn, |conn| conn.batch_execute(create))?,
            }
            conn.batch_execute("SELECT id FROM dbop_ledger")
        });
        for result in results {
            assert_eq!(result, Ok(()));
        }
    }
}

#[test]
fn a_table_that_another_session_creates_at_the_same_time_is_tried_once_more() {
    const CREATE: &str =
        "CREATE TABLE IF NOT EXISTS created (id INT); CREATE SCHEMA IF NOT EXISTS made";
    let runner = Runner::default();
    let reports = at_once(
        "DROP TABLE IF EXISTS created; DROP SCHEMA IF EXISTS made",
        |conn| {
            let report = runner
                .operation("create")
                .run_report(conn, |conn| conn.batch_execute(CREATE));
            let faults = report.failures.iter().map(|failed| failed.fault);
            (report.result, faults.collect::<Vec<_>>())
        },
    );
    let mut collided = 0;
    for (result, faults) in reports {
        assert_eq!(result, Ok(()));
        for fault in faults.into_iter().flatten() {
            collided += 1;
            assert_eq!(fault.class(), FaultClass::SerializationFailure, "{fault:?}");
        }
    }
    assert!(collided > 0, "some sessions have met");
}

#[test]
fn a_table_that_was_there_before_is_an_error_after_one_more_attempt() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let report = Runner::default().run_report(&mut conn, |conn| -> QueryResult<()> {
        conn.batch_execute("CREATE TABLE accounts (id INT)")
    });
    assert_eq!(report.attempts, 2);
    let error = report.result.expect_err("it is there");
    assert_eq!(error.to_string(), "relation \"accounts\" already exists");
}
