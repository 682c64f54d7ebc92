//! What a client does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dbop_diesel::{Dialect, Ledger};
use dbop_tests::accounts;
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};

use super::{Conn, Connection as _, Pool, RunQueryDsl as _, Runner, SimpleConnection as _, Start};
use super::{DIALECT, by_hand, checkout, helper};
use crate::bench::cases::What;
use crate::bench::compare::Shift;
use crate::bench::options::Bound;

static LEDGER: Ledger = Ledger::new();

/// How many keys have been used.
static KEYS: AtomicU64 = AtomicU64::new(0);

const TIMEOUT: Duration = Duration::from_secs(5);

/// The table of the ledger.
pub(super) fn ledger_table() -> String {
    LEDGER.create_table(DIALECT)
}

/// What all clients share.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    runner: Runner,
    /// Without the default lock timeout.
    unset: Runner,
    has_statement_timeout: bool,
}

impl Tools {
    pub(super) fn new() -> Self {
        Self {
            runner: Runner::default(),
            unset: Runner::default().with_default_lock_timeout(None),
            has_statement_timeout: !matches!(DIALECT, Dialect::Sqlite),
        }
    }
}

/// Operation after operation, on a row of its own.
#[helper]
pub(super) async fn work(
    pool: Pool,
    tools: Tools,
    what: What,
    row: i32,
    bound: Bound,
    start: Arc<Start>,
) -> QueryResult<Shift> {
    let held = match what.is_on_pool() {
        true => None,
        false => Some(checkout(&pool).await),
    };
    start.wait().await;
    // Only now: the others would wait for ever.
    let mut held = held.transpose()?;
    let begun = Instant::now();
    let mut operations = 0;
    while !bound.is_reached(operations, begun) {
        match &mut held {
            Some(conn) => operate(conn, &tools, what, row).await?,
            None => operate_on(&pool, &tools, what, row).await?,
        }
        operations += 1;
    }
    let ended = Instant::now();
    Ok(Shift {
        operations,
        begun,
        ended,
    })
}

#[helper]
async fn operate(conn: &mut Conn, tools: &Tools, what: What, row: i32) -> QueryResult<()> {
    let Tools { runner, unset, .. } = tools;
    match what {
        What::Bare => {
            let body = async |conn: &mut Conn| add(conn, row).await;
            conn.transaction(body).await
        }
        What::BareThree => {
            let body = async |conn: &mut Conn| add_three(conn, row).await;
            conn.transaction(body).await
        }
        What::BareNestedThree => {
            let body = async |conn: &mut Conn| {
                for _ in 0..3 {
                    let step = async |conn: &mut Conn| add(conn, row).await;
                    conn.transaction(step).await?;
                }
                QueryResult::Ok(())
            };
            conn.transaction(body).await
        }
        What::BareRead => {
            let body = async |conn: &mut Conn| read(conn, row).await;
            conn.transaction(body).await
        }
        What::BarePlain => read(conn, row).await,
        What::Checked | What::Contained => {
            let (open, close) = by_hand(what);
            conn.batch_execute(open).await?;
            add(conn, row).await?;
            conn.batch_execute(close).await
        }
        What::Run | What::RunOn => {
            let body = async move |conn: &mut Conn| add(conn, row).await;
            runner.run(conn, body).await
        }
        What::Unset => {
            let body = async move |conn: &mut Conn| add(conn, row).await;
            unset.run(conn, body).await
        }
        What::NestedThree => {
            let body = async move |conn: &mut Conn| {
                for _ in 0..3 {
                    let step = async move |conn: &mut Conn| add(conn, row).await;
                    runner.run(conn, step).await?;
                }
                QueryResult::Ok(())
            };
            runner.run(conn, body).await
        }
        What::Settings => {
            let body = async move |conn: &mut Conn| add(conn, row).await;
            let mut operation = runner.operation("settings").lock_timeout(TIMEOUT);
            if tools.has_statement_timeout {
                operation = operation.statement_timeout(TIMEOUT);
            }
            operation.run(conn, body).await
        }
        What::ReadOnly => {
            let body = async move |conn: &mut Conn| read(conn, row).await;
            runner.operation("read").read_only().run(conn, body).await
        }
        What::Plain => {
            let body = async move |conn: &mut Conn| read(conn, row).await;
            let operation = runner.operation("plain").without_transaction().read_only();
            operation.run(conn, body).await
        }
        What::Ledger | What::Keyed => unreachable!("it is on the pool"),
    }
}

#[helper]
async fn operate_on(pool: &Pool, tools: &Tools, what: What, row: i32) -> QueryResult<()> {
    let body = async move |conn: &mut Conn| add(conn, row).await;
    let operation = tools.runner.operation("pay");
    match what {
        What::Ledger => operation.ledger(&LEDGER).run_on(pool, body).await,
        What::Keyed => {
            let key = KEYS.fetch_add(1, Ordering::Relaxed).to_string();
            let pay = operation.ledger(&LEDGER).idempotency_key(&key);
            pay.run_on(pool, body).await
        }
        _ => operation.run_on(pool, body).await,
    }
}

#[helper]
async fn add(conn: &mut Conn, row: i32) -> QueryResult<()> {
    diesel::update(accounts::table.find(row))
        .set(accounts::balance.eq(accounts::balance + 1))
        .execute(conn)
        .await?;
    Ok(())
}

#[helper]
async fn add_three(conn: &mut Conn, row: i32) -> QueryResult<()> {
    for _ in 0..3 {
        add(conn, row).await?;
    }
    Ok(())
}

#[helper]
async fn read(conn: &mut Conn, row: i32) -> QueryResult<()> {
    let balance = accounts::table.find(row).select(accounts::balance);
    let _: i64 = balance.get_result(conn).await?;
    Ok(())
}
