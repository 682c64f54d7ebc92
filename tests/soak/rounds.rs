//! Workers make transfers while losses come down on them; then it is seen what is true.
#![allow(
    clippy::print_stdout,
    reason = "a failure has to say with which seed, a success what has been done"
)]

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use dbop_diesel::Ledger;
use dbop_tests::proxy::Proxy;
use dbop_tests::server::Server;
use dbop_tests::{Number, eventually, server_label};
use diesel::connection::SimpleConnection as _;
use diesel::{RunQueryDsl as _, sql_query};
use fastrand::Rng;

use crate::losses::Losses;
use crate::office::{ACCOUNTS, Office, PATIENCE, Worker, alone, from_environment};
use crate::tally::Tally;
use crate::{Bed, MODES, SESSIONS, backend};

const WORKERS_OF_A_MODE: usize = 2;

/// How long the losses of a round come down. A longer run is one of several rounds.
const ROUND: Duration = Duration::from_secs(5);

/// How long at most, if not everything has happened that is to be seen.
const LONG_ROUND: Duration = Duration::from_secs(60);

/// The workers of an adapter, and their pool.
pub(crate) trait Crew {
    fn new(url: &str, room: u32) -> Self;

    /// Lets somebody work.
    fn hire(&self, worker: Worker);
}

/// Rounds until the time is up.
pub(crate) fn rounds<C: Crew>(adapter: &str) {
    let _alone = alone();
    let server = Server::of_this_run();
    let seed: u64 = from_environment("DBOP_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(from_environment("DBOP_SOAK_SECONDS").unwrap_or(0));
    let begin = Instant::now();
    let mut number = 0;
    while number == 0 || begin.elapsed() < time {
        let seed = seed.wrapping_add(number);
        println!("{}, {adapter}: DBOP_SOAK_SEED={seed}", server_label());
        round::<C>(&server, seed);
        number += 1;
    }
}

fn round<C: Crew>(server: &Server, seed: u64) {
    let begin = Instant::now();
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&format!(
            "CREATE TABLE journal (id BIGINT, payer INTEGER, payee INTEGER, amount BIGINT); \
             CREATE INDEX journal_id ON journal (id); \
             INSERT INTO accounts SELECT id + 3, balance FROM accounts; \
             INSERT INTO accounts SELECT id + 6, balance FROM accounts; \
             INSERT INTO accounts SELECT id + 12, balance FROM accounts; \
             INSERT INTO accounts SELECT id + 24, balance FROM accounts; {}",
            Ledger::new().create_table(backend::DIALECT)
        ))
        .expect("new tables");
    let proxy = Proxy::start(bed.url());
    let office = Office::new(MODES);
    let mut random = Rng::with_seed(seed);
    let workers = WORKERS_OF_A_MODE * MODES.len();
    // Somebody always waits for a connection.
    let crew = C::new(proxy.url(), u32::try_from(workers - 2).expect("a few"));
    let (sender, told) = channel();
    for worker in office.workers(workers, &mut random, &sender) {
        crew.hire(worker);
    }
    drop(sender);

    let mut losses = Losses::new(server, &bed, &proxy, random);
    losses.come_down(ROUND);
    let begun = Instant::now();
    while !(office.has_seen_enough() && losses.missing().is_empty()) && begun.elapsed() < LONG_ROUND
    {
        losses.come_down_once();
    }
    let missing = losses.missing();
    println!("  {losses}");
    drop(losses);
    office.close();
    let mut tally = Tally::default();
    let begun = Instant::now();
    for _ in 0..workers {
        let told = loop {
            // A stall can have been planned that is met only now.
            proxy.resume();
            match told.recv_timeout(Duration::from_millis(100)) {
                Err(RecvTimeoutError::Timeout) if begun.elapsed() < 2 * PATIENCE => {}
                told => break told,
            }
        };
        tally.add(told.expect("every worker comes to an end, without a panic"));
    }

    drop(crew);
    drop(proxy);
    let mut conn = bed.connect();
    eventually("nothing is under way any more", || {
        let sessions: Vec<Number> = sql_query(SESSIONS).load(&mut conn).expect("an answer");
        sessions.is_empty()
    });
    let summary = tally.check(&mut conn, ACCOUNTS);
    println!("{summary}");
    for (mode, experience) in &office.departments {
        let [asked, found, given_up] = experience.counts();
        println!("  {mode:?}: asked {asked} times, found {found}, given up {given_up}");
    }
    println!("  {:.1} s", begin.elapsed().as_secs_f32());
    assert!(missing.is_empty(), "not met: {missing:?}");
    assert!(office.has_seen_enough(), "without losses nothing is shown");
}
