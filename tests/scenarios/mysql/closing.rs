//! One statement commits and puts the session back. If it fails, nothing was committed; if it succeeds,
//! everything is as it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{IsolationLevel, Ledger, Outcome, StopReason};
use dbop_tests::{InstantClock, is_unknown};
use diesel::sql_types::Text;
use diesel::{QueryResult, QueryableByName, sql_query};

use super::money::{add, balance};
use super::steps::number;
use super::{Bed, Conn, Connection as _, RunQueryDsl as _, Runner, SimpleConnection as _};
use super::{MODE, backend, depth, helper, scenario};

/// What autocommit is put back to, which it cannot be.
const SPOILT: &str = "SET @dbop_autocommit = 7";

/// The error could be that of what Diesel sends behind the batch.
#[scenario]
async fn what_the_session_cannot_be_put_back_to_is_found_before_anything_is_committed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("pay")
        .fallback(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            let done = add(conn, 1, 10).await?;
            conn.batch_execute(SPOILT).await?;
            Ok(done)
        })
        .await;
    let error: diesel::result::Error = report.result.expect_err("no fallback: it is not undone");
    assert!(is_unknown(&error), "{error}");
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(depth(&mut conn), None, "it refuses to go on");
    drop(conn);
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn the_ledger_tells_that_it_was_not() {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let ledger = Ledger::new();
    let bodies = AtomicU32::new(0);
    let source = async || Conn::establish(bed.url()).await;
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(&source, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            let done = add(conn, 1, 10).await?;
            conn.batch_execute(SPOILT).await?;
            Ok::<_, diesel::result::Error>(done)
        })
        .await;
    let error = report.result.expect_err("it would be the same again");
    assert!(!is_unknown(&error), "{error}");
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(bed.balances()[0], (1, 100));
}

/// There, the 1 that commits is not what autocommit was.
#[scenario]
async fn in_a_session_without_autocommit_it_commits_and_leaves_no_transaction_open() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("SET autocommit=0").await.expect("set");
    let paid: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(paid, Ok(1));
    assert_eq!(bed.balances()[0], (1, 110));
    assert_eq!(number(&mut conn, "@@autocommit").await, 0);
    add(&mut conn, 2, 10).await.expect("written");
    assert_eq!(bed.balances()[1], (2, 100), "not committed by itself");
    conn.batch_execute("ROLLBACK").await.expect("rolled back");
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}

#[derive(QueryableByName)]
struct Status {
    #[diesel(sql_type = Text, column_name = "Variable_name")]
    name: String,
    #[diesel(sql_type = Text, column_name = "Value")]
    value: String,
}

/// How many statements the session has sent, by kind; without those that only read.
#[helper]
async fn statements_so_far(conn: &mut Conn) -> BTreeMap<String, i64> {
    let rows: Vec<Status> = sql_query(r"SHOW SESSION STATUS LIKE 'Com\_%'")
        .load(conn)
        .await
        .expect("an answer");
    let reads = |name: &str| {
        name.starts_with("Com_stmt_") || ["Com_select", "Com_show_status"].contains(&name)
    };
    rows.into_iter()
        .filter(|row| !reads(&row.name))
        .map(|row| (row.name, row.value.parse().expect("a number")))
        .collect()
}

/// Has the session begin a transaction that reads account 1, and another session lock it, which a
/// serializable transaction would not allow. Writes, too.
#[helper]
pub(super) async fn assert_plain(conn: &mut Conn, bed: &Bed, what: &str) {
    conn.batch_execute("START TRANSACTION").await.expect(what);
    balance(conn, 1).await.expect(what);
    bed.opponent()
        .execute("SELECT id FROM accounts WHERE id = 1 FOR UPDATE NOWAIT");
    assert_eq!(add(conn, 3, 1).await, Ok(1), "{what}");
    conn.batch_execute("ROLLBACK").await.expect(what);
}

/// What a transaction is like ends with it, also where the caller has asked for it in SQL.
#[scenario]
async fn the_next_transaction_is_neither_read_only_nor_serializable() {
    let bed = Bed::new();
    let runner = Runner::default();
    let by_default = Runner::default().with_default_isolation(IsolationLevel::Serializable);
    let level = IsolationLevel::Serializable;
    for autocommit in [1, 0] {
        let mut conn = bed.connect();
        conn.batch_execute(&format!("SET autocommit={autocommit}"))
            .await
            .expect("set");
        for (what, before, operation) in [
            ("read-only", "DO 0", runner.operation("read").read_only()),
            (
                "isolation",
                "DO 0",
                runner.operation("read").isolation(level),
            ),
            ("by default", "DO 0", by_default.operation("read")),
            (
                "the caller's level",
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                runner.operation("read"),
            ),
            (
                "the caller's mode",
                "SET TRANSACTION READ ONLY",
                runner.operation("read"),
            ),
        ] {
            // Followed by a transaction, by one of dbop's, and by a statement alone.
            for next in 0..3 {
                conn.batch_execute("ROLLBACK").await.expect(what);
                conn.batch_execute(before).await.expect(what);
                let read: QueryResult<i64> = operation
                    .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
                    .await;
                assert_eq!(read, Ok(100), "{what}");
                match next {
                    0 => assert_plain(&mut conn, &bed, what).await,
                    1 => {
                        let written = runner
                            .run(&mut conn, async |conn: &mut Conn| add(conn, 2, 1).await)
                            .await;
                        assert_eq!(written, Ok(1), "{what}");
                    }
                    _ => assert_eq!(add(&mut conn, 2, 1).await, Ok(1), "{what}"),
                }
            }
        }
    }
}

/// What Diesel's sync adapter sends in front of each batch and behind it is counted as a SET.
const COMMANDS: i64 = match MODE.as_bytes() {
    b"sync" => 4,
    _ => 0,
};

/// What the server has counted for one operation, without the statements of its body.
#[helper]
pub(super) async fn counted(
    conn: &mut Conn,
    operation: super::Operation<'_>,
) -> BTreeMap<String, i64> {
    let before = statements_so_far(conn).await;
    let read: QueryResult<i64> = operation
        .run(conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert_eq!(read, Ok(100));
    let after = statements_so_far(conn).await;
    let difference = after.into_iter().map(|(name, count)| {
        let before = before.get(&name).copied().unwrap_or_default();
        (name, count - before)
    });
    difference.filter(|(_, count)| *count > 0).collect()
}

/// What is counted for one operation with so many SET.
pub(super) fn expected_counts(sets: i64) -> BTreeMap<String, i64> {
    [
        ("Com_begin", 1),
        ("Com_release_savepoint", 1),
        ("Com_savepoint", 1),
        ("Com_set_option", sets + COMMANDS),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into()
}

/// Five in all, whatever limits the waits for locks.
#[scenario]
async fn the_server_counts_five_statements_around_a_body() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let (default, none) = (
        Runner::default(),
        Runner::default().with_default_lock_timeout(None),
    );
    let seconds = Duration::from_secs(3);
    for (name, operation, sets) in [
        ("none", none.operation("read"), 2),
        ("default", default.operation("read"), 2),
        ("own", default.operation("read").lock_timeout(seconds), 2),
        ("read-only", default.operation("read").read_only(), 2),
        (
            "statement",
            default.operation("read").statement_timeout(seconds),
            3,
        ),
        (
            "isolation",
            default
                .operation("read")
                .isolation(IsolationLevel::Serializable),
            3,
        ),
    ] {
        let counted = counted(&mut conn, operation).await;
        assert_eq!(counted, expected_counts(sets), "{name}");
    }
}
