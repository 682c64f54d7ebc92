//! A plan that has become stale.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::FaultClass;
use dbop_tests::InstantClock;
use dbop_tests::postgres::Pooler;
use diesel::QueryResult;

use super::{Bed, Conn, Connection as _, PGBOUNCER, RunQueryDsl as _, Runner, helper, scenario};

diesel::table! {
    notes (id) {
        id -> Integer,
        word -> Text,
    }
}

const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, word VARCHAR(9) NOT NULL);
                     INSERT INTO notes VALUES (1, 'one')";

#[helper]
async fn words(conn: &mut Conn) -> QueryResult<Vec<(i32, String)>> {
    notes::table.load(conn).await
}

#[scenario]
async fn measure() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(NOTES);
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let mut conn = Conn::establish(pooler.url()).await.expect("a connection");
    let runner = Runner::default()
        .with_clock(InstantClock::new())
        .with_pooler_safe(true);
    for length in 10..13 {
        for number in 0..6 {
            let report = runner
                .run_report(&mut conn, async |conn: &mut Conn| words(conn).await)
                .await;
            eprintln!(
                "{length} {number} {:?} {:?}",
                report.result,
                report.failures.iter().map(|f| f.fault).collect::<Vec<_>>()
            );
        }
        opponent.execute(&format!(
            "ALTER TABLE notes ALTER COLUMN word TYPE VARCHAR({length})"
        ));
    }
    _ = (
        AtomicU32::new(0).load(Ordering::Relaxed),
        FaultClass::StalePlan,
    );
    panic!("shown");
}
