//! The question about a token of the ledger: its "no" is committed, and so final; its "yes" is, too; and
//! whatever is in its way is neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Dialect, Jitter, Ledger, Outcome, RetryPolicy, StopReason};
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use dbop_tests::{InstantClock, Meanwhile, Number, blocking};
use diesel::{QueryResult, sql_query};

use super::ledger::with_table;
use super::money::add;
use super::{Bed, Conn, Connection as _, RunQueryDsl, Runner, backend, helper, scenario};

const IS_MYSQL: bool = matches!(backend::DIALECT, Dialect::Mysql);

/// The rows of a state: 1 is that of committed work, 2 of what is never committed.
#[helper]
async fn rows_of_state(bed: &Bed, state: u8) -> i64 {
    let count = format!("SELECT count(*) AS n FROM dbop_ledger WHERE state = {state}");
    let row: Number = sql_query(count)
        .get_result(&mut bed.connect())
        .await
        .expect("a number");
    row.n
}

#[helper]
pub(crate) async fn session_id(conn: &mut Conn) -> QueryResult<i64> {
    let row: Number = sql_query(match IS_MYSQL {
        true => "SELECT CAST(CONNECTION_ID() AS SIGNED) AS n",
        false => "SELECT pg_backend_pid()::bigint AS n",
    })
    .get_result(conn)
    .await?;
    Ok(row.n)
}

/// The rows that the operations on a proxy have begun with, in SQL: `X'..', X'..'`.
pub(crate) fn rows_written(proxy: &Proxy) -> Vec<String> {
    let lines = proxy.conversation();
    let rows = lines.iter().filter_map(|line| {
        let (_, rest) = line.split_once("INSERT INTO dbop_ledger (scope, id) VALUES (")?;
        let row = rest.split(';').next().expect("the statement");
        Some(row.trim().trim_end_matches(')').to_owned() + if IS_MYSQL { "" } else { ")" })
    });
    rows.collect()
}

/// What another asker sends about this row.
pub(crate) fn question_about(row: &str) -> String {
    let found = match IS_MYSQL {
        true => "ON DUPLICATE KEY UPDATE changed_at = CURRENT_TIMESTAMP(6)",
        false => "ON CONFLICT (scope, id) DO UPDATE SET changed_at = clock_timestamp()",
    };
    format!("INSERT INTO dbop_ledger (scope, id, state) VALUES ({row}, 2) {found}")
}

/// One whose delays say nothing about the time that has passed.
fn runner() -> Runner {
    Runner::new(RetryPolicy::new().with_jitter(Jitter::None)).with_clock(InstantClock::new())
}

#[scenario]
async fn after_a_no_that_is_committed_the_next_attempt_has_another_token() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::BeforeSent);
    let (ledger, bodies) = (Ledger::new(), AtomicU32::new(0));
    let report = runner()
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    let tokens = rows_written(&proxy);
    assert_eq!(tokens.len(), 2, "{tokens:?}");
    assert_ne!(tokens[0], tokens[1]);
    let states = [
        rows_of_state(&bed, 0).await,
        rows_of_state(&bed, 1).await,
        rows_of_state(&bed, 2).await,
    ];
    assert_eq!(states, [0, 1, 1]);
    assert_eq!(bed.balances()[0], (1, 110));
}

/// The session of the attempt is ended, so that it holds the token no longer, and its COMMIT is on its way
/// still. No is no, whatever is in flight.
#[scenario]
async fn a_commit_that_comes_after_the_no_commits_nothing() {
    let bed = Arc::new(with_table().await);
    let proxy = Proxy::start(bed.url());
    let cut = proxy.cut(When::commit(), Cut::Late(Until::Released));
    let session = Arc::new(AtomicI64::new(0));
    let clock = {
        let (bed, session) = (Arc::clone(&bed), Arc::clone(&session));
        Meanwhile::new(move |sleep| {
            if sleep == 1 {
                bed.kill(session.load(Ordering::Relaxed));
                bed.wait_until_gone(session.load(Ordering::Relaxed));
            }
        })
    };
    let ledger = Ledger::new();
    let report = runner()
        .with_clock(clock)
        .operation("pay")
        .max_retries(0)
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                session.store(session_id(conn).await?, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    report.result.expect_err("undone");
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!(rows_of_state(&bed, 2).await, 1, "it is committed");
    // What still comes with this token finds it taken: the whole batch of the attempt that was lost.
    let tokens = rows_written(&proxy);
    let late = bed.opponent();
    late.start(&format!(
        "BEGIN; INSERT INTO dbop_ledger (scope, id) VALUES ({}); \
         UPDATE accounts SET balance = 0; COMMIT",
        tokens[0]
    ));
    late.finish().expect_err("a duplicate");
    late.execute("ROLLBACK");
    cut.release();
    blocking(|| cut.wait_until_finished());
    assert_eq!(bed.balances()[0], (1, 100));
}

/// Until then it can change: on another server, or in a crash. So a question whose COMMIT is lost is asked
/// again, and finds itself.
#[scenario]
async fn an_answer_counts_once_it_is_committed() {
    for (cut, attempts) in [(Cut::AnswerLost, 1), (Cut::BeforeSent, 2)] {
        for cut_of_question in [Cut::AnswerLost, Cut::BeforeSent] {
            let cell = (cut, cut_of_question);
            let bed = with_table().await;
            let proxy = Proxy::start(bed.url());
            _ = proxy.cut(When::commit(), cut);
            _ = proxy.cut(When::commit().nth(2), cut_of_question);
            let (ledger, bodies) = (Ledger::new(), AtomicU32::new(0));
            let clock = InstantClock::new();
            let report = runner()
                .with_clock(clock.clone())
                .operation("pay")
                .ledger(&ledger)
                .run_on_report(
                    &async || Conn::establish(proxy.url()).await,
                    async |conn: &mut Conn| {
                        bodies.fetch_add(1, Ordering::Relaxed);
                        add(conn, 1, 10).await
                    },
                )
                .await;
            assert_eq!(report.result, Ok(1), "{cell:?}");
            let counted = (report.attempts, bodies.into_inner());
            assert_eq!(counted, (attempts, attempts), "{cell:?}");
            assert_eq!(clock.slept().len(), 2, "asked twice: {cell:?}");
            assert_eq!(proxy.cuts_made(), 2, "{cell:?}");
            assert_eq!(bed.balances()[0], (1, 110), "{cell:?}");
            let never = i64::from(cut == Cut::BeforeSent);
            assert_eq!(rows_of_state(&bed, 2).await, never, "{cell:?}");
            assert_eq!(rows_of_state(&bed, 1).await, 1, "{cell:?}");
            // Without another question, nothing is claimed.
            let proxy = Proxy::start(bed.url());
            _ = proxy.cut(When::commit(), cut);
            _ = proxy.cut(When::commit().nth(2), cut_of_question);
            let report = runner()
                .operation("pay once")
                .max_retries(0)
                .ledger(&ledger)
                .run_on_report(
                    &async || Conn::establish(proxy.url()).await,
                    async |conn: &mut Conn| add(conn, 1, 10).await,
                )
                .await;
            assert_eq!(report.outcome, Outcome::Unknown, "{cell:?}");
        }
    }
}

/// When the only row of the ledger was written, in microseconds.
#[helper]
async fn written_at(bed: &Bed) -> i64 {
    let row: Number = sql_query(match IS_MYSQL {
        true => "SELECT CAST(UNIX_TIMESTAMP(changed_at) * 1000000 AS SIGNED) AS n FROM dbop_ledger",
        false => "SELECT (extract(epoch FROM changed_at) * 1000000)::bigint AS n FROM dbop_ledger",
    })
    .get_result(&mut bed.connect())
    .await
    .expect("one row");
    row.n
}

/// So that its COMMIT waits for the same standbys: a "yes" that only reads could be taken back by a
/// failover.
#[scenario]
async fn a_yes_is_written() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    _ = proxy.cut(When::commit().nth(2), Cut::BeforeSent);
    let ledger = Ledger::new();
    let pay = async |conn: &mut Conn| add(conn, 1, 10).await;
    let source = async || Conn::establish(proxy.url()).await;
    let runner = runner();
    let once = runner.operation("pay").max_retries(0).ledger(&ledger);
    let report = once.run_on_report(&source, pay).await;
    assert_eq!(report.outcome, Outcome::Unknown, "asked in vain");
    let before = written_at(&bed).await;
    // Another asker finds it, as this one would have.
    let row = &rows_written(&proxy)[0];
    let asks = bed.opponent();
    asks.execute(&question_about(row));
    assert!(written_at(&bed).await > before);
    assert_eq!(rows_of_state(&bed, 1).await, 1);
    // And so does dbop itself.
    let asked = proxy.conversation().into_iter();
    let asked: Vec<_> = asked.filter(|line| line.contains(", 2) ON")).collect();
    assert!(
        asked.len() == 1 && asked[0].contains(&question_about(row)),
        "{asked:?}"
    );
}

/// Another asker has the row. Its answer is waited for, and a lock timeout is none.
#[scenario]
async fn of_two_askers_one_waits_for_the_other() {
    for ends in ["COMMIT", "ROLLBACK"] {
        let bed = with_table().await;
        let proxy = Arc::new(Proxy::start(bed.url()));
        _ = proxy.cut(When::commit(), Cut::BeforeSent);
        let other = bed.opponent();
        let clock = {
            let proxy = Arc::clone(&proxy);
            Meanwhile::new(move |sleep| match sleep {
                1 => {
                    // Waits until the server has noticed that the client is gone.
                    let row = &rows_written(&proxy)[0];
                    other.execute(&format!("BEGIN; {}", question_about(row)));
                }
                2 => other.execute(ends),
                _ => {}
            })
        };
        let (ledger, bodies) = (Ledger::new(), AtomicU32::new(0));
        let report = runner()
            .with_clock(clock.clone())
            .operation("pay")
            .lock_timeout(Duration::from_secs(1))
            .ledger(&ledger)
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                },
            )
            .await;
        assert_eq!(report.result, Ok(1), "{ends}");
        assert_eq!((report.attempts, bodies.into_inner()), (2, 2), "{ends}");
        assert_eq!(clock.slept().len(), 2, "asked twice: {ends}");
        let states = [rows_of_state(&bed, 1).await, rows_of_state(&bed, 2).await];
        assert_eq!(states, [1, 1], "{ends}");
        assert_eq!(bed.balances()[0], (1, 110), "{ends}");
    }
}

/// Nor is it a "no" where no further question is left.
#[scenario]
async fn a_lock_timeout_of_the_question_is_no_answer() {
    let bed = with_table().await;
    let proxy = Arc::new(Proxy::start(bed.url()));
    _ = proxy.cut(When::commit(), Cut::BeforeSent);
    let other = bed.opponent();
    let clock = {
        let proxy = Arc::clone(&proxy);
        Meanwhile::new(move |_| {
            let row = &rows_written(&proxy)[0];
            other.execute(&format!("BEGIN; {}", question_about(row)));
        })
    };
    let ledger = Ledger::new();
    let report = runner()
        .with_clock(clock)
        .operation("pay")
        .max_retries(0)
        .lock_timeout(Duration::from_secs(1))
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    report.result.expect_err("not known");
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
}
