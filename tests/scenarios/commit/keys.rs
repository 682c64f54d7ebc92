//! Idempotency keys on servers: another call with the key is waited for, and a COMMIT whose answer is lost
//! does not do the work twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{Dialect, IsolationLevel, Ledger, OperationError as _, Outcome, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, Number, Opponent, blocking};
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::ledger::with_table;
use super::money::{add, balance};
use super::question::session_id;
use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, backend, helper,
    patient, scenario, together,
};

const IS_MYSQL: bool = matches!(backend::DIALECT, Dialect::Mysql);

/// The key `k` in the scope `pay`.
const ROW: &str = match backend::DIALECT {
    Dialect::Mysql => "X'706179', X'6b'",
    _ => "decode('706179', 'hex'), decode('6b', 'hex')",
};

/// A session that has taken the key.
fn holder(bed: &Bed) -> Opponent {
    let opponent = bed.opponent();
    opponent.execute(&format!(
        "BEGIN; INSERT INTO dbop_ledger (scope, id) VALUES ({ROW})"
    ));
    opponent
}

/// It has done the work, with the answer 7.
fn complete(holder: &Opponent) {
    let answer = if IS_MYSQL {
        "X'37'"
    } else {
        "decode('37', 'hex')"
    };
    holder.execute(&format!(
        "UPDATE accounts SET balance = balance + 10 WHERE id = 1; \
         UPDATE dbop_ledger SET state = 1, answer = {answer}; COMMIT"
    ));
}

#[scenario]
async fn a_second_call_waits_for_the_first_and_takes_no_attempt_for_it() {
    for (end, expected, runs_expected) in [("commit", 7, 0), ("ROLLBACK", 8, 1), ("kill", 8, 1)] {
        let bed = with_table().await;
        let holder = holder(&bed);
        let mut conn = bed.connect();
        let session = session_id(&mut conn).await.expect("an id");
        let (ledger, runner, runs) = (Ledger::new(), Runner::default(), AtomicU32::new(0));
        let pay = runner.operation("pay").max_retries(0).ledger(&ledger);
        let pay = pay.idempotency_key("k").answer();
        let (report, ()) = together(
            async || {
                pay.run_report(&mut conn, async |conn: &mut Conn| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await?;
                    QueryResult::Ok(8)
                })
                .await
            },
            async || {
                blocking(|| bed.wait_until_blocked(session));
                blocking(|| match end {
                    "commit" => complete(&holder),
                    "kill" => bed.kill(holder.id()),
                    sql => holder.execute(sql),
                });
            },
        )
        .await;
        assert_eq!(report.result, Ok(expected), "{end}");
        assert_eq!((report.attempts, report.replayed), (1, runs_expected == 0));
        assert_eq!(runs.into_inner(), runs_expected);
        assert_eq!(bed.balances()[0], (1, 110), "{end}");
    }
}

#[scenario]
async fn it_waits_for_one_lock_timeout_or_until_the_deadline() {
    let second = Duration::from_secs(1);
    for (deadline, least, stop) in [
        (None, second, StopReason::RetriesExhausted),
        (
            Some(2 * second),
            3 * second / 2,
            StopReason::DeadlineExceeded,
        ),
    ] {
        let bed = with_table().await;
        let holder = holder(&bed);
        let (ledger, runner) = (Ledger::new(), patient(Runner::default()));
        let operation = runner.operation("pay").lock_timeout(second);
        let operation = match deadline {
            Some(deadline) => operation.deadline(deadline),
            None => operation,
        };
        let pay = operation.ledger(&ledger).idempotency_key("k");
        let mut conn = bed.connect();
        let begun = Instant::now();
        let report = pay
            .run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        let waited = begun.elapsed();
        let failures = format!("{:?}", report.failures);
        let error = report.result.expect_err("under way");
        let own = error.dbop_error();
        let own = own.unwrap_or_else(|| panic!("{error:?} {failures}"));
        assert!(own.is_under_way(), "{own:?}");
        assert_eq!((report.attempts, report.stop), (1, stop), "{own:?}");
        assert_eq!(report.outcome, Outcome::Undone);
        assert!(waited >= least && waited < 6 * second, "{waited:?}");
        holder.execute("ROLLBACK");
        let paid = pay.run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await);
        assert_eq!(paid.await, Ok(1));
    }
}

/// The same in a savepoint: the transaction around it continues.
#[scenario]
async fn in_a_transaction_of_the_callers_it_waits_as_well() {
    let bed = with_table().await;
    let holder = holder(&bed);
    let (ledger, runner) = (Ledger::new(), Runner::default());
    let pay = runner.operation("pay").lock_timeout(Duration::from_secs(1));
    let pay = pay.ledger(&ledger).idempotency_key("k");
    let mut conn = bed.connect();
    let done: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            let report = pay
                .run_report(conn, async |conn: &mut Conn| add(conn, 1, 10).await)
                .await;
            let error = report.result.expect_err("under way");
            let Some(own) = error.dbop_error() else {
                // The lock timeout has taken the transaction along.
                return Err(error);
            };
            assert!(own.is_under_way(), "{own:?}");
            add(conn, 2, 10).await?;
            Ok(())
        })
        .await;
    let ends_all = IS_MYSQL && ends_all_on_timeout(&mut bed.connect()).await;
    assert_eq!(done.is_err(), ends_all, "{done:?}");
    holder.execute("ROLLBACK");
    let second = if ends_all { 100 } else { 110 };
    assert_eq!(bed.balances()[..2], [(1, 100), (2, second)]);
}

/// Whether a lock timeout ends the whole transaction, on MySQL and MariaDB.
#[helper]
async fn ends_all_on_timeout(conn: &mut Conn) -> bool {
    let ends = sql_query("SELECT CAST(@@innodb_rollback_on_timeout AS SIGNED) AS n");
    let ends: Number = ends.get_result(conn).await.expect("a variable");
    ends.n != 0
}

/// What was committed while it waited is seen.
#[scenario]
async fn after_a_wait_it_sees_what_has_happened_meanwhile() {
    for level in [
        IsolationLevel::ReadCommitted,
        IsolationLevel::RepeatableRead,
        IsolationLevel::Serializable,
    ] {
        let bed = with_table().await;
        let holder = holder(&bed);
        let mut conn = bed.connect();
        let session = session_id(&mut conn).await.expect("an id");
        let (ledger, runner) = (Ledger::new(), Runner::default());
        // MariaDB with innodb_snapshot_isolation fails the body, whose snapshot is as old as its BEGIN.
        let retries = u32::from(IS_MYSQL && level == IsolationLevel::Serializable);
        let look = runner
            .operation("pay")
            .max_retries(retries)
            .isolation(level);
        let look = look.ledger(&ledger).idempotency_key("k");
        let (report, ()) = together(
            async || {
                look.run_report(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
                    .await
            },
            async || {
                blocking(|| {
                    bed.wait_until_blocked(session);
                    // Longer than what is no wait.
                    let other = bed.opponent();
                    other.execute("UPDATE accounts SET balance = 111 WHERE id = 1");
                    other.execute(if IS_MYSQL {
                        "DO SLEEP(0.1)"
                    } else {
                        "SELECT pg_sleep(0.1)"
                    });
                    holder.execute("ROLLBACK");
                });
            },
        )
        .await;
        assert_eq!(report.result, Ok(111), "{level:?}");
        assert!(
            report.attempts <= 1 + retries,
            "{level:?}: {}",
            report.attempts
        );
    }
}

/// An operation around it starts again, with a snapshot that shows it.
#[scenario]
async fn a_key_that_the_callers_snapshot_does_not_show_goes_up() {
    let bed = with_table().await;
    let (ledger, runner) = (Ledger::new(), Runner::default());
    let pay = runner.operation("pay").ledger(&ledger).idempotency_key("k");
    let (pay, attempts) = (pay.answer(), AtomicU32::new(0));
    let report = runner
        .operation("outer")
        .isolation(IsolationLevel::RepeatableRead)
        .run_on_report(
            &async || Conn::establish(bed.url()).await,
            async |conn: &mut Conn| {
                let seen = balance(conn, 1).await?;
                if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                    let mut other = bed.connect();
                    let paid = pay.run(&mut other, async |conn: &mut Conn| {
                        add(conn, 1, 10).await?;
                        QueryResult::Ok(7)
                    });
                    assert_eq!(paid.await, Ok(7));
                }
                let answer = pay
                    .run(conn, async |_: &mut Conn| QueryResult::Ok(8))
                    .await?;
                QueryResult::Ok((seen, answer))
            },
        )
        .await;
    assert_eq!(report.result, Ok((110, 7)));
    assert_eq!((report.attempts, attempts.into_inner()), (2, 2));
}

#[scenario]
async fn a_lost_answer_to_its_commit_does_it_neither_twice_nor_not_at_all() {
    for (cut, attempts) in [(Cut::AnswerLost, 1), (Cut::BeforeSent, 2)] {
        let bed = with_table().await;
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), cut);
        let (ledger, runs) = (Ledger::new(), AtomicU32::new(0));
        let runner = Runner::default().with_clock(InstantClock::new());
        let pay = runner.operation("pay").ledger(&ledger).idempotency_key("k");
        let pay = pay.answer();
        let source = async || Conn::establish(proxy.url()).await;
        let body = async |conn: &mut Conn| {
            runs.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            balance(conn, 1).await
        };
        let report = pay.run_on_report(&source, body).await;
        assert_eq!(report.result, Ok(110), "{cut:?}");
        assert_eq!(
            (report.attempts, report.replayed),
            (attempts, false),
            "{cut:?}"
        );
        let again = pay.run_on_report(&source, body).await;
        assert_eq!((again.result, again.replayed), (Ok(110), true), "{cut:?}");
        assert_eq!(runs.load(Ordering::Relaxed), attempts);
        assert_eq!(bed.balances()[0], (1, 110), "{cut:?}");
    }
}

/// A refusal is remembered by a COMMIT like any other.
#[scenario]
async fn a_refusal_whose_commit_has_no_answer_is_found_again() {
    for (cut, attempts) in [(Cut::AnswerLost, 1), (Cut::BeforeSent, 2)] {
        let bed = with_table().await;
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), cut);
        let ledger = Ledger::new();
        let runner = Runner::default().with_clock(InstantClock::new());
        let pay = runner.operation("pay").ledger(&ledger).idempotency_key("k");
        let pay = pay.answer().remember_refusals(|_: &Error| Some(404));
        let source = async || Conn::establish(proxy.url()).await;
        let body = async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            Err(Error::NotFound)
        };
        for is_replayed in [false, true] {
            let report = pay.run_on_report(&source, body).await;
            assert_eq!(
                (report.result, report.replayed),
                (Ok(404), is_replayed),
                "{cut:?}"
            );
            assert_eq!(
                report.attempts,
                if is_replayed { 1 } else { attempts },
                "{cut:?}"
            );
        }
        assert_eq!(bed.balances()[0], (1, 100), "{cut:?}");
    }
}

/// Its COMMIT was lost on the way, and another call does the work before it asks.
#[scenario]
async fn what_another_call_has_done_meanwhile_is_not_taken_for_its_own() {
    let bed = Arc::new(with_table().await);
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::BeforeSent);
    let clock = {
        let bed = Arc::clone(&bed);
        dbop_tests::Meanwhile::new(move |sleep| {
            if sleep == 1 {
                // The session of the lost COMMIT can live for a moment still.
                complete(&holder(&bed));
            }
        })
    };
    let ledger = Ledger::new();
    let runner = Runner::default().with_clock(clock);
    let pay = runner.operation("pay").ledger(&ledger).idempotency_key("k");
    let report = pay
        .answer()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                QueryResult::Ok(8)
            },
        )
        .await;
    assert_eq!((report.result, report.replayed), (Ok(7), true));
    assert_eq!(report.attempts, 2);
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn it_costs_two_statements_and_no_round_trip() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    let ledger = Ledger::new();
    let runner = Runner::default();
    let mut conn = Conn::establish(proxy.url()).await.expect("a connection");
    let body = async |conn: &mut Conn| {
        conn.batch_execute("UPDATE accounts SET balance = 1")
            .await?;
        QueryResult::Ok(1)
    };
    // On PostgreSQL a runner's first operation asks its session, which takes statements of its own.
    assert_eq!(runner.run(&mut conn, body).await, Ok(1));
    let (mut trips, mut statements) = (Vec::new(), Vec::new());
    for key in ["", "a", "b", "b"] {
        proxy.reset();
        let operation = runner.operation("pay");
        let result = match key {
            "" => operation.run(&mut conn, body).await,
            key => {
                let pay = operation.ledger(&ledger).idempotency_key(key).answer();
                pay.run(&mut conn, body).await
            }
        };
        assert_eq!(result, Ok(1));
        trips.push(proxy.round_trips());
        let lines = proxy.conversation();
        statements.push(lines.iter().flat_map(|line| line.split("; ")).count());
    }
    assert_eq!(trips[1..3], [trips[0]; 2]);
    assert_eq!(statements[1..3], [statements[0] + 2; 2]);
    // A replay: what fails, its ROLLBACK, and the row, which is prepared. Each batch takes three with Diesel
    // on MySQL, which announces it.
    assert!(trips[3] <= if IS_MYSQL { 8 } else { 4 }, "{trips:?}");
}
