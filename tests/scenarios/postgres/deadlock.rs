//! Deadlocks on PostgreSQL (40P01). A transaction of the operation's own is retried. In a savepoint
//! a deadlock is escalated at once, to the operation or caller that can release the locks of the
//! transaction. No other session waits for locks of ours during a delay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, Outcome, StopReason};
use dbop_tests::Capture;
use diesel::QueryResult;

use super::money::add;
use super::steps::{connect, opponent_goes_on_during, session_id};
use super::{Bed, Conn, Connection as _, Runner, scenario};

const HOLD_2: &str = "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2";
const WANT_1: &str = "UPDATE accounts SET balance = balance + 1 WHERE id = 1";

#[scenario]
async fn at_top_level_it_is_rolled_back_before_the_sleep_and_wins_afterwards() {
    let bed = Arc::new(Bed::new());
    let opponent = Arc::new(bed.opponent());
    opponent.execute(HOLD_2);
    let mut conn = connect(&bed).await;
    let session = session_id(&mut conn).await;
    let clock = opponent_goes_on_during(1, &bed, &opponent);
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            if bodies.fetch_add(1, Ordering::Relaxed) == 1 {
                assert!(!bed.has_written(session), "the first attempt is gone");
            }
            add(conn, 1, 10).await?;
            if bodies.load(Ordering::Relaxed) == 1 {
                opponent.start(WANT_1);
                bed.wait_until_blocked(opponent.id());
            }
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!((report.attempts, clock.slept().len()), (2, 1));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::Deadlock);
    assert_eq!(fault.code().expect("a code").to_string(), "40P01");
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!(bed.balances(), [(1, 111), (2, 111), (3, 100)]);
}

#[scenario]
async fn through_a_lock_of_the_outer_operation_it_starts_everything_again() {
    let bed = Arc::new(Bed::new());
    let opponent = Arc::new(bed.opponent());
    opponent.execute(HOLD_2);
    let mut conn = connect(&bed).await;
    let log = Capture::new();
    let clock = opponent_goes_on_during(1, &bed, &opponent);
    let runner = Runner::default()
        .with_clock(clock.clone())
        .with_logger(log.clone());
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let result: QueryResult<usize> = runner
        .operation("outer")
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            if outer.fetch_add(1, Ordering::Relaxed) == 0 {
                opponent.start(WANT_1);
                bed.wait_until_blocked(opponent.id());
            }
            runner
                .operation("inner")
                .run(conn, async |conn: &mut Conn| {
                    inner.fetch_add(1, Ordering::Relaxed);
                    add(conn, 2, 10).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!((outer.into_inner(), inner.into_inner()), (2, 2));
    assert_eq!(clock.slept().len(), 1);
    assert_eq!(bed.balances(), [(1, 111), (2, 111), (3, 100)]);

    let said: Vec<_> = log
        .records()
        .iter()
        .map(|record| format!("{} {}", record.level, record.keys["operation"]))
        .collect();
    let expected = ["WARN inner", "WARN outer", "DEBUG inner", "INFO outer"];
    assert_eq!(said, expected);
    assert_eq!(log.records()[0].keys["transient"], "true");
}

#[scenario]
async fn through_a_lock_of_the_caller_it_goes_up_at_once() {
    let bed = Arc::new(Bed::new());
    let opponent = bed.opponent();
    opponent.execute(HOLD_2);
    let mut conn = connect(&bed).await;
    let clock = dbop_tests::InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            opponent.start(WANT_1);
            bed.wait_until_blocked(opponent.id());
            let report = runner
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 2, 10).await
                })
                .await;
            assert_eq!(report.attempts, 1);
            assert_eq!(report.stop, StopReason::EnclosingTransaction);
            assert_eq!(report.outcome, Outcome::Undone);
            report.result
        })
        .await;
    let error = result.expect_err("it goes up");
    assert_eq!(error.to_string(), "deadlock detected");
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(clock.slept().len(), 0);
    opponent.finish().expect("it got its lock");
    opponent.execute("COMMIT");
    assert_eq!(bed.balances(), [(1, 101), (2, 101), (3, 100)]);
}
