//! What a client has prepared on one server connection, the pooler prepares on the next one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

use dbop_diesel::{FaultClass, IsolationLevel, Ledger, Outcome, Report};
use dbop_tests::InstantClock;
use dbop_tests::postgres::Pooler;
use dbop_tests::proxy::{Cut, Proxy, When};
use diesel::connection::CacheSize;
use diesel::result::Error;
use diesel::{IntoSql as _, QueryResult};

use super::money::{add, balance, insert};
use super::steps::session_id;
use super::{
    Bed, Conn, Connection as _, PGBOUNCER, RunQueryDsl as _, Runner, SimpleConnection as _,
    backend, helper, scenario, together,
};

/// How many transfers each client makes.
const TRANSFERS: u32 = 60;

/// How many operations are tried twice.
const RETRIES: u32 = 25;

fn runner() -> Runner {
    Runner::default().with_clock(InstantClock::new())
}

#[helper]
async fn connect(pooler: &Pooler) -> Conn {
    Conn::establish(pooler.url()).await.expect("a connection")
}

/// From one account to another. The server connection that it was made on.
#[helper]
async fn transfer(conn: &mut Conn, amount: i64) -> QueryResult<i64> {
    add(conn, 1, -amount).await?;
    add(conn, 2, amount).await?;
    assert_eq!(balance(conn, 1).await? + balance(conn, 2).await?, 200);
    Ok(session_id(conn).await)
}

/// Many of them. The server connections that they were made on.
#[helper]
async fn transfers(conn: &mut Conn, runner: &Runner, amount: i64) -> BTreeSet<i64> {
    let mut sessions = BTreeSet::new();
    for _ in 0..TRANSFERS {
        let report = runner
            .run_report(conn, async |conn: &mut Conn| transfer(conn, amount).await)
            .await;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        sessions.insert(report.result.expect("done"));
    }
    sessions
}

#[scenario]
async fn a_statement_runs_on_either_server_connection() {
    let bed = Bed::new();
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let mut conn = connect(&pooler).await;
    for (amount, safe, cache) in [
        (1, false, CacheSize::Unbounded),
        (-1, true, CacheSize::Unbounded),
        (0, true, CacheSize::Disabled),
    ] {
        conn.set_prepared_statement_cache_size(cache);
        let runner = runner().with_pooler_safe(safe);
        assert_eq!(transfers(&mut conn, &runner, amount).await.len(), 2);
    }
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

/// The names that they give to their statements are the same, and the statements are not.
#[scenario]
async fn two_clients_do_not_get_each_others_statements() {
    let bed = Bed::new();
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let (mut one, mut other) = (connect(&pooler).await, connect(&pooler).await);
    let number: QueryResult<i32> = diesel::select(1.into_sql::<diesel::sql_types::Integer>())
        .get_result(&mut other)
        .await;
    assert_eq!(number, Ok(1));
    let runner = runner().with_pooler_safe(true);
    _ = together(
        || transfers(&mut one, &runner, 2),
        || transfers(&mut other, &runner, -1),
    )
    .await;
    assert_eq!(bed.balances(), [(1, 40), (2, 160), (3, 100)]);
}

/// A serialization failure, in an operation whose steps have prepared what it and its retry need. One of the
/// steps is undone.
#[scenario]
async fn a_retry_on_the_other_server_connection_has_the_statements_of_the_first_attempt() {
    let bed = Bed::new();
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let opponent = bed.opponent();
    let mut conn = connect(&pooler).await;
    let runner = runner().with_pooler_safe(true);
    let mut sessions = BTreeSet::new();
    for _ in 0..RETRIES {
        let first = AtomicI64::new(0);
        let report: Report<(i64, i64), Error> = runner
            .operation("pay")
            .isolation(IsolationLevel::RepeatableRead)
            .run_report(&mut conn, async |conn: &mut Conn| {
                let session = session_id(conn).await;
                let undone: QueryResult<usize> = runner
                    .run(conn, async |conn: &mut Conn| {
                        insert(conn, 4).await?;
                        Err(Error::NotFound)
                    })
                    .await;
                assert_eq!(undone, Err(Error::NotFound));
                let before = runner
                    .run(conn, async |conn: &mut Conn| balance(conn, 3).await)
                    .await?;
                if first.load(Ordering::Relaxed) == 0 {
                    first.store(session, Ordering::Relaxed);
                    opponent.execute("UPDATE accounts SET balance = balance + 1 WHERE id = 3");
                }
                add(conn, 3, 10).await?;
                Ok((session, before))
            })
            .await;
        let faults = report.failures.iter().filter_map(|attempt| attempt.fault);
        let classes: Vec<_> = faults.map(|fault| fault.class()).collect();
        assert_eq!(classes, [FaultClass::SerializationFailure]);
        let (session, before) = report.result.expect("done");
        sessions.insert(session);
        assert_ne!(first.into_inner(), session);
        // So that the next one begins on the other server connection.
        let one_more: QueryResult<i64> = runner
            .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        assert_eq!(one_more, Ok(100));
        assert_eq!(bed.balances()[2], (3, before + 10));
    }
    assert_eq!(sessions.len(), 2, "of the retries");
    assert_eq!(bed.balances()[2], (3, 100 + i64::from(RETRIES) * 11));
}

/// PostgreSQL refuses to prepare anything in a transaction that has failed.
#[scenario]
async fn a_statement_that_could_not_be_prepared_is_prepared_by_the_next_operation() {
    let bed = Bed::new();
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let mut conn = connect(&pooler).await;
    let runner = runner().with_pooler_safe(true);
    for _ in 0..2 {
        let refused: QueryResult<i64> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                insert(conn, 1).await.expect_err("it is there");
                balance(conn, 1).await
            })
            .await;
        refused.expect_err("the transaction has failed");
    }
    assert_eq!(transfers(&mut conn, &runner, 0).await.len(), 2);
}

/// dbop's own questions are prepared as well: which transaction this is, what became of it, what the ledger
/// has of it.
#[scenario]
async fn a_lost_commit_is_asked_for_on_another_server_connection() {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let proxy = Proxy::start(pooler.url());
    let source = async || Conn::establish(proxy.url()).await;
    let (runner, ledger) = (runner().with_pooler_safe(true), Ledger::new());
    for number in 1..=10 {
        _ = proxy.cut(When::commit(), Cut::AnswerLost);
        let status = runner.operation("asks the server").transaction_status();
        let report = status
            .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 1).await)
            .await;
        assert_found(&report);
        _ = proxy.cut(When::commit(), Cut::AnswerLost);
        let tokens = runner.operation("asks the ledger").ledger(&ledger);
        let report = tokens
            .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 1).await)
            .await;
        assert_found(&report);
        proxy.reset();
        assert_eq!(bed.balances()[0], (1, 100 + 2 * number));
    }
    assert_eq!(proxy.cuts_made(), 20);
}

/// A COMMIT that was lost has counted.
fn assert_found(report: &Report<usize, Error>) {
    assert_eq!(report.result, Ok(1), "{:?}", report.failures);
    assert_eq!((report.outcome, report.attempts), (Outcome::Committed, 1));
}

#[scenario]
async fn a_key_finds_its_answer_from_either_server_connection() {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let pooler = Pooler::of_two(PGBOUNCER, &bed);
    let mut conn = connect(&pooler).await;
    let (runner, ledger) = (runner().with_pooler_safe(true), Ledger::new());
    let pay = runner.operation("pay").ledger(&ledger);
    let pay = pay.idempotency_key("k").answer();
    for call in 0..6 {
        let report = pay
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                balance(conn, 1).await
            })
            .await;
        assert_eq!((report.result, report.replayed), (Ok(110), call > 0));
    }
    assert_eq!(bed.balances()[0], (1, 110));
}
