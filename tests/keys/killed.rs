//! A service is killed at random moments and started again, its connections to the database are cut, and two
//! clients at once send the same request. Each client repeats its request, with the key, until it has an
//! answer. Every request is done once, and every answer to it is the same.
//!
//! `DBOP_KEYED_REQUESTS` says how many there are, `DBOP_KEYED_SEED` how the accidents happen.

#![allow(clippy::print_stdout, reason = "a failure has to say with which seed")]

use std::collections::BTreeMap;
use std::env::var;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dbop_diesel::{Dialect, Ledger};
use dbop_tests::asynchronous::Program;
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use fastrand::Rng;

use super::backend::{Bed, DIALECT};

const CLIENTS: usize = 6;
const REQUESTS: u32 = 200;

/// So long a client repeats its request.
const PATIENCE: Duration = Duration::from_secs(120);

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

fn start(url: &str) -> Program {
    Program::start(env!("CARGO_BIN_EXE_keyed-service"), url)
}

/// Sends a request once: the answer, if there is one.
fn ask(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    writeln!(stream, "{request}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.strip_suffix('\n') {
        Some(answer) => Ok(answer.to_owned()),
        None => Err(ErrorKind::UnexpectedEof.into()),
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
    let key = request.split(' ').next().expect("a key");
    loop {
        let address = accidents.address();
        let told = address.map_or_else(
            || Err(ErrorKind::NotConnected.into()),
            |it| ask(it, request),
        );
        match &told {
            Ok(answer) => match answer.strip_prefix(&format!("done {key} ")) {
                Some(number) => return number.parse().expect("a number"),
                None => attempts.failed.fetch_add(1, Ordering::Relaxed),
            },
            Err(_) => attempts.lost.fetch_add(1, Ordering::Relaxed),
        };
        assert!(begin.elapsed() < PATIENCE, "{request}: {told:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A transfer that this number stands for.
fn transfer(number: u32) -> (i32, i32, i64) {
    let mut random = Rng::with_seed(number.into());
    let from = random.i32(1..=3);
    (from, from % 3 + 1, random.i64(1..=9))
}

fn request(number: u32) -> String {
    let (from, to, amount) = transfer(number);
    format!("request-{number} {from} {to} {amount}")
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

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    request: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn create() -> String {
    let ledger = Ledger::new().create_table(DIALECT);
    format!("CREATE TABLE journal (request VARCHAR(40) NOT NULL, number BIGINT NOT NULL); {ledger}")
}

/// What waits until no transaction has written to the journal any more.
const ALL_HAVE_ENDED: &str = match DIALECT {
    Dialect::Postgres => "BEGIN; LOCK TABLE journal IN ACCESS EXCLUSIVE MODE; COMMIT",
    Dialect::Mysql => "LOCK TABLES journal WRITE; UNLOCK TABLES",
    _ => "PRAGMA busy_timeout = 20000; BEGIN EXCLUSIVE; COMMIT",
};

/// Every request once, each with the number that its clients were told.
fn check(bed: &Bed, answers: &BTreeMap<u32, i64>) {
    let mut conn = bed.connect();
    conn.batch_execute(ALL_HAVE_ENDED)
        .expect("it comes to an end");
    let rows: Vec<Row> = sql_query("SELECT request, number FROM journal")
        .load(&mut conn)
        .expect("an answer");
    assert_eq!(rows.len(), answers.len());
    let done: BTreeMap<_, _> = rows
        .into_iter()
        .map(|row| (row.request, row.number))
        .collect();
    let told = answers
        .iter()
        .map(|(number, answer)| (format!("request-{number}"), *answer));
    assert_eq!(done, told.collect());
    let mut balances = [(1, 100), (2, 100), (3, 100)];
    for &number in answers.keys() {
        let (from, to, amount) = transfer(number);
        for (id, balance) in &mut balances {
            *balance += amount * (i64::from(*id == to) - i64::from(*id == from));
        }
    }
    assert_eq!(bed.balances(), balances);
}

#[test]
fn every_request_is_done_once_though_the_service_is_killed() {
    let number = |name| {
        var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    let requests =
        number("DBOP_KEYED_REQUESTS").map_or(REQUESTS, |it| u32::try_from(it).expect("few"));
    let seed = number("DBOP_KEYED_SEED").unwrap_or_else(|| fastrand::u64(..));
    let begin = Instant::now();
    println!("DBOP_KEYED_SEED={seed}");
    let bed = Bed::new();
    bed.connect().batch_execute(&create()).expect("tables");
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
