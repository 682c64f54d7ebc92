//! Timeouts on MySQL and MariaDB: rounded up, in force for one operation and the steps in it, and
//! never looser by default than what the session has. MariaDB bounds every statement, MySQL only
//! SELECT.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{Code, FaultClass, Outcome, StopReason};
use diesel::{QueryResult, sql_query};

use super::money::{add, balance};
use super::server::is_mariadb;
use super::steps::number;
use super::{Bed, Conn, Connection as _, RunQueryDsl as _, Runner, SimpleConnection as _};
use super::{helper, scenario};

const LONGEST: Duration = Duration::from_millis(2_147_483_647);

/// `innodb_lock_wait_timeout` in s, and the limit for statements in us.
#[helper]
async fn timeouts(conn: &mut Conn) -> [i64; 2] {
    let limit = match is_mariadb(conn).await {
        true => "@@max_statement_time * 1000000",
        false => "@@max_execution_time * 1000",
    };
    [
        number(conn, "@@innodb_lock_wait_timeout").await,
        number(conn, limit).await,
    ]
}

#[scenario]
async fn a_default_is_in_force_unless_the_session_is_stricter() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bounded = runner
        .clone()
        .with_default_lock_timeout(Duration::from_millis(2200))
        .with_default_statement_timeout(Duration::from_millis(1500));
    let unbounded = runner.clone().with_default_lock_timeout(None);
    for (lock, statement, expected) in [
        (50, 0, [[10, 0], [3, 1_500_000], [50, 0]]),
        (2, 700, [[2, 700_000], [2, 700_000], [2, 700_000]]),
        (60, 9000, [[10, 9_000_000], [3, 1_500_000], [60, 9_000_000]]),
    ] {
        conn.batch_execute(&format!(
            "SET innodb_lock_wait_timeout={lock} /*M!100100 , max_statement_time={statement}/1000 \
             */ /*!80000 , max_execution_time={statement} */"
        ))
        .await
        .expect("set");
        for (runner, expected) in [&runner, &bounded, &unbounded].into_iter().zip(expected) {
            let seen: QueryResult<[i64; 2]> = runner
                .run(&mut conn, async |conn: &mut Conn| Ok(timeouts(conn).await))
                .await;
            assert_eq!(seen, Ok(expected));
        }
    }
}

#[scenario]
async fn an_operations_own_is_set_as_told_and_rounded_up() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("SET innodb_lock_wait_timeout=2")
        .await
        .expect("set");
    let runner = Runner::default();
    for (asked, lock, micros) in [
        (Duration::from_micros(300_200), 1, 300_200),
        (Duration::from_millis(1500), 2, 1_500_000),
        (Duration::from_secs(30), 30, 30_000_000),
        (LONGEST, 2_147_484, 2_147_483_647_000),
    ] {
        let seen: QueryResult<[i64; 2]> = runner
            .operation("own")
            .lock_timeout(asked)
            .statement_timeout(asked)
            .run(&mut conn, async |conn: &mut Conn| Ok(timeouts(conn).await))
            .await;
        // Whole milliseconds, rounded up.
        let expected = (micros + 999) / 1000 * 1000;
        assert_eq!(seen, Ok([lock, expected]), "{asked:?}");
    }
    assert_eq!(timeouts(&mut conn).await, [2, 0]);
}

#[scenario]
async fn steps_inherit_them_or_have_their_own_for_as_long_as_they_run() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let seen: QueryResult<[[i64; 2]; 4]> = runner
        .operation("batch")
        .lock_timeout(Duration::from_secs(30))
        .statement_timeout(Duration::from_secs(40))
        .run(&mut conn, async |conn: &mut Conn| {
            let inherited = runner
                .run(conn, async |conn: &mut Conn| {
                    QueryResult::Ok(timeouts(conn).await)
                })
                .await?;
            let own = runner
                .operation("step")
                .lock_timeout(Duration::from_secs(3))
                .statement_timeout(Duration::from_secs(4))
                .run(conn, async |conn: &mut Conn| {
                    QueryResult::Ok(timeouts(conn).await)
                })
                .await?;
            let after = timeouts(conn).await;
            let undone: QueryResult<()> = runner
                .operation("step")
                .lock_timeout(Duration::from_secs(3))
                .run(conn, async |_: &mut Conn| {
                    Err(diesel::result::Error::RollbackTransaction)
                })
                .await;
            undone.expect_err("as told");
            Ok([inherited, own, after, timeouts(conn).await])
        })
        .await;
    let outer = [30, 40_000_000];
    assert_eq!(seen, Ok([outer, [3, 4_000_000], outer, outer]));
}

#[scenario]
async fn the_callers_own_statements_do_not_feel_those_of_a_step() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let seen: QueryResult<[[i64; 2]; 2]> = conn
        .transaction(async |conn: &mut Conn| {
            let inside = runner
                .operation("step")
                .statement_timeout(Duration::from_secs(4))
                .run(conn, async |conn: &mut Conn| {
                    QueryResult::Ok(timeouts(conn).await)
                })
                .await?;
            Ok([inside, timeouts(conn).await])
        })
        .await;
    assert_eq!(seen, Ok([[10, 4_000_000], [50, 0]]));
}

#[scenario]
async fn a_statement_that_takes_too_long_is_given_up_at_once() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let errno = if is_mariadb(&mut conn).await {
        1969
    } else {
        3024
    };
    let bodies = AtomicU32::new(0);
    let started = Instant::now();
    let report = Runner::default()
        .operation("slow")
        .statement_timeout(Duration::from_millis(200))
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 1, 10).await?;
            sql_query("SELECT count(*) FROM accounts WHERE SLEEP(20) = 0")
                .execute(conn)
                .await
        })
        .await;
    report.result.expect_err("too slow");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::StatementTimeout);
    assert_eq!(fault.code(), Some(Code::Errno(errno)));
    assert_eq!(bed.balances()[0], (1, 100));
}

#[scenario]
async fn mariadb_bounds_writes_too_and_mysql_does_not() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bounded = is_mariadb(&mut conn).await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .operation("slow")
        .statement_timeout(Duration::from_millis(200))
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            sql_query("UPDATE accounts SET balance = 7 WHERE id = 1 AND SLEEP(0.5) = 0")
                .execute(conn)
                .await
        })
        .await;
    assert_eq!(bodies.into_inner(), 1);
    if bounded {
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(fault.code(), Some(Code::Errno(1969)));
        assert_eq!(bed.balances()[0], (1, 100));
    } else {
        assert_eq!(report.result, Ok(1));
        assert_eq!(bed.balances()[0], (1, 7));
    }
}

#[scenario]
async fn a_step_that_takes_too_long_leaves_what_was_before_it() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            let step: QueryResult<usize> = runner
                .operation("slow")
                .statement_timeout(Duration::from_millis(200))
                .run(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 2, 10).await?;
                    sql_query("SELECT count(*) FROM accounts WHERE SLEEP(20) = 0")
                        .execute(conn)
                        .await
                })
                .await;
            step.expect_err("too slow");
            add(conn, 3, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 110)]);
}

#[scenario]
async fn a_read_only_transaction_refuses_a_write_and_the_next_one_does_not() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let report = runner
        .operation("read")
        .read_only()
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            balance(conn, 1).await?;
            add(conn, 1, 10).await
        })
        .await;
    report.result.expect_err("read-only");
    assert_eq!(report.stop, StopReason::NotRetryable);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.code(), Some(Code::Errno(1792)));
    assert_eq!(bodies.into_inner(), 1);
    let next = runner
        .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(next, Ok(1));
    assert_eq!(bed.balances()[0], (1, 110));
}
