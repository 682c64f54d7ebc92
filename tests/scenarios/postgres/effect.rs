//! What PostgreSQL makes of the settings: each of them really does what it says.

use std::time::{Duration, Instant};

use dbop_diesel::IsolationLevel;
use dbop_tests::{Number, eventually};
use diesel::{QueryResult, sql_query};

use super::money::{add, balance};
use super::steps::{session_id, show};
use super::{Bed, Conn, RunQueryDsl as _, Runner, helper, scenario, together};

const LONG: Duration = Duration::from_secs(25);

#[scenario]
async fn a_lock_timeout_ends_the_wait_for_a_row_and_for_a_table() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let asked = Duration::from_millis(150);
    for held in [
        "UPDATE accounts SET balance = 50 WHERE id = 1",
        "LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE",
    ] {
        let opponent = bed.opponent();
        opponent.execute("BEGIN");
        opponent.execute(held);
        let started = Instant::now();
        let report = Runner::default()
            .operation("wait")
            .lock_timeout(asked)
            .statement_timeout(LONG)
            .max_retries(0)
            .run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        let took = started.elapsed();
        report.result.expect_err("it is held");
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(
            fault.code().map(|code| code.to_string()).as_deref(),
            Some("55P03")
        );
        assert!(
            took >= asked && took < Duration::from_secs(8),
            "{took:?}: {held}"
        );
        opponent.execute("ROLLBACK");
    }
}

#[scenario]
async fn a_statement_timeout_ends_reads_writes_and_waits() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = 50 WHERE id = 3");
    let asked = Duration::from_millis(150);
    for slow in [
        "SELECT pg_sleep(20)",
        "UPDATE accounts SET balance = 7 WHERE id = 1 AND pg_sleep(20) IS NOT NULL",
        "UPDATE accounts SET balance = 7 WHERE id = 3",
    ] {
        let started = Instant::now();
        let report = Runner::default()
            .operation("slow")
            .lock_timeout(LONG)
            .statement_timeout(asked)
            .run_report(&mut conn, async |conn: &mut Conn| {
                sql_query(slow).execute(conn).await
            })
            .await;
        let took = started.elapsed();
        report.result.expect_err("too slow");
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(
            fault.code().map(|code| code.to_string()).as_deref(),
            Some("57014")
        );
        assert_eq!(report.attempts, 1);
        assert!(
            took >= asked && took < Duration::from_secs(8),
            "{took:?}: {slow}"
        );
    }
    assert_eq!(bed.balances()[0], (1, 100));
}

/// It waits for those who could make it fail. They write, and are not done yet.
#[scenario]
async fn a_deferrable_operation_waits_until_nothing_can_go_wrong() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let session = session_id(&mut conn).await;
    let writer = bed.opponent();
    writer.execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT * FROM accounts");
    writer.execute("UPDATE accounts SET balance = 7 WHERE id = 1");
    let runner = Runner::default();
    let (seen, ()) = together(
        async || {
            let seen: QueryResult<(i64, String)> = runner
                .operation("report")
                .isolation(IsolationLevel::Serializable)
                .read_only()
                .deferrable()
                .run(&mut conn, async |conn: &mut Conn| {
                    let balance = balance(conn, 1).await?;
                    Ok((balance, show(conn, "transaction_deferrable").await))
                })
                .await;
            seen
        },
        async || {
            safe_snapshot(&bed, session);
            writer.execute("COMMIT");
        },
    )
    .await;
    assert_eq!(seen, Ok((100, "on".to_owned())), "as it was before them");
}

/// Waits until this session waits for a safe snapshot.
fn safe_snapshot(bed: &Bed, session: i64) {
    let sql = format!(
        "SELECT count(*) AS n FROM pg_stat_activity \
         WHERE pid = {session} AND wait_event = 'SafeSnapshot'"
    );
    let mut conn = directly::connect(bed);
    eventually("it waits for a safe snapshot", || {
        let row: Number = directly::ask(&mut conn, &sql);
        row.n == 1
    });
}

/// A session of the test's own, which is never asynchronous.
mod directly {
    use dbop_tests::Number;
    use dbop_tests::postgres::Conn;
    use diesel::{Connection as _, RunQueryDsl as _, sql_query};

    use super::super::Bed;

    pub(super) fn connect(bed: &Bed) -> Conn {
        Conn::establish(bed.url()).expect("the server answers")
    }

    pub(super) fn ask(conn: &mut Conn, sql: &str) -> Number {
        sql_query(sql).get_result(conn).expect("an answer")
    }
}

/// The isolation level of the transaction that is open, as SQL writes it.
#[helper]
pub(crate) async fn isolation_level(_bed: &Bed, conn: &mut Conn) -> String {
    show(conn, "transaction_isolation").await.to_uppercase()
}
