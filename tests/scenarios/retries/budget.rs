//! A budget bounds the retries of all operations together. When it is spent, an operation that would be
//! retried fails at once, with its own error, and says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{
    FaultClass, OperationError as _, Outcome, Report, RetryBudget, RetryPolicy, StopReason,
};
use dbop_tests::{Capture, InstantClock};
use diesel::QueryResult;
use diesel::result::Error;
use log::Level;

use super::money::{add, insert};
use super::{Bed, Conn, Connection as _, Runner, helper, scenario};

/// So that a unique violation, which needs no one else, can stand for what may be retried.
const POLICY: RetryPolicy = RetryPolicy::new().with_retry_on(FaultClass::Constraint);

/// What another session does to hold account 2 and, on SQLite, everything.
const HOLD_2: &str = "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2";

const SOON: Duration = Duration::from_millis(50);

/// So many retries, and no more.
fn retries(count: u32) -> RetryBudget {
    RetryBudget::token_bucket(5 * count)
}

fn left(runner: &Runner) -> u32 {
    let budget = runner.retry_budget().expect("it has one");
    budget.retries_left(Instant::now())
}

#[helper]
async fn wait_for_2(runner: &Runner, conn: &mut Conn) -> Report<usize, Error> {
    runner
        .operation("add")
        .lock_timeout(SOON)
        .run_report(conn, async |conn: &mut Conn| add(conn, 2, 10).await)
        .await
}

#[helper]
async fn duplicate(runner: &Runner, conn: &mut Conn) -> Report<usize, Error> {
    runner
        .run_report(conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await
}

#[scenario]
async fn a_locked_row_is_given_up_at_once_when_the_budget_is_spent() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_2);
    let mut conn = bed.connect();
    let (clock, log) = (InstantClock::new(), Capture::new());
    let runner = Runner::default()
        .with_clock(clock.clone())
        .with_logger(log.clone())
        .with_retry_budget(retries(2));
    let report = wait_for_2(&runner, &mut conn).await;
    let error = report.result.expect_err("locked");
    assert!(matches!(error, Error::DatabaseError(..)), "{error:?}");
    assert!(error.dbop_error().is_none(), "the database's own");
    assert_eq!(
        (report.attempts, report.stop),
        (3, StopReason::BudgetExhausted)
    );
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(clock.slept().len(), 2);
    assert_eq!(log.levels(), [Level::Warn, Level::Warn, Level::Error]);
    let last = &log.records()[2];
    assert!(last.text.ends_with("the retry budget is spent"), "{last:?}");
    // A clone has the same one. Its first attempt is not refused.
    let report = wait_for_2(&runner.clone(), &mut conn).await;
    assert_eq!(
        (report.attempts, report.stop),
        (1, StopReason::BudgetExhausted)
    );
    assert_eq!(clock.slept().len(), 2);
    opponent.execute("COMMIT");
    for _ in 0..5 {
        let report = wait_for_2(&runner, &mut conn).await;
        assert_eq!(report.stop, StopReason::Succeeded);
    }
    assert_eq!(left(&runner), 1, "five successes");
    assert_eq!(bed.balances(), [(1, 100), (2, 151), (3, 100)]);
}

#[scenario]
async fn without_a_budget_nothing_is_refused() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::new(POLICY).with_clock(InstantClock::new());
    assert!(runner.retry_budget().is_none());
    for _ in 0..30 {
        let report = duplicate(&runner, &mut conn).await;
        assert_eq!(report.stop, StopReason::RetriesExhausted);
    }
}

#[scenario]
async fn runners_can_share_a_budget() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let shared = Arc::new(retries(7));
    let runner = || {
        Runner::new(POLICY)
            .with_clock(InstantClock::new())
            .with_retry_budget(Arc::clone(&shared))
    };
    let (one, other) = (runner(), runner());
    let report = duplicate(&one, &mut conn).await;
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!((left(&one), left(&other)), (2, 2));
    let report = duplicate(&other, &mut conn).await;
    assert_eq!(
        (report.attempts, report.stop),
        (3, StopReason::BudgetExhausted)
    );
    assert_eq!(left(&one), 0);
}

#[scenario]
async fn a_share_of_the_successes_may_be_retried() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let budget = RetryBudget::share_of_successes(50, Duration::from_secs(600), 0);
    let runner = Runner::new(POLICY)
        .with_clock(InstantClock::new())
        .with_retry_budget(budget);
    let report = duplicate(&runner, &mut conn).await;
    assert_eq!(
        (report.attempts, report.stop),
        (1, StopReason::BudgetExhausted)
    );
    for _ in 0..6 {
        let result: QueryResult<usize> = runner
            .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
            .await;
        assert_eq!(result, Ok(1));
    }
    assert_eq!(left(&runner), 3);
    let report = duplicate(&runner, &mut conn).await;
    assert_eq!(
        (report.attempts, report.stop),
        (4, StopReason::BudgetExhausted)
    );
}

#[scenario]
async fn a_retry_that_the_deadline_forbids_costs_nothing() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let policy = POLICY
        .with_jitter(dbop_diesel::Jitter::None)
        .with_initial_delay(Duration::from_secs(100))
        .with_max_delay(Duration::from_secs(100));
    let runner = Runner::new(policy)
        .with_clock(InstantClock::new())
        .with_retry_budget(retries(3));
    let report = runner
        .operation("open")
        .deadline(Duration::from_secs(50))
        .run_report(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert_eq!(report.stop, StopReason::DeadlineExceeded);
    assert_eq!(left(&runner), 3);
}

/// Returns how often the outer and the inner body ran, the inner one failing always.
#[helper]
async fn nested(runner: &Runner) -> [u32; 2] {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = [const { AtomicU32::new(0) }; 2];
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            bodies[0].fetch_add(1, Ordering::Relaxed);
            runner
                .operation("inner")
                .max_retries(1)
                .run(conn, async |conn: &mut Conn| {
                    bodies[1].fetch_add(1, Ordering::Relaxed);
                    insert(conn, 1).await
                })
                .await
        })
        .await;
    assert!(result.is_err());
    bodies.map(AtomicU32::into_inner)
}

#[scenario]
async fn each_retry_of_nested_operations_is_paid_for_once() {
    let runner = |count| {
        Runner::new(POLICY)
            .with_clock(InstantClock::new())
            .with_retry_budget(retries(count))
    };
    let rich = runner(100);
    // Inner, outer, inner, outer, inner.
    assert_eq!(nested(&rich).await, [3, 6]);
    assert_eq!(left(&rich), 95);
    let poor = runner(2);
    assert_eq!(nested(&poor).await, [2, 3]);
    assert_eq!(left(&poor), 0);
}

/// In a transaction of the caller's, the step is the outermost operation.
#[scenario]
async fn of_nested_operations_only_the_outermost_is_a_success() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let budget = RetryBudget::share_of_successes(100, Duration::from_secs(600), 0);
    let runner = Runner::default().with_retry_budget(budget);
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| add(conn, 1, 1).await)
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(left(&runner), 1);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| add(conn, 1, 1).await)
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(left(&runner), 2);
}
