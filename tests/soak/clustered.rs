//! Transfers on several servers, by both adapters at the same time, while one server after the other is lost.
#![allow(
    clippy::print_stdout,
    reason = "a failure has to say with which seed, a success what has been done"
)]

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use dbop_diesel::{Fit, Nodes, Order};
use dbop_tests::{Number, TestPool as _, eventually, server_label};
use diesel::connection::{Connection as _, SimpleConnection as _};
use diesel::{RunQueryDsl as _, sql_query};
use fastrand::Rng;
use tokio::runtime::{Builder, Runtime};

use crate::office::{ACCOUNTS, Office, PATIENCE, from_environment};
use crate::tally::{Mode, Tally, Told};
use crate::{Conn, backend, clustered_async, clustered_sync};

const WORKERS_OF_A_MODE: usize = 2;

/// How many transfers are made between two losses.
const SOME: i64 = 40;

/// Makes the tables.
pub(crate) fn create(conn: &mut Conn) {
    let ids: Vec<String> = (1..=ACCOUNTS).map(|id| format!("({id}, 100)")).collect();
    conn.batch_execute(&format!(
        "CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL); \
         DELETE FROM accounts; INSERT INTO accounts (id, balance) VALUES {}; \
         CREATE TABLE journal (id BIGINT, payer INTEGER, payee INTEGER, amount BIGINT); {}",
        ids.join(", "),
        dbop_diesel::Ledger::new().create_table(backend::DIALECT)
    ))
    .expect("new tables");
}

/// Rounds until the time is up, at least one.
pub(crate) fn rounds(mut round: impl FnMut(&mut Rng)) {
    let seed: u64 = from_environment("DBOP_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(from_environment("DBOP_SOAK_SECONDS").unwrap_or(0));
    let begin = Instant::now();
    let mut number = 0;
    while number == 0 || begin.elapsed() < time {
        let seed = seed.wrapping_add(number);
        let begin = Instant::now();
        println!("{}, cluster: DBOP_SOAK_SEED={seed}", server_label());
        round(&mut Rng::with_seed(seed));
        println!("  {:.1} s", begin.elapsed().as_secs_f32());
        number += 1;
    }
}

/// Compares what was said with what each server has, when it has all that the others have: asked with these words.
pub(crate) fn check(tally: &Tally, urls: &[String], in_step: &str) {
    let mut summary = String::new();
    for url in urls {
        let mut conn = None;
        eventually("the server is in the cluster", || {
            conn = connect_in_step(url, in_step);
            conn.is_some()
        });
        summary = tally.check(&mut conn.expect("a connection"), ACCOUNTS);
    }
    println!("{summary}");
}

fn connect_in_step(url: &str, in_step: &str) -> Option<Conn> {
    let mut conn = Conn::establish(url).ok()?;
    conn.batch_execute(in_step).ok()?;
    let journal = sql_query("SELECT count(*) AS n FROM journal");
    journal.get_result::<Number>(&mut conn).ok()?;
    Some(conn)
}

/// Transfers that are being made.
pub(crate) struct Transfers {
    office: Office,
    told: Receiver<Vec<Told>>,
    workers: usize,
    runtime: Runtime,
}

impl Transfers {
    /// The sync adapter asks each server in turn, the async one keeps to the server in use.
    pub(crate) fn begin(urls: &[String], modes: &[Mode], random: &mut Rng) -> Self {
        let office = Office::new(modes);
        let of_each = WORKERS_OF_A_MODE * modes.len();
        let room = u32::try_from(of_each).expect("a few");
        let (sender, told) = channel();
        let pools = urls
            .iter()
            .map(|url| diesel::r2d2::Pool::of(url, room, PATIENCE));
        let nodes = fit(Nodes::new(pools)).with_order(Order::RoundRobin);
        for worker in office.workers(of_each, random, &sender) {
            let nodes = nodes.clone();
            thread::spawn(move || clustered_sync::transfer::work(worker, nodes));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let pools = urls
            .iter()
            .map(|url| diesel_async::pooled_connection::deadpool::Pool::of(url, room, PATIENCE));
        let nodes = fit(Nodes::new(pools));
        for worker in office.workers(of_each, random, &sender) {
            runtime.spawn(clustered_async::transfer::work(worker, nodes.clone()));
        }
        let transfers = Self {
            office,
            told,
            workers: 2 * of_each,
            runtime,
        };
        transfers.proceed("at the beginning");
        transfers
    }

    /// Waits until some more are made: after what has happened.
    pub(crate) fn proceed(&self, after: &str) {
        let begun = self.office.begun();
        let begin = Instant::now();
        eventually(&format!("transfers {after}"), || {
            self.office.begun() > begun + SOME
        });
        println!("  {after}: {:.1} s", begin.elapsed().as_secs_f32());
    }

    /// Ends them.
    pub(crate) fn end(self) -> Tally {
        self.office.close();
        let mut tally = Tally::default();
        for _ in 0..self.workers {
            let told = self.told.recv_timeout(2 * PATIENCE);
            tally.add(told.expect("every worker comes to an end, without a panic"));
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        for (mode, experience) in &self.office.departments {
            let [asked, found, given_up] = experience.counts();
            println!("  {mode:?}: asked {asked} times, found {found}, given up {given_up}");
        }
        tally
    }
}

/// They take writes, and who does not answer soon is left.
fn fit<S>(nodes: Nodes<S>) -> Nodes<S> {
    nodes
        .with_fit(Fit::TakesWrites)
        .with_back_off(Duration::from_millis(100), Duration::from_secs(1))
        .with_connect_timeout(Some(Duration::from_secs(1)))
}
