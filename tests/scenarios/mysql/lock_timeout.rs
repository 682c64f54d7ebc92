//! A lock that does not come in time (1205, or NOWAIT) is tried again: at top level after a
//! rollback, with nothing locked while the operation sleeps; in a savepoint once, then from the
//! outermost operation. With `innodb_rollback_on_timeout` the same error has taken the whole
//! transaction along, which is noticed: no step is kept without those before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{Code, FaultClass, Outcome, StopReason};
use dbop_tests::{InstantClock, Meanwhile, Number, Opponent};
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::{add, balance};
use super::server::{is_mariadb, is_on, rolls_back_on_timeout};
use super::{Bed, Conn, Connection as _, RunQueryDsl as _, Runner, depth, helper, scenario};

const A_SECOND: Duration = Duration::from_secs(1);

/// Another session, which holds account 2.
fn holder(bed: &Bed) -> Opponent {
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
    opponent
}

/// Another session, which holds account 2 until this sleep, counted from 1.
fn holder_until(bed: &Bed, sleep: usize) -> Arc<Meanwhile> {
    let opponent = holder(bed);
    Meanwhile::new(move |number| {
        if number == sleep {
            opponent.execute("COMMIT");
        }
    })
}

#[scenario]
async fn at_top_level_it_is_rolled_back_before_the_sleep_and_tried_again() {
    let bed = Arc::new(Bed::new());
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    opponent.execute("BEGIN; UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
    let clock = {
        let bed = Arc::clone(&bed);
        Meanwhile::new(move |_| {
            let somebody_else = bed.opponent();
            somebody_else.execute("BEGIN; SELECT * FROM accounts WHERE id = 1 FOR UPDATE NOWAIT");
            somebody_else.execute("ROLLBACK");
            opponent.execute("COMMIT");
        })
    };
    let bodies = AtomicU32::new(0);
    let started = Instant::now();
    let report = Runner::default()
        .with_clock(clock.clone())
        .operation("wait")
        .lock_timeout(A_SECOND)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    assert_eq!(clock.slept().len(), 1);
    assert!(started.elapsed() >= A_SECOND, "{:?}", started.elapsed());
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    assert_eq!(fault.code(), Some(Code::Errno(1205)));
    assert_eq!(bed.balances(), [(1, 110), (2, 1110), (3, 100)]);
}

#[scenario]
async fn in_a_step_it_is_tried_once_in_place_or_from_the_start_if_all_is_lost() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let all_is_lost = rolls_back_on_timeout(&mut conn).await;
    let holder = holder(&bed);
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone());
    let [outer, first, second] = [const { AtomicU32::new(0) }; 3];
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            runner
                .run(conn, async |conn: &mut Conn| {
                    first.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                })
                .await?;
            runner
                .operation("wait")
                .lock_timeout(A_SECOND)
                .run(conn, async |conn: &mut Conn| {
                    if second.fetch_add(1, Ordering::Relaxed) == 1 {
                        holder.execute("COMMIT");
                    }
                    add(conn, 3, 10).await?;
                    add(conn, 2, 10).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(
        clock.slept().len(),
        usize::from(all_is_lost),
        "in place at once"
    );
    let bodies = [outer, first, second].map(AtomicU32::into_inner);
    let expected = if all_is_lost { [2, 2, 2] } else { [1, 1, 2] };
    assert_eq!(bodies, expected);
    assert_eq!(bed.balances(), [(1, 110), (2, 1110), (3, 110)]);
}

#[scenario]
async fn a_step_that_fails_again_goes_up_to_the_outermost_operation() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let all_is_lost = rolls_back_on_timeout(&mut conn).await;
    // The second try in place follows at once.
    let sleeps = if all_is_lost { 2 } else { 1 };
    let clock = holder_until(&bed, sleeps);
    let runner = Runner::default().with_clock(clock.clone());
    let [outer, step] = [const { AtomicU32::new(0) }; 2];
    let result: QueryResult<usize> = runner
        .operation("batch")
        .lock_timeout(A_SECOND)
        .run(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    step.fetch_add(1, Ordering::Relaxed);
                    add(conn, 2, 10).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(clock.slept().len(), sleeps);
    let bodies = [outer, step].map(AtomicU32::into_inner);
    let expected = if all_is_lost { [3, 3] } else { [2, 3] };
    assert_eq!(bodies, expected);
    assert_eq!(bed.balances(), [(1, 110), (2, 1110), (3, 100)]);
}

#[scenario]
async fn in_the_callers_transaction_it_is_tried_once_and_what_was_before_is_intact_or_refused() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let all_is_lost = rolls_back_on_timeout(&mut conn).await;
    let _clock = holder_until(&bed, 1);
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step = runner
                .operation("wait")
                .lock_timeout(A_SECOND)
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 2, 10).await
                })
                .await;
            assert_eq!(step.stop, StopReason::EnclosingTransaction);
            assert_eq!(step.outcome, Outcome::Undone);
            let error = step.result.expect_err("still locked");
            assert!(
                error.to_string().starts_with("Lock wait timeout"),
                "{error}"
            );
            add(conn, 3, 10).await
        })
        .await;
    if all_is_lost {
        assert_eq!(bodies.into_inner(), 1);
        assert!(
            matches!(result, Err(Error::BrokenTransactionManager)),
            "swallowed by the caller: {result:?}"
        );
        assert_eq!(depth(&mut conn), None);
        drop(conn);
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    } else {
        assert_eq!(bodies.into_inner(), 2);
        assert_eq!(result, Ok(1));
        assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 110)]);
    }
}

#[scenario]
async fn a_fallback_value_replaces_it_only_where_the_transaction_lives() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let all_is_lost = rolls_back_on_timeout(&mut conn).await;
    let _clock = holder_until(&bed, 1);
    let runner = Runner::default().with_clock(InstantClock::new());
    let result: QueryResult<usize> = runner
        .operation("batch")
        .lock_timeout(A_SECOND)
        .max_retries(1)
        .run(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .operation("step")
                .fallback(77)
                .run(conn, async |conn: &mut Conn| add(conn, 2, 10).await)
                .await;
            assert_eq!(step.is_err(), all_is_lost);
            add(conn, 3, 10).await
        })
        .await;
    assert_eq!(result.is_err(), all_is_lost);
    if all_is_lost {
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    } else {
        assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 110)]);
    }
}

/// On a server with `innodb_snapshot_isolation` the second try meets a 1020.
#[scenario]
async fn after_a_read_the_second_try_may_need_a_whole_new_transaction() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let all_is_lost = rolls_back_on_timeout(&mut conn).await;
    let snapshot = is_on(&mut conn, "innodb_snapshot_isolation").await;
    let holder = holder(&bed);
    let runner = Runner::default().with_clock(InstantClock::new());
    let [outer, step] = [const { AtomicU32::new(0) }; 2];
    let result: QueryResult<usize> = runner
        .operation("batch")
        .lock_timeout(A_SECOND)
        .run(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            balance(conn, 2).await?;
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    if step.fetch_add(1, Ordering::Relaxed) == 1 {
                        holder.execute("COMMIT");
                    }
                    add(conn, 2, 10).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    let expected = match (all_is_lost, snapshot) {
        (true, true) => [3, 3],
        (true, false) => [2, 2],
        (false, true) => [2, 3],
        (false, false) => [1, 2],
    };
    assert_eq!([outer, step].map(AtomicU32::into_inner), expected);
    assert_eq!(bed.balances(), [(1, 110), (2, 1110), (3, 100)]);
}

/// `GET_LOCK` has a timeout of its own, which is longer here.
#[scenario]
async fn the_runners_default_ends_a_wait_for_a_unique_key_and_none_for_a_named_lock() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let id: Number = sql_query("SELECT CAST(CONNECTION_ID() AS SIGNED) AS n")
        .get_result(&mut conn)
        .await
        .expect("an id");
    let lock = |seconds| {
        let name = format!("dbop_{}", id.n);
        format!("SELECT CAST(GET_LOCK('{name}', {seconds}) AS SIGNED) AS n")
    };
    let insert = "INSERT INTO accounts VALUES (4, 0)";
    let opponent = bed.opponent();
    opponent.execute(&format!("{}; BEGIN; {insert}", lock(0)));
    let runner = Runner::default()
        .with_default_lock_timeout(A_SECOND)
        .with_clock(InstantClock::new());
    let report = runner
        .operation("insert")
        .max_retries(1)
        .run_report(&mut conn, async |conn: &mut Conn| {
            sql_query(insert).execute(conn).await
        })
        .await;
    assert!(report.result.is_err());
    assert_eq!(report.attempts, 2);
    let fault = report.failures[1].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::LockTimeout);
    let begun = Instant::now();
    let taken: QueryResult<Number> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            sql_query(lock(2)).get_result(conn).await
        })
        .await;
    assert_eq!(taken.map(|row| row.n), Ok(0));
    assert!(begun.elapsed() >= 2 * A_SECOND);
}

/// Takes account 2, without waiting for it.
#[helper]
async fn take_at_once(conn: &mut Conn) -> QueryResult<()> {
    sql_query("SELECT balance AS n FROM accounts WHERE id = 2 FOR UPDATE NOWAIT")
        .execute(conn)
        .await?;
    Ok(())
}

#[scenario]
async fn nowait_at_top_level_is_tried_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let errno = if is_mariadb(&mut conn).await {
        1205
    } else {
        3572
    };
    let clock = holder_until(&bed, 2);
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            take_at_once(conn).await
        })
        .await;
    assert_eq!(report.result, Ok(()));
    assert_eq!((report.attempts, bodies.into_inner()), (3, 3));
    for failure in &report.failures {
        let fault = failure.fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::LockTimeout);
        assert_eq!(fault.code(), Some(Code::Errno(errno)));
    }
    assert_eq!(bed.balances(), [(1, 110), (2, 1100), (3, 100)]);
}

#[scenario]
async fn nowait_in_a_step_is_tried_once_in_place_or_from_the_start_if_all_is_lost() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let all_is_lost = is_mariadb(&mut conn).await && rolls_back_on_timeout(&mut conn).await;
    let holder = holder(&bed);
    let runner = Runner::default().with_clock(InstantClock::new());
    let [outer, step] = [const { AtomicU32::new(0) }; 2];
    let result: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    if step.fetch_add(1, Ordering::Relaxed) == 1 {
                        holder.execute("COMMIT");
                    }
                    take_at_once(conn).await
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(()));
    let expected = if all_is_lost { [2, 2] } else { [1, 2] };
    assert_eq!([outer, step].map(AtomicU32::into_inner), expected);
    assert_eq!(bed.balances(), [(1, 110), (2, 1100), (3, 100)]);
}
