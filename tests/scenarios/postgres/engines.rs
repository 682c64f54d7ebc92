//! What engines without savepoints get, and those whose DDL commits: a setting that ends with the transaction
//! shows that it is the one that was opened. Here PostgreSQL is told that it is one of them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Engine, FaultClass, Ledger, OperationError as _, Outcome, Report};
use dbop_tests::proxy::Proxy;
use dbop_tests::{InstantClock, Word, is_rolled_back, is_unknown};
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;

use super::money::{insert, set};
use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, depth, helper, scenario,
};

const WITHOUT: [Engine; 2] = [Engine::AuroraDsql, Engine::CockroachDb];

#[helper]
async fn report_of(
    engine: Engine,
    conn: &mut Conn,
    sql: &str,
    ends: Result<(), Error>,
) -> (Report<(), Error>, u32) {
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_engine(engine)
        .with_clock(InstantClock::new())
        .run_report(conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            set(conn, 1, 1).await?;
            conn.batch_execute(sql).await?;
            match ends {
                Ok(()) => Ok(()),
                Err(_) => Err(Error::NotFound),
            }
        })
        .await;
    (report, bodies.into_inner())
}

#[scenario]
async fn an_operation_is_committed_without_a_savepoint() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    for engine in WITHOUT {
        let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
        proxy.reset();
        let (report, _) = report_of(engine, &mut conn, "SELECT 1", Ok(())).await;
        assert_eq!(
            (report.result, report.outcome),
            (Ok(()), Outcome::Committed)
        );
        let sent = proxy.conversation().join("\n");
        assert!(!sent.contains("SAVEPOINT"), "{sent}");
        assert_eq!(bed.balances()[0], (1, 1));
        assert_eq!(depth(&mut conn), Some(0));
        set(&mut conn, 1, 100).await.expect("usable");
    }
}

#[scenario]
async fn a_swallowed_error_is_not_a_success_there_either() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for engine in WITHOUT {
        let report = Runner::default()
            .with_engine(engine)
            .run_report(&mut conn, async |conn: &mut Conn| {
                set(conn, 2, 2).await?;
                insert(conn, 1).await.expect_err("it is there");
                Ok::<_, Error>(())
            })
            .await;
        let error = report.result.expect_err("it is not");
        assert!(is_rolled_back(&error), "{error}");
        assert_eq!(report.outcome, Outcome::Undone);
        assert_eq!(bed.balances()[1], (2, 100));
    }
}

#[scenario]
async fn an_operation_that_ends_its_own_transaction_has_an_unknown_outcome_there_too() {
    let bed = Bed::new();
    for engine in WITHOUT {
        for (sql, left) in [
            ("COMMIT", 1),
            ("ROLLBACK", 100),
            ("COMMIT; BEGIN", 1),
            ("ROLLBACK; BEGIN", 100),
            ("COMMIT; SELECT 1 / 0", 1),
        ] {
            for ends in [Ok(()), Err(Error::NotFound)] {
                let mut conn = bed.connect();
                let (report, bodies) = report_of(engine, &mut conn, sql, ends).await;
                let error = report.result.expect_err("it cannot be told");
                assert!(is_unknown(&error), "{sql}: {error}");
                assert_eq!((report.outcome, bodies), (Outcome::Unknown, 1), "{sql}");
                assert_eq!(bed.balances()[0], (1, left), "{sql}");
                set(&mut conn, 1, 100).await.expect("usable");
            }
        }
    }
}

/// The check is a query, which an aborted transaction refuses like every other.
#[scenario]
async fn what_fails_in_its_own_transaction_is_undone_and_done_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for engine in WITHOUT {
        let (report, bodies) = report_of(engine, &mut conn, "SELECT 1 / 0", Ok(())).await;
        assert_eq!((report.outcome, bodies), (Outcome::Undone, 1));
        let [failure] = &report.failures[..] else {
            panic!("{:?}", report.failures);
        };
        assert!(failure.rollback_error.is_none(), "{failure:?}");
        let (report, _) = report_of(engine, &mut conn, "SELECT 1", Err(Error::NotFound)).await;
        assert_eq!(
            (report.result, report.outcome),
            (Err(Error::NotFound), Outcome::Undone)
        );
        let conflict = "DO $$ BEGIN RAISE 'conflict' USING ERRCODE = '40001'; END $$";
        let (report, bodies) = report_of(engine, &mut conn, conflict, Ok(())).await;
        assert_eq!((report.outcome, bodies), (Outcome::Undone, 21));
        let fault = report.failures[0].fault.expect("of the database");
        assert_eq!(fault.class(), FaultClass::SerializationFailure);
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        assert_eq!(depth(&mut conn), Some(0));
    }
}

#[scenario]
async fn what_an_engine_does_not_have_is_refused_before_the_body() {
    static LEDGER: Ledger = Ledger::new();
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = |engine| Runner::default().with_engine(engine);
    let [dsql, cockroach, yugabyte, vitess] = [
        runner(Engine::AuroraDsql),
        runner(Engine::CockroachDb),
        runner(Engine::Yugabyte),
        runner(Engine::Vitess),
    ];
    let second = Duration::from_secs(1);
    let source = async || Conn::establish(bed.url()).await;
    let body = async |_: &mut Conn| -> QueryResult<()> { panic!("it is refused") };
    let locks = dsql.operation("x").lock_timeout(second);
    let token = yugabyte.operation("x").ledger(&LEDGER);
    let status = cockroach.operation("x").transaction_status();
    for (expected, result) in [
        (
            "lock_timeout is not supported on aurora dsql",
            locks.run(&mut conn, body).await,
        ),
        (
            "ledger is not supported on yugabytedb",
            token.run_on(&source, body).await,
        ),
        (
            "transaction_status is not supported on cockroachdb",
            status.run_on(&source, body).await,
        ),
        (
            "engine is not supported on postgresql, only on mysql",
            vitess.run(&mut conn, body).await,
        ),
        (
            "aurora dsql has no savepoints, so an operation cannot run inside a transaction that is \
             already open",
            conn.transaction(async |conn: &mut Conn| dsql.run(conn, body).await)
                .await,
        ),
    ] {
        let error = result.expect_err(expected);
        let dbop = error.dbop_error().expect("it is dbop's");
        assert!(dbop.is_unsupported_setting(), "{dbop}");
        assert_eq!(dbop.to_string(), expected);
    }
}

/// A server that shows milliseconds without a unit, as CockroachDB does. The runner of PostgreSQL would take
/// them for seconds.
#[scenario]
async fn a_timeout_is_read_with_and_without_its_unit() {
    let bed = Bed::new();
    let (_, schema) = bed.url().rsplit_once("%3D").expect("a schema");
    let bare = format!(
        "CREATE FUNCTION current_setting(text) RETURNS text LANGUAGE sql AS $$ \
         SELECT CASE WHEN $1 = 'lock_timeout' THEN setting ELSE pg_catalog.current_setting($1) END \
         FROM pg_settings WHERE name = 'lock_timeout' $$; \
         SET search_path TO {schema}, pg_catalog"
    );
    for before in ["SELECT 1", &bare] {
        for (session, expected) in [
            ("3s", "3s"),
            ("250ms", "250ms"),
            ("2min", "10s"),
            ("0", "10s"),
        ] {
            let mut conn = bed.connect();
            conn.batch_execute(&format!("SET lock_timeout = '{session}'"))
                .await
                .expect("it can be set");
            conn.batch_execute(&before.replace("CREATE", "CREATE OR REPLACE"))
                .await
                .expect("it can be created");
            for differing in [false, true] {
                let runner = Runner::default()
                    .with_engine(Engine::CockroachDb)
                    .with_differing_sessions(differing);
                let seen: QueryResult<String> = runner
                    .run(&mut conn, async |conn: &mut Conn| {
                        let show = "SELECT pg_catalog.current_setting('lock_timeout') AS s";
                        let row: Word = sql_query(show).get_result(conn).await?;
                        Ok(row.s)
                    })
                    .await;
                assert_eq!(seen.as_deref(), Ok(expected), "{session} {differing}");
            }
        }
    }
}
