//! Any text at all, and what quotes the texts of faults.

use std::hint::black_box;
use std::time::Instant;

use dbop_core::{Dialect, ErrorKind, Fault, FaultClass, Reported};
use proptest::prelude::*;

const DIALECTS: [Dialect; 3] = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite];

const FAULTS: [&str; 12] = [
    "deadlock detected",
    "Verklemmung (Deadlock) entdeckt",
    "デッドロックを検出しました",
    "canceling statement due to lock timeout",
    "terminating connection due to administrator command",
    "server closed the connection unexpectedly",
    "connection to server at \"db\" (192.0.2.1), port 5432 failed: FATAL:  sorry, too many clients already",
    "FATAL:  the database system is starting up",
    "savepoint \"a\" does not exist",
    "Deadlock found when trying to get lock; try restarting transaction",
    "MySQL server has gone away",
    "database is locked",
];

/// In front of and behind a text in a message that quotes it.
const QUOTING: [(&str, &str); 9] = [
    ("invalid input syntax for type integer: \"", "\""),
    ("ungültige Eingabesyntax für Typ integer: »", "«"),
    ("relation \"", "\" does not exist"),
    ("column \"", "\" of relation \"t\" does not exist"),
    ("order 7: ", ""),
    ("", " (order 7)"),
    ("Incorrect integer value: '", "' for column 'a' at row 1"),
    ("Table 'shop.", "' doesn't exist!"),
    ("no such function: ", ""),
];

fn class(dialect: Dialect, text: &str) -> FaultClass {
    Fault::recognize(dialect, Reported::new(ErrorKind::Unknown, text)).class()
}

#[test]
fn what_is_quoted_is_no_fault() {
    for dialect in DIALECTS {
        for fault in FAULTS {
            for (before, after) in QUOTING {
                // Behind an address anything may follow.
                if before.is_empty() && fault.contains("failed: ") {
                    continue;
                }
                let text = format!("{before}{fault}{after}");
                assert_eq!(class(dialect, &text), FaultClass::Unknown, "{text}");
            }
        }
    }
}

#[test]
fn the_texts_are_faults_by_themselves() {
    for fault in FAULTS {
        let is_known = |dialect| class(dialect, fault) != FaultClass::Unknown;
        assert!(DIALECTS.into_iter().any(is_known), "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_is_too_much(text in "\\PC{0,300}", kind in 0..3) {
        let kind = [
            ErrorKind::Unknown,
            ErrorKind::ClosedConnection,
            ErrorKind::SerializationFailure,
        ][kind as usize];
        for dialect in DIALECTS {
            let fault = Fault::recognize(dialect, Reported::new(kind, &text));
            prop_assert_eq!(fault, Fault::recognize(dialect, Reported::new(kind, &text)));
        }
    }

    /// Pieces of real texts get further than letters by chance.
    #[test]
    fn pieces_of_texts_are_no_faults(
        one in 0..FAULTS.len(), other in 0..FAULTS.len(), cut in 0.1..0.9, length in 1..40usize,
    ) {
        let piece = |text: &str, part: f64| -> String {
            let count = text.chars().count();
            text.chars().take((count as f64 * part) as usize).collect()
        };
        let (start, end) = (piece(FAULTS[one], cut), piece(FAULTS[other], 1.0 - cut));
        let text = format!("{start}{}{end}", "x".repeat(length));
        for dialect in DIALECTS {
            // Behind an address anything may follow.
            let is_refusal = text.contains("failed: ");
            prop_assert!(class(dialect, &text) == FaultClass::Unknown || is_refusal, "{}", text);
        }
    }
}

/// Ten times the text takes about ten times as long: the fastest of some runs, so that what else the
/// machine does counts less.
#[test]
fn the_time_is_linear() {
    let starts = [
        "",
        "\"",
        "connection to server at \"",
        "could not obtain lock on relation \"",
        "target: ",
    ];
    let units = [
        "\"x\" (",
        "\" 포트로 서버 접속 할 수 없음: ",
        "connection to server at \"",
        "could not obtain lock on relation \"\"",
        "SAVEPOINT ",
        "errno ",
        "dbop'dbop",
        "\nFATAL:  x",
    ];
    for dialect in DIALECTS {
        for (start, unit) in starts
            .into_iter()
            .flat_map(|start| units.map(|unit| (start, unit)))
        {
            let time = |length: usize| {
                let text = format!("{start}{}", unit.repeat(length / unit.len()));
                let once = |_| {
                    let begin = Instant::now();
                    black_box(class(dialect, black_box(&text)));
                    begin.elapsed()
                };
                (0..5).map(once).min().expect("some runs")
            };
            let (short, long) = (time(1_000), time(10_000));
            assert!(long < short * 40, "{start}{unit}: {short:?} {long:?}");
        }
    }
}
