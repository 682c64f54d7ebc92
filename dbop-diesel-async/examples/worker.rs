//! A worker that takes jobs from a table of PostgreSQL. Start as many of them as you like: each job is
//! done once.
//!
//! ```text
//! export DATABASE_URL=postgres://user@localhost/bank
//! cargo run -p dbop-diesel-async --features postgres,deadpool --example worker
//! psql $DATABASE_URL -c "INSERT INTO jobs (account, amount) VALUES (1, 10)"
//! ```
//!
//! A job adds an amount to an account. Its work and the mark that it is done are one transaction, so a
//! worker that dies leaves the job to another one. A limit for jobs that always fail is left out.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints what it does"
)]
#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use dbop_diesel_async::Runner;
use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::time::sleep;

diesel::table! {
    jobs {
        id -> BigInt,
        account -> Integer,
        amount -> BigInt,
        done -> Bool,
    }
}

diesel::table! {
    accounts {
        id -> Integer,
        balance -> BigInt,
    }
}

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS jobs (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account INTEGER NOT NULL,
        amount BIGINT NOT NULL,
        done BOOLEAN NOT NULL DEFAULT FALSE)";

/// How long it waits where there is no job, or the database does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Does the first free job and returns its id, if there is one.
async fn do_one(conn: &mut AsyncPgConnection) -> QueryResult<Option<i64>> {
    let free = jobs::table
        .filter(jobs::done.eq(false))
        .order(jobs::id)
        .select((jobs::id, jobs::account, jobs::amount))
        .for_update()
        .skip_locked();
    let job: Option<(i64, i32, i64)> = free.first(conn).await.optional()?;
    let Some((id, account, amount)) = job else {
        return Ok(None);
    };
    diesel::insert_into(accounts::table)
        .values((accounts::id.eq(account), accounts::balance.eq(amount)))
        .on_conflict(accounts::id)
        .do_update()
        .set(accounts::balance.eq(accounts::balance + amount))
        .execute(conn)
        .await?;
    diesel::update(jobs::table.find(id))
        .set(jobs::done.eq(true))
        .execute(conn)
        .await?;
    Ok(Some(id))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One future for the whole program: a new one would not see a Ctrl-C that came during a job.
    let mut stop = pin!(tokio::signal::ctrl_c());
    let url = std::env::var("DATABASE_URL")?;
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    let pool = Pool::builder(manager).max_size(1).build()?;
    let runner = Runner::default();
    runner
        .run_on(&pool, async |conn| conn.batch_execute(TABLES).await)
        .await?;
    println!("working");
    let mut is_idle = false;
    loop {
        let pause = async {
            if is_idle {
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            biased; // a Ctrl-C that came during a job counts before the next one
            stopped = &mut stop => return Ok(stopped?),
            () = pause => {}
        }
        // Idempotent: after a lost COMMIT the next attempt takes a job that is not done, whether this
        // one is done or not.
        let operation = runner.operation("job").idempotent();
        let done = operation
            .run_on(&pool, async |conn| do_one(conn).await)
            .await;
        is_idle = !matches!(done, Ok(Some(_)));
        match done {
            Ok(Some(id)) => println!("job {id}"),
            Ok(None) => {}
            Err(error) => eprintln!("{error}"),
        }
    }
}
