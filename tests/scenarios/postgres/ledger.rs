//! The ledger finds out what nobody else can: that the operation had committed by itself, without
//! the rest of it. And what the operation changes for itself does not get in the ledger's way
//! unseen.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{IsolationLevel, Ledger, Outcome, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, is_unknown};
use diesel::QueryResult;

use super::super::commit::ledger::with_table;
use super::money::add;
use super::{Conn, Connection as _, Runner, SimpleConnection as _, scenario};

/// What comes after the first part is rolled back with the connection, or was kept statement by
/// statement.
#[scenario]
async fn what_was_committed_by_the_operation_is_not_the_whole() {
    for (ends, cut, second) in [
        ("COMMIT; BEGIN", Cut::BeforeSent, 100),
        ("COMMIT", Cut::BeforeSent, 110),
        ("COMMIT", Cut::AnswerLost, 110),
    ] {
        let bed = with_table().await;
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::statement("dbop_alive.is_gone"), cut);
        let ledger = Ledger::new();
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .operation("commits by itself")
            .ledger(&ledger)
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await?;
                    conn.batch_execute(ends).await?;
                    add(conn, 2, 10).await
                },
            )
            .await;
        assert!(is_unknown(&report.result.expect_err("half of it is there")));
        assert_eq!(report.outcome, Outcome::Unknown);
        assert_eq!(report.stop, StopReason::OutcomeUnknown);
        assert_eq!(bodies.into_inner(), 1, "not done again");
        assert_eq!(bed.balances()[..2], [(1, 110), (2, second)], "{ends}");
    }
}

/// Where it is asked what became of a commit, it is also seen that the operation has begun another
/// transaction, however it ends and whatever became of the first one.
#[scenario]
async fn an_operation_that_begins_another_transaction_is_unknown() {
    for (begins, first, fails) in [
        ("COMMIT; BEGIN", 110, None),
        ("COMMIT; BEGIN", 110, Some("SELECT 1 / 0")),
        ("COMMIT; BEGIN", 110, Some(CONFLICT)),
        ("ROLLBACK; BEGIN", 100, None),
        ("ROLLBACK; BEGIN", 100, Some(CONFLICT)),
    ] {
        for has_ledger in [false, true] {
            let bed = with_table().await;
            let ledger = Ledger::new();
            let bodies = AtomicU32::new(0);
            let source = async || Conn::establish(bed.url()).await;
            let body = async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await?;
                conn.batch_execute(begins).await?;
                add(conn, 2, 10).await?;
                if let Some(fails) = fails {
                    conn.batch_execute(fails).await?;
                }
                QueryResult::Ok(())
            };
            let runner = Runner::default().with_clock(InstantClock::new());
            let operation = runner.operation("begins another one");
            let report = if has_ledger {
                operation.ledger(&ledger).run_on_report(&source, body).await
            } else {
                let operation = operation.transaction_status();
                operation.run_on_report(&source, body).await
            };
            let what = format!("{begins}, {fails:?}, {has_ledger}");
            let error = report.result.expect_err("not what was opened");
            assert!(is_unknown(&error), "{what}: {error}");
            assert_eq!((report.outcome, report.attempts), (Outcome::Unknown, 1));
            assert_eq!(bodies.into_inner(), 1, "{what}");
            assert_eq!(bed.balances()[..2], [(1, first), (2, 100)], "{what}");
        }
    }
}

/// An error that is worth another attempt.
const CONFLICT: &str = "DO $$ BEGIN RAISE 'conflict' USING ERRCODE = '40001'; END $$";

/// The table is used at the end, too: by whoever the operation has become, where it has gone.
#[scenario]
async fn an_operation_that_cannot_reach_the_table_any_more_is_undone() {
    for changes in [
        "SET LOCAL search_path TO elsewhere",
        "SET LOCAL ROLE pg_monitor",
    ] {
        let bed = with_table().await;
        let ledger = Ledger::new();
        let report = Runner::default()
            .operation("goes away")
            .ledger(&ledger)
            .run_on_report(
                &async || Conn::establish(bed.url()).await,
                async |conn: &mut Conn| {
                    add(conn, 1, 10).await?;
                    conn.batch_execute(changes).await
                },
            )
            .await;
        let error = report.result.expect_err("no such table, or not for it");
        assert!(error.to_string().contains("dbop_ledger"), "{error}");
        assert_eq!((report.outcome, report.attempts), (Outcome::Undone, 1));
        assert_eq!(bed.balances()[0], (1, 100));
    }
}

/// PostgreSQL reads a small table from end to end, and what a serializable transaction has read, it
/// depends on: an operation within another one, on a connection of its own, makes neither fail.
#[scenario]
async fn serializable_operations_do_not_depend_on_each_other_by_their_tokens() {
    let bed = with_table().await;
    let mut conn = bed.connect();
    let rows =
        "INSERT INTO dbop_ledger (scope, id) VALUES ('', '1'), ('', '2'); ANALYZE dbop_ledger";
    conn.batch_execute(rows).await.expect("a small table");
    let ledgers = [Ledger::new(), Ledger::new()];
    let runner = Runner::default();
    let [outer, inner] = ledgers.each_ref().map(|ledger| {
        runner
            .operation("serializable")
            .isolation(IsolationLevel::Serializable)
            .max_retries(0)
            .ledger(ledger)
    });
    let source = async || Conn::establish(bed.url()).await;
    // From the 65th time on each has tokens to delete.
    for _ in 0..67 {
        let done: QueryResult<()> = outer
            .run_on(&source, async |_: &mut Conn| {
                inner.run_on(&source, async |_: &mut Conn| Ok(())).await
            })
            .await;
        assert_eq!(done, Ok(()));
    }
}
