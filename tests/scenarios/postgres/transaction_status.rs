//! PostgreSQL says what became of a transaction whose id is known. A transaction without one has
//! written nothing.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{GivenUp, Jitter, Outcome, Report, RetryPolicy, StopReason};
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use dbop_tests::{
    InstantClock, Meanwhile, Said, assert_rolled_back, blocking, eventually, is_unknown,
};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance, insert};
use super::steps::session_id;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, after_commit, scenario};

/// How often the server was asked.
fn questions(proxy: &Proxy) -> usize {
    let lines = proxy.conversation();
    let executed = |line: &&String| line.starts_with("Execute") && line.contains("pg_xact_status");
    lines.iter().filter(executed).count()
}

#[scenario]
async fn what_wrote_nothing_is_done_again_without_asking() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("look")
        .transaction_status()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| balance(conn, 1).await,
        )
        .await;
    assert_eq!(report.result, Ok(100));
    assert_eq!(report.attempts, 2);
    assert_eq!(questions(&proxy), 0);
}

#[scenario]
async fn while_it_is_in_progress_the_server_is_asked_again() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let cut = proxy.cut(When::commit(), Cut::Late(Until::Released));
    let late = cut.clone();
    let clock = Meanwhile::new(move |number| {
        if number == 3 {
            late.release();
            late.wait_until_finished();
        }
    });
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .operation("pay")
        .transaction_status()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(clock.slept().len(), 3);
    assert_eq!(questions(&proxy), 3);
    assert_eq!(proxy.connections(), 2, "one for all questions");
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn if_it_stays_in_progress_nothing_is_claimed() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let cut = proxy.cut(When::commit(), Cut::Late(Until::Released));
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("pay")
        .max_retries(2)
        .transaction_status()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert!(is_unknown(&report.result.expect_err("nobody knows")));
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(questions(&proxy), 3);
    assert_eq!(bed.balances()[0], (1, 100));
    cut.release();
    blocking(|| cut.wait_until_finished());
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn what_was_aborted_is_done_again() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::BeforeSent);
    let policy = RetryPolicy::new()
        .with_initial_delay(Duration::from_millis(50))
        .with_jitter(Jitter::None);
    let bodies = AtomicU32::new(0);
    let report = Runner::new(policy)
        .operation("pay")
        .transaction_status()
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
    assert!(questions(&proxy) >= 1);
    assert_eq!(bed.balances()[0], (1, 110));
}

/// Those of the attempt that was committed, once; and none if it was not, or if that stays unknown.
#[scenario]
async fn hooks_are_called_if_the_server_says_that_it_was_committed() {
    const COMMITTED: (Outcome, StopReason) = (Outcome::Committed, StopReason::Succeeded);
    const UNDONE: (Outcome, StopReason) = (Outcome::Undone, StopReason::RetriesExhausted);
    const UNKNOWN: (Outcome, StopReason) = (Outcome::Unknown, StopReason::OutcomeUnknown);
    let late = Cut::Late(Until::Released);
    for (cut, retries, end, expected) in [
        (Cut::AnswerLost, 5, COMMITTED, &["builder", "attempt 1"][..]),
        (Cut::BeforeSent, 5, COMMITTED, &["builder", "attempt 2"]),
        (Cut::BeforeSent, 0, UNDONE, &["given up"]),
        (late, 2, UNKNOWN, &["given up"]),
    ] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        let planned = proxy.cut(When::commit(), cut);
        let (said, bodies, session) = (Said::new(), AtomicU32::new(0), AtomicI64::new(0));
        let (hook, note) = (|| said.say("builder"), |_: &GivenUp| said.say("given up"));
        let source = async || {
            // The server takes a moment to notice that its client is gone.
            let session = session.load(Ordering::Relaxed);
            if cut == Cut::BeforeSent && session != 0 {
                eventually("it is rolled back", || !bed.has_written(session));
            }
            Conn::establish(proxy.url()).await
        };
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .operation("pay")
            .max_retries(retries)
            .transaction_status()
            .after_commit(&hook)
            .after_giving_up(&note)
            .run_on_report(&source, async |conn: &mut Conn| {
                session.store(session_id(conn).await, Ordering::Relaxed);
                let number = bodies.fetch_add(1, Ordering::Relaxed) + 1;
                let said = said.clone();
                after_commit(conn, async move || said.say(format!("attempt {number}")))?;
                add(conn, 1, 10).await
            })
            .await;
        assert_eq!((report.outcome, report.stop), end, "{cut:?} {retries}");
        assert_eq!(said.all(), expected, "{cut:?} {retries}");
        assert_eq!(said.holders(), 0, "{cut:?} {retries}");
        if cut == late {
            planned.release();
            blocking(|| planned.wait_until_finished());
        }
    }
}

/// Nothing but the COMMIT itself can be lost without a trace.
#[scenario]
async fn lost_with_the_question_for_its_id_it_is_undone() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let question = When::statement("pg_current_xact_id_if_assigned");
    _ = proxy.cut(question, Cut::AnswerLost);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("pay")
        .transaction_status()
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.attempts, 2);
    assert_eq!(questions(&proxy), 0);
    assert_eq!(bed.balances()[0], (1, 110));
}

/// The question for the id is what finds it out, instead of the COMMIT.
#[scenario]
async fn a_swallowed_error_is_not_a_success_here_either() {
    let bed = Bed::new();
    let report = Runner::default()
        .operation("pay")
        .transaction_status()
        .run_on_report(
            &async || Conn::establish(bed.url()).await,
            async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                _ = insert(conn, 1).await;
                Ok::<_, Error>("all is well")
            },
        )
        .await;
    assert_rolled_back(&report);
    assert_eq!(bed.balances()[1], (2, 100));
}

/// What comes after its own COMMIT has no id, or one of another transaction, and would be done again
/// with all that came before it.
#[scenario]
async fn what_the_operation_has_committed_by_itself_is_not_done_again() {
    for (ends, second, cut) in [
        ("COMMIT", 110, None),
        ("COMMIT", 110, Some(Cut::BeforeSent)),
        ("COMMIT", 110, Some(Cut::AnswerLost)),
        ("COMMIT; BEGIN", 100, None),
        ("COMMIT; BEGIN", 100, Some(Cut::BeforeSent)),
        ("COMMIT; BEGIN", 100, Some(Cut::AnswerLost)),
    ] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        if let Some(cut) = cut {
            _ = proxy.cut(When::statement("RELEASE SAVEPOINT dbop_alive"), cut);
        }
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .operation("commits by itself")
            .transaction_status()
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
        assert!(is_unknown(&report.result.expect_err("nobody knows")));
        assert_eq!(report.outcome, Outcome::Unknown);
        assert_eq!((report.attempts, bodies.into_inner()), (1, 1), "{ends}");
        assert_eq!(bed.balances()[..2], [(1, 110), (2, second)], "{ends}");
    }
}

/// It loses the mark, and with it the answer, if COMMIT is lost. Nothing else.
#[scenario]
async fn an_operation_that_resets_all_settings_is_committed() {
    for cut in [None, Some(Cut::AnswerLost)] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        if let Some(cut) = cut {
            _ = proxy.cut(When::commit(), cut);
        }
        let report: Report<(), Error> = Runner::default()
            .operation("resets")
            .transaction_status()
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    add(conn, 1, 10).await?;
                    conn.batch_execute("RESET ALL").await
                },
            )
            .await;
        assert_eq!(report.attempts, 1);
        assert_eq!(bed.balances()[0], (1, 110));
        if cut.is_none() {
            assert_eq!(report.outcome, Outcome::Committed);
        } else {
            assert_eq!(report.outcome, Outcome::Unknown);
        }
    }
}

/// It is prepared once for each connection.
#[scenario]
async fn it_costs_one_query_and_none_for_nested_operations() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let runner = Runner::default();
    let source = async || Conn::establish(proxy.url()).await;
    let body = async |conn: &mut Conn| -> QueryResult<()> {
        runner
            .run(conn, async |conn: &mut Conn| {
                conn.batch_execute("UPDATE accounts SET balance = 1").await
            })
            .await
    };
    assert_eq!(runner.run_on(&source, body).await, Ok(()));
    let without = proxy.round_trips();
    proxy.reset();
    let operation = runner.operation("pay").transaction_status();
    assert_eq!(operation.run_on(&source, body).await, Ok(()));
    let lines = proxy.conversation();
    let is_question =
        |line: &&String| line.starts_with("Execute") && line.contains("pg_current_xact_id");
    assert_eq!(lines.iter().filter(is_question).count(), 1, "{lines:?}");
    let query = 2;
    assert_eq!(proxy.round_trips(), without + query, "{lines:?}");
}

/// That the server refuses writes says as much.
#[scenario]
async fn what_is_read_only_is_not_asked_for_its_id() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let result: QueryResult<i64> = Runner::default()
        .with_clock(InstantClock::new())
        .operation("look")
        .read_only()
        .transaction_status()
        .run_on(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| balance(conn, 1).await,
        )
        .await;
    assert_eq!(result, Ok(100));
    let lines = proxy.conversation();
    assert!(!lines.iter().any(|line| line.contains("xact")), "{lines:?}");
}
