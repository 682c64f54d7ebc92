//! A run that is dropped before its COMMIT was sent leaves no row, ever; dropped while COMMIT is
//! under way, all rows or none. Either way the connection refuses every further transaction. That
//! holds at every await point, on every level, and during the pause between two attempts.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::SupportedBackend;
use dbop_diesel_async::{Jitter, Ledger, RetryPolicy, Runner};
use dbop_tests::asynchronous::{
    Moment, Trace, depth, dropped_after, dropped_when, is_broken, refuses,
};
use dbop_tests::{Again, Capture};
use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::{AsyncConnection as _, AsyncConnectionCore, SimpleAsyncConnection as _};
use log::Level;

use super::money::{add, share_out};
use super::{Bed, Conn, run};

/// Where the run takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a transaction of its own.
    Alone,
    /// The same, with settings to be restored.
    WithSettings,
    /// Other runs are nested in it.
    Nested,
    /// With an idempotency key.
    Keyed,
    /// In the caller's transaction.
    InTransaction,
    /// In Diesel's test transaction.
    InTestTransaction,
}

#[test]
fn at_every_await_point_alone() {
    run(at_every_await_point(Place::Alone));
}

#[test]
fn at_every_await_point_with_settings() {
    run(at_every_await_point(Place::WithSettings));
}

#[test]
fn at_every_await_point_of_nested_runs() {
    run(at_every_await_point(Place::Nested));
}

#[test]
fn at_every_await_point_with_a_key() {
    run(at_every_await_point(Place::Keyed));
}

#[test]
fn at_every_await_point_in_the_callers_transaction() {
    run(at_every_await_point(Place::InTransaction));
}

#[test]
fn at_every_await_point_in_a_test_transaction() {
    run(at_every_await_point(Place::InTestTransaction));
}

/// The work. `running` says whether a run is under way in it.
async fn work(place: Place, conn: &mut Conn, running: &AtomicBool) -> QueryResult<()> {
    let runner = Runner::default();
    running.store(place != Place::InTransaction, Ordering::Relaxed);
    match place {
        Place::Alone | Place::InTestTransaction => runner.run(conn, share_out::<Conn>).await,
        Place::WithSettings => {
            runner
                .operation("share out")
                .lock_timeout(Duration::from_secs(3))
                .statement_timeout(Duration::from_secs(4))
                .best_effort()
                .run(conn, share_out::<Conn>)
                .await
        }
        Place::Keyed => keyed(conn).await,
        Place::Nested => {
            runner
                .run(conn, async |conn: &mut Conn| {
                    add(conn, 1, -10).await?;
                    runner
                        .run(conn, async |conn: &mut Conn| add(conn, 2, 4).await)
                        .await?;
                    runner
                        .run(conn, async |conn: &mut Conn| add(conn, 3, 6).await)
                        .await?;
                    Ok(())
                })
                .await
        }
        Place::InTransaction => {
            conn.transaction(async |conn: &mut Conn| {
                add(conn, 1, -10).await?;
                running.store(true, Ordering::Relaxed);
                let step = runner
                    .run(conn, async |conn: &mut Conn| add(conn, 2, 4).await)
                    .await;
                running.store(false, Ordering::Relaxed);
                step?;
                add(conn, 3, 6).await?;
                Ok(())
            })
            .await
        }
    }
}

/// What is done once for the session of this connection.
async fn keyed(conn: &mut Conn) -> QueryResult<()> {
    let (runner, ledger) = (Runner::default(), Ledger::new());
    let key = KEY.load(Ordering::Relaxed).to_string();
    let share = runner.operation("share out").ledger(&ledger);
    let share = share.idempotency_key(&key).answer();
    share.run(conn, share_out::<Conn>).await
}

/// That of the present run. The tests of this process that have one are done one after the other.
static KEY: AtomicU32 = AtomicU32::new(0);

/// Drops the work at its first await point, at its second, and so on, until every statement has
/// been dropped while it was under way.
async fn at_every_await_point(place: Place) {
    let bed = Bed::new();
    if place == Place::Keyed {
        let dialect = <<Conn as AsyncConnectionCore>::Backend as SupportedBackend>::DIALECT;
        let create = Ledger::new().create_table(dialect);
        bed.connect()
            .await
            .batch_execute(&create)
            .await
            .expect("a table");
    }
    for moment in Moment::ALL {
        let mut statements = 0;
        let mut dropped_at = BTreeSet::new();
        // Where an answer comes so soon that nobody waits for it, it is tried again.
        for _ in 0..1000 {
            let mut waits = 0;
            statements = loop {
                waits += 1;
                match dropped_at_await_point(&bed, place, waits, moment).await {
                    Ok(statement) => dropped_at.insert(statement),
                    Err(statements) => break statements,
                };
            };
            if dropped_at.iter().copied().eq(1..=statements) {
                break;
            }
        }
        let all: BTreeSet<_> = (1..=statements).collect();
        assert_eq!(dropped_at, all, "{place:?} {moment:?}");
        assert!(statements >= 4, "{statements}");
    }
}

/// Drops the work at one await point: while which statement? `Err` if it was done before, in so
/// many statements.
async fn dropped_at_await_point(
    bed: &Bed,
    place: Place,
    waits: u32,
    moment: Moment,
) -> Result<usize, usize> {
    let mut conn = bed.connect().await;
    let session = Bed::session_id(&mut conn).await;
    if place == Place::InTestTransaction {
        conn.begin_test_transaction().await.expect("begun");
    }
    KEY.fetch_add(u32::from(place == Place::Keyed), Ordering::Relaxed);
    let seen = Trace::default();
    conn.set_instrumentation(seen.clone());
    let running = AtomicBool::new(false);
    let before = bed.balances();
    let after: Vec<_> = before
        .iter()
        .zip([-10, 4, 6])
        .map(|((id, balance), amount)| (*id, balance + amount))
        .collect();

    let done = dropped_after(work(place, &mut conn, &running), waits, moment).await;

    let statements = seen.statements();
    let committing = seen.is_committing();
    if let Some(result) = done {
        assert_eq!(result, Ok(()));
        assert!(!refuses(&mut conn));
        assert_eq!(committing, place != Place::InTestTransaction);
        assert_eq!(bed.balances(), if committing { after } else { before });
        return Err(statements);
    }
    if running.into_inner() {
        assert!(refuses(&mut conn), "{place:?} after {statements}");
        let bodies = AtomicU32::new(0);
        let next: QueryResult<()> = Runner::default()
            .run(&mut conn, async |_: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .await;
        assert!(matches!(next, Err(Error::BrokenTransactionManager)));
        assert_eq!(bodies.into_inner(), 0);
        let next: QueryResult<()> = conn.transaction(async |_: &mut Conn| Ok(())).await;
        assert!(matches!(next, Err(Error::BrokenTransactionManager)));
    } else {
        // Diesel's own BEGIN, a statement after it, or its COMMIT, which the wrapper waits for.
        assert!(is_broken(&mut conn) || committing && depth(&mut conn) == Some(0));
    }
    let keeps_its_promise = |now: Vec<(i32, i64)>| now == before || committing && now == after;
    assert!(
        keeps_its_promise(bed.balances()),
        "{place:?} after {statements}"
    );
    drop(conn);
    bed.session_ends(session).await;
    if place == Place::Keyed {
        // Whatever was committed, the next call does what is missing, and nothing twice.
        assert_eq!(keyed(&mut bed.connect().await).await, Ok(()));
        assert_eq!(bed.balances(), after, "after {statements}");
        return Ok(statements);
    }
    assert!(
        keeps_its_promise(bed.balances()),
        "{place:?} after {statements}"
    );
    Ok(statements)
}

#[test]
fn a_run_that_was_never_polled_has_done_nothing() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        drop(Runner::default().run(&mut conn, share_out::<Conn>));
        assert_eq!(depth(&mut conn), Some(0));
        let result = Runner::default().run(&mut conn, share_out::<Conn>).await;
        assert_eq!(result, Ok(()));
        assert_eq!(bed.balances(), [(1, 90), (2, 104), (3, 106)]);
    });
}

#[test]
fn during_the_pause_between_two_attempts() {
    run(async {
        let bed = Bed::new();
        let mut conn = bed.connect().await;
        let session = Bed::session_id(&mut conn).await;
        let log = Capture::new();
        let hours = Duration::from_secs(9999);
        let policy = RetryPolicy::new()
            .with_initial_delay(hours)
            .with_max_delay(hours)
            .with_jitter(Jitter::None);
        let runner = Runner::new(policy).with_logger(log.clone());
        let bodies = AtomicU32::new(0);
        let never: Option<Result<(), Again>> = dropped_when(
            runner.run(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                share_out(conn).await?;
                Err(Again)
            }),
            Moment::UnderWay,
            || log.levels().contains(&Level::Warn),
        )
        .await;
        assert!(never.is_none());
        assert_eq!(bodies.into_inner(), 1);
        assert!(refuses(&mut conn));
        // Rolled back before the pause: nobody waits for it.
        bed.transactions_end().await;
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        drop(conn);
        bed.session_ends(session).await;
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
    });
}

/// Without a transaction there is nothing to undo, but what became of the statement is not known.
#[test]
fn without_a_transaction_the_connection_is_not_used_any_more() {
    run(async {
        let bed = Bed::new();
        for waits in 1..=3 {
            let mut conn = bed.connect().await;
            let runner = Runner::default();
            let plain = runner.operation("plain").without_transaction();
            let is_at_end = AtomicBool::new(false);
            let dropped = plain.run(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, -10).await?;
                is_at_end.store(true, Ordering::Relaxed);
                pending().await
            });
            let mut waited = 0;
            let never: Option<QueryResult<()>> = dropped_when(dropped, Moment::UnderWay, || {
                waited += 1;
                waited == waits || is_at_end.load(Ordering::Relaxed)
            })
            .await;
            assert!(never.is_none());
            assert!(refuses(&mut conn));
            let next: QueryResult<()> = plain.run(&mut conn, async |_: &mut Conn| Ok(())).await;
            assert!(matches!(next, Err(Error::BrokenTransactionManager)));
        }
    });
}

/// Drops a run at one of its await points, or at its end, where it waits for ever.
async fn drop_step(runner: &Runner, conn: &mut Conn, waits: u32) {
    let is_at_end = AtomicBool::new(false);
    let step = runner.run(conn, async |conn: &mut Conn| {
        add(conn, 2, 4).await?;
        add(conn, 3, 6).await?;
        is_at_end.store(true, Ordering::Relaxed);
        pending().await
    });
    let mut waited = 0;
    let step: Option<QueryResult<()>> = dropped_when(step, Moment::UnderWay, || {
        waited += 1;
        waited == waits || is_at_end.load(Ordering::Relaxed)
    })
    .await;
    assert!(step.is_none());
}

/// The caller goes on after a step was dropped.
#[test]
fn a_step_dropped_in_the_callers_transaction_is_told_at_its_commit() {
    run(async {
        let bed = Bed::new();
        for waits in 1..=6 {
            let mut conn = bed.connect().await;
            let runner = Runner::default();
            let result: QueryResult<()> = conn
                .transaction(async |conn: &mut Conn| {
                    add(conn, 1, -10).await?;
                    drop_step(&runner, conn, waits).await;
                    Ok(())
                })
                .await;
            assert!(matches!(result, Err(Error::BrokenTransactionManager)));
            assert!(refuses(&mut conn));
            drop(conn);
            bed.transactions_end().await;
            assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        }
    });
}

/// The operation goes on after a step was dropped in it, and says Ok.
#[test]
fn a_step_dropped_in_an_operation_makes_it_fail() {
    run(async {
        let bed = Bed::new();
        for waits in 1..=6 {
            let mut conn = bed.connect().await;
            let runner = Runner::default();
            let bodies = AtomicU32::new(0);
            let result: QueryResult<()> = runner
                .run(&mut conn, async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, -10).await?;
                    drop_step(&runner, conn, waits).await;
                    Ok(())
                })
                .await;
            assert!(matches!(result, Err(Error::BrokenTransactionManager)));
            assert_eq!(bodies.into_inner(), 1, "it cannot be tried again here");
            assert!(refuses(&mut conn));
            drop(conn);
            bed.transactions_end().await;
            assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
        }
    });
}
