//! PostgreSQL, and what speaks its protocol: CockroachDB, YugabyteDB, and its poolers.
//!
//! What a code means is taken from the manual (appendix A) and from what the servers did. Diesel
//! 2.3 shows no code, only a kind where one exists, so the rest is known by text. Texts follow the
//! server's `lc_messages`: [`messages`] are those of PostgreSQL and libpq, [`languages`] are their
//! translations, and [`others`] are what has none. The messages were measured on PostgreSQL 15 and 18
//! where they could be provoked; those of the relatives are from their documentation and source.
//!
//! What cannot be told apart: a text that an application raises exactly as the server would, unless
//! the server's always has a kind (40001 and 25006, see [`by_text`]); the name of one of our
//! savepoints anywhere in a text; and the word `SAVEPOINT` in a text without quotation marks.

use std::ops::Range;

use super::FaultClass::{self, *};
use super::text::{Table, name_in, table};
use super::{Code, ErrorKind, SqlState};
use messages::{LIBPQ, REFUSALS, Row, SERVER, SEVERITIES};
use others::{CLIENT_TEXTS, OTHERS};

mod languages;
mod messages;
mod others;

/// The class of a code.
///
/// A code that is not listed is a definite answer of the server and so [`FaultClass::Permanent`],
/// except where its class of the SQL standard says more.
pub(super) fn class(state: SqlState) -> FaultClass {
    use SqlState as S;

    match state {
        S::DEADLOCK_DETECTED => Deadlock,
        S::SERIALIZATION_FAILURE
        | S::TRANSACTION_ROLLBACK
        | S::COCKROACH_RETRY
        | S::YUGABYTE_READ_RESTART => SerializationFailure,
        S::LOCK_NOT_AVAILABLE => LockTimeout,
        // A statement timeout has the same code: only the text tells.
        S::QUERY_CANCELED => Canceled,
        // The server ends the session with all of these. 57P04 and 25P04 will hardly go away, but
        // above all the connection is gone.
        S::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        | S::IDLE_SESSION_TIMEOUT
        | S::TRANSACTION_TIMEOUT
        | S::ADMIN_SHUTDOWN
        | S::CRASH_SHUTDOWN
        | S::DATABASE_DROPPED => ConnectionLost,
        // A CockroachDB node lost its peers: before the COMMIT another node can do it, during the
        // COMMIT the outcome is unknown, as after losing the connection.
        S::RANGE_UNAVAILABLE | S::INTERNAL_CONNECTION_FAILURE => ConnectionLost,
        S::UNABLE_TO_ESTABLISH_CONNECTION | S::REJECTED_CONNECTION => NotConnected,
        S::CANNOT_CONNECT_NOW | S::TOO_MANY_CONNECTIONS => ServerUnavailable,
        S::STATEMENT_COMPLETION_UNKNOWN | S::TRANSACTION_RESOLUTION_UNKNOWN => OutcomeUnknown,
        S::READ_ONLY_SQL_TRANSACTION => ReadOnlyServer,
        S::IN_FAILED_SQL_TRANSACTION => TransactionAborted,
        S::INVALID_SAVEPOINT_SPECIFICATION | S::NO_ACTIVE_SQL_TRANSACTION => TransactionLost,
        // Another session created the same at the same time, behind IF NOT EXISTS; or it was there before.
        // Worth one more attempt.
        S::DUPLICATE_OBJECT | S::DUPLICATE_SCHEMA | S::DUPLICATE_TABLE => SerializationFailure,
        // Transaction pooling mixes up the prepared statements of its clients.
        S::INVALID_SQL_STATEMENT_NAME | S::DUPLICATE_PREPARED_STATEMENT => StalePlan,
        S::TRANSACTION_INTEGRITY_CONSTRAINT_VIOLATION => Constraint,
        S::SYSTEM_ERROR | S::IO_ERROR => ResourceExhausted,
        // From PostgreSQL itself this is a bug on one side; PgBouncer's have texts.
        S::PROTOCOL_VIOLATION => Permanent,
        other => match other.class_prefix() {
            "08" => ConnectionLost,
            "23" => Constraint,
            "53" => ResourceExhausted,
            // Operator intervention and internal errors: anything may be behind them.
            "57" | "XX" => Unknown,
            _ => Permanent,
        },
    }
}

type Judged = (Option<Code>, FaultClass);

/// The code and class of an error as Diesel reports it.
pub(super) fn recognize(kind: ErrorKind, message: &str) -> Judged {
    match kind {
        // Two sessions created the same object, behind IF NOT EXISTS.
        ErrorKind::UniqueViolation if is_about_catalog(message) => {
            let (code, _) = constraint(SqlState::UNIQUE_VIOLATION);
            (code, SerializationFailure)
        }
        ErrorKind::UniqueViolation => constraint(SqlState::UNIQUE_VIOLATION),
        ErrorKind::ForeignKeyViolation => constraint(SqlState::FOREIGN_KEY_VIOLATION),
        ErrorKind::RestrictViolation => constraint(SqlState::RESTRICT_VIOLATION),
        ErrorKind::NotNullViolation => constraint(SqlState::NOT_NULL_VIOLATION),
        ErrorKind::CheckViolation => constraint(SqlState::CHECK_VIOLATION),
        ErrorKind::ExclusionViolation => constraint(SqlState::EXCLUSION_VIOLATION),
        ErrorKind::ReadOnlyTransaction => exactly(SqlState::READ_ONLY_SQL_TRANSACTION),
        // A standby's conflict with recovery may be fatal, still with 40001 (measured).
        ErrorKind::SerializationFailure => {
            let class = if ends_connection(message) {
                ConnectionLost
            } else {
                SerializationFailure
            };
            (Some(Code::SqlState(SqlState::SERIALIZATION_FAILURE)), class)
        }
        // libpq's connection is gone, whatever the server said last.
        ErrorKind::ClosedConnection => match by_text(message, false) {
            Some((code, class)) if class.leaves_connection_usable() => (code, ConnectionLost),
            Some(judged) => judged,
            None => (None, ConnectionLost),
        },
        ErrorKind::UnableToSendCommand => by_client_text(message)
            .or_else(|| by_text(message, true))
            .unwrap_or((None, Unknown)),
        ErrorKind::Unknown => by_text(message, true).unwrap_or((None, Unknown)),
        // Whatever kind it had, the error has lost it.
        ErrorKind::Lost => by_text(message, false).unwrap_or((None, Unknown)),
    }
}

/// Whether a unique violation names an index of a system catalog, such as `pg_type_typname_nsp_index`.
/// Names stay as they are in every language; what is around them does not.
fn is_about_catalog(message: &str) -> bool {
    // In most languages the name is the last thing.
    if let [text @ .., b'"'] = message.as_bytes() {
        // Most applications' names end otherwise, and then there is nothing to look for.
        return text.ends_with(b"_index") && is_of_catalog(after_last_quote(text));
    }
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    message
        .as_bytes()
        .split(|byte| !is_of_name(byte))
        .any(is_of_catalog)
}

fn after_last_quote(text: &[u8]) -> &[u8] {
    let quote = text.iter().rposition(|byte| *byte == b'"');
    &text[quote.map_or(0, |at| at + 1)..]
}

fn is_of_catalog(name: &[u8]) -> bool {
    name.starts_with(b"pg_") && name.ends_with(b"_index")
}

const fn constraint(state: SqlState) -> Judged {
    (Some(Code::SqlState(state)), Constraint)
}

fn exactly(state: SqlState) -> Judged {
    (Some(Code::SqlState(state)), class(state))
}

/// What the text says. Both clients report every 40001 and every 25006 of a server with a kind: without
/// one it is an application's text. Only where libpq strings together several messages, each with its
/// severity, the kind is missing.
fn by_text(message: &str, kind_is_missing: bool) -> Option<Judged> {
    // libpq ends its own texts with a line break.
    let message = message.trim_end_matches('\n');
    if let Some((index, _)) = find(message) {
        let judged = of_format(index, message)?;
        let counts = REFUSAL.contains(&index) || !kind_is_missing || !has_kind(judged);
        return counts.then_some(judged);
    }
    let line = first_line(message);
    if let Some(said) = without_severity(line) {
        // libpq 13 and older show a refusal like this, newer ones what a connection ended with.
        return find(said).and_then(|(index, _)| of_format(index, said));
    }
    if line.len() < message.len() {
        let found = find(line).filter(|(index, _)| OF_LIBPQ.contains(index));
        if let Some((index, _)) = found {
            return of_format(index, message);
        }
    }
    by_name(message)
}

fn has_kind((code, class): Judged) -> bool {
    let always = [
        SqlState::SERIALIZATION_FAILURE,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    let has_kind = |code| always.map(Code::SqlState).contains(&code);
    class != ConnectionLost && code.is_some_and(has_kind)
}

fn of_format(index: usize, message: &str) -> Option<Judged> {
    if REFUSAL.contains(&index) {
        return Some(refused(message));
    }
    judged(index)
}

/// Why libpq has no connection. It tries each address of each host and tells about all of them. What
/// a server said outranks what libpq says, and what passes outranks what does not.
fn refused(message: &str) -> Judged {
    let (mut by_server, mut by_libpq) = (None, None);
    for line in message.lines() {
        let Some((_, rest)) = find(line).filter(|(index, _)| REFUSAL.contains(index)) else {
            continue;
        };
        let reason = &line[rest..];
        let (judged, slot) = match without_severity(reason) {
            Some(said) => (
                find(said).and_then(|(index, _)| judged(index)),
                &mut by_server,
            ),
            None => {
                let judged = find(reason).and_then(|(index, _)| judged(index));
                (
                    judged.filter(|(_, class)| *class == Permanent),
                    &mut by_libpq,
                )
            }
        };
        let judged = judged.unwrap_or((None, NotConnected));
        if slot.is_none_or(|(_, class)| class == Permanent) {
            *slot = Some(judged);
        }
    }
    by_server.or(by_libpq).unwrap_or((None, NotConnected))
}

fn first_line(text: &str) -> &str {
    text.split_once('\n').map_or(text, |(line, _)| line)
}

/// What follows a severity in the first line of the text.
fn without_severity(text: &str) -> Option<&str> {
    const LONGEST: usize = 40;

    let start = &text.as_bytes()[..text.len().min(LONGEST)];
    let at = start.iter().position(|byte| *byte == b':')?;
    if !text[at..].starts_with(":  ") {
        return None;
    }
    let (severity, said) = (&text[..at], &text[at + 3..]);
    let (index, _) = find(severity)?;
    SEVERITY.contains(&index).then(|| first_line(said))
}

static ENGLISH: Table = table!(FORMATS).with_first(REFUSAL);
static TRANSLATED: Table = Table::new(languages::ROWS, &languages::PARTS).with_first(REFUSAL);

/// The format that the text was made from, and where its last gap begins if it ends with one.
fn find(text: &str) -> Option<(usize, usize)> {
    let found = ENGLISH.find(text).or_else(|| TRANSLATED.find(text))?;
    Some((found.meaning.into(), found.rest))
}

/// Whether the text is that of a standby's conflict with recovery that is fatal.
fn ends_connection(text: &str) -> bool {
    const CONFLICT: usize = index_of("terminating connection due to conflict with recovery");

    ENGLISH.is_whole(text, CONFLICT) || TRANSLATED.is_whole(text, CONFLICT)
}

const fn index_of(text: &str) -> usize {
    let mut index = 0;
    while !is_same(FORMATS[index].0.as_bytes(), text.as_bytes()) {
        index += 1;
    }
    index
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

fn judged(index: usize) -> Option<Judged> {
    let (_, code, class) = FORMATS[index];
    let is_said = !SEVERITY.contains(&index);
    is_said.then(|| (SqlState::new(code).map(Code::SqlState), class))
}

/// In any language: what every translation leaves as it is. That a transaction is gone must be known,
/// or what the operation itself has committed would be taken for undone.
fn by_name(message: &str) -> Option<Judged> {
    const NAMES: [&str; 5] = [
        "dbop_alive",
        "dbop_savepoint_",
        "diesel_savepoint_",
        "SAVEPOINT",
        "ROLLBACK AND CHAIN",
    ];

    match name_in(&NAMES, message)? {
        0..3 => Some(exactly(SqlState::INVALID_SAVEPOINT_SPECIFICATION)),
        // No translation of "can only be used in transaction blocks" has a quotation mark.
        _ if message.contains(['"', '\'', '«', '»', '“', '„']) => None,
        _ => Some(exactly(SqlState::NO_ACTIVE_SQL_TRANSACTION)),
    }
}

fn by_client_text(message: &str) -> Option<Judged> {
    static CLIENTS: Table = table!(CLIENT_TEXTS);

    let found = CLIENTS.find(message.trim_end())?;
    let (_, code, class) = CLIENT_TEXTS[usize::from(found.meaning)];
    Some((SqlState::new(code).map(Code::SqlState), class))
}

/// All rows whose texts are known in English. The translations mean the same indices, so [`OTHERS`]
/// come last.
const FORMATS: [Row; SEVERITY.end + OTHERS.len()] =
    joined(&[SERVER, LIBPQ, REFUSALS, SEVERITIES, OTHERS]);

const OF_LIBPQ: Range<usize> = SERVER.len()..REFUSAL.end;
const REFUSAL: Range<usize> = SERVER.len() + LIBPQ.len()..SEVERITY.start;
const SEVERITY: Range<usize> = {
    let start = SERVER.len() + LIBPQ.len() + REFUSALS.len();
    start..start + SEVERITIES.len()
};

const fn joined<const N: usize>(lists: &[&[Row]]) -> [Row; N] {
    let mut all = [("", "", Unknown); N];
    let (mut list, mut next) = (0, 0);
    while list < lists.len() {
        let mut index = 0;
        while index < lists[list].len() {
            all[next] = lists[list][index];
            index += 1;
            next += 1;
        }
        list += 1;
    }
    assert!(next == N);
    all
}

#[cfg(test)]
mod tests;
