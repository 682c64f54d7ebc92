//! `run_on` with a pool of sessions on a server: a dead one leaves the pool at once, and so does
//! one that leads to a server that cannot write.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{FaultClass, Ledger, Outcome, Report, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, Meanwhile, TestPool as _, eventually, is_unknown};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance};
use super::steps::{Sessions, session_id};
use super::{Bed, Conn, HEALTHY_ONES_STAY, Pool, Runner, SimpleConnection as _, backend, scenario};

const PATIENCE: Duration = Duration::from_secs(5);

/// Without waiting for the next one who wants it.
#[scenario]
async fn a_dead_connection_leaves_the_pool_at_once() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let sessions = Sessions::default();
    let report: Report<usize, Error> = Runner::default()
        .operation("pay")
        .max_retries(0)
        .run_on_report(&pool, async |conn: &mut Conn| {
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
        (1, StopReason::RetriesExhausted)
    );
    assert_eq!(pool.connections(), 0);
    assert_ne!(session_id(&mut pool.checkout()).await, sessions.all()[0]);
    assert_eq!(bed.balances()[0], (1, 100));
}

/// So it is the operation's other attempt that finds the pool without it.
#[scenario]
async fn between_two_attempts_the_dead_connection_is_gone() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let seen = pool.clone();
    let clock = Meanwhile::new(move |_| assert_eq!(seen.connections(), 0));
    let sessions = Sessions::default();
    let result = Runner::default()
        .with_clock(clock.clone())
        .run_on(&pool, async |conn: &mut Conn| {
            let session = session_id(conn).await;
            if sessions.add(session) == 1 {
                bed.kill(session);
                bed.wait_until_gone(session);
            }
            add(conn, 1, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(clock.slept().len(), 1);
    assert_ne!(sessions.all()[0], sessions.all()[1]);
}

#[scenario]
async fn a_connection_whose_commit_was_lost_leaves_the_pool() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let pool = Pool::of(proxy.url(), 1, PATIENCE);
    let cut = proxy.cut(When::commit(), Cut::AnswerLost);
    let result: QueryResult<usize> = Runner::default()
        .run_on(&pool, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    cut.wait_until_finished();
    let error = result.expect_err("nobody knows");
    assert!(is_unknown(&error));
    assert_eq!(pool.connections(), 0);
    assert_eq!(bed.balances()[0], (1, 110));
}

/// The lost connection is out of the way, so that the one place is free for the one that asks; and
/// that one goes on with the next attempt, or back.
#[scenario]
async fn in_a_pool_of_one_there_is_a_connection_to_ask_with() {
    for (cut, expected) in [(Cut::AnswerLost, 1), (Cut::BeforeSent, 2)] {
        for has_ledger in [false, true] {
            let cell = (cut, has_ledger);
            let bed = Bed::new();
            let proxy = Proxy::start(bed.url());
            let pool = Pool::of(proxy.url(), 1, PATIENCE);
            pool.checkout()
                .batch_execute(&Ledger::new().create_table(backend::DIALECT))
                .await
                .expect("a new table");
            eventually("it is given back", || pool.lent() == 0);
            let planned = proxy.cut(When::commit(), cut);
            let (ledger, looks) = (Ledger::new(), AtomicU32::new(0));
            let body = async |conn: &mut Conn| add(conn, 1, 10).await;
            let look = async |conn: &mut Conn| {
                looks.fetch_add(1, Ordering::Relaxed);
                Ok(balance(conn, 1).await? == 110)
            };
            let runner = Runner::default().with_clock(InstantClock::new());
            let pay = runner.operation("pay");
            let report = if has_ledger {
                pay.ledger(&ledger).run_on_report(&pool, body).await
            } else {
                pay.verify(look).run_on_report(&pool, body).await
            };
            assert_eq!(report.result, Ok(1), "{cell:?}");
            assert_eq!(report.outcome, Outcome::Committed, "{cell:?}");
            assert_eq!(report.attempts, expected, "{cell:?}");
            assert_eq!(looks.into_inner(), u32::from(!has_ledger), "{cell:?}");
            assert_eq!(planned.reached(), 1, "{cell:?}");
            // The first one was used for the table.
            let connections = if HEALTHY_ONES_STAY { 2 } else { 3 };
            assert_eq!(proxy.connections(), connections, "{cell:?}");
            eventually("it is given back", || pool.lent() == 0);
            assert_eq!(bed.balances()[0], (1, 110), "{cell:?}");
        }
    }
}

/// Somebody else has taken the connection when it is to be asked, for longer than the pool waits.
#[scenario]
async fn while_the_pool_has_no_connection_it_is_asked_again() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let pool = Pool::of(proxy.url(), 1, Duration::from_millis(200));
    pool.checkout()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    eventually("it is given back", || pool.lent() == 0);
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let (seen, taken) = (pool.clone(), Mutex::new(None));
    let clock = Meanwhile::new(move |sleep| {
        let mut taken = taken.lock().expect("no panic");
        match sleep {
            1 => *taken = Some(seen.checkout()),
            3 => {
                drop(taken.take());
                eventually("it is given back", || seen.lent() == 0);
            }
            _ => {}
        }
    });
    let ledger = Ledger::new();
    let report = Runner::default()
        .with_clock(clock.clone())
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(&pool, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, report.outcome), (1, Outcome::Committed));
    assert_eq!(clock.slept().len(), 3);
    assert_eq!(bed.balances()[0], (1, 110));
}

/// Nobody has used them since: every one costs an attempt, unless the pool has noticed.
#[scenario]
async fn connections_that_died_in_the_pool_are_replaced() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let pool = Pool::of(proxy.url(), 2, PATIENCE);
    let (one, other) = (pool.checkout(), pool.checkout());
    drop((one, other));
    eventually("they are given back", || pool.lent() == 0);
    proxy.cut_all();
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_on_report(&pool, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(report.result, Ok(1));
    let most = if HEALTHY_ONES_STAY { 3 } else { 1 };
    assert!((1..=most).contains(&report.attempts), "{}", report.attempts);
    for failure in &report.failures {
        let fault = failure.fault.expect("known");
        assert_eq!(fault.class(), FaultClass::ConnectionLost);
    }
    assert_eq!(bed.balances()[0], (1, 110));
}

/// The session is alive, but after a failover it leads to a standby.
#[scenario]
async fn a_connection_to_a_server_that_cannot_write_is_replaced() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    let standby = {
        let mut conn = pool.checkout();
        conn.batch_execute(backend::READ_ONLY_SESSION)
            .await
            .expect("a setting");
        session_id(&mut conn).await
    };
    eventually("it is given back", || pool.lent() == 0);
    let clock = InstantClock::new();
    let sessions = Sessions::default();
    let report = Runner::default()
        .with_clock(clock.clone())
        .run_on_report(&pool, async |conn: &mut Conn| {
            sessions.add(session_id(conn).await);
            add(conn, 1, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.outcome, Outcome::Committed);
    assert_eq!(bed.balances()[0], (1, 110));
    let sessions = sessions.all();
    if !HEALTHY_ONES_STAY {
        assert!(report.attempts == 1 && sessions[0] != standby);
        return;
    }
    assert_eq!(report.attempts, 2);
    let fault = report.failures[0].fault.expect("known");
    assert_eq!(fault.class(), FaultClass::ReadOnlyServer);
    assert!(sessions[0] == standby && sessions[1] != standby);
    // It takes a while until the others have noticed the failover, too.
    let slept = clock.slept();
    assert!(
        slept.len() == 1 && slept[0] >= Duration::from_millis(500),
        "{slept:?}"
    );
}

/// Also where there is no further attempt, so that the next operation has a chance.
#[scenario]
async fn a_connection_to_a_server_that_cannot_write_is_not_left_to_the_next_operation() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, PATIENCE);
    pool.checkout()
        .batch_execute(backend::READ_ONLY_SESSION)
        .await
        .expect("a setting");
    eventually("it is given back", || pool.lent() == 0);
    let report: Report<usize, Error> = Runner::default()
        .operation("pay")
        .max_retries(0)
        .run_on_report(&pool, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(report.attempts, 1);
    if HEALTHY_ONES_STAY {
        assert!(report.result.is_err());
        assert_eq!(report.stop, StopReason::RetriesExhausted);
        assert_eq!(pool.connections(), 0);
    }
}
