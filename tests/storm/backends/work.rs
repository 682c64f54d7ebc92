//! What a client does.

use std::time::Instant;

use dbop_diesel::Keys;
use dbop_tests::accounts;
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel::result::Error;

use super::{Conn, Connection as _, DIALECT, Pool, RunQueryDsl as _, Runner};
use super::{checkout, helper, pause};
use crate::storm::client::{Client, Order, Step, is_passing};
use crate::storm::policies::{Gate, Loop, Run, Way};

/// Operation after operation, until the end.
#[helper]
pub(super) async fn work(mut client: Client, runner: Runner, pool: Pool) {
    pause(client.rest()).await;
    while let Some(order) = client.next() {
        let begun = Instant::now();
        let (attempts, result) = match client.way {
            Way::ByHand(way) => by_hand(&pool, way, order).await,
            Way::Dbop(run) => by_dbop(&runner, &pool, run, order).await,
        };
        client.note(begun, attempts, result.is_ok());
    }
    client.tell();
}

/// As a loop is written around `transaction`.
#[helper]
async fn by_hand(pool: &Pool, way: Loop, order: Order) -> (u32, QueryResult<()>) {
    let mut delays = (way.delays)();
    let mut attempts = 1;
    let mut held = match checkout(pool).await {
        Ok(held) => held,
        Err(error) => return (attempts, Err(error)),
    };
    let conn: &mut Conn = &mut held;
    loop {
        let transfer = async |conn: &mut Conn| match way.in_steps {
            true => carry_out_in_transactions(conn, order).await,
            false => carry_out(conn, order).await,
        };
        let error = match conn.transaction(transfer).await {
            Err(error) if is_passing(DIALECT, &error) => error,
            result => return (attempts, result),
        };
        let Some(delay) = delays.next() else {
            return (attempts, Err(error));
        };
        pause(order.within(delay)).await;
        attempts += 1;
    }
}

#[helper]
async fn by_dbop(
    runner: &Runner,
    pool: &Pool,
    run: Run,
    order: Order,
) -> (u32, QueryResult<()>) {
    let keys = Keys::new("account", order.rows());
    let operation = match run.gate {
        Gate::Keys => runner.operation("transfer").exclusive_by(&keys),
        Gate::None | Gate::Name => runner.operation("transfer"),
    };
    let report = if run.in_steps {
        let in_steps = async move |conn: &mut Conn| carry_out_in_steps(conn, runner, order).await;
        operation.run_on_report(pool, in_steps).await
    } else {
        let transfer = async move |conn: &mut Conn| carry_out(conn, order).await;
        operation.run_on_report(pool, transfer).await
    };
    (report.attempts, report.result)
}

#[helper]
async fn carry_out(conn: &mut Conn, order: Order) -> QueryResult<()> {
    for step in order.steps {
        if order.is_over() {
            return Err(Error::RollbackTransaction);
        }
        make(conn, step).await?;
    }
    Ok(())
}

#[helper]
async fn carry_out_in_transactions(conn: &mut Conn, order: Order) -> QueryResult<()> {
    for step in order.steps {
        if order.is_over() {
            return Err(Error::RollbackTransaction);
        }
        let make = async move |conn: &mut Conn| make(conn, step).await;
        conn.transaction(make).await?;
    }
    Ok(())
}

#[helper]
async fn carry_out_in_steps(conn: &mut Conn, runner: &Runner, order: Order) -> QueryResult<()> {
    for step in order.steps {
        if order.is_over() {
            return Err(Error::RollbackTransaction);
        }
        let make = async move |conn: &mut Conn| make(conn, step).await;
        runner.run(conn, make).await?;
    }
    Ok(())
}

#[helper]
async fn make(conn: &mut Conn, step: Step) -> QueryResult<()> {
    match step {
        Step::Read(id) => {
            let balance = accounts::table.find(id).select(accounts::balance);
            let _: i64 = balance.get_result(conn).await?;
        }
        Step::Add(id, amount) => {
            diesel::update(accounts::table.find(id))
                .set(accounts::balance.eq(accounts::balance + amount))
                .execute(conn)
                .await?;
        }
    }
    Ok(())
}
