//! Any text, of any kind, on any database: recognising it ends, does not panic, and takes nothing that is
//! quoted for a fault.

#![no_main]

use dbop_core::{Dialect, ErrorKind, Fault, FaultClass, Reported};
use libfuzzer_sys::fuzz_target;

const DIALECTS: [Dialect; 3] = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite];

const KINDS: [ErrorKind; 6] = [
    ErrorKind::Unknown,
    ErrorKind::Lost,
    ErrorKind::ClosedConnection,
    ErrorKind::UnableToSendCommand,
    ErrorKind::SerializationFailure,
    ErrorKind::UniqueViolation,
];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else {
        return;
    };
    let dialect = DIALECTS[usize::from(choice) % DIALECTS.len()];
    let kind = KINDS[usize::from(choice) / DIALECTS.len() % KINDS.len()];
    let text = String::from_utf8_lossy(text);
    let recognise = |kind, text: &str| Fault::recognize(dialect, Reported::new(kind, text));
    let fault = recognise(kind, &text);
    assert_eq!(fault, recognise(kind, &text));
    assert_eq!(fault.dialect(), dialect);

    // A name of dbop's own means the same wherever it stands, and `SAVEPOINT` outside of quotes.
    let is_name = ["dbop", "diesel_savepoint_", "SAVEPOINT", "ROLLBACK AND CHAIN"]
        .iter()
        .any(|name| text.contains(name));
    // A line break ends the message, and what follows it can be that of another server.
    if !is_name && !text.contains(['\n', '\'', '"', '`']) {
        let quoting = format!("invalid input syntax for type integer: \"{text}\"");
        let class = recognise(ErrorKind::Unknown, &quoting).class();
        assert_eq!(class, FaultClass::Unknown, "{quoting}");
    }
});
