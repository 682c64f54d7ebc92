//! A prepared statement that no longer fits (1615): it is prepared anew, and Diesel's statement cache
//! stays as the caller has set it.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::FaultClass;
use dbop_tests::InstantClock;
use diesel::connection::CacheSize;
use diesel::{IntoSql as _, QueryResult, sql_query};

use super::{Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _};
use super::{helper, scenario};

/// A real one needs a table definition that changes at every try of the server's.
const STALE: &str = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1615, \
                     MESSAGE_TEXT = 'Prepared statement needs to be re-prepared'";

#[derive(diesel::QueryableByName)]
struct Status {
    #[diesel(sql_type = diesel::sql_types::Text, column_name = "Value")]
    value: String,
}

#[scenario]
async fn the_statement_cache_stays_as_the_caller_has_set_it() {
    for size in [CacheSize::Disabled, CacheSize::Unbounded] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        conn.set_prepared_statement_cache_size(size);
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .run_report(&mut conn, async |conn: &mut Conn| {
                if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                    conn.batch_execute(STALE).await?;
                }
                one(conn).await
            })
            .await;
        assert_eq!((report.result, report.attempts), (Ok(1), 2), "{size:?}");
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::StalePlan);

        let before = prepared(&mut conn).await;
        assert_eq!(one(&mut conn).await, Ok(1));
        assert_eq!(one(&mut conn).await, Ok(1));
        // The question itself is prepared each time.
        let prepared = prepared(&mut conn).await - before;
        match size {
            CacheSize::Disabled => assert!(prepared >= 3, "{prepared}"),
            _ => assert_eq!(prepared, 1),
        }
    }
}

#[helper]
async fn one(conn: &mut Conn) -> QueryResult<i32> {
    diesel::select(1.into_sql::<diesel::sql_types::Integer>())
        .get_result(conn)
        .await
}

/// How many statements the session has prepared.
#[helper]
async fn prepared(conn: &mut Conn) -> i64 {
    let status: Status = sql_query("SHOW SESSION STATUS LIKE 'Com_stmt_prepare'")
        .get_result(conn)
        .await
        .expect("a status");
    status.value.parse().expect("a number")
}
