//! A plan that has become stale. The pooler keeps the statement of this text for all of its clients: prepared anew
//! by one of them, it is the old one.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Report};
use dbop_tests::InstantClock;
use dbop_tests::postgres::Pooler;
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::add;
use super::{
    Bed, Conn, Connection as _, MODE, PGBOUNCER, RunQueryDsl as _, Runner, helper, scenario,
};

diesel::table! {
    notes (id) {
        id -> Integer,
        word -> Text,
    }
}

const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, word VARCHAR(9) NOT NULL);
                     INSERT INTO notes VALUES (1, 'one')";

type Words = Vec<(i32, String)>;

#[helper]
async fn words(conn: &mut Conn) -> QueryResult<Words> {
    notes::table.load(conn).await
}

/// Writes before it reads, so that there is something to undo.
#[helper]
async fn count_and_read(conn: &mut Conn, runner: &Runner) -> Report<Words, Error> {
    let report = runner
        .run_report(conn, async |conn: &mut Conn| {
            add(conn, 1, 1).await?;
            words(conn).await
        })
        .await;
    assert_eq!(report.result, Ok(vec![(1, "one".to_owned())]));
    for attempt in &report.failures {
        let fault = attempt.fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::StalePlan);
        assert_eq!(fault.code().expect("a code").to_string(), "0A000");
    }
    report
}

const DDL: [&str; 3] = [
    "ALTER TABLE notes ALTER COLUMN word TYPE VARCHAR(10)",
    "ALTER TABLE notes ALTER COLUMN word TYPE TEXT",
    "ALTER TABLE notes ALTER COLUMN word TYPE VARCHAR(11)",
];

fn runner() -> Runner {
    Runner::default().with_clock(InstantClock::new())
}

#[helper]
async fn connect(pooler: &Pooler) -> Conn {
    Conn::establish(pooler.url()).await.expect("a connection")
}

/// The retry has the pooler forget it, for all of its clients.
#[scenario]
async fn it_is_forgotten_by_the_retry_and_wins() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(NOTES);
    let pooler = Pooler::start(PGBOUNCER, &bed, bed.credentials());
    let (mut conn, mut other) = (connect(&pooler).await, connect(&pooler).await);
    let mut done = 0;
    for ddl in DDL {
        for runner in [runner(), runner().with_pooler_safe(true)] {
            let report = count_and_read(&mut conn, &runner).await;
            assert!(report.failures.is_empty(), "{:?}", report.failures);
            words(&mut other).await.expect("it is prepared");
            done += 1;
        }
        opponent.execute(ddl);
        for is_stale in [true, false, false] {
            let report = count_and_read(&mut conn, &runner()).await;
            assert_eq!(report.attempts, 1 + u32::from(is_stale));
            words(&mut other).await.expect("it has been forgotten");
            done += 1;
        }
    }
    assert_eq!(bed.balances()[0], (1, 100 + done));
}

/// Each time it runs on another one than the attempt in which the plan was stale.
#[scenario]
async fn a_retry_on_the_other_server_connection_wins_as_well() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(NOTES);
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let mut conn = connect(&pooler).await;
    let runner = runner().with_pooler_safe(true);
    let (mut done, mut failures) = (0, 0);
    for ddl in DDL {
        for _ in 0..4 {
            failures += count_and_read(&mut conn, &runner).await.failures.len();
            done += 1;
        }
        opponent.execute(ddl);
    }
    assert!(failures >= DDL.len() - 1, "{failures}");
    assert_eq!(bed.balances()[0], (1, 100 + done));
}

#[scenario]
async fn in_a_step_the_outermost_operation_starts_again() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(NOTES);
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let mut conn = connect(&pooler).await;
    let runner = runner().with_pooler_safe(true);
    for _ in 0..4 {
        words(&mut conn).await.expect("prepared");
    }
    opponent.execute(DDL[0]);
    let report: Report<Words, Error> = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 1).await?;
            runner
                .run(conn, async |conn: &mut Conn| words(conn).await)
                .await
        })
        .await;
    assert_eq!(report.result.map(|words| words.len()), Ok(1));
    assert_eq!(report.attempts, 2);
    assert_eq!(bed.balances()[0], (1, 101));
}

/// tokio-postgres keeps the statement by which it asks for a type, and the pooler has forgotten that as well. It
/// ends the connection of a client that meets another type then.
#[scenario]
async fn a_client_that_meets_another_type_in_the_retry_gets_another_connection() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(NOTES);
    opponent.execute("CREATE TYPE mood AS ENUM ('ok'); CREATE TYPE size AS ENUM ('ok')");
    let pooler = Pooler::start(PGBOUNCER, &bed, bed.credentials());
    words(&mut connect(&pooler).await).await.expect("prepared");
    opponent.execute(DDL[0]);
    let attempts = AtomicU32::new(0);
    let report: Report<Words, Error> = runner()
        .run_on_report(
            &async || Conn::establish(pooler.url()).await,
            async |conn: &mut Conn| {
                let asks = match attempts.fetch_add(1, Ordering::Relaxed) {
                    0 => "SELECT 'ok'::mood",
                    _ => "SELECT 'ok'::size",
                };
                sql_query(asks).execute(conn).await?;
                words(conn).await
            },
        )
        .await;
    let faults = report.failures.iter().filter_map(|attempt| attempt.fault);
    let classes: Vec<_> = faults.map(|fault| fault.class()).collect();
    let expected = [FaultClass::StalePlan, FaultClass::ConnectionLost];
    let failures = if MODE == "async" { 2 } else { 1 };
    assert_eq!(classes, expected[..failures]);
    assert_eq!(report.result.map(|words| words.len()), Ok(1));
}
