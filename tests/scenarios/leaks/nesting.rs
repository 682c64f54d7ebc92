//! Operations nested at random, with random settings and random ends: in each of them the server
//! has what it should have, and after each of them what it had before.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use dbop_diesel::RetryPolicy;
use dbop_tests::session::{Server, Session};
use dbop_tests::{InstantClock, Opponent, Word};
use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_query;

use super::backend;
use super::model::{Before, Place, Standard, Values};
use super::money::{add, insert};
use super::plans::{Case, Cases, DEPTH, End, Order, Plan};
use super::sessions::{Trouble, session};
use super::{Bed, Conn, Connection as _, Deep, RunQueryDsl as _, Runner, SimpleConnection as _};
use super::{caught, deep, helper, scenario};

/// What the operations of a case have in common.
struct World {
    server: Server,
    runner: Runner,
    standard: Standard,
    opponent: Opponent,
    wrong: Mutex<Vec<String>>,
    /// How many bodies were run, by depth, and how many of them were second attempts.
    bodies: [AtomicU32; DEPTH],
    retries: AtomicU32,
}

impl World {
    fn complain(&self, wrong: String) {
        let mut all = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(wrong);
    }

    fn compare(&self, what: &impl fmt::Debug, before: &Session, after: &Session) {
        let changes = before.changes(after);
        if !changes.is_empty() {
            self.complain(format!("left by {what:?}: {changes:?}"));
        }
    }
}

/// Whether it has the write lock of SQLite.
fn holds_write_lock(opponent: &Opponent) -> bool {
    opponent.start("BEGIN IMMEDIATE; ROLLBACK");
    opponent.finish().is_err()
}

/// The isolation level of the transaction on MySQL. MariaDB does not tell without a delay.
#[helper]
async fn transaction_isolation(conn: &mut Conn) -> String {
    let level = "SELECT isolation_level AS s \
                 FROM performance_schema.events_transactions_current \
                 WHERE thread_id = ps_current_thread_id() AND state = 'ACTIVE'";
    let level: Word = sql_query(level).get_result(conn).await.expect("an answer");
    level.s
}

/// Whether the transaction may not write, as a write shows. `None`: another test has locked all tables for
/// longer than a statement may take.
fn is_read_only(written: QueryResult<usize>) -> Result<Option<bool>, String> {
    let text = match written {
        Ok(_) => return Ok(Some(false)),
        Err(error) => error.to_string(),
    };
    match text {
        _ if text.contains("READ ONLY") => Ok(Some(true)),
        _ if text.contains("interrupted") || text.contains("timeout exceeded") => Ok(None),
        _ => Err(format!("a write: {text}")),
    }
}

/// Compares what should be in force in a body with what is.
#[helper]
async fn check(conn: &mut Conn, world: &World, plan: &Plan, values: &Values) {
    let seen = session(conn).await;
    let mut wrong = values.differences(world.server, &seen);
    if seen.get("max_execution_time").is_some() {
        let level = transaction_isolation(conn).await;
        if level != values.transaction_isolation.as_str() {
            wrong.push(format!("the transaction is {level}"));
        }
    }
    match world.server {
        // The variable is that of the session; what counts is what the transaction does.
        Server::Mysql => match is_read_only(add(conn, 3, 0).await) {
            Ok(found) if found.is_none_or(|found| found == values.read_only) => {}
            Ok(_) => wrong.push("read-only".into()),
            Err(text) => wrong.push(text),
        },
        Server::Sqlite => {
            let held = values.write_lock.map(|_| holds_write_lock(&world.opponent));
            if held != values.write_lock {
                wrong.push(format!("the write lock: {held:?}"));
            }
        }
        Server::Postgres => {}
    }
    if !wrong.is_empty() {
        world.complain(format!("in {:?}: {wrong:?} is not {values:?}", plan.ask));
    }
}

/// Runs an operation and those in it. `outside` is what is in force around it.
#[helper]
fn level<'a>(
    conn: &'a mut Conn,
    world: &'a World,
    plan: &'a Plan,
    outside: Values,
    place: Place,
    depth: usize,
) -> Deep<'a, Result<(), Trouble>> {
    deep(async move || {
        let before = session(conn).await;
        let attempts = AtomicU32::new(0);
        let operation = plan.ask.operation(&world.runner);
        let ended = caught(async || {
            let result: Result<(), Trouble> = operation
                .run(conn, async |conn: &mut Conn| {
                    let attempt = attempts.fetch_add(1, Ordering::Relaxed);
                    world.bodies[depth].fetch_add(1, Ordering::Relaxed);
                    world.retries.fetch_add(attempt, Ordering::Relaxed);
                    let values =
                        outside.within(world.server, place, &plan.ask, &world.standard, attempt);
                    check(conn, world, plan, &values).await;
                    body(conn, world, plan, values, attempt, depth).await
                })
                .await;
            result
        })
        .await;
        let is_ok = matches!(ended, Ok(Ok(())));
        if is_ok != plan.succeeds() || attempts.load(Ordering::Relaxed) == 0 {
            world.complain(format!("{plan:?}: {ended:?} after {attempts:?} bodies"));
        }
        world.compare(plan, &before, &session(conn).await);
        // What panics in a step is caught there.
        ended.unwrap_or(Err(Trouble::Own))
    })
}

#[helper]
async fn body(
    conn: &mut Conn,
    world: &World,
    plan: &Plan,
    values: Values,
    attempt: u32,
    depth: usize,
) -> Result<(), Trouble> {
    let place = Place {
        in_transaction: true,
        in_operation: true,
    };
    for step in &plan.steps {
        let result = level(conn, world, &step.plan, values, place, depth + 1).await;
        if step.matters {
            result.map_err(|_| Trouble::Own)?;
        }
    }
    match plan.end {
        End::SecondAttempt if attempt == 0 => Err(Trouble::Again),
        End::Ok | End::SecondAttempt => Ok(()),
        End::Own => Err(Trouble::Own),
        End::Database => match insert(conn, 1).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Trouble::Database(error)),
        },
        End::Panic => panic!("as planned"),
    }
}

/// Sets the caller's own timeouts, for his transaction where that can be.
fn set_by_caller(server: Server, (lock, statement): (u64, u64)) -> String {
    match server {
        Server::Postgres => {
            format!("SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {statement}")
        }
        Server::Mysql => format!(
            "SET innodb_lock_wait_timeout = {}; \
             /*M!100100 SET max_statement_time = {statement} / 1000 */ \
             /*!80000 SET max_execution_time = {statement} */",
            lock / 1000
        ),
        Server::Sqlite => format!("PRAGMA busy_timeout = {lock}"),
    }
}

/// Runs a case. What is wrong?
#[helper]
async fn run(bed: &Bed, world: &World, case: &Case) -> Vec<String> {
    let mut conn = bed.connect();
    let server = world.server;
    let sql = case.before.sql(server);
    conn.batch_execute(&sql).await.expect("it can be set");
    let before = session(&mut conn).await;
    let mut place = Place {
        in_transaction: false,
        in_operation: false,
    };
    match case.caller {
        None => {
            let values = case.before.values();
            let result = level(&mut conn, world, &case.plan, values, place, 0).await;
            drop(result);
        }
        Some(own) => {
            let (lock, statement) = own;
            let values = Before {
                lock,
                statement,
                ..case.before
            };
            place.in_transaction = true;
            let result: Result<(), Error> = conn
                .transaction(async |conn: &mut Conn| {
                    conn.batch_execute(&set_by_caller(server, own)).await?;
                    let result = level(conn, world, &case.plan, values.values(), place, 0).await;
                    drop(result);
                    Ok(())
                })
                .await;
            if result.is_err() {
                world.complain(format!("the caller's transaction: {result:?}"));
            }
            // What is not local to the transaction is there to stay.
            if server != Server::Postgres {
                let undo = set_by_caller(server, (case.before.lock, case.before.statement));
                conn.batch_execute(&undo).await.expect("it can be set");
            }
        }
    }
    world.compare(case, &before, &session(&mut conn).await);
    let mut wrong = world.wrong.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *wrong)
}

fn world(bed: &Bed, standard: Standard) -> World {
    let runner = Runner::new(RetryPolicy::new().with_max_retries(1000));
    World {
        server: Server::of(backend::BACKEND),
        runner: standard.runner(runner.with_clock(InstantClock::new())),
        standard,
        opponent: bed.opponent(),
        wrong: Mutex::default(),
        bodies: Default::default(),
        retries: AtomicU32::new(0),
    }
}

/// `PROPTEST_CASES` asks for more cases. One that fails is made as small as it can be before it is
/// shown.
#[scenario]
async fn at_random() {
    let bed = Bed::new();
    let cases = Cases::new();
    let number = match std::env::var("PROPTEST_CASES") {
        Ok(number) => number.parse().expect("a number"),
        Err(_) => 40,
    };
    let mut seen = [0; DEPTH + 1];
    for _ in 0..number {
        let mut case = cases.get(Order::Another).expect("a case");
        let tried = world(&bed, case.standard);
        let mut wrong = run(&bed, &tried, &case).await;
        for (seen, more) in seen
            .iter_mut()
            .zip(tried.bodies.iter().chain([&tried.retries]))
        {
            *seen += more.load(Ordering::Relaxed);
        }
        if wrong.is_empty() {
            continue;
        }
        let mut next = cases.get(Order::Simpler);
        while let Some(smaller) = next {
            let found = run(&bed, &world(&bed, smaller.standard), &smaller).await;
            next = match found.is_empty() {
                true => cases.get(Order::LessSimple),
                false => {
                    (case, wrong) = (smaller, found);
                    cases.get(Order::Simpler)
                }
            };
        }
        panic!("{case:#?}\n{wrong:#?}");
    }
    assert!(
        seen.iter().all(|&seen| seen > 0),
        "bodies by depth, retries: {seen:?}"
    );
}
