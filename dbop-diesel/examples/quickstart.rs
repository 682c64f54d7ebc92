//! The first run: `cargo run -q -p dbop-diesel --features sqlite --example quickstart`.
//!
//! Everything in here is real: a database file, two threads that compete for it, retries, a batch
//! with savepoints, an abort. The example prints what happens and checks that it did.

#![allow(clippy::print_stdout, reason = "an example that prints what it does")]
#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use dbop_diesel::{RetryPolicy, Runner};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use log::{Level, Log, Metadata, Record};

diesel::table! {
    accounts {
        id -> Integer,
        owner -> Text,
        balance -> BigInt,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let url = directory.path().join("bank.db").display().to_string();
    let mut conn = SqliteConnection::establish(&url)?;
    conn.batch_execute(
        "CREATE TABLE accounts (id INTEGER PRIMARY KEY, owner TEXT NOT NULL,
                                balance BIGINT NOT NULL CHECK (balance >= 0));
         INSERT INTO accounts VALUES (1, 'Ada', 100), (2, 'Grace', 100), (3, 'Linus', 100)",
    )?;
    println!("A new database file, with three accounts of 100 each.\n");

    // Make a runner once and share it. The narrator prints its log records and counts the retries.
    let narrator = Arc::new(Narrator::default());
    let runner = Runner::new(RetryPolicy::new().with_max_retries(10)).with_logger(narrator.clone());

    two_threads_contend(&url, &runner, &narrator)?;
    a_batch_of_steps(&mut conn, &runner)?;
    a_conditional_abort(&mut conn, &runner)?;

    let balances = runner
        .operation("read-balances")
        .read_only()
        .run(&mut conn, |conn| {
            accounts::table.select(accounts::balance).load::<i64>(conn)
        })?;
    println!(
        "\nAt the end: Ada {}, Grace {}, Linus {}.",
        balances[0], balances[1], balances[2]
    );
    if balances != [70, 110, 120] {
        return Err(format!("expected 70, 110 and 120, not {balances:?}").into());
    }
    println!("Every unit is where it should be. Checked.");
    Ok(())
}

/// SQLite lets one connection write at a time; the other one gets "database is locked".
fn two_threads_contend(
    url: &str,
    runner: &Runner,
    narrator: &Narrator,
) -> Result<(), Box<dyn Error>> {
    println!("1. Two threads want to write at the same time.");
    let (writing, is_writing): (Sender<()>, Receiver<()>) = channel();
    std::thread::scope(|scope| {
        let slow = scope.spawn(move || {
            let mut conn = SqliteConnection::establish(url).map_err(|error| error.to_string())?;
            runner
                .operation("slow-transfer")
                .run(&mut conn, |conn| {
                    transfer(conn, 1, 2, 10)?;
                    // This thread has the write lock. It keeps it until the other one was refused.
                    _ = writing.send(());
                    narrator.wait_for_a_retry();
                    Ok(())
                })
                .map_err(|error: diesel::result::Error| error.to_string())
        });
        let eager = scope.spawn(move || {
            let mut conn = SqliteConnection::establish(url).map_err(|error| error.to_string())?;
            _ = is_writing.recv();
            runner
                .operation("eager-transfer")
                .run(&mut conn, |conn| transfer(conn, 1, 3, 10))
                .map_err(|error| error.to_string())
        });
        for thread in [slow, eager] {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok::<(), String>(())
    })?;
    let retries = narrator.retries.load(Ordering::Relaxed);
    if retries == 0 {
        return Err("the threads did not meet".into());
    }
    let noun = if retries == 1 { "retry" } else { "retries" };
    println!("   Both are done. The eager one needed {retries} {noun}.\n");
    Ok(())
}

/// Inside the caller's transaction every operation is a savepoint: a step that fails is rolled back
/// alone, and the caller decides about the whole.
fn a_batch_of_steps(conn: &mut SqliteConnection, runner: &Runner) -> QueryResult<()> {
    println!("2. A batch of three steps in one transaction.");
    conn.immediate_transaction(|conn| {
        runner
            .operation("step-a")
            .run(conn, |conn| transfer(conn, 1, 3, 10))?;
        let impossible: QueryResult<()> = runner
            .operation("step-b")
            .run(conn, |conn| transfer(conn, 2, 3, 1_000_000));
        println!(
            "   Step b fails: {}",
            impossible.expect_err("more than the account has")
        );
        runner
            .operation("step-c")
            .run(conn, |conn| transfer(conn, 2, 1, 0))
    })?;
    println!("   Step b was rolled back alone; steps a and c are committed together.\n");
    Ok(())
}

/// An error that the transaction returns rolls back all of it.
fn a_conditional_abort(conn: &mut SqliteConnection, runner: &Runner) -> QueryResult<()> {
    println!("3. A batch that is aborted half-way.");
    let aborted: QueryResult<()> = conn.immediate_transaction(|conn| {
        runner
            .operation("step-a")
            .run(conn, |conn| transfer(conn, 3, 1, 120))?;
        Err(diesel::result::Error::RollbackTransaction)
    });
    assert_eq!(aborted, Err(diesel::result::Error::RollbackTransaction));
    println!("   Nothing of it was kept.");
    Ok(())
}

/// An operation is a function of the connection. It may run more than once.
fn transfer(conn: &mut SqliteConnection, from: i32, to: i32, amount: i64) -> QueryResult<()> {
    for (id, change) in [(from, -amount), (to, amount)] {
        diesel::update(accounts::table.find(id))
            .set(accounts::balance.eq(accounts::balance + change))
            .execute(conn)?;
    }
    Ok(())
}

/// Prints the log and counts the retries in it.
#[derive(Default)]
struct Narrator {
    retries: AtomicU32,
}

impl Narrator {
    fn wait_for_a_retry(&self) {
        let give_up = Instant::now() + Duration::from_secs(5);
        while self.retries.load(Ordering::Relaxed) == 0 && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Log for Narrator {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        println!("   [{}] {}", record.level(), record.args());
        if record.level() == Level::Warn {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}
