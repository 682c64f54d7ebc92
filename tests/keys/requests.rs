//! What the clients of the service send and are told, and what has to be in the database in the end.

use std::collections::BTreeMap;
use std::env::var;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use dbop_diesel::{Dialect, Ledger};
use dbop_tests::asynchronous::Program;
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Text};
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use fastrand::Rng;

use super::backend::{Bed, DIALECT};

/// So long a client repeats its request.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// What a variable of the environment says.
pub(super) fn setting(name: &str) -> Option<u64> {
    let text = var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// How many requests there are, unless `DBOP_KEYED_REQUESTS` says it.
pub(super) fn number_of_requests(default: u32) -> u32 {
    let asked = setting("DBOP_KEYED_REQUESTS");
    asked.map_or(default, |it| u32::try_from(it).expect("few"))
}

/// Starts the service on this database.
pub(super) fn start(url: &str) -> Program {
    Program::start(env!("CARGO_BIN_EXE_keyed-service"), url)
}

/// An answer of the service.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The work is done, and has made up this number.
    Done(i64),
    /// Another call has done it.
    Replayed(i64),
    /// Another call has the key.
    UnderWay,
    Failed(String),
}

impl Told {
    fn from_line(line: &str, request: &str) -> Self {
        let key = request.split(' ').next().expect("a key");
        let number = |word: &str| {
            let number = line.strip_prefix(&format!("{word} {key} "))?;
            Some(number.parse().expect("a number"))
        };
        match (number("done"), number("replayed")) {
            (Some(number), _) => Self::Done(number),
            (_, Some(number)) => Self::Replayed(number),
            _ if line == "under way" => Self::UnderWay,
            _ => Self::Failed(line.to_owned()),
        }
    }
}

/// Sends a request once: the answer, if there is one.
pub(super) fn ask(address: SocketAddr, request: &str) -> std::io::Result<Told> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    writeln!(stream, "{request}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.strip_suffix('\n') {
        Some(answer) => Ok(Told::from_line(answer, request)),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// A transfer that this number stands for.
fn transfer(number: u32) -> (i32, i32, i64) {
    let mut random = Rng::with_seed(number.into());
    let from = random.i32(1..=3);
    (from, from % 3 + 1, random.i64(1..=9))
}

/// The line that asks for it.
pub(super) fn request(number: u32) -> String {
    let (from, to, amount) = transfer(number);
    format!("request-{number} {from} {to} {amount}")
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    request: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// A bed with what the service needs.
pub(super) fn with_tables() -> Bed {
    let bed = Bed::new();
    let ledger = Ledger::new().create_table(DIALECT);
    let journal = "CREATE TABLE journal (request VARCHAR(40) NOT NULL, number BIGINT NOT NULL)";
    let tables = format!("{journal}; {ledger}");
    bed.connect().batch_execute(&tables).expect("new tables");
    bed
}

/// What waits until no transaction has written to the journal any more.
const ALL_HAVE_ENDED: &str = match DIALECT {
    Dialect::Postgres => "BEGIN; LOCK TABLE journal IN ACCESS EXCLUSIVE MODE; COMMIT",
    Dialect::Mysql => "LOCK TABLES journal WRITE; UNLOCK TABLES",
    _ => "PRAGMA busy_timeout = 20000; BEGIN EXCLUSIVE; COMMIT",
};

/// Every request once, each with the number that its clients were told.
pub(super) fn check(bed: &Bed, answers: &BTreeMap<u32, i64>) {
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
