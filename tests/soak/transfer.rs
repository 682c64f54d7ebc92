//! What the workers do.

use std::time::Duration;

use dbop_diesel::{Ledger, Report};
use dbop_tests::{Number, accounts};
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel::result::Error;
use diesel::sql_query;

use super::{Conn, Pool, RunQueryDsl, Runner, helper};
use crate::office::{Worker, policy};
use crate::tally::{Mode, Told, Transfer};

/// Shorter than most failovers.
const HASTE: Duration = Duration::from_secs(1);

/// Makes transfers until it is told to stop.
#[helper]
pub(crate) async fn work(mut worker: Worker, pool: Pool) {
    let runner = Runner::new(policy()).with_logger(worker.experience.clone());
    let mut told = Vec::new();
    while worker.goes_on() {
        let transfer = worker.next();
        let report = make(&runner, &worker.ledger, &pool, worker.mode, transfer).await;
        told.push(Told::by(&report, transfer, worker.mode));
    }
    worker.tell(told);
}

#[helper]
async fn make(
    runner: &Runner,
    ledger: &Ledger,
    pool: &Pool,
    mode: Mode,
    transfer: Transfer,
) -> Report<(), Error> {
    let operation = runner.operation("transfer");
    let make = async move |conn: &mut Conn| carry_out(conn, transfer).await;
    match mode {
        Mode::Nothing => operation.run_on_report(pool, make).await,
        Mode::Verify => {
            let look = async move |conn: &mut Conn| is_there(conn, transfer).await;
            operation.verify(look).run_on_report(pool, make).await
        }
        Mode::Status => {
            let operation = operation.transaction_status();
            operation.run_on_report(pool, make).await
        }
        Mode::Ledger => operation.ledger(ledger).run_on_report(pool, make).await,
        Mode::Hasty => {
            let operation = operation.ledger(ledger).deadline(HASTE);
            operation.run_on_report(pool, make).await
        }
    }
}

#[helper]
async fn carry_out(conn: &mut Conn, transfer: Transfer) -> QueryResult<()> {
    let Transfer {
        id,
        payer,
        payee,
        amount,
    } = transfer;
    add(conn, payer, -amount).await?;
    let entry = format!("INSERT INTO journal VALUES ({id}, {payer}, {payee}, {amount})");
    sql_query(entry).execute(conn).await?;
    add(conn, payee, amount).await
}

#[helper]
async fn add(conn: &mut Conn, id: i32, amount: i64) -> QueryResult<()> {
    let changed = diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(accounts::balance + amount))
        .execute(conn)
        .await?;
    assert_eq!(changed, 1);
    Ok(())
}

/// Looks for the work, without the race that there could be: what the work has locked is free only
/// when it cannot be committed any more.
#[helper]
async fn is_there(conn: &mut Conn, transfer: Transfer) -> QueryResult<bool> {
    let Transfer { id, payer, .. } = transfer;
    let lock = format!("SELECT balance AS n FROM accounts WHERE id = {payer} FOR UPDATE");
    let _: Number = sql_query(lock).get_result(conn).await?;
    let count = format!("SELECT count(*) AS n FROM journal WHERE id = {id}");
    let count: Number = sql_query(count).get_result(conn).await?;
    Ok(count.n > 0)
}
