//! A service is killed at random moments and started again, its connections to the database are cut, and two
//! clients at once send the same request. Each client repeats its request, with the key, until it has an
//! answer. Every request is done once, and every answer to it is the same.
//!
//! `DBOP_KEYED_REQUESTS` says how many there are, `DBOP_KEYED_SEED` how the accidents happen.

#![allow(clippy::print_stdout, reason = "a failure has to say with which seed")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dbop_diesel::Dialect;
use dbop_tests::asynchronous::Program;
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use fastrand::Rng;

use super::backend::{Bed, DIALECT};
use super::requests::{
    PATIENCE, Told, ask, check, number_of_requests, request, setting, start, with_tables,
};

const CLIENTS: usize = 6;
const REQUESTS: u32 = 200;

/// What happens to the service and its connections.
#[derive(Default)]
struct Accidents {
    service: Mutex<Option<Program>>,
    kills: AtomicU32,
    cuts: AtomicU32,
    is_over: AtomicBool,
}

impl Accidents {
    /// Where the service listens, if there is one.
    fn address(&self) -> Option<SocketAddr> {
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        service.as_ref().map(Program::address)
    }

    fn set_service(&self, service: Option<Program>) {
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = service;
    }

    fn go_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Starts the service, cuts some of its connections, kills it with -9, and so on.
    fn happen(&self, bed: &Bed, mut random: Rng) {
        while self.go_on() {
            let proxy = (DIALECT != Dialect::Sqlite).then(|| Proxy::start(bed.url()));
            let url = proxy.as_ref().map_or(bed.url(), Proxy::url);
            self.set_service(Some(start(url)));
            for _ in 0..random.u32(0..12) {
                if let Some(proxy) = &proxy {
                    self.cut(proxy, &mut random);
                }
                thread::sleep(Duration::from_millis(random.u64(5..50)));
            }
            // It is dropped, and so killed.
            self.set_service(None);
            self.kills.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Cuts a connection between the service and the database, most often at COMMIT.
    fn cut(&self, proxy: &Proxy, random: &mut Rng) {
        let late = Cut::Late(Until::Passed(Duration::from_millis(random.u64(1..100))));
        let (when, cut) = match random.u8(0..10) {
            0..4 => (When::commit(), Cut::AnswerLost),
            4 | 5 => (When::commit(), Cut::BeforeSent),
            6 | 7 => (When::commit(), late),
            8 => (When::statement("UPDATE"), Cut::AnswerLost),
            _ => (When::anything(), Cut::BeforeSent),
        };
        let planned = proxy.cut(when, cut);
        let begin = Instant::now();
        while planned.reached() == 0 && begin.elapsed() < Duration::from_secs(1) && self.go_on() {
            thread::sleep(Duration::from_millis(5));
        }
        self.cuts.fetch_add(planned.reached(), Ordering::Relaxed);
    }
}

/// How often a request was answered with an error, and not at all.
#[derive(Default)]
struct Attempts {
    failed: AtomicU32,
    lost: AtomicU32,
}

/// Repeats a request until it is done: the number in the answer.
fn insist(accidents: &Accidents, attempts: &Attempts, request: &str) -> i64 {
    let begin = Instant::now();
    loop {
        let address = accidents.address();
        let told = address.map_or_else(
            || Err(ErrorKind::NotConnected.into()),
            |it| ask(it, request),
        );
        match &told {
            Ok(Told::Done(number) | Told::Replayed(number)) => return *number,
            Ok(_) => attempts.failed.fetch_add(1, Ordering::Relaxed),
            Err(_) => attempts.lost.fetch_add(1, Ordering::Relaxed),
        };
        assert!(begin.elapsed() < PATIENCE, "{request}: {told:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Makes requests until there are enough: what was answered to each. Of some there are two at once, some are
/// repeated later.
fn client(
    accidents: &Accidents,
    attempts: &Attempts,
    next: &AtomicU32,
    requests: u32,
) -> BTreeMap<u32, i64> {
    let mut answers = BTreeMap::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= requests {
            return answers;
        }
        let insist_on = |number| insist(accidents, attempts, &request(number));
        let answer = thread::scope(|scope| {
            let twin = (number % 4 == 0).then(|| scope.spawn(|| insist_on(number)));
            let answer = insist_on(number);
            if let Some(twin) = twin {
                let same = twin.join().expect("no panic");
                assert_eq!(same, answer, "two at once: {number}");
            }
            answer
        });
        answers.insert(number, answer);
        if number % 3 == 0 {
            let (&before, &answer) = answers.iter().next().expect("one at least");
            assert_eq!(insist_on(before), answer, "repeated: {before}");
        }
    }
}

#[test]
fn every_request_is_done_once_though_the_service_is_killed() {
    let requests = number_of_requests(REQUESTS);
    let seed = setting("DBOP_KEYED_SEED").unwrap_or_else(|| fastrand::u64(..));
    let begin = Instant::now();
    println!("DBOP_KEYED_SEED={seed}");
    let bed = with_tables();
    let (accidents, attempts, next) =
        (Accidents::default(), Attempts::default(), AtomicU32::new(0));
    let answers: BTreeMap<_, _> = thread::scope(|scope| {
        scope.spawn(|| accidents.happen(&bed, Rng::with_seed(seed)));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| client(&accidents, &attempts, &next, requests)))
            .collect();
        let told: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        accidents.is_over.store(true, Ordering::Relaxed);
        told.into_iter()
            .flat_map(|answers| answers.expect("no panic"))
            .collect()
    });
    assert_eq!(answers.len(), requests as usize);
    check(&bed, &answers);
    let (kills, cuts) = (accidents.kills.into_inner(), accidents.cuts.into_inner());
    let (failed, lost) = (attempts.failed.into_inner(), attempts.lost.into_inner());
    println!(
        "{requests} requests, {kills} kills, {cuts} cuts; {lost} without an answer, {failed} with an error; {:.1} s",
        begin.elapsed().as_secs_f32()
    );
    assert!(kills > 1 && lost > 0, "without accidents nothing is shown");
    assert!(
        cuts > 0 || DIALECT == Dialect::Sqlite,
        "without accidents nothing is shown"
    );
}
