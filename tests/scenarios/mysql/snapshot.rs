//! With `innodb_snapshot_isolation` MariaDB refuses to change a row that somebody else has changed
//! since the transaction first read (1020), and rolls back the whole transaction. The operation
//! starts again, from the outermost one. Other servers let the change pass: nothing to repeat.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Code, FaultClass, Outcome, Report, StopReason};
use dbop_tests::{InstantClock, Opponent, assert_unknown};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance};
use super::server::is_on;
use super::{Bed, Conn, Connection as _, Runner, depth, helper, scenario};

#[helper]
async fn has_snapshot_isolation(conn: &mut Conn) -> bool {
    is_on(conn, "innodb_snapshot_isolation").await
}

/// Changes account 1 after somebody else did, who did so after we had read it.
#[helper]
async fn add_too_late(conn: &mut Conn, opponent: &Opponent) -> QueryResult<usize> {
    balance(conn, 1).await?;
    opponent.execute("UPDATE accounts SET balance = balance + 1000 WHERE id = 1");
    add(conn, 1, 10).await
}

#[scenario]
async fn at_top_level_it_is_tried_again_with_a_new_snapshot() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let refused = has_snapshot_isolation(&mut conn).await;
    let opponent = bed.opponent();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 3, 10).await?;
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => add_too_late(conn, &opponent).await,
                _ => add(conn, 1, 10).await,
            }
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.attempts, 1 + u32::from(refused));
    assert_eq!(bodies.into_inner(), report.attempts);
    if refused {
        let fault = report.failures[0].fault.expect("a database error");
        assert_eq!(fault.class(), FaultClass::SerializationFailure);
        assert_eq!(fault.code(), Some(Code::Errno(1020)));
    }
    assert_eq!(bed.balances(), [(1, 1110), (2, 100), (3, 110)]);
}

#[scenario]
async fn in_a_step_it_goes_up_and_the_whole_operation_starts_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let refused = has_snapshot_isolation(&mut conn).await;
    let opponent = bed.opponent();
    let runner = Runner::default().with_clock(InstantClock::new());
    let [outer, first, second] = [const { AtomicU32::new(0) }; 3];
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let too_late = outer.fetch_add(1, Ordering::Relaxed) == 0;
            runner
                .run(conn, async |conn: &mut Conn| {
                    first.fetch_add(1, Ordering::Relaxed);
                    add(conn, 3, 10).await
                })
                .await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    second.fetch_add(1, Ordering::Relaxed);
                    match too_late {
                        true => add_too_late(conn, &opponent).await,
                        false => add(conn, 1, 10).await,
                    }
                })
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    let expected = 1 + u32::from(refused);
    let bodies = [outer, first, second].map(AtomicU32::into_inner);
    assert_eq!(bodies, [expected; 3]);
    assert_eq!(bed.balances(), [(1, 1110), (2, 100), (3, 110)]);
}

#[scenario]
async fn in_the_callers_transaction_it_is_the_caller_who_is_told() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let refused = has_snapshot_isolation(&mut conn).await;
    let opponent = bed.opponent();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 3, 10).await?;
            let step = runner
                .run_report(conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add_too_late(conn, &opponent).await
                })
                .await;
            if refused {
                assert_eq!(step.stop, StopReason::EnclosingTransaction);
                assert_eq!(step.outcome, Outcome::Undone);
            }
            add(conn, 2, 10).await.expect("let pass or contained");
            step.result.or(Ok(77))
        })
        .await;
    assert_eq!(bodies.into_inner(), 1);
    if refused {
        assert!(
            matches!(result, Err(Error::BrokenTransactionManager)),
            "swallowed by the caller: {result:?}"
        );
        assert_eq!(depth(&mut conn), None);
        drop(conn);
        assert_eq!(bed.balances(), [(1, 1100), (2, 100), (3, 100)]);
    } else {
        assert_eq!(result, Ok(1));
        assert_eq!(bed.balances(), [(1, 1110), (2, 110), (3, 110)]);
    }
}

/// Half of it is gone, so nothing is kept and nothing is claimed.
fn assert_lost(bed: &Bed, report: Report<usize, Error>) {
    assert_unknown(&report);
    assert_eq!(bed.balances(), [(1, 1100), (2, 100), (3, 100)]);
}

/// The body hides it and writes on: nothing of that is kept, and it is no success.
#[scenario]
async fn swallowed_by_the_body_nothing_is_kept_and_nothing_is_claimed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let refused = has_snapshot_isolation(&mut conn).await;
    let opponent = bed.opponent();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("hide")
        .fallback(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 3, 10).await?;
            let late = add_too_late(conn, &opponent).await;
            assert_eq!(late.is_err(), refused);
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(bodies.into_inner(), 1);
    if refused {
        assert_lost(&bed, report);
    } else {
        assert_eq!(report.result, Ok(1));
        assert_eq!(bed.balances(), [(1, 1110), (2, 110), (3, 110)]);
    }
}

/// The same in the body of a step: the step is no success, nor is the whole.
#[scenario]
async fn swallowed_by_the_body_of_a_step_nothing_is_kept_and_nothing_is_claimed() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let refused = has_snapshot_isolation(&mut conn).await;
    let opponent = bed.opponent();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 3, 10).await?;
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    let late = add_too_late(conn, &opponent).await;
                    assert_eq!(late.is_err(), refused);
                    add(conn, 2, 10).await
                })
                .await;
            assert_eq!(step.is_err(), refused);
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(bodies.into_inner(), 1);
    if refused {
        assert_lost(&bed, report);
    } else {
        assert_eq!(report.result, Ok(1));
        assert_eq!(bed.balances(), [(1, 1110), (2, 120), (3, 110)]);
    }
}

/// An outer body that hides the error of a step: the operation starts again all the same.
#[scenario]
async fn of_a_step_and_swallowed_by_the_outer_body_everything_starts_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let refused = has_snapshot_isolation(&mut conn).await;
    let opponent = bed.opponent();
    let runner = Runner::default().with_clock(InstantClock::new());
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
            add(conn, 3, 10).await?;
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| match is_first {
                    true => add_too_late(conn, &opponent).await,
                    false => add(conn, 1, 10).await,
                })
                .await;
            drop(step);
            add(conn, 2, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 1 + u32::from(refused));
    assert_eq!(bed.balances(), [(1, 1110), (2, 110), (3, 110)]);
}
