//! Which messages the proxy cuts, what it counts, and what it does to connections as a whole.

use std::time::Duration;

use dbop_tests::proxy::{Cut, Proxy, Until, When};
use diesel::QueryResult;

use super::money::{add, balance, set};
use super::proxy::through;
use super::{
    Bed, Conn, Connection as _, MODE, Runner, SimpleConnection as _, backend, helper, scenario,
};

/// A transaction that Diesel makes.
#[helper]
async fn transaction(conn: &mut Conn) -> QueryResult<usize> {
    conn.transaction(async |conn| set(conn, 1, 7).await).await
}

#[scenario]
async fn each_nth_statement_can_be_cut_and_several_in_a_row() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let when = When::statement("update").nth(3).times(2);
    let cut = proxy.cut(when, Cut::AnswerLost);
    assert_eq!(add(&mut conn, 1, 1).await, Ok(1));
    assert_eq!(balance(&mut conn, 1).await, Ok(101));
    assert_eq!(add(&mut conn, 1, 1).await, Ok(1), "prepared or not");
    add(&mut conn, 1, 1).await.expect_err("the third");
    let mut conn = through(&proxy).await;
    add(&mut conn, 1, 1).await.expect_err("the fourth");
    let mut conn = through(&proxy).await;
    assert_eq!(add(&mut conn, 1, 1).await, Ok(1));
    assert_eq!((cut.reached(), proxy.cuts_made()), (2, 2));
    assert_eq!(bed.balances()[0], (1, 105));
}

/// Executed again without being prepared again.
#[scenario]
async fn a_statement_that_has_been_prepared_long_ago_is_recognised() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    for _ in 0..3 {
        assert_eq!(balance(&mut conn, 1).await, Ok(100));
    }
    proxy.reset();
    let prepared = proxy.cut(When::prepared("select"), Cut::BeforeSent);
    let executed = proxy.cut(When::statement("select"), Cut::BeforeSent);
    balance(&mut conn, 1).await.expect_err("cut");
    assert_eq!((prepared.reached(), executed.reached()), (0, 1));
    let mut conn = through(&proxy).await;
    balance(&mut conn, 1).await.expect_err("cut");
    assert_eq!((prepared.reached(), executed.reached()), (1, 1));
}

#[scenario]
async fn a_commit_is_cut_and_what_came_before_is_not() {
    for (cut, committed_at_once, committed) in [
        (Cut::BeforeSent, false, false),
        (Cut::AnswerLost, true, true),
        (Cut::Late(Until::Released), false, true),
        (Cut::MidStatement(Until::Passed(Duration::ZERO)), true, true),
    ] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        let mut conn = through(&proxy).await;
        let planned = proxy.cut(When::commit(), cut);
        assert_eq!(conn.batch_execute("BEGIN; ROLLBACK").await, Ok(()));
        transaction(&mut conn).await.expect_err("no answer");
        assert_eq!(proxy.cuts_made(), 1, "{cut:?}");
        let is_committed = || bed.balances()[0] == (1, 7);
        if cut == Cut::Late(Until::Released) {
            assert!(!is_committed());
            planned.release();
        }
        planned.wait_until_finished();
        if committed_at_once {
            dbop_tests::eventually("committed", is_committed);
        }
        assert_eq!(is_committed(), committed, "{cut:?}");
    }
}

#[scenario]
async fn a_server_that_is_down_refuses_new_connections_only() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    proxy.refuse(true);
    assert!(Conn::establish(proxy.url()).await.is_err());
    assert_eq!(set(&mut conn, 1, 7).await, Ok(1), "an open one");
    proxy.refuse(false);
    let mut next = through(&proxy).await;
    assert_eq!(set(&mut next, 1, 8).await, Ok(1));
}

#[scenario]
async fn all_connections_can_be_closed_at_once() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut first = through(&proxy).await;
    let mut second = through(&proxy).await;
    proxy.cut_all();
    set(&mut first, 1, 7).await.expect_err("closed");
    set(&mut second, 1, 7).await.expect_err("closed");
    let mut next = through(&proxy).await;
    assert_eq!(balance(&mut next, 1).await, Ok(100));
}

/// Of Diesel's own transaction: around an UPDATE, which is never kept prepared, and twice around a
/// SELECT, which is.
#[scenario]
async fn the_round_trips_of_a_bare_transaction_are_known() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let mut counts = [0; 3];
    for (round, count) in counts.iter_mut().enumerate() {
        proxy.reset();
        if round == 0 {
            assert_eq!(transaction(&mut conn).await, Ok(1));
        } else {
            let read: QueryResult<i64> =
                conn.transaction(async |conn| balance(conn, 1).await).await;
            assert_eq!(read, Ok(7));
        }
        *count = proxy.round_trips();
    }
    let expected = match (backend::BACKEND, MODE) {
        ("postgresql", "sync") => [3, 4, 3],
        ("postgresql", _) => [4, 4, 3],
        (_, "sync") => [8, 8, 7],
        _ => [4, 4, 3],
    };
    assert_eq!(counts, expected, "{:#?}", proxy.conversation());
}

/// An operation with a timeout of its own, and one with a step.
#[helper]
async fn operations(runner: &Runner, conn: &mut Conn) -> QueryResult<i64> {
    runner
        .operation("read")
        .lock_timeout(Duration::from_secs(3))
        .run(conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await?;
    runner
        .run(conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| balance(conn, 1).await)
                .await
        })
        .await
}

/// The same with Diesel's own transactions.
#[helper]
async fn transactions(conn: &mut Conn) -> QueryResult<i64> {
    let _: i64 = conn
        .transaction(async |conn: &mut Conn| balance(conn, 1).await)
        .await?;
    conn.transaction(async |conn: &mut Conn| {
        conn.transaction(async |conn: &mut Conn| balance(conn, 1).await)
            .await
    })
    .await
}

#[scenario]
async fn an_operation_costs_no_round_trip_that_a_bare_transaction_does_not() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let mut conn = through(&proxy).await;
    let runner = Runner::default();
    assert_eq!(balance(&mut conn, 1).await, Ok(100), "prepared");
    proxy.reset();
    assert_eq!(transactions(&mut conn).await, Ok(100));
    let bare = proxy.round_trips();
    proxy.reset();
    assert_eq!(operations(&runner, &mut conn).await, Ok(100));
    assert_eq!(proxy.round_trips(), bare, "{:#?}", proxy.conversation());
}
