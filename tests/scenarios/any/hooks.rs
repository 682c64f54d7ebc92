//! Hooks. After the commit: once, in order, and only those of what was committed. Before attempts and
//! retries, and after the end of one that failed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{
    FaultClass, GivenUp, Jitter, OperationError as _, Outcome, Phase, Retry, RetryDecision,
    RetryPolicy, StopReason,
};
use dbop_tests::{Again, InstantClock, Said};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance, insert, set};
use super::{Bed, Conn, Connection as _, Runner, after_commit, caught, depth, helper, scenario};

/// Registers a hook that says this.
#[helper]
async fn says(conn: &mut Conn, said: &Said, what: &str) -> QueryResult<()> {
    let (said, what) = (said.clone(), what.to_owned());
    after_commit(conn, async move || said.say(what))
}

/// Whether this is what dbop says to a hook that it cannot take.
fn is_refused<T: std::fmt::Debug>(result: &Result<T, Error>) -> bool {
    let own = result.as_ref().err().and_then(|error| error.dbop_error());
    own.is_some_and(dbop_diesel::Error::is_hook_refused)
}

#[scenario]
async fn they_are_called_once_in_order_after_the_body() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let said = Said::new();
    let first = || said.say("builder");
    let runner = Runner::default();
    let result: QueryResult<usize> = runner
        .operation("pay")
        .after_commit(&first)
        .run(&mut conn, async |conn: &mut Conn| {
            says(conn, &said, "first").await?;
            let paid = add(conn, 1, 5).await?;
            says(conn, &said, "second").await?;
            assert_eq!(said.all(), [""; 0], "not yet");
            Ok(paid)
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(said.all(), ["builder", "first", "second"]);
    let next: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 5).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(said.all().len(), 3);
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn those_of_a_failed_attempt_are_dropped_with_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let said = Said::new();
    let attempts = AtomicU32::new(0);
    let result: Result<(), Again> = Runner::default()
        .with_clock(InstantClock::new())
        .run(&mut conn, async |conn: &mut Conn| {
            assert_eq!(said.holders(), 0, "nothing is left of the attempt before");
            let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
            says(conn, &said, &format!("attempt {attempt}")).await?;
            add(conn, 1, 1).await?;
            if attempt < 3 { Err(Again) } else { Ok(()) }
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(said.all(), ["attempt 3"]);
    let result: QueryResult<()> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| {
            says(conn, &said, "never").await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert_eq!(result, Err(Error::RollbackTransaction));
    assert_eq!((said.all().len(), said.holders()), (1, 0));
    assert_eq!(bed.balances()[0], (1, 101));
}

#[scenario]
async fn three_levels_deep_they_wait_for_the_outermost_commit() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let said = Said::new();
    let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
    let runner = Runner::default().with_clock(InstantClock::new());
    let result: Result<(), Again> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let number = outer.fetch_add(1, Ordering::Relaxed) + 1;
            says(conn, &said, &format!("outer {number}")).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    says(conn, &said, "middle").await?;
                    runner
                        .run(conn, async |conn: &mut Conn| {
                            add(conn, 1, 1).await?;
                            let number = inner.fetch_add(1, Ordering::Relaxed) + 1;
                            says(conn, &said, &format!("inner {number}")).await?;
                            if number % 2 == 1 { Err(Again) } else { Ok(()) }
                        })
                        .await
                })
                .await?;
            let failed: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    runner
                        .run(conn, async |conn: &mut Conn| {
                            says(conn, &said, "undone").await
                        })
                        .await?;
                    Err(Error::NotFound)
                })
                .await;
            assert_eq!(failed, Err(Error::NotFound));
            says(conn, &said, "last").await?;
            assert_eq!(said.all(), [""; 0], "nothing is committed");
            assert_eq!(said.holders(), 4, "what the undone step had is dropped");
            if number == 1 { Err(Again) } else { Ok(()) }
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(said.all(), ["outer 2", "middle", "inner 4", "last"]);
    assert_eq!(bed.balances()[0], (1, 101));
}

#[scenario]
async fn a_panic_of_the_body_drops_them() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let said = Said::new();
    let given_up = Mutex::new(Vec::new());
    let note = |it: &GivenUp| given_up.lock().expect("a list").push(it.stop());
    let runner = Runner::default();
    let operation = runner.operation("pay").after_giving_up(&note);
    let panicked = caught(async || {
        let never: QueryResult<()> = operation
            .run(&mut conn, async |conn: &mut Conn| {
                says(conn, &said, "never").await?;
                panic!("in the body")
            })
            .await;
        never
    })
    .await;
    assert!(panicked.is_err());
    assert_eq!((said.all().len(), said.holders()), (0, 0));
    assert_eq!(*given_up.lock().expect("a list"), [StopReason::Panicked]);
}

#[scenario]
async fn one_that_panics_does_not_stop_the_others_and_the_work_is_committed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let said = Said::new();
    let loud = || panic!("the builder's");
    let runner = Runner::default();
    let operation = runner.operation("pay").after_commit(&loud);
    let panicked = caught(async || {
        let paid: QueryResult<usize> = operation
            .run(&mut conn, async |conn: &mut Conn| {
                after_commit(conn, async || panic!("another one"))?;
                says(conn, &said, "called").await?;
                add(conn, 1, 1).await
            })
            .await;
        paid
    })
    .await;
    let payload = panicked.expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"the builder's"), "the first");
    assert_eq!(said.all(), ["called"]);
    assert_eq!(bed.balances()[0], (1, 101));
    assert_eq!(depth(&mut conn), Some(0));
    let next: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
        .await;
    assert_eq!(next, Ok(1), "usable");
}

/// dbop does not see whether and when the caller commits.
#[scenario]
async fn they_are_refused_where_no_commit_would_be_seen() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let said = Said::new();
    let runner = Runner::default();
    assert!(is_refused(&says(&mut conn, &said, "outside").await));
    let hook = || said.say("builder");
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            assert!(is_refused(&says(conn, &said, "outside").await));
            let step: QueryResult<()> = runner
                .run(conn, async |conn: &mut Conn| {
                    says(conn, &said, "in the caller's").await
                })
                .await;
            assert!(is_refused(&step));
            let step = runner
                .operation("step")
                .after_commit(&hook)
                .run_report(conn, async |conn: &mut Conn| add(conn, 1, 1).await)
                .await;
            assert_eq!((step.attempts, step.outcome), (0, Outcome::Undone));
            assert!(is_refused(&step.result));
            Ok(())
        })
        .await;
    assert_eq!(result, Ok(()));
    let result: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let step: QueryResult<usize> = runner
                .operation("step")
                .after_commit(&hook)
                .run(conn, async |conn: &mut Conn| add(conn, 1, 1).await)
                .await;
            assert!(is_refused(&step), "it would have to be kept for too long");
            Ok(())
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!((said.all().len(), said.holders()), (0, 0));
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn in_a_test_transaction_they_are_called_at_the_end_of_the_outermost_operation() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.begin_test_transaction().await.expect("begun");
    let said = Said::new();
    let hook = || said.say("builder");
    let runner = Runner::default().for_tests();
    let result: QueryResult<()> = runner
        .operation("pay")
        .after_commit(&hook)
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| {
                    says(conn, &said, "step").await
                })
                .await?;
            assert_eq!(said.all(), [""; 0]);
            Ok(())
        })
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!(said.all(), ["builder", "step"]);
}

/// The retried body always finds the account that it opens.
const CONSTRAINT: RetryPolicy = RetryPolicy::new()
    .with_retry_on(FaultClass::Constraint)
    .with_jitter(Jitter::None);

#[scenario]
async fn attempts_are_announced_and_retries_can_be_changed_or_vetoed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let clock = InstantClock::new();
    let runner = Runner::new(CONSTRAINT).with_clock(clock.clone());
    let (attempts, retries) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let announce = |attempt| attempts.lock().expect("a list").push(attempt);
    let seconds = Duration::from_secs;
    let decide = |retry: &Retry| {
        let class = retry.fault().map(|fault| fault.class());
        let seen = (retry.attempt(), retry.phase(), class);
        retries.lock().expect("a list").push(seen);
        match retry.attempt() {
            1 => RetryDecision::AsPlanned,
            2 => RetryDecision::After(retry.delay() + seconds(60)),
            _ => RetryDecision::Veto,
        }
    };
    let given_up = Mutex::new(Vec::new());
    let note = |it: &GivenUp| {
        let class = it.fault().map(|fault| fault.class());
        let seen = (it.attempts(), it.stop(), it.outcome(), class);
        given_up.lock().expect("a list").push(seen);
    };
    let report = runner
        .operation("open")
        .before_attempt(&announce)
        .before_retry(&decide)
        .after_giving_up(&note)
        .run_report(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    let error = report.result.expect_err("its own error");
    assert!(matches!(error, Error::DatabaseError(..)), "{error}");
    assert_eq!((report.attempts, report.stop), (3, StopReason::Vetoed));
    assert_eq!(*attempts.lock().expect("a list"), [1, 2, 3]);
    let class = Some(FaultClass::Constraint);
    let seen = [1, 2, 3].map(|attempt| (attempt, Phase::Body, class));
    assert_eq!(*retries.lock().expect("a list"), seen);
    let planned: Vec<_> = CONSTRAINT.delays().take(2).collect();
    assert_eq!(clock.slept(), [planned[0], planned[1] + seconds(60)]);
    let end = (3, StopReason::Vetoed, Outcome::Undone, class);
    assert_eq!(*given_up.lock().expect("a list"), [end]);
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn what_succeeds_has_not_given_up_and_a_fallback_value_has() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let given_up = Mutex::new(Vec::new());
    let note = |it: &GivenUp| given_up.lock().expect("a list").push(it.stop());
    let runner = Runner::default();
    let operation = runner.operation("read").after_giving_up(&note);
    let read = operation
        .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await;
    assert_eq!(read, Ok(100));
    assert_eq!(*given_up.lock().expect("a list"), []);
    let fallen: QueryResult<i64> = operation
        .fallback(0)
        .run(&mut conn, async |_: &mut Conn| Err(Error::NotFound))
        .await;
    assert_eq!(fallen, Ok(0));
    assert_eq!(*given_up.lock().expect("a list"), [StopReason::OwnError]);
    // One is refused when it is on its connection, the other one before.
    for zero in [
        operation.lock_timeout(Duration::ZERO),
        operation.deadline(Duration::ZERO),
    ] {
        let refused: QueryResult<()> = zero.run(&mut conn, async |_: &mut Conn| Ok(())).await;
        assert!(refused.is_err());
    }
    let stops = [
        StopReason::OwnError,
        StopReason::NotRetryable,
        StopReason::NotRetryable,
    ];
    assert_eq!(*given_up.lock().expect("a list"), stops);
}

#[scenario]
async fn a_panic_before_a_retry_continues_when_the_attempt_is_undone() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let decide = |_: &Retry| panic!("before the retry");
    let operation = runner.operation("pay").before_retry(&decide);
    let bodies = AtomicU32::new(0);
    let panicked = caught(async || {
        let never: Result<(), Again> = operation
            .run(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                set(conn, 1, 1).await?;
                Err(Again)
            })
            .await;
        never
    })
    .await;
    let payload = panicked.expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"before the retry"));
    assert_eq!((depth(&mut conn), bodies.into_inner()), (Some(0), 1));
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn each_attempt_begins_with_the_operations_own_sql() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_clock(InstantClock::new());
    let sql = "UPDATE accounts SET balance = balance + 10 WHERE id = 3";
    let attempts = AtomicU32::new(0);
    let result: Result<(), Again> = runner
        .operation("pay")
        .begin_with_sql(sql)
        .run(&mut conn, async |conn: &mut Conn| {
            assert_eq!(balance(conn, 3).await?, 110, "it is the attempt's");
            runner
                .operation("step")
                .begin_with_sql(sql)
                .run(conn, async |conn: &mut Conn| {
                    assert_eq!(balance(conn, 3).await?, 120);
                    Ok::<_, Again>(())
                })
                .await?;
            let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
            if attempt < 3 { Err(Again) } else { Ok(()) }
        })
        .await;
    assert_eq!((result, attempts.into_inner()), (Ok(()), 3));
    assert_eq!(bed.balances()[2], (3, 120));
}

#[scenario]
async fn an_error_of_that_sql_is_one_of_the_attempt() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::new(CONSTRAINT).with_clock(InstantClock::new());
    let phases = Mutex::new(Vec::new());
    let decide = |retry: &Retry| {
        phases.lock().expect("a list").push(retry.phase());
        RetryDecision::AsPlanned
    };
    let operation = runner
        .operation("open")
        .max_retries(1)
        .before_retry(&decide)
        .begin_with_sql("UPDATE accounts SET balance = 7; INSERT INTO accounts VALUES (1, 0)");
    let report = operation
        .run_report(&mut conn, async |_: &mut Conn| -> QueryResult<()> {
            unreachable!("its BEGIN fails")
        })
        .await;
    let error = report.result.expect_err("its own error");
    assert!(matches!(error, Error::DatabaseError(..)), "{error}");
    let end = (report.attempts, report.outcome, report.stop);
    assert_eq!(end, (2, Outcome::Undone, StopReason::RetriesExhausted));
    assert!(report.failures.iter().all(|it| it.rollback_error.is_none()));
    assert_eq!(*phases.lock().expect("a list"), [Phase::Begin]);
    assert_eq!(depth(&mut conn), Some(0));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);

    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let step: QueryResult<()> = operation
                .max_retries(0)
                .run(conn, async |_: &mut Conn| unreachable!("its BEGIN fails"))
                .await;
            assert!(matches!(step, Err(Error::DatabaseError(..))), "{step:?}");
            assert_eq!(balance(conn, 2).await, Ok(100), "undone");
            add(conn, 1, 1).await
        })
        .await;
    assert_eq!(result, Ok(1), "a step like any other");
    assert_eq!(bed.balances(), [(1, 101), (2, 100), (3, 100)]);
}
