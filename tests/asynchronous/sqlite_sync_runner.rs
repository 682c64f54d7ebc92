//! The sync runner in async code, as the README has it: in `interact` of deadpool-diesel, and in
//! tokio's `spawn_blocking` with r2d2. A run that nobody waits for any more goes on to its end; a
//! panic arrives, is rolled back, and takes the connection along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dbop_diesel::Runner;
use dbop_tests::accounts;
use dbop_tests::asynchronous::eventually;
use deadpool_diesel::{InteractError, Manager, Pool, Runtime};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{self, ConnectionManager};
use diesel::sql_query;
use tokio::task::{JoinError, spawn_blocking};

use super::{Bed, SyncConn, run};

const BEFORE: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];
const AFTER: [(i32, i64); 3] = [(1, 90), (2, 110), (3, 100)];

type Deadpool = Pool<Manager<SyncConn>>;
type R2d2 = r2d2::Pool<ConnectionManager<SyncConn>>;

/// With room for one connection.
fn deadpool(bed: &Bed) -> Deadpool {
    let manager = Manager::new(bed.url(), Runtime::Tokio1);
    let pool = Deadpool::builder(manager).max_size(1).build();
    pool.expect("a pool")
}

/// With room for one connection.
fn r2d2(bed: &Bed) -> R2d2 {
    let manager = ConnectionManager::new(bed.url());
    let pool = R2d2::builder().max_size(1).build(manager);
    pool.expect("a pool")
}

/// What `interact` is given.
async fn interact<T: Send + 'static>(
    pool: &Deadpool,
    work: impl FnOnce(&mut SyncConn) -> T + Send + 'static,
) -> Result<T, InteractError> {
    let conn = pool.get().await.expect("a connection");
    conn.interact(work).await
}

/// What `spawn_blocking` is given.
async fn blocking<T: Send + 'static>(
    pool: &R2d2,
    work: impl FnOnce(&mut SyncConn) -> T + Send + 'static,
) -> Result<T, JoinError> {
    let pool = pool.clone();
    spawn_blocking(move || work(&mut pool.get().expect("a connection"))).await
}

fn add(conn: &mut SyncConn, id: i32, amount: i64) -> QueryResult<usize> {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(accounts::balance + amount))
        .execute(conn)
}

/// Says when a run is half done, and lets it go on.
#[derive(Clone, Debug, Default)]
struct Half {
    is_done: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
}

impl Half {
    fn run(&self, conn: &mut SyncConn) -> QueryResult<()> {
        Runner::default().run(conn, |conn| {
            add(conn, 1, -10)?;
            self.is_done.store(true, Ordering::Relaxed);
            dbop_tests::eventually("it may go on", || self.go_on.load(Ordering::Relaxed));
            add(conn, 2, 10)?;
            Ok(())
        })
    }

    /// Stops waiting for the run when it is half done, and looks what it has done until then.
    async fn given_up<T>(&self, bed: &Bed, waiting: impl Future<Output = T>) {
        let half = eventually("it is half done", || self.is_done.load(Ordering::Relaxed));
        tokio::select! {
            _ = waiting => panic!("it has not waited"),
            () = half => {}
        }
        assert_eq!(bed.balances(), BEFORE);
        self.go_on.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_run_in_interact_that_is_given_up_goes_on_to_its_end() {
    run(async {
        let bed = Bed::new();
        let pool = deadpool(&bed);
        let half = Half::default();
        let theirs = half.clone();
        half.given_up(&bed, interact(&pool, move |conn| theirs.run(conn)))
            .await;
        let depth = interact(&pool, dbop_tests::depth).await;
        assert_eq!(
            depth.expect("no panic"),
            Some(0),
            "the next one waits for it"
        );
        assert_eq!(bed.balances(), AFTER);
    });
}

#[test]
fn a_run_in_spawn_blocking_that_is_given_up_goes_on_to_its_end() {
    run(async {
        let bed = Bed::new();
        let pool = r2d2(&bed);
        let half = Half::default();
        let theirs = half.clone();
        half.given_up(&bed, blocking(&pool, move |conn| theirs.run(conn)))
            .await;
        let depth = blocking(&pool, dbop_tests::depth).await;
        assert_eq!(
            depth.expect("no panic"),
            Some(0),
            "the next one waits for it"
        );
        assert_eq!(bed.balances(), AFTER);
    });
}

/// On a connection that can be recognised.
fn panics(conn: &mut SyncConn) -> QueryResult<()> {
    sql_query("CREATE TEMP TABLE mark (id)").execute(conn)?;
    Runner::default().run(conn, |conn| {
        add(conn, 1, -10)?;
        panic!("in the middle")
    })
}

/// The other one may take a moment to close, with its lock.
fn is_another_one(conn: &mut SyncConn) -> bool {
    conn.batch_execute("PRAGMA busy_timeout = 5000")
        .expect("a pragma");
    add(conn, 1, 0).is_ok() && sql_query("SELECT * FROM temp.mark").execute(conn).is_err()
}

#[test]
fn a_panic_in_interact_arrives_and_the_connection_goes() {
    run(async {
        let bed = Bed::new();
        let pool = deadpool(&bed);
        let payload = match interact(&pool, panics).await {
            Err(InteractError::Panic(payload)) => payload,
            other => panic!("{other:?}"),
        };
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"in the middle"));
        assert_eq!(bed.balances(), BEFORE);
        assert!(interact(&pool, is_another_one).await.expect("no panic"));
    });
}

#[test]
fn a_panic_in_spawn_blocking_arrives_and_the_connection_goes() {
    run(async {
        let bed = Bed::new();
        let pool = r2d2(&bed);
        let payload = blocking(&pool, panics).await.expect_err("a panic");
        let payload = payload.into_panic();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"in the middle"));
        assert_eq!(bed.balances(), BEFORE);
        assert!(blocking(&pool, is_another_one).await.expect("no panic"));
    });
}
