//! Statements that an operation sends together, over shared references to its connection, work as
//! they do without dbop: they are one attempt, rolled back, retried and cancelled together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel_async::{FaultClass, RetryPolicy, Runner};
use dbop_tests::accounts;
use dbop_tests::asynchronous::{Moment, Trace, dropped_after, refuses};
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{QueryResult, sql_query};
use diesel_async::{AsyncConnection as _, RunQueryDsl as _};

use super::{Bed, Conn, run};

async fn add(mut conn: &Conn, id: i32, amount: i64) -> QueryResult<usize> {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(accounts::balance + amount))
        .execute(&mut conn)
        .await
}

async fn balance(mut conn: &Conn, id: i32) -> QueryResult<i64> {
    let account = accounts::table.find(id);
    account
        .select(accounts::balance)
        .get_result(&mut conn)
        .await
}

/// All statements are on their way before the first one is answered.
async fn share_out(conn: &mut Conn) -> QueryResult<()> {
    let conn = &*conn;
    tokio::try_join!(add(conn, 1, -10), add(conn, 2, 4), add(conn, 3, 6))?;
    Ok(())
}

#[test]
fn joined_statements_are_committed_together() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let seen = Runner::default()
            .run(&mut conn, async |conn: &mut Conn| {
                share_out(conn).await?;
                let conn = &*conn;
                tokio::try_join!(balance(conn, 1), balance(conn, 2), balance(conn, 3))
            })
            .await;
        assert_eq!(seen, Ok((90, 104, 106)));
        assert_eq!(bed.balances(), [(1, 90), (2, 104), (3, 106)]);
    });
}

/// The first statement waits for a lock. If the second were only sent after its answer, it would
/// not be there when the lock is given up.
#[test]
fn they_are_sent_without_waiting_for_one_another() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let seen = Trace::default();
        conn.set_instrumentation(seen.clone());
        let holder = bed.opponent();
        dbop_tests::Opponent::execute(
            &holder,
            "BEGIN; UPDATE accounts SET balance = 0 WHERE id = 1",
        );
        let runner = Runner::default();
        let work = runner.run(&mut conn, share_out);
        let give_up = async {
            dbop_tests::asynchronous::eventually("all are on their way", || seen.statements() == 4)
                .await;
            dbop_tests::Opponent::execute(&holder, "COMMIT");
        };
        let (done, ()) = tokio::join!(work, give_up);
        assert_eq!(done, Ok(()));
        assert_eq!(bed.balances(), [(1, -10), (2, 104), (3, 106)]);
    });
}

#[test]
fn one_that_fails_undoes_all_and_all_are_tried_again() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let policy = RetryPolicy::new()
            .with_initial_delay(Duration::ZERO)
            .with_retry_on(FaultClass::Constraint);
        let attempts = AtomicU32::new(0);
        let done = Runner::new(policy)
            .run(&mut conn, async |conn: &mut Conn| {
                let attempt = attempts.fetch_add(1, Ordering::Relaxed);
                let mut shared = &*conn;
                let id = if attempt == 0 { 1 } else { 4 };
                let insert = diesel::insert_into(accounts::table)
                    .values((accounts::id.eq(id), accounts::balance.eq(0)));
                let insert = insert.execute(&mut shared);
                let (one, inserted, other) =
                    tokio::join!(add(conn, 1, -10), insert, add(conn, 2, 10));
                if attempt == 0 {
                    assert_eq!(one, Ok(1));
                    assert!(other.is_err(), "refused in an aborted transaction");
                }
                one?;
                inserted?;
                other
            })
            .await;
        assert_eq!(done, Ok(1));
        assert_eq!(attempts.into_inner(), 2);
        assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100), (4, 0)]);
    });
}

/// The answers come in the order of the statements, so whoever looks at them in that order sees
/// the cause before its consequences. (`try_join!` alone looks at any of them first.)
#[test]
fn an_error_among_them_is_the_one_that_is_returned() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let failed: QueryResult<()> = Runner::default()
            .run(&mut conn, async |conn: &mut Conn| {
                let mut shared = &*conn;
                let insert = sql_query("INSERT INTO accounts VALUES (1, 1)");
                let insert = insert.execute(&mut shared);
                tokio::try_join!(biased; add(conn, 1, -10), insert, add(conn, 2, 10))?;
                Ok(())
            })
            .await;
        let kind = match failed {
            Err(Error::DatabaseError(kind, _)) => kind,
            other => panic!("{other:?}"),
        };
        assert!(matches!(kind, DatabaseErrorKind::UniqueViolation));
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    });
}

#[test]
fn dropped_at_every_await_point_they_leave_nothing() {
    run(async {
        let bed = Bed::new();
        for moment in Moment::ALL {
            let mut waits = 0;
            loop {
                waits += 1;
                let mut conn = bed.connect().await;
                let session = Bed::session_id(&mut conn).await;
                let seen = Trace::default();
                conn.set_instrumentation(seen.clone());
                let before = bed.balances();
                let runner = Runner::default();
                let work = runner.run(&mut conn, share_out);
                if dropped_after(work, waits, moment).await.is_some() {
                    break;
                }
                assert!(refuses(&mut conn));
                drop(conn);
                bed.session_ends(session).await;
                let now = bed.balances();
                assert!(now == before || seen.is_committing() && now[0].1 == before[0].1 - 10);
            }
            assert!(waits > 3, "{waits}");
        }
    });
}
