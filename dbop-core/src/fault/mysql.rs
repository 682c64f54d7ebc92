//! MySQL and MariaDB, and what speaks their protocol: Galera, TiDB, Vitess.
//!
//! What a number means is taken from the manuals and from what the servers did. Diesel 2.3 shows
//! no number: a kind for a few of them on sync Diesel's prepared path, fewer on diesel-async, none
//! in a batch. The rest is known by text. Texts follow the server's `lc_messages`: [`messages`] are
//! the English ones, [`languages`] are the servers' translations. Of an error whose text is not known,
//! the adapter can ask the server for the number (`GET DIAGNOSTICS`).

use super::FaultClass::{self, *};
use super::text::{Table, name_in, table};
use super::{Code, ErrorKind};
use messages::TEXTS;

mod languages;
mod messages;

/// The class of an error number of a server (from 1000) or a client library (2000 to 2999).
///
/// A number of MySQL or MariaDB that is not listed is a definite answer of the server and so
/// [`FaultClass::Permanent`].
pub(super) fn class(errno: u16) -> FaultClass {
    match errno {
        // LOCK_DEADLOCK, XA_RBDEADLOCK, InnoDB's own number, and USER_LOCK_DEADLOCK (GET_LOCK).
        1213 | 1614 | 149 | 3058 => Deadlock,
        // CHECKREAD; Group Replication's rollback during COMMIT; XA_RBTIMEOUT and MariaDB's
        // ROLLBACK_ONLY, which say that the whole transaction was rolled back.
        1020 | 1613 | 3101 | 4060 => SerializationFailure,
        // TiDB: write conflicts, a schema changed meanwhile, a snapshot outlived by the garbage
        // collector. The transaction is rolled back.
        8002 | 8005 | 8022 | 8028 | 9006 | 9007 => SerializationFailure,
        // LOCK_WAIT_TIMEOUT, also MariaDB's NOWAIT; MySQL's LOCK_NOWAIT.
        1205 | 3572 => LockTimeout,
        // Gone, cut, killed, shut down, idle too long, out of step, or TLS broke.
        1053 | 1152 | 1156..=1161 | 1184 | 1927 | 4031 => ConnectionLost,
        2006 | 2013 | 2014 | 2026 | 2027 | 2045 | 2048 | 2055 => ConnectionLost,
        // TiDB lost its storage nodes or waited too long for them: before the COMMIT another try
        // can do it, during the COMMIT the outcome is unknown, as after losing the connection.
        9001..=9005 | 9008 | 9010..=9013 => ConnectionLost,
        2002 | 2003 | 2005 => NotConnected,
        // Too many connections or threads; a Galera node without its cluster; offline mode; TiDB's
        // schema is out of date.
        1040 | 1047 | 1135 | 1203 | 1226 | 3032 | 8027 => ServerUnavailable,
        // TOO_MANY_CONCURRENT_TRXS: the connection is as good as any other.
        1637 => Busy,
        // OPTION_PREVENTS_STATEMENT is mostly --read-only (the text tells), READ_ONLY_TRANSACTION,
        // READ_ONLY_MODE, SCHEMA_READ_ONLY.
        1290 | 1792 | 1836 | 3989 => ReadOnlyServer,
        // TABLE_DEF_CHANGED, NEED_REPREPARE.
        1412 | 1615 => StalePlan,
        // FILSORT_ABORT, MariaDB's max_statement_time, MySQL's max_execution_time.
        1028 | 1969 | 3024 => StatementTimeout,
        // QUERY_INTERRUPTED.
        1317 => Canceled,
        // Disk full, out of memory, file full, lock table full.
        1021 | 1037 | 1038 | 1041 | 1114 | 1206 => ResourceExhausted,
        // SP_DOES_NOT_EXIST is a savepoint unless the text says otherwise; TiDB's transaction outlived
        // its time to live.
        1305 | 8229 => TransactionLost,
        // ERROR_DURING_COMMIT. RUN_HOOK_ERROR: a node that is leaving its group refused the COMMIT, or
        // did not hear what became of it.
        1180 | 3100 => OutcomeUnknown,
        1022 | 1062 | 1169 | 1586 | 1859 => Constraint,
        1216 | 1217 | 1451 | 1452 | 1761 | 1762 | 1830 | 1834 => Constraint,
        1048 | 1364 | 3819 | 4025 => Constraint,
        // GET_ERRNO and UNKNOWN_ERROR: only the text tells.
        1030 | 1105 => Unknown,
        1000..=1999 | 3000..=5999 => Permanent,
        _ => Unknown,
    }
}

type Judged = (Option<Code>, FaultClass);

/// The code and class of an error as Diesel reports it.
pub(super) fn recognize(kind: ErrorKind, message: &str) -> Judged {
    match kind {
        // Several numbers share each of these kinds.
        ErrorKind::UniqueViolation
        | ErrorKind::ForeignKeyViolation
        | ErrorKind::RestrictViolation
        | ErrorKind::NotNullViolation
        | ErrorKind::CheckViolation
        | ErrorKind::ExclusionViolation => (constraint(message), Constraint),
        ErrorKind::SerializationFailure => exactly(1213),
        ErrorKind::ReadOnlyTransaction => exactly(1792),
        ErrorKind::ClosedConnection => match by_text(message) {
            Some((code, class)) if class.leaves_connection_usable() => (code, ConnectionLost),
            Some(judged) => judged,
            None => (None, ConnectionLost),
        },
        ErrorKind::UnableToSendCommand | ErrorKind::Unknown | ErrorKind::Lost => {
            by_text(message).unwrap_or((None, Unknown))
        }
    }
}

/// Which constraint, where a kind says that it is one: the value behind it can be long.
fn constraint(message: &str) -> Option<Code> {
    let of_message = |(start, _): &&(&str, _)| message.starts_with(start);
    let (start, errno) = CONSTRAINTS.iter().find(of_message)?;
    Some(Code::Errno(match errno {
        // Without the privilege to see the other table, MySQL ends here.
        1452 if message.len() == start.len() + "constraint fails".len() => 1216,
        1451 if message.len() == start.len() + "constraint fails".len() => 1217,
        errno => *errno,
    }))
}

fn by_text(message: &str) -> Option<Judged> {
    static ENGLISH: Table = table!(TEXTS);
    static TRANSLATED: Table = Table::new(languages::ROWS, &languages::PARTS);

    if let Some(found) = ENGLISH.find(message) {
        let (_, errno, class) = TEXTS[usize::from(found.meaning)];
        return Some((errno.map(Code::Errno), class));
    }
    if let Some(found) = TRANSLATED.find(message) {
        let errno = TEXTS[usize::from(found.meaning)].1?;
        return Some((Some(Code::Errno(errno)), class_of(errno, message)));
    }
    by_name(message)
}

/// In any language: our savepoints and Diesel's by their names, and our tokens. That a transaction is
/// gone must be known, or what DDL has committed would be taken for undone.
fn by_name(message: &str) -> Option<Judged> {
    const NAMES: [&str; 4] = [
        "dbop_alive",
        "dbop_savepoint_",
        "diesel_savepoint_",
        "'dbop",
    ];

    match name_in(&NAMES, message)? {
        0..3 => Some(exactly(1305)),
        _ => message.contains("PRIMARY").then(|| exactly(1062)),
    }
}

/// Whether the server may have rolled back the whole transaction together with this error.
///
/// A GET_LOCK deadlock (3058; on MariaDB it is a 1213 like any other) and MySQL's NOWAIT (3572) do
/// not; 1205 does with `innodb_rollback_on_timeout`, on MariaDB for NOWAIT as well (all measured).
/// 1047 leaves the transaction open, and after 1180 the outcome is unknown.
pub(super) fn may_end_transaction(code: Option<Code>, class: FaultClass) -> bool {
    match code {
        Some(Code::Errno(3058 | 3572)) => false,
        Some(Code::Errno(1206)) => true,
        _ => matches!(class, Deadlock | SerializationFailure | LockTimeout),
    }
}

fn exactly(errno: u16) -> Judged {
    (Some(Code::Errno(errno)), class(errno))
}

/// The class of an error whose number came with its message, in any language. Some numbers stand for
/// several errors, which only what no language translates can tell apart.
pub(super) fn class_of(errno: u16, message: &str) -> FaultClass {
    let word = match errno {
        1047 => "WSREP",
        1290 => "read-only",
        1305 => "SAVEPOINT",
        // The storage engine's own number.
        1030 | 1180 if names_number(message, "149") => return Deadlock,
        1030 if names_number(message, "153") => return Deadlock,
        1030 if names_number(message, "28") => return ResourceExhausted,
        _ => "",
    };
    match message.contains(word) {
        true => class(errno),
        false => Permanent,
    }
}

/// Whether the first number in the message is this one.
fn names_number(message: &str, number: &str) -> bool {
    let Some(at) = message.find(|letter: char| letter.is_ascii_digit()) else {
        return false;
    };
    let rest = message[at..].strip_prefix(number);
    rest.is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_ascii_digit()))
}

/// How constraint violations begin.
const CONSTRAINTS: &[(&str, u16)] = &[
    ("Duplicate entry for key '", 1859),
    ("Duplicate entry '", 1062),
    ("Cannot add or update a child row: a foreign key ", 1452),
    ("Cannot delete or update a parent row: a foreign key ", 1451),
    ("Column '", 1048),
    ("Field '", 1364),
    ("Check constraint '", 3819),
    ("CONSTRAINT `", 4025),
];

#[cfg(test)]
mod tests;
