//! Under load, runs that time out, are aborted or are dropped leave the pool usable: nothing of
//! them is kept unless their COMMIT was under way, no money is made or lost, and no session stays
//! in a transaction. What is cancelled, how and after how long follows from the seed; when exactly
//! that is in the run depends on the machine.

#![allow(
    clippy::print_stdout,
    reason = "a failure has to say with which seed, and what had been done"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel_async::{RetryPolicy, Runner, SupportedConnection};
use dbop_tests::asynchronous::{Moment, Trace, dropped_after};
use dbop_tests::{Number, accounts};
use diesel::prelude::QueryDsl as _;
use diesel::result::Error;
use diesel::{QueryResult, sql_query};
use diesel_async::pooled_connection::{bb8, deadpool};
use diesel_async::{AsyncConnection as _, SimpleAsyncConnection as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::money::add;
use super::pools::Pool;
use super::{Bed, Conn, Db, run};

const SEED: u64 = 4711;
/// More than there is room for in the pool: somebody always waits for a connection.
const WORKERS: u64 = 10;
const ROOM: u32 = 5;
const ACCOUNTS: i32 = 12;
const SUM: i64 = 1200;

#[test]
fn a_thousand_leave_deadpool_usable() {
    run(cancelled_under_load::<deadpool::Pool<Conn>>(1000));
}

#[test]
fn a_hundred_leave_bb8_usable() {
    run(cancelled_under_load::<bb8::Pool<Conn>>(100));
}

/// What is known about a transfer from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It is kept.
    Done,
    /// It is not.
    Undone,
    /// It was cancelled when its COMMIT was under way.
    Unknown,
}

async fn cancelled_under_load<P: Pool>(cancellations: u32) {
    let bed = Arc::new(Bed::new());
    let pool = P::of(&bed, ROOM).await;
    let table = "CREATE TABLE journal (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL);
        INSERT INTO accounts SELECT id + 3, balance FROM accounts;
        INSERT INTO accounts SELECT id + 6, balance FROM accounts";
    let created = pool.checkout().await.batch_execute(table).await;
    created.expect("a new table and more accounts");

    let left = Arc::new(AtomicU32::new(cancellations));
    let next = Arc::new(AtomicU32::new(1));
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (pool, left, next) = (pool.clone(), left.clone(), next.clone());
        workers.spawn(async move {
            let mut random = fastrand::Rng::with_seed(SEED + worker);
            let mut known = Vec::new();
            while left.load(Ordering::Relaxed) > 0 {
                let transfer = Transfer::random(&next, &mut random);
                let (outcome, cancelled) = transfer.cancelled_some_time(&pool, &mut random).await;
                known.push((transfer.id, outcome));
                if cancelled {
                    _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        left.checked_sub(1)
                    });
                }
            }
            known
        });
    }
    let reader = tokio::spawn(sums(pool.clone(), left.clone()));
    let known: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    assert!(reader.await.expect("no panic") > 0);

    // Taken out all at once, so that none of them is one of the broken ones.
    let mut all = Vec::new();
    for _ in 0..ROOM {
        all.push(pool.checkout().await);
    }
    bed.transactions_end().await;
    for conn in &mut all {
        assert_eq!(sum(conn).await, Ok(SUM));
    }
    drop(all);

    let kept = journal(&mut bed.connect().await).await;
    for (id, outcome) in known {
        let is_kept = kept.contains(&i64::from(id));
        let expected = match outcome {
            Known::Done => true,
            Known::Undone => false,
            Known::Unknown => is_kept,
        };
        assert_eq!(is_kept, expected, "transfer {id}, seed {SEED}");
    }
    assert!(kept.len() > 10, "{}", kept.len());
}

/// Reads the sum all the time.
async fn sums<P: Pool>(pool: P, left: Arc<AtomicU32>) -> u32 {
    let mut read = 0;
    while left.load(Ordering::Relaxed) > 0 {
        assert_eq!(sum(&mut pool.checkout().await).await, Ok(SUM));
        read += 1;
        sleep(Duration::from_millis(3)).await;
    }
    read
}

async fn journal(conn: &mut Conn) -> BTreeSet<i64> {
    use diesel_async::RunQueryDsl as _;

    let sql = sql_query("SELECT id AS n FROM journal");
    let kept: Vec<Number> = sql.load(conn).await.expect("an answer");
    kept.iter().map(|row| row.n).collect()
}

async fn sum<C: SupportedConnection<Backend = Db>>(conn: &mut C) -> QueryResult<i64> {
    use diesel_async::RunQueryDsl as _;

    let runner = Runner::default();
    let balances: Vec<i64> = runner
        .operation("sum")
        .read_only()
        .run(conn, async |conn: &mut C| {
            accounts::table.select(accounts::balance).load(conn).await
        })
        .await?;
    Ok(balances.iter().sum())
}

/// An amount from one account to another, and an entry in the journal.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    id: u32,
    from: i32,
    to: i32,
    amount: i64,
    nested: bool,
}

impl Transfer {
    fn random(next: &AtomicU32, random: &mut fastrand::Rng) -> Self {
        let from = random.i32(1..=ACCOUNTS);
        Self {
            id: next.fetch_add(1, Ordering::Relaxed),
            from,
            to: (from + random.i32(0..ACCOUNTS - 1)) % ACCOUNTS + 1,
            amount: random.i64(1..=9),
            nested: random.bool(),
        }
    }

    /// What became of it, and whether it was cancelled.
    async fn cancelled_some_time<P: Pool>(
        self,
        pool: &P,
        random: &mut fastrand::Rng,
    ) -> (Known, bool) {
        let mut conn = pool.checkout().await;
        let seen = Trace::default();
        conn.set_instrumentation(seen.clone());
        let patience = Duration::from_micros(random.u64(0..6000));
        let done = match random.u32(0..3) {
            0 => timeout(patience, self.run(&mut conn)).await.ok(),
            1 => {
                let task = tokio::spawn(async move { self.run(&mut conn).await });
                sleep(patience).await;
                task.abort();
                match task.await {
                    Ok(result) => Some(result),
                    Err(error) if error.is_cancelled() => None,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
            _ => {
                let moment = Moment::ALL[random.usize(0..2)];
                dropped_after(self.run(&mut conn), random.u32(1..30), moment).await
            }
        };
        match done {
            Some(Ok(())) => (Known::Done, false),
            Some(Err(Error::BrokenTransactionManager)) => panic!("the pool hands out broken ones"),
            Some(Err(_)) => (Known::Undone, false),
            None if seen.is_committing() => (Known::Unknown, true),
            None => (Known::Undone, true),
        }
    }

    async fn run<C: SupportedConnection<Backend = Db>>(self, conn: &mut C) -> QueryResult<()> {
        let policy = RetryPolicy::new().with_initial_delay(Duration::from_millis(1));
        let runner = Runner::new(policy);
        runner
            .operation("transfer")
            .lock_timeout(Duration::from_millis(200))
            .run(conn, async |conn: &mut C| {
                add(conn, self.from, -self.amount).await?;
                if self.nested {
                    runner
                        .run(conn, async |conn: &mut C| self.write_down(conn).await)
                        .await?;
                } else {
                    self.write_down(conn).await?;
                }
                add(conn, self.to, self.amount).await?;
                Ok(())
            })
            .await
    }

    async fn write_down<C: SupportedConnection<Backend = Db>>(
        self,
        conn: &mut C,
    ) -> QueryResult<()> {
        use diesel_async::RunQueryDsl as _;

        let Self { id, amount, .. } = self;
        let sql = format!("INSERT INTO journal (id, amount) VALUES ({id}, {amount})");
        sql_query(sql).execute(conn).await?;
        Ok(())
    }
}
