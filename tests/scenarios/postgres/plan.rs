//! A prepared statement whose plan no longer fits the schema ("cached plan must not change result
//! type"). At top level it is prepared anew, once. In a savepoint PostgreSQL has aborted nothing
//! that could not be undone, but the plan belongs to the connection of the transaction around.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, StopReason};
use dbop_tests::{InstantClock, Number};
use diesel::connection::CacheSize;
use diesel::{IntoSql as _, QueryResult, sql_query};

use super::money::set;
use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, helper, scenario,
};

diesel::table! {
    notes (id) {
        id -> Integer,
        word -> Text,
    }
}

const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, word VARCHAR(9) NOT NULL);
                     INSERT INTO notes VALUES (1, 'one')";
const OTHER_TYPE: &str = "ALTER TABLE notes ALTER COLUMN word TYPE TEXT";
const AND_ANOTHER: &str = "ALTER TABLE notes ALTER COLUMN word TYPE VARCHAR(8)";

/// A connection that has the statement prepared, after which the schema changes.
#[helper]
async fn with_a_stale_plan(bed: &Bed) -> Conn {
    let opponent = bed.opponent();
    opponent.execute(NOTES);
    let mut conn = bed.connect();
    assert_eq!(words(&mut conn).await.expect("prepared").len(), 1);
    opponent.execute(OTHER_TYPE);
    conn
}

#[helper]
async fn words(conn: &mut Conn) -> QueryResult<Vec<(i32, String)>> {
    notes::table.load(conn).await
}

#[scenario]
async fn at_top_level_it_is_prepared_anew_and_wins() {
    let bed = Bed::new();
    let mut conn = with_a_stale_plan(&bed).await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            words(conn).await
        })
        .await;
    assert_eq!(report.result, Ok(vec![(1, "one".to_owned())]));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::StalePlan);
    assert_eq!(fault.code().expect("a code").to_string(), "0A000");
    assert_eq!(bed.balances()[0], (1, 1));
    assert!(words(&mut conn).await.is_ok(), "for good");
}

#[scenario]
async fn in_a_nested_operation_everything_starts_again() {
    let bed = Bed::new();
    let mut conn = with_a_stale_plan(&bed).await;
    let runner = Runner::default().with_clock(InstantClock::new());
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: QueryResult<Vec<(i32, String)>> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            runner
                .run(conn, async |conn: &mut Conn| {
                    inner.fetch_add(1, Ordering::Relaxed);
                    words(conn).await
                })
                .await
        })
        .await;
    assert_eq!(result.expect("prepared anew").len(), 1);
    assert_eq!((outer.into_inner(), inner.into_inner()), (2, 2));
}

#[scenario]
async fn in_the_callers_transaction_it_goes_up_at_once() {
    let bed = Bed::new();
    let mut conn = with_a_stale_plan(&bed).await;
    let runner = Runner::default().with_clock(InstantClock::new());
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            set(conn, 1, 1).await?;
            let report = runner
                .run_report(conn, async |conn: &mut Conn| words(conn).await)
                .await;
            assert!(report.result.is_err());
            assert_eq!(report.attempts, 1);
            assert_eq!(report.stop, StopReason::EnclosingTransaction);
            set(conn, 3, 3).await
        })
        .await;
    assert_eq!(result, Ok(1), "the caller goes on");
    assert_eq!(bed.balances(), [(1, 1), (2, 100), (3, 3)]);
}

/// The schema changes again in the second attempt.
#[scenario]
async fn it_is_not_tried_for_ever() {
    let bed = Bed::new();
    let mut conn = with_a_stale_plan(&bed).await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            if bodies.fetch_add(1, Ordering::Relaxed) > 0 {
                words(conn).await?;
                conn.batch_execute(AND_ANOTHER).await?;
            }
            words(conn).await
        })
        .await;
    assert!(report.result.is_err());
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    assert_eq!(report.stop, StopReason::RetriesExhausted);
}

/// Only behind a pooler that keeps statements for others is everything forgotten.
#[scenario]
async fn what_the_caller_has_prepared_stays() {
    let bed = Bed::new();
    let mut conn = with_a_stale_plan(&bed).await;
    let prepare = "PREPARE mine AS SELECT 1";
    conn.batch_execute(prepare).await.expect("valid");
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| words(conn).await)
        .await;
    assert_eq!((report.result.is_ok(), report.attempts), (true, 2));
    assert_eq!(conn.batch_execute("EXECUTE mine").await, Ok(()));
}

/// Off, as it must be behind some poolers, or on.
#[scenario]
async fn the_statement_cache_stays_as_the_caller_has_set_it() {
    for size in [CacheSize::Disabled, CacheSize::Unbounded] {
        for from_elsewhere in [false, true] {
            let bed = Bed::new();
            let mut conn = match from_elsewhere {
                true => bed.connect(),
                false => with_a_stale_plan(&bed).await,
            };
            conn.set_prepared_statement_cache_size(size);
            let bodies = AtomicU32::new(0);
            let report = Runner::default()
                .with_clock(InstantClock::new())
                .run_report(&mut conn, async |conn: &mut Conn| {
                    if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                        conn.batch_execute("EXECUTE gone").await?;
                    }
                    one(conn).await
                })
                .await;
            assert_eq!((report.result, report.attempts), (Ok(1), 2), "{size:?}");
            let fault = report.failures[0].fault.expect("a database error");
            assert_eq!(fault.class(), FaultClass::StalePlan);
            assert_eq!(one(&mut conn).await, Ok(1));
            let cached = prepared_statements(&mut conn).await;
            assert_eq!(cached, i64::from(size == CacheSize::Unbounded), "{size:?}");
        }
    }
}

#[helper]
async fn one(conn: &mut Conn) -> QueryResult<i32> {
    diesel::select(1.into_sql::<diesel::sql_types::Integer>())
        .get_result(conn)
        .await
}

/// How often the session keeps that statement.
#[helper]
async fn prepared_statements(conn: &mut Conn) -> i64 {
    let count = "SELECT count(*) AS n FROM pg_prepared_statements WHERE statement = 'SELECT $1'";
    let number: Number = sql_query(count).get_result(conn).await.expect("a number");
    number.n
}
