//! A service whose tests run in Diesel's test transactions, with operations that ask for what only the
//! beginning of a transaction can have.

use dbop_diesel::{BeginMode, IsolationLevel, OperationError as _};
use dbop_tests::InstantClock;
use diesel::QueryResult;

use super::money::{add, balance};
use super::{Bed, Conn, Connection as _, Runner, helper, scenario};

#[helper]
async fn report(runner: &Runner, conn: &mut Conn) -> QueryResult<i64> {
    let report = runner.operation("report");
    report
        .isolation(IsolationLevel::Serializable)
        .read_only()
        .run(conn, async |conn: &mut Conn| balance(conn, 1).await)
        .await
}

#[helper]
async fn close(runner: &Runner, conn: &mut Conn) -> QueryResult<usize> {
    let closing = runner.operation("close");
    closing
        .begin_mode(BeginMode::Exclusive)
        .run(conn, async |conn: &mut Conn| add(conn, 1, -100).await)
        .await
}

#[scenario]
async fn the_operations_of_the_service_run_and_nothing_is_committed() {
    let bed = Bed::new();
    let runner = Runner::default();
    let mut conn = bed.connect();
    conn.begin_test_transaction().await.expect("no transaction");
    let refused = close(&runner, &mut conn).await;
    let error = refused.expect_err("the transaction is open");
    let error = error.dbop_error().expect("dbop's");
    assert!(error.is_unsupported_setting());

    let runner = runner.for_tests();
    assert_eq!(report(&runner, &mut conn).await, Ok(100));
    assert_eq!(close(&runner, &mut conn).await, Ok(1));
    assert_eq!(report(&runner, &mut conn).await, Ok(0));
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[scenario]
async fn an_error_of_the_data_is_tried_once() {
    let bed = Bed::new();
    let clock = InstantClock::new();
    let runner = Runner::default().with_clock(clock.clone()).for_tests();
    let mut conn = bed.connect();
    conn.begin_test_transaction().await.expect("no transaction");
    let opening = runner.operation("open").begin_mode(BeginMode::Exclusive);
    let open = async |conn: &mut Conn| super::money::insert(conn, 1).await;
    let report = opening.run_report(&mut conn, open).await;
    assert_eq!((report.attempts, clock.slept().len()), (1, 0));
    report.result.expect_err("there is one");
    assert_eq!(close(&runner, &mut conn).await, Ok(1), "the test continues");
}

#[scenario]
async fn without_a_transaction_around_it_everything_is_as_asked_for() {
    let bed = Bed::new();
    let runner = Runner::default().for_tests();
    let mut conn = bed.connect();
    let reading = runner.operation("report").begin_mode(BeginMode::Deferred);
    let others_write = reading
        .run(&mut conn, async |_: &mut Conn| {
            let opponent = bed.opponent();
            opponent.start("BEGIN IMMEDIATE");
            QueryResult::Ok(opponent.finish().is_ok())
        })
        .await;
    assert_eq!(others_write, Ok(true));

    let weaker = runner
        .operation("report")
        .isolation(IsolationLevel::ReadCommitted);
    let read = async |conn: &mut Conn| balance(conn, 1).await;
    let error = weaker.run(&mut conn, read).await;
    let error = error.expect_err("SQLite has one level");
    let error = error.dbop_error().expect("dbop's");
    assert!(error.is_unsupported_setting());
}
