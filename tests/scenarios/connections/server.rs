//! `run_on`: a fault that needs another connection gets one, whatever the source, and the report
//! tells of it. What was never begun is tried again; what may have been committed is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, OperationError as _, Outcome, Report, RetryPolicy, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{Capture, InstantClock, Meanwhile};
use diesel::QueryResult;
use diesel::result::Error;

use super::LOSS_IS_NOTICED;

use super::money::{add, balance};
use super::steps::{Sessions, classes, session_id};
use super::{Bed, Conn, Runner, backend, helper, scenario, source};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

/// An attempt was lost with its connection, and the second one did it.
fn assert_second_attempt_did_it(report: &Report<usize, Error>) {
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.attempts, 2);
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!(report.stop, StopReason::Succeeded);
    let [first] = &report.failures[..] else {
        panic!("{:?}", report.failures);
    };
    let fault = first.fault.expect("of the database");
    assert_eq!(fault.class(), FaultClass::ConnectionLost);
    assert!(first.error.is_some());
}

#[scenario]
async fn a_session_ended_under_the_operation_is_replaced() {
    let bed = Bed::new();
    let source = source(bed.url());
    let (clock, log, sessions) = (InstantClock::new(), Capture::new(), Sessions::default());
    let report = Runner::default()
        .with_clock(clock.clone())
        .with_logger(log.clone())
        .operation("pay")
        .run_on_report(&source, async |conn: &mut Conn| {
            let session = session_id(conn).await;
            let attempt = sessions.add(session);
            add(conn, 1, 10).await?;
            if attempt == 1 {
                bed.kill(session);
                bed.wait_until_gone(session);
            }
            add(conn, 2, 5).await
        })
        .await;
    assert_second_attempt_did_it(&report);
    let [first, second] = sessions.all()[..] else {
        panic!("{:?}", sessions.all());
    };
    assert_ne!(first, second);
    assert_eq!(bed.balances(), [(1, 110), (2, 105), (3, 100)]);
    // The server is there: no slow delay.
    let slept = clock.slept();
    assert!(
        slept.len() == 1 && slept[0] <= Duration::from_millis(100),
        "{slept:?}"
    );
    assert_eq!(classes(&log), ["connection_lost"]);
    assert_eq!(log.records()[1].text, "pay: done in attempt 2");
}

#[scenario]
async fn a_wire_cut_under_the_operation_is_replaced() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let source = source(proxy.url());
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_on_report(&source, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                proxy.cut_all();
            }
            add(conn, 2, 5).await
        })
        .await;
    assert_second_attempt_did_it(&report);
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(bed.balances(), [(1, 110), (2, 105), (3, 100)]);
}

/// Even if the body does not mention it: where it is known that COMMIT was never sent.
#[scenario]
async fn a_loss_that_the_operation_swallows_is_replaced_or_nobody_knows() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let source = source(proxy.url());
    let bodies = AtomicU32::new(0);
    let report: Report<usize, Error> = Runner::default()
        .with_clock(InstantClock::new())
        .run_on_report(&source, async |conn: &mut Conn| {
            let done = add(conn, 1, 10).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                _ = proxy.cut(When::statement("SELECT"), Cut::BeforeSent);
                _ = balance(conn, 1).await;
            }
            Ok(done)
        })
        .await;
    if LOSS_IS_NOTICED {
        assert_eq!(report.result, Ok(1));
        assert_eq!((report.attempts, report.outcome), (2, Outcome::Committed));
    } else {
        // COMMIT was not sent: or was, as far as anybody knows.
        assert_eq!((report.attempts, report.outcome), (1, Outcome::Unknown));
    }
    let done = i64::from(LOSS_IS_NOTICED);
    assert_eq!(bed.balances(), [(1, 100 + 10 * done), (2, 100), (3, 100)]);
    assert_eq!(proxy.cuts_made(), 1);
}

/// BEGIN may have arrived or not: nothing can have been committed by it.
#[scenario]
async fn a_begin_that_is_lost_is_tried_again() {
    for cut in [Cut::BeforeSent, Cut::AnswerLost] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        let source = source(proxy.url());
        _ = proxy.cut(When::statement(backend::BEGIN), cut);
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .run_on_report(&source, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            })
            .await;
        assert_second_attempt_did_it(&report);
        assert_eq!(bodies.into_inner(), 1);
        assert_eq!(proxy.cuts_made(), 1);
        assert_eq!(bed.balances()[0], (1, 110));
    }
}

#[scenario]
async fn a_commit_that_is_lost_is_not_tried_again() {
    for (cut, now) in [(Cut::BeforeSent, 100), (Cut::AnswerLost, 110)] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        let source = source(proxy.url());
        let planned = proxy.cut(When::commit(), cut);
        let clock = InstantClock::new();
        let report = Runner::default()
            .with_clock(clock.clone())
            .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        planned.wait_until_finished();
        let error = report.result.expect_err("nobody knows");
        let error = error.dbop_error().expect("an error of dbop's own");
        assert!(error.is_outcome_unknown());
        assert_eq!((report.attempts, report.outcome), (1, Outcome::Unknown));
        assert_eq!(report.stop, StopReason::OutcomeUnknown);
        assert_eq!(clock.slept(), []);
        assert_eq!(bed.balances()[0], (1, now));
    }
}

/// As often as the policy says, and not once more.
#[scenario]
async fn a_session_ended_in_every_attempt_is_given_up_in_the_end() {
    let bed = Bed::new();
    let source = source(bed.url());
    let sessions = Sessions::default();
    let report: Report<usize, Error> = Runner::new(RetryPolicy::new().with_max_silent_losses(9))
        .with_clock(InstantClock::new())
        .operation("pay")
        .max_retries(2)
        .run_on_report(&source, async |conn: &mut Conn| {
            let session = session_id(conn).await;
            sessions.add(session);
            bed.kill(session);
            bed.wait_until_gone(session);
            add(conn, 1, 10).await
        })
        .await;
    assert!(report.result.is_err());
    assert_eq!(
        (report.attempts, report.stop),
        (3, StopReason::RetriesExhausted)
    );
    assert_eq!(
        (report.outcome, report.failures.len()),
        (Outcome::Undone, 3)
    );
    let mut sessions = sessions.all();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 3, "each on a session of its own");
    assert_eq!(bed.balances(), UNTOUCHED);
}

/// A nested operation cannot have another connection: the outermost one gets it for all.
#[scenario]
async fn a_session_ended_under_a_nested_operation_starts_everything_again() {
    let bed = Bed::new();
    let source = source(bed.url());
    let runner = Runner::default().with_clock(InstantClock::new());
    let (bodies, steps) = (AtomicU32::new(0), AtomicU32::new(0));
    let result = runner
        .run_on(&source, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            lose_in_step(&runner, conn, &bed, &steps).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!((bodies.into_inner(), steps.into_inner()), (2, 2));
    assert_eq!(bed.balances(), [(1, 110), (2, 105), (3, 100)]);
}

#[helper]
async fn lose_in_step(
    runner: &Runner,
    conn: &mut Conn,
    bed: &Bed,
    steps: &AtomicU32,
) -> QueryResult<usize> {
    runner
        .run(conn, async |conn: &mut Conn| {
            let session = session_id(conn).await;
            if steps.fetch_add(1, Ordering::Relaxed) == 0 {
                bed.kill(session);
                bed.wait_until_gone(session);
            }
            add(conn, 2, 5).await
        })
        .await
}

#[scenario]
async fn settings_are_in_force_on_each_fresh_connection() {
    let bed = Bed::new();
    let source = source(bed.url());
    let holder = bed.opponent();
    holder.execute("BEGIN");
    holder.execute("UPDATE accounts SET balance = 0 WHERE id = 2");
    let sessions = Sessions::default();
    let report: Report<usize, Error> = Runner::default()
        .with_clock(InstantClock::new())
        .operation("wait")
        .lock_timeout(Duration::from_secs(1))
        .max_retries(1)
        .run_on_report(&source, async |conn: &mut Conn| {
            let session = session_id(conn).await;
            if sessions.add(session) == 1 {
                bed.kill(session);
                bed.wait_until_gone(session);
            }
            // Without the setting it would be given up after ten seconds, or fifty.
            add(conn, 2, 1).await
        })
        .await;
    holder.execute("ROLLBACK");
    assert_eq!(sessions.all().len(), 2);
    let fault = report.failures[1].fault.expect("of the database");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert!(
        report.elapsed < Duration::from_secs(9),
        "{:?}",
        report.elapsed
    );
    assert_eq!(bed.balances(), UNTOUCHED);
}

/// What can be tried again on the same session is tried again, wherever.
#[scenario]
async fn a_deadlock_is_tried_again_after_the_rollback() {
    let bed = Bed::new();
    let source = source(bed.url());
    let opponent = Arc::new(bed.opponent());
    opponent.execute("BEGIN");
    opponent.execute(backend::BALLAST);
    opponent.execute("UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
    let winner = Arc::clone(&opponent);
    let clock = Meanwhile::new(move |_| {
        winner.finish().expect("it got its lock");
        winner.execute("COMMIT");
    });
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .run_on_report(&source, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                opponent.start("UPDATE accounts SET balance = balance + 1000 WHERE id = 1");
                bed.wait_until_blocked(opponent.id());
            }
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    let fault = report.failures[0].fault.expect("known");
    assert_eq!(fault.class(), FaultClass::Deadlock);
    assert_eq!(clock.slept().len(), 1);
    assert_eq!(bed.balances(), [(1, 1110), (2, 1110), (3, 100)]);
}
