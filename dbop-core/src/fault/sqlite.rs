//! SQLite: extended result codes, from its documentation and header.
//!
//! Diesel 2.3 shows a kind for constraints and otherwise only the text of `sqlite3_errmsg`, which
//! is always English and mostly one fixed text for each *primary* code. The texts were measured
//! on SQLite 3.40 and compared with the source of 3.53.

use super::FaultClass::{self, *};
use super::text::{Table, table};
use super::{Code, ErrorKind};

/// The class of an extended result code; one that is not listed counts as its primary code.
pub(super) fn class(code: i32) -> FaultClass {
    match code {
        // ABORT_ROLLBACK: the whole transaction was rolled back under this statement, by another one of
        // this connection.
        516 => SerializationFailure,
        // LOCKED_SHAREDCACHE: another connection of this process holds the table. Plain LOCKED is
        // a statement of the same connection, which no waiting will end.
        262 => Busy,
        // READONLY_DBMOVED: the file was moved away; a fresh connection finds the new one. Diesel shows
        // the text of READONLY for it.
        8 | 1032 => ReadOnlyServer,
        _ => match code & 0xff {
            // ERROR, INTERNAL, PERM, LOCKED, the other READONLY, CORRUPT, NOTFOUND, EMPTY, TOOBIG, MISMATCH,
            // MISUSE, NOLFS, AUTH, FORMAT, RANGE, NOTADB.
            1 | 2 | 3 | 6 | 8 | 11 | 12 | 16 | 18 | 20..=26 => Permanent,
            // ABORT, INTERRUPT.
            4 | 9 => Canceled,
            // BUSY, with BUSY_RECOVERY (261), BUSY_SNAPSHOT (517) and BUSY_TIMEOUT (773);
            // PROTOCOL is a race for the locks of the write-ahead log.
            5 | 15 => Busy,
            // NOMEM, IOERR, FULL.
            7 | 10 | 13 => ResourceExhausted,
            // CANTOPEN.
            14 => NotConnected,
            // SCHEMA.
            17 => StalePlan,
            // CONSTRAINT.
            19 => Constraint,
            _ => Unknown,
        },
    }
}

/// The code and class of an error as Diesel reports it.
pub(super) fn recognize(kind: ErrorKind, message: &str) -> (Option<Code>, FaultClass) {
    match kind {
        // UNIQUE and PRIMARY KEY have the same text, too.
        ErrorKind::UniqueViolation => exactly(19),
        ErrorKind::ForeignKeyViolation => exactly(787),
        ErrorKind::NotNullViolation => exactly(1299),
        ErrorKind::CheckViolation => exactly(275),
        // Diesel has no other kinds on SQLite; these mean a constraint everywhere.
        ErrorKind::RestrictViolation | ErrorKind::ExclusionViolation => exactly(19),
        ErrorKind::ClosedConnection => (None, ConnectionLost),
        ErrorKind::SerializationFailure
        | ErrorKind::ReadOnlyTransaction
        | ErrorKind::UnableToSendCommand
        | ErrorKind::Unknown
        | ErrorKind::Lost => by_text(message).unwrap_or((None, Unknown)),
    }
}

fn by_text(message: &str) -> Option<(Option<Code>, FaultClass)> {
    static TABLE: Table = table!(TEXTS);

    let (_, code, class) = TEXTS[usize::from(TABLE.find(message)?.meaning)];
    Some((Some(Code::Sqlite(code)), class))
}

/// Whether SQLite may have rolled back the whole transaction together with this error.
///
/// It does so on its own at FULL, IOERR, NOMEM and the INTERRUPT of a write (measured). At a constraint
/// it does when the statement or the table says `ON CONFLICT ROLLBACK`, but then the transaction can
/// as well have been gone before. BUSY and LOCKED leave it open.
pub(super) fn may_end_transaction(code: Option<Code>, class: FaultClass) -> bool {
    match code {
        Some(Code::Sqlite(516)) => true,
        Some(Code::Sqlite(code)) => matches!(code & 0xff, 7 | 9 | 10 | 13),
        _ => matches!(class, ResourceExhausted | Canceled),
    }
}

fn exactly(code: i32) -> (Option<Code>, FaultClass) {
    (Some(Code::Sqlite(code)), class(code))
}

/// A text with `*` for any text, its code and its class. The row that says the most counts.
type Row = (&'static str, i32, FaultClass);

#[rustfmt::skip] // One row, one line.
const TEXTS: &[Row] = &[
    // Also BUSY_SNAPSHOT (517), BUSY_RECOVERY (261) and BUSY_TIMEOUT (773): one text for all.
    ("database is locked", 5, Busy),
    // Open statements of this very connection: no waiting ends them.
    ("cannot commit transaction - SQL statements in progress", 5, Permanent),
    ("cannot release savepoint - SQL statements in progress", 5, Permanent),
    ("cannot open savepoint - SQL statements in progress", 5, Permanent),
    ("database table is locked", 6, Permanent),
    ("database table is locked: *", 262, Busy),
    ("database schema is locked: *", 262, Busy),
    ("locking protocol", 15, Busy),
    ("no such savepoint: *", 1, TransactionLost),
    ("cannot commit - no transaction is active", 1, TransactionLost),
    ("cannot rollback - no transaction is active", 1, TransactionLost),
    ("cannot start a transaction within a transaction", 1, Permanent),
    ("abort due to ROLLBACK", 516, SerializationFailure),
    ("query aborted", 4, Canceled),
    ("interrupted", 9, Canceled),
    ("database or disk is full", 13, ResourceExhausted),
    ("disk I/O error", 10, ResourceExhausted),
    ("out of memory", 7, ResourceExhausted),
    ("unable to open database file", 14, NotConnected),
    ("unable to open database: *", 14, NotConnected),
    ("database schema has changed", 17, StalePlan),
    ("UNIQUE constraint failed: *", 19, Constraint),
    ("FOREIGN KEY constraint failed", 787, Constraint),
    ("NOT NULL constraint failed: *", 1299, Constraint),
    ("CHECK constraint failed: *", 275, Constraint),
    ("constraint failed", 19, Constraint),
    ("attempt to write a readonly database", 8, ReadOnlyServer),
    ("database disk image is malformed", 11, Permanent),
    ("malformed database schema (*", 11, Permanent),
    ("file is not a database", 26, Permanent),
    ("SQL logic error", 1, Permanent),
    ("near \"*\": syntax error", 1, Permanent),
    ("incomplete input", 1, Permanent),
    ("no such table: *", 1, Permanent),
    ("no such column: *", 1, Permanent),
    ("access permission denied", 3, Permanent),
    ("string or blob too big", 18, Permanent),
    ("datatype mismatch", 20, Permanent),
    ("bad parameter or other API misuse", 21, Permanent),
    ("not authorized", 23, Permanent),
    ("authorization denied", 23, Permanent),
    ("column index out of range", 25, Permanent),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_classes() {
        for (codes, expected) in [
            (&[5, 15, 261, 262, 517, 773][..], Busy),
            (&[4, 9], Canceled),
            (&[516], SerializationFailure),
            (&[7, 10, 13, 266, 778, 1034, 3082, 3338], ResourceExhausted),
            (&[14, 270, 526], NotConnected),
            (&[17], StalePlan),
            (&[8, 1032], ReadOnlyServer),
            (&[19, 275, 787, 1299, 1555, 1811, 2067], Constraint),
            (
                &[1, 257, 513, 6, 518, 264, 520, 11, 267, 20, 21, 23, 26],
                Permanent,
            ),
            (&[0, 27, 28, 100, 101, -1], Unknown),
        ] {
            for &code in codes {
                assert_eq!(class(code), expected, "{code}");
            }
        }
    }

    #[test]
    fn measured_texts() {
        for (text, code, class) in [
            ("database is locked", 5, Busy),
            ("database table is locked", 6, Permanent),
            ("database table is locked: t", 262, Busy),
            ("no such savepoint: diesel_savepoint_1", 1, TransactionLost),
            (
                "cannot commit - no transaction is active",
                1,
                TransactionLost,
            ),
            (
                "cannot rollback - no transaction is active",
                1,
                TransactionLost,
            ),
            (
                "cannot start a transaction within a transaction",
                1,
                Permanent,
            ),
            ("interrupted", 9, Canceled),
            ("disk I/O error", 10, ResourceExhausted),
            ("database or disk is full", 13, ResourceExhausted),
            ("attempt to write a readonly database", 8, ReadOnlyServer),
            ("abort due to ROLLBACK", 516, SerializationFailure),
            ("near \"SELEC\": syntax error", 1, Permanent),
        ] {
            check(ErrorKind::Unknown, text, Some(code), class);
        }
    }

    #[test]
    fn kinds_decide_where_they_are_exact() {
        for (kind, code, class) in [
            (ErrorKind::UniqueViolation, Some(19), Constraint),
            (ErrorKind::ForeignKeyViolation, Some(787), Constraint),
            (ErrorKind::NotNullViolation, Some(1299), Constraint),
            (ErrorKind::CheckViolation, Some(275), Constraint),
            (ErrorKind::ClosedConnection, None, ConnectionLost),
            (ErrorKind::UnableToSendCommand, None, Unknown),
        ] {
            check(kind, "task 7 was cancelled", code, class);
        }
        check(
            ErrorKind::CheckViolation,
            "database is locked",
            Some(275),
            Constraint,
        );
    }

    #[test]
    fn other_texts_are_unknown() {
        for text in [
            "",
            "the database is locked",
            "database is locked by the nightly job",
            "stock: database or disk is full",
            "INTERRUPTED",
            "ambiguous column name: id",
        ] {
            check(ErrorKind::Unknown, text, None, Unknown);
        }
    }

    #[test]
    fn every_row_is_reached_and_agrees_with_its_code() {
        for &(format, code, expected) in TEXTS {
            check(
                ErrorKind::Unknown,
                &format.replace('*', "x"),
                Some(code),
                expected,
            );
            // The text says more than ERROR and BUSY do.
            let vague = code == 1 || format.ends_with("SQL statements in progress");
            assert!(vague || class(code) == expected, "{format}");
        }
    }

    #[test]
    fn some_errors_may_end_the_transaction() {
        let ends = |code| may_end_transaction(Some(Code::Sqlite(code)), class(code));
        for code in [7, 9, 10, 13, 516, 778, 3082] {
            assert!(ends(code), "{code}");
        }
        for code in [1, 4, 5, 6, 8, 14, 15, 17, 19, 261, 262, 517, 787, 2067] {
            assert!(!ends(code), "{code}");
        }
        assert!(may_end_transaction(None, ResourceExhausted));
        assert!(!may_end_transaction(None, Busy));
        assert!(!may_end_transaction(None, Unknown));
    }

    fn check(kind: ErrorKind, text: &str, code: Option<i32>, class: FaultClass) {
        let expected = (code.map(Code::Sqlite), class);
        assert_eq!(recognize(kind, text), expected, "{kind:?}: {text}");
    }
}
