//! What an operation whose COMMIT is refused leaves on the one server connection of its pooler is what the next
//! client gets.

use std::time::Duration;

use dbop_diesel::{
    FaultClass, IsolationLevel, OperationError as _, RetryPolicy, SynchronousCommit,
};
use dbop_tests::postgres::Pooler;
use diesel::QueryResult;

use super::{
    Bed, Conn, Connection as _, OPERATIONS, Operation, PGBOUNCER, Runner, SimpleConnection as _,
    helper, scenario,
};

/// The COMMIT of a transaction that writes to `children` is refused.
fn refusing() -> Bed {
    let bed = Bed::new();
    bed.opponent().execute(
        "CREATE TABLE parents (id INT PRIMARY KEY); \
         CREATE TABLE children (parent INT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
    );
    bed
}

/// The credentials of a role with timeouts of its own.
fn strict_role(bed: &Bed, settings: &[&str]) -> String {
    let (_, role) = bed.url().rsplit_once("%3D").expect("a schema");
    bed.opponent().execute(&format!(
        "CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{role}'"
    ));
    for setting in settings {
        bed.opponent()
            .execute(&format!("ALTER ROLE {role} SET {setting}"));
    }
    format!("{role}:{role}")
}

#[helper]
async fn orphan(conn: &mut Conn) -> QueryResult<()> {
    conn.batch_execute("INSERT INTO children VALUES (1)").await
}

/// Operations whose COMMIT is refused, and some that only read.
#[helper]
async fn refused(conn: &mut Conn, operation: Operation<'_>, only_reads: bool) {
    for _ in 0..OPERATIONS {
        if only_reads {
            let read: QueryResult<()> = operation
                .run(conn, async |conn: &mut Conn| {
                    conn.batch_execute("SELECT 1").await
                })
                .await;
            read.expect("it reads");
            continue;
        }
        let report = operation.run_report(conn, orphan).await;
        let error = report.result.expect_err("there is no parent");
        assert!(error.dbop_error().is_none(), "the server's own: {error}");
        let [failure] = &report.failures[..] else {
            panic!("it is final: {:?}", report.failures);
        };
        let fault = failure.fault.expect("of the database");
        assert_eq!(fault.class(), FaultClass::Constraint);
    }
}

/// Every kind of operation that depends on a setting.
#[helper]
async fn all_kinds(conn: &mut Conn, runner: &Runner) {
    let limit = Duration::from_secs(7);
    let plain = || runner.operation("refused");
    refused(conn, plain(), false).await;
    refused(conn, plain().lock_timeout(limit), false).await;
    refused(conn, plain().statement_timeout(limit), false).await;
    refused(conn, plain().deadline(limit), false).await;
    refused(
        conn,
        plain().isolation(IsolationLevel::RepeatableRead),
        false,
    )
    .await;
    refused(
        conn,
        plain().synchronous_commit(SynchronousCommit::Off),
        false,
    )
    .await;
    refused(conn, plain().read_only(), true).await;
    refused(conn, plain().read_only().deadline(limit), true).await;
}

/// What another client has seen meanwhile that was not its own.
#[helper]
async fn seen_by_others(pooler: &Pooler, runner: &Runner) -> Vec<String> {
    let onlooker = pooler.onlooker();
    let mut conn = Conn::establish(pooler.url()).await.expect("a connection");
    all_kinds(&mut conn, runner).await;
    let (looks, wrong) = onlooker.has_seen();
    assert!(looks > OPERATIONS, "it has looked {looks} times");
    wrong
}

fn runner() -> Runner {
    Runner::new(RetryPolicy::new().with_max_retries(1))
}

#[scenario]
async fn with_the_defaults_a_refused_commit_leaves_nothing_to_the_next_client() {
    let bed = refusing();
    let pooler = Pooler::start(PGBOUNCER, &bed, bed.credentials());
    let none: Vec<String> = Vec::new();
    assert_eq!(seen_by_others(&pooler, &runner()).await, none);
}

/// Shows that the next client would see it. Where the sessions have timeouts of their own, an operation with a
/// deadline looks, and where they are said to differ, each does.
#[scenario]
async fn what_looks_at_its_session_leaves_its_values_to_the_next_client() {
    let bed = refusing();
    let pooler = Pooler::start(PGBOUNCER, &bed, bed.credentials());
    let differing = runner().with_differing_sessions(true);
    let wrong = seen_by_others(&pooler, &differing).await;
    assert!(wrong.len() > 10, "{wrong:?}");
    assert!(wrong[0].contains("_timeout = "), "{wrong:?}");
}

#[scenario]
async fn what_is_pooler_safe_leaves_nothing_to_the_next_client() {
    let bed = refusing();
    let defaults = runner()
        .with_default_statement_timeout(Duration::from_secs(20))
        .with_default_isolation(IsolationLevel::RepeatableRead);
    let role = strict_role(
        &bed,
        &[
            "lock_timeout = '3s'",
            "statement_timeout = '15s'",
            "default_transaction_isolation = 'serializable'",
            "default_transaction_deferrable = on",
        ],
    );
    let none: Vec<String> = Vec::new();
    for credentials in [bed.credentials(), &role] {
        let pooler = Pooler::start(PGBOUNCER, &bed, credentials);
        for runner in [
            runner(),
            runner().with_differing_sessions(true),
            defaults.clone(),
        ] {
            let runner = runner.with_pooler_safe(true);
            assert_eq!(seen_by_others(&pooler, &runner).await, none);
        }
    }
}
