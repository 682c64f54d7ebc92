//! Three servers in turn, of which one is killed: how much the others do after that, on each kind of source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dbop_diesel::{Fit, Nodes, Order};
use dbop_tests::asynchronous::on_many_threads;
use dbop_tests::{TestPool as _, blocking};
use diesel::r2d2::ConnectionManager;
use diesel::{Connection as _, QueryResult, RunQueryDsl as _, sql_query};
use diesel_async::AsyncConnection as _;
use diesel_async::pooled_connection::deadpool;

use crate::{AsyncConn, Conn};

const WORKERS: u32 = 12;
const ROOM: u32 = 6;

/// For how long a pool waits: long enough to lose all that is to be seen.
const PATIENCE: Duration = Duration::from_secs(5);

const WRITE: &str = "INSERT INTO written (n) VALUES (1)";

/// The URLs of three servers, and what kills the first.
pub(crate) type Three = ([String; 3], Box<dyn FnOnce()>);

/// `prepare` starts three servers.
pub(crate) fn most_of_it_stays(prepare: impl Fn() -> Three) {
    let (urls, kill) = prepare();
    let connect = |url: &String| {
        let url = url.clone();
        move || Conn::establish(&url)
    };
    sync_does("closures", &of(&urls, connect), kill);

    let (urls, kill) = prepare();
    let pool = |url: &String| {
        diesel::r2d2::Pool::builder()
            .max_size(ROOM)
            .min_idle(Some(0))
            .connection_timeout(PATIENCE)
            .build_unchecked(ConnectionManager::<Conn>::new(url))
    };
    sync_does("r2d2", &of(&urls, pool), kill);

    let (urls, kill) = prepare();
    let connect = |url: &String| {
        let url = url.clone();
        move || {
            let url = url.clone();
            async move { AsyncConn::establish(&url).await }
        }
    };
    async_does("async closures", of(&urls, connect), kill);

    let (urls, kill) = prepare();
    let pool = |url: &String| deadpool::Pool::<AsyncConn>::of(url, ROOM, PATIENCE);
    async_does("deadpool", of(&urls, pool), kill);
}

fn of<S>(urls: &[String; 3], source: impl FnMut(&String) -> S) -> Nodes<S> {
    Nodes::new(urls.iter().map(source))
        .with_order(Order::RoundRobin)
        .with_fit(Fit::TakesWrites)
        .with_connect_timeout(Some(Duration::from_millis(1500)))
}

fn sync_does<S>(who: &str, nodes: &Nodes<S>, kill: Box<dyn FnOnce()>)
where
    S: dbop_diesel::Source<Conn = Conn> + Sync,
{
    let (work, runner) = (Work::default(), dbop_diesel::Runner::default());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while work.is_wanted() {
                    let operation = runner.operation("write").idempotent();
                    work.done(&operation.run_on(nodes, |conn| sql_query(WRITE).execute(conn)));
                }
            });
        }
        work.measure(who, kill);
    });
}

fn async_does<S>(who: &'static str, nodes: Nodes<S>, kill: Box<dyn FnOnce()>)
where
    S: dbop_diesel_async::Source<Conn = AsyncConn> + Send + 'static,
{
    let (work, nodes) = (Arc::new(Work::default()), Arc::new(nodes));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| (work.clone(), nodes.clone()))
        .collect();
    let working = async move {
        let works = workers.into_iter().map(|(work, nodes)| async move {
            let runner = dbop_diesel_async::Runner::default();
            while work.is_wanted() {
                let operation = runner.operation("write").idempotent();
                let write = async |conn: &mut AsyncConn| {
                    diesel_async::RunQueryDsl::execute(sql_query(WRITE), conn).await
                };
                work.done(&operation.run_on(&nodes, write).await);
            }
        });
        for work in works.map(tokio::spawn).collect::<Vec<_>>() {
            work.await.expect("no panic");
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| on_many_threads(working));
        work.measure(who, kill);
    });
}

/// What is counted.
#[derive(Default)]
struct Work {
    done: AtomicU64,
    failed: AtomicU64,
    is_over: AtomicBool,
}

impl Work {
    fn is_wanted(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn done(&self, result: &QueryResult<usize>) {
        let count = match result {
            Ok(_) => &self.done,
            Err(_) => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// For long enough that what is in the way for a moment, on a machine that is busy elsewhere, is not all of it.
    fn in_two_seconds(&self) -> u64 {
        let before = self.done.load(Ordering::Relaxed);
        thread::sleep(Duration::from_secs(2));
        self.done.load(Ordering::Relaxed) - before
    }

    /// Counts two seconds before, and two after it, from the third one on.
    #[expect(
        clippy::print_stdout,
        reason = "the numbers are of interest, not only their limit"
    )]
    fn measure(&self, who: &str, kill: Box<dyn FnOnce()>) {
        thread::sleep(Duration::from_millis(500));
        let before = self.in_two_seconds();
        blocking(kill);
        thread::sleep(Duration::from_secs(2));
        let after = self.in_two_seconds();
        self.is_over.store(true, Ordering::Relaxed);
        println!("{who}: {before} in two seconds with three servers, {after} with two");
        assert!(before > 20, "{who}: {before}");
        assert!(after * 10 >= before * 6, "{who}: {before}, then {after}");
        assert_eq!(self.failed.load(Ordering::Relaxed), 0, "{who}");
    }
}
