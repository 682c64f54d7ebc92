//! Recognises one text so many times, for counting what it costs: see tests/languages/instructions.sh.

use std::env;
use std::hint::black_box;

use dbop_core::{Dialect, ErrorKind, Fault, Reported};

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [dialect, kind, text, times] = arguments.as_slice() else {
        panic!("usage: recognise DIALECT KIND TEXT TIMES");
    };
    let dialect = match dialect.as_str() {
        "postgres" => Dialect::Postgres,
        "mysql" => Dialect::Mysql,
        "sqlite" => Dialect::Sqlite,
        other => panic!("no dialect: {other}"),
    };
    let kind = match kind.as_str() {
        "unknown" => ErrorKind::Unknown,
        "unique" => ErrorKind::UniqueViolation,
        "foreign" => ErrorKind::ForeignKeyViolation,
        "serialization" => ErrorKind::SerializationFailure,
        "read_only" => ErrorKind::ReadOnlyTransaction,
        "closed" => ErrorKind::ClosedConnection,
        "unsent" => ErrorKind::UnableToSendCommand,
        other => panic!("no kind: {other}"),
    };
    let mut fault = None;
    for _ in 0..times.parse::<u32>().expect("a number") {
        fault = Some(black_box(Fault::recognize(
            black_box(dialect),
            black_box(Reported::new(kind, text)),
        )));
    }
    assert!(fault.is_some(), "recognised at least once");
}
