//! Each class can have limits and delays of its own, a function can say how long to wait, and an
//! operation can have its own policy.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{
    ClassPolicy, Dialect, FaultClass, Jitter, Outcome, Report, RetryContext, RetryPolicy,
    StopReason,
};
use dbop_tests::InstantClock;
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, insert, set};
use super::{Bed, Conn, Operation, Runner, backend, caught, depth, helper, scenario};

/// So that a unique violation, which needs no one else, can stand for what may be retried.
const POLICY: RetryPolicy = RetryPolicy::new().with_retry_on(FaultClass::Constraint);

/// The class of a lock that does not come in time.
const LOCKED: FaultClass = match backend::DIALECT {
    Dialect::Sqlite => FaultClass::Busy,
    _ => FaultClass::LockTimeout,
};

/// What another session does to hold account 2 and, on SQLite, everything.
const HOLD_2: &str = "BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = 2";

const SOON: Duration = Duration::from_millis(50);

const fn at_most(max_retries: u32) -> ClassPolicy {
    ClassPolicy::new().with_max_retries(max_retries)
}

fn runner(policy: RetryPolicy) -> Runner {
    Runner::new(policy).with_clock(InstantClock::new())
}

/// Opens an account that exists.
#[helper]
async fn duplicate(operation: Operation<'_>, conn: &mut Conn) -> Report<usize, Error> {
    operation
        .run_report(conn, async |conn: &mut Conn| {
            set(conn, 3, 3).await?;
            insert(conn, 1).await
        })
        .await
}

#[helper]
async fn wait_for_2(operation: Operation<'_>, conn: &mut Conn) -> Report<usize, Error> {
    operation
        .lock_timeout(SOON)
        .run_report(conn, async |conn: &mut Conn| add(conn, 2, 10).await)
        .await
}

fn assert_exhausted(report: &Report<usize, Error>, attempts: u32) {
    assert!(report.result.is_err());
    assert_eq!(report.attempts, attempts, "{:?}", report.failures);
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    assert_eq!(report.outcome, Outcome::Undone);
}

#[scenario]
async fn a_locked_row_is_tried_as_often_as_its_class_says() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    opponent.execute(HOLD_2);
    let mut conn = bed.connect();
    let fewer = runner(RetryPolicy::new().with_class_policy(LOCKED, at_most(1)));
    let report = wait_for_2(fewer.operation("add"), &mut conn).await;
    assert_exhausted(&report, 2);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), LOCKED);
    let more = RetryPolicy::no_retries().with_class_policy(LOCKED, at_most(2));
    let report = wait_for_2(runner(more).operation("add"), &mut conn).await;
    assert_exhausted(&report, 3);
    let other = RetryPolicy::no_retries().with_class_policy(FaultClass::Deadlock, at_most(2));
    let report = wait_for_2(runner(other).operation("add"), &mut conn).await;
    assert_exhausted(&report, 1);
    opponent.execute("COMMIT");
    assert_eq!(bed.balances(), [(1, 100), (2, 101), (3, 100)]);
}

#[scenario]
async fn the_delays_of_a_class_are_its_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let own = ClassPolicy::new()
        .with_max_retries(7)
        .with_initial_delay(Duration::from_millis(1))
        .with_max_delay(Duration::from_millis(10))
        .with_jitter(Jitter::None);
    let clock = InstantClock::new();
    let runner = Runner::new(POLICY.with_class_policy(FaultClass::Constraint, own))
        .with_clock(clock.clone());
    let report = duplicate(runner.operation("open"), &mut conn).await;
    assert_exhausted(&report, 8);
    let expected = [1, 2, 4, 8, 10, 10, 10].map(Duration::from_millis);
    assert_eq!(clock.slept(), expected);
}

/// A second for each attempt so far.
fn by_hand(retry: &RetryContext) -> Duration {
    assert_eq!(retry.class(), Some(FaultClass::Constraint));
    assert_eq!(retry.class_retries() + 1, retry.attempt());
    Duration::from_secs(retry.attempt().into())
}

#[scenario]
async fn a_function_says_how_long_to_wait() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let runner = Runner::new(POLICY.with_backoff_fn(by_hand)).with_clock(clock.clone());
    let report = duplicate(runner.operation("open"), &mut conn).await;
    assert_exhausted(&report, 6);
    assert_eq!(clock.slept(), [1, 2, 3, 4, 5].map(Duration::from_secs));
    // The deadline holds all the same.
    let hurried = runner
        .operation("open")
        .deadline(Duration::from_millis(900));
    let report = duplicate(hurried, &mut conn).await;
    assert_eq!(
        (report.attempts, report.stop),
        (1, StopReason::DeadlineExceeded)
    );
}

fn panics(_: &RetryContext) -> Duration {
    panic!("in the function")
}

#[scenario]
async fn a_function_that_panics_leaves_nothing_behind() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = runner(POLICY.with_backoff_fn(panics));
    let bodies = AtomicU32::new(0);
    let run = async || -> QueryResult<usize> {
        runner
            .run(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                set(conn, 3, 3).await?;
                insert(conn, 1).await
            })
            .await
    };
    let payload = caught(run).await.expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"in the function"));
    assert_eq!((bodies.into_inner(), depth(&mut conn)), (1, Some(0)));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    assert_eq!(set(&mut conn, 3, 7).await, Ok(1), "usable");
}

#[scenario]
async fn an_operation_can_have_a_policy_of_its_own() {
    const ONCE_MORE: RetryPolicy = POLICY.with_max_retries(1);
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = runner(RetryPolicy::new());
    let open = runner.operation("open");
    let report = duplicate(open, &mut conn).await;
    assert_eq!(
        (report.attempts, report.stop),
        (1, StopReason::NotRetryable)
    );
    let report = duplicate(open.policy(&ONCE_MORE), &mut conn).await;
    assert_exhausted(&report, 2);
    let report = duplicate(open.policy(&ONCE_MORE).max_retries(3), &mut conn).await;
    assert_exhausted(&report, 4);
    // It has classes of codes as well.
    let fault = report.failures[0].fault.expect("a database error");
    let code = fault.code().expect("its code");
    let renamed = RetryPolicy::new()
        .with_class_of(code, FaultClass::Deadlock)
        .with_class_policy(FaultClass::Deadlock, at_most(2));
    let report = duplicate(open.policy(&renamed), &mut conn).await;
    assert_exhausted(&report, 3);
}

/// How often the outer and the inner body run, if the inner one always fails.
#[helper]
async fn bodies(outer: &RetryPolicy, inner: &RetryPolicy) -> [u32; 2] {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = runner(POLICY);
    let bodies = [const { AtomicU32::new(0) }; 2];
    let result: QueryResult<usize> = runner
        .operation("outer")
        .policy(outer)
        .run(&mut conn, async |conn: &mut Conn| {
            bodies[0].fetch_add(1, Ordering::Relaxed);
            runner
                .operation("inner")
                .policy(inner)
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
async fn the_attempts_of_nested_operations_do_not_multiply_with_limits_of_classes() {
    let of = |max_retries| POLICY.with_class_policy(FaultClass::Constraint, at_most(max_retries));
    let (more, one) = (of(20), of(1));
    // A step has no more than the operation around it has for all classes.
    assert_eq!(bodies(&POLICY, &more).await, [1, 6]);
    // Inner, outer, inner, outer, inner: five retries.
    assert_eq!(bodies(&POLICY, &one).await, [3, 6]);
    // Twenty retries in all, not twenty times five.
    assert_eq!(bodies(&more, &POLICY).await, [16, 21]);
    assert_eq!(bodies(&more, &more).await, [16, 21]);
    assert_eq!(bodies(&one, &one).await, [2, 4]);
}
