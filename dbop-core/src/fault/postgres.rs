//! PostgreSQL, and what speaks its protocol: CockroachDB, YugabyteDB, PgBouncer.
//!
//! What a code means is taken from the manual (appendix A) and from what the servers did. Diesel
//! 2.3 shows no code, only a kind where one exists, so the rest is known by text. The rows of
//! [`TEXTS`] were measured on PostgreSQL 15 and 18, those of the relatives are from their
//! documentation and source. Texts follow the server's `lc_messages`: English and German are
//! known here, in any other language an error without a kind is [`FaultClass::Unknown`].

use super::FaultClass::{self, *};
use super::text::made_from;
use super::{Code, ErrorKind, SqlState};

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

/// The code and class of an error as Diesel reports it.
pub(super) fn recognize(kind: ErrorKind, message: &str) -> (Option<Code>, FaultClass) {
    // libpq ends its own texts with a line break.
    let message = message.trim_end();
    if let Some(refusal) = refused_connection(message) {
        return find(TEXTS, refusal).unwrap_or((None, NotConnected));
    }

    let found = find(TEXTS, message);
    match kind {
        ErrorKind::UniqueViolation => exactly(SqlState::UNIQUE_VIOLATION),
        ErrorKind::ForeignKeyViolation => exactly(SqlState::FOREIGN_KEY_VIOLATION),
        ErrorKind::RestrictViolation => exactly(SqlState::RESTRICT_VIOLATION),
        ErrorKind::NotNullViolation => exactly(SqlState::NOT_NULL_VIOLATION),
        ErrorKind::CheckViolation => exactly(SqlState::CHECK_VIOLATION),
        ErrorKind::ExclusionViolation => exactly(SqlState::EXCLUSION_VIOLATION),
        ErrorKind::ReadOnlyTransaction => exactly(SqlState::READ_ONLY_SQL_TRANSACTION),
        // A standby's conflict with recovery may be fatal, still with 40001 (measured).
        ErrorKind::SerializationFailure => match found {
            Some((_, ConnectionLost)) => {
                (exactly(SqlState::SERIALIZATION_FAILURE).0, ConnectionLost)
            }
            _ => exactly(SqlState::SERIALIZATION_FAILURE),
        },
        // libpq's connection is gone, whatever the server said last.
        ErrorKind::ClosedConnection => match found {
            Some((code, class)) if class.leaves_connection_usable() => (code, ConnectionLost),
            Some(found) => found,
            None => (None, ConnectionLost),
        },
        ErrorKind::UnableToSendCommand => find(CLIENT_TEXTS, message)
            .or(found)
            .unwrap_or((None, Unknown)),
        ErrorKind::Unknown | ErrorKind::Lost => found.unwrap_or((None, Unknown)),
    }
}

fn exactly(state: SqlState) -> (Option<Code>, FaultClass) {
    (Some(Code::SqlState(state)), class(state))
}

fn find(texts: &[Row], message: &str) -> Option<(Option<Code>, FaultClass)> {
    texts
        .iter()
        .find(|(format, ..)| made_from(format, message))
        .map(|&(_, code, class)| (SqlState::new(code).map(Code::SqlState), class))
}

/// What the server said when it refused a connection: libpq puts it behind the address.
fn refused_connection(message: &str) -> Option<&str> {
    let (address, reason) = message.split_once("FATAL:  ")?;
    made_from("connection to server * failed: ", address)
        .then(|| reason.lines().next().unwrap_or_default())
}

/// A text with `*` for any text, its SQLSTATE ("" where there is none or more than one), and its
/// class. The first row that fits counts.
type Row = (&'static str, &'static str, FaultClass);

#[rustfmt::skip] // One row, one line.
const TEXTS: &[Row] = &[
    ("deadlock detected", "40P01", Deadlock),
    ("could not serialize access due to *", "40001", SerializationFailure),
    ("tuple to be * was already moved to another partition *", "40001", SerializationFailure),
    ("canceling statement due to conflict with recovery", "40001", SerializationFailure),
    ("canceling statement due to lock timeout", "55P03", LockTimeout),
    ("could not obtain lock on row in relation \"*\"", "55P03", LockTimeout),
    ("could not obtain lock on relation \"*\"", "55P03", LockTimeout),
    ("canceling statement due to statement timeout", "57014", StatementTimeout),
    ("canceling statement due to user request", "57014", Canceled),
    ("canceling autovacuum task", "57014", Canceled),
    ("current transaction is aborted, commands ignored *", "25P02", TransactionAborted),
    ("savepoint \"*\" does not exist", "3B001", TransactionLost),
    ("*SAVEPOINT can only be used in transaction blocks", "25P01", TransactionLost),
    ("ROLLBACK AND CHAIN can only be used in transaction blocks", "25P01", TransactionLost),
    ("cannot execute * in a read-only transaction", "25006", ReadOnlyServer),
    ("cannot execute * during recovery", "25006", ReadOnlyServer),
    // On a standby the BEGIN itself fails, as a missing feature.
    ("cannot set transaction read-write mode during recovery", "0A000", ReadOnlyServer),
    ("cannot use serializable mode in a hot standby", "0A000", ReadOnlyServer),
    ("cached plan must not change result type", "0A000", StalePlan),
    ("prepared statement \"*\" does not exist", "26000", StalePlan),
    ("prepared statement \"*\" already exists", "42P05", StalePlan),
    ("out of shared memory", "53200", ResourceExhausted),
    ("out of memory", "53200", ResourceExhausted),
    ("could not extend file \"*\": No space left on device", "53100", ResourceExhausted),
    ("temporary file size exceeds *temp_file_limit*", "53400", ResourceExhausted),
    // FATAL: the connection is gone, whatever the code.
    ("terminating connection due to administrator command", "57P01", ConnectionLost),
    ("terminating connection due to immediate shutdown command", "57P01", ConnectionLost),
    ("terminating connection due to unexpected postmaster exit", "57P01", ConnectionLost),
    ("terminating connection because of crash of another server process", "57P02", ConnectionLost),
    ("terminating connection due to idle-in-transaction timeout", "25P03", ConnectionLost),
    ("terminating connection due to idle-session timeout", "57P05", ConnectionLost),
    ("terminating connection due to transaction timeout", "25P04", ConnectionLost),
    ("terminating connection due to conflict with recovery", "40001", ConnectionLost),
    ("terminating connection due to *", "", ConnectionLost),
    ("terminating connection because *", "", ConnectionLost),
    ("the database system is *", "57P03", ServerUnavailable),
    ("sorry, too many clients already", "53300", ServerUnavailable),
    ("remaining connection slots are reserved for *", "53300", ServerUnavailable),
    ("too many connections for role \"*\"", "53300", ServerUnavailable),
    ("too many connections for database \"*\"", "53300", ServerUnavailable),
    ("database \"*\" does not exist", "3D000", Permanent),
    // 28000 when connecting, 42704 in a statement.
    ("role \"*\" does not exist", "", Permanent),
    ("password authentication failed for user \"*\"", "28P01", Permanent),
    ("no pg_hba.conf entry for *", "28000", Permanent),
    // German, as PostgreSQL 15 and 18 have it.
    ("Verklemmung (Deadlock) entdeckt", "40P01", Deadlock),
    ("konnte Zugriff nicht serialisieren wegen *", "40001", SerializationFailure),
    ("storniere Anfrage wegen Konflikt mit der Wiederherstellung", "40001", SerializationFailure),
    ("storniere Anfrage wegen Zeitüberschreitung einer Sperre", "55P03", LockTimeout),
    ("konnte Sperre für Zeile in Relation »*« nicht setzen", "55P03", LockTimeout),
    ("konnte Sperre für Relation »*« nicht setzen", "55P03", LockTimeout),
    ("storniere Anfrage wegen Zeitüberschreitung der Anfrage", "57014", StatementTimeout),
    ("storniere Anfrage wegen Benutzeraufforderung", "57014", Canceled),
    ("aktuelle Transaktion wurde abgebrochen, *", "25P02", TransactionAborted),
    ("Sicherungspunkt »*« existiert nicht", "3B001", TransactionLost),
    ("*SAVEPOINT kann nur in Transaktionsblöcken verwendet werden", "25P01", TransactionLost),
    ("ROLLBACK AND CHAIN kann nur in Transaktionsblöcken verwendet werden", "25P01", TransactionLost),
    ("gecachter Plan darf den Ergebnistyp nicht ändern", "0A000", StalePlan),
    ("vorbereitete Anweisung »*« existiert nicht", "26000", StalePlan),
    ("vorbereitete Anweisung »*« existiert bereits", "42P05", StalePlan),
    ("Verbindung wird abgebrochen aufgrund von Anweisung *", "57P01", ConnectionLost),
    ("Verbindung wird abgebrochen *", "", ConnectionLost),
    ("das Datenbanksystem *", "57P03", ServerUnavailable),
    ("tut mir leid, schon zu viele Verbindungen", "53300", ServerUnavailable),
    // CockroachDB and YugabyteDB.
    ("restart transaction: *", "40001", SerializationFailure),
    ("result is ambiguous*", "40003", OutcomeUnknown),
    // The clocks of two nodes differ too much.
    ("cannot specify timestamp in the future*", "XXUUU", SerializationFailure),
    ("server is shutting down", "57P01", ConnectionLost),
    ("server is not accepting clients, try another node", "57P01", ConnectionLost),
    ("Transaction * aborted due to a deadlock.*", "40P01", Deadlock),
    ("Operation expired: *expired or aborted by a conflict*", "40001", SerializationFailure),
    ("Restart read required at: *", "YB003", SerializationFailure),
    ("Query error: Restart read required at: *", "XX000", SerializationFailure),
    // PgBouncer. What its queue refuses was not executed.
    ("query_wait_timeout", "08P01", ServerUnavailable),
    ("server login has been failing, *", "08P01", ServerUnavailable),
    ("no more connections allowed (max_client_conn)", "08P01", ServerUnavailable),
    ("client connections exceeded (max_*", "08P01", ServerUnavailable),
    ("pooler is shutting down", "08P01", ServerUnavailable),
    ("server conn crashed?", "08P01", ConnectionLost),
    ("client_idle_timeout", "08P01", ConnectionLost),
    // libpq. COPY shows these without a kind.
    ("server closed the connection unexpectedly*", "", ConnectionLost),
    // It knows before it sends anything.
    ("no connection to the server", "", NotConnected),
    ("could not receive data from server: *", "", ConnectionLost),
    ("could not send data to server: *", "", ConnectionLost),
    ("SSL connection has been closed unexpectedly", "", ConnectionLost),
    ("SSL SYSCALL error: *", "", ConnectionLost),
    ("connection to server * failed: *", "", NotConnected),
    ("could not connect to server: *", "", NotConnected),
    ("could not translate host name \"*", "", NotConnected),
    // In any language: what every translation leaves as it is. That a transaction is gone must be
    // known, or what the operation itself has committed would be taken for undone.
    ("*dbop_alive*", "3B001", TransactionLost),
    ("*dbop_savepoint_*", "3B001", TransactionLost),
    ("*diesel_savepoint_*", "3B001", TransactionLost),
    ("*SAVEPOINT*", "25P01", TransactionLost),
    ("*ROLLBACK AND CHAIN*", "25P01", TransactionLost),
];

/// Texts of the client libraries that a server could send as well, so they count only where the
/// kind says that no server did: libpq, tokio-postgres 0.7 (with and without its cause) and the
/// channel by which diesel-async hears of the end of a connection.
#[rustfmt::skip] // One row, one line.
const CLIENT_TEXTS: &[Row] = &[
    ("connection closed", "", ConnectionLost),
    ("error communicating with the server*", "", ConnectionLost),
    ("channel closed", "", ConnectionLost),
    ("channel lagged by *", "", ConnectionLost),
    // The two sides no longer agree about where a message starts.
    ("unexpected message from server", "", ConnectionLost),
    ("error parsing response from server*", "", ConnectionLost),
    ("error connecting to server*", "", NotConnected),
    ("error performing TLS handshake*", "", NotConnected),
    ("error serializing parameter *", "", Permanent),
    ("error deserializing column *", "", Permanent),
    ("error encoding message to server*", "", Permanent),
    ("expected * parameters but got *", "", Permanent),
    ("number of parameters must be between 0 and 65535", "", Permanent),
    ("another command is already in progress", "", Permanent),
    // Before connecting: the URL or the settings.
    ("invalid connection string*", "", Permanent),
    ("invalid configuration*", "", Permanent),
    ("authentication error*", "", Permanent),
    ("missing \"=\" after \"*\" in connection info string", "", Permanent),
    ("invalid integer value \"*\" for connection option \"*\"", "", Permanent),
    ("invalid port number: \"*\"", "", Permanent),
    ("invalid connection option \"*\"", "", Permanent),
    ("invalid URI query parameter: \"*\"", "", Permanent),
    ("invalid * value: \"*\"", "", Permanent),
];

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind as Kind;

    #[test]
    fn codes_have_classes() {
        for (codes, expected) in [
            ("40P01", Deadlock),
            ("40001 40000 CR000 YB003", SerializationFailure),
            ("55P03", LockTimeout),
            ("57014", Canceled),
            ("08000 08003 08006 08S01 58C00 58C01", ConnectionLost),
            ("25P03 25P04 57P01 57P02 57P04 57P05", ConnectionLost),
            ("08001 08004", NotConnected),
            ("57P03 53300", ServerUnavailable),
            ("25006", ReadOnlyServer),
            ("26000 42P05", StalePlan),
            ("53000 53100 53200 53400 58000 58030", ResourceExhausted),
            ("25P02", TransactionAborted),
            ("25P01 3B001", TransactionLost),
            ("40003 08007", OutcomeUnknown),
            ("23001 23502 23503 23505 23514 23P01 40002", Constraint),
            ("08P01 0A000 55000 55006 42601 42P01", Permanent),
            ("22P02 28000 28P01 3D000 P0001 ZZ999", Permanent),
            ("XX000 XXUUU 57P99", Unknown),
        ] {
            for code in codes.split(' ') {
                assert_eq!(SqlState::new(code).map(class), Some(expected), "{code}");
            }
        }
    }

    #[test]
    #[rustfmt::skip] // One row, one line.
    fn measured_texts() {
        for (text, code, class) in [
            ("could not obtain lock on row in relation \"t\"", "55P03", LockTimeout),
            ("canceling statement due to statement timeout", "57014", StatementTimeout),
            ("current transaction is aborted, commands ignored until", "25P02", TransactionAborted),
            ("RELEASE SAVEPOINT can only be used in transaction blocks", "25P01", TransactionLost),
            ("cannot execute INSERT in a read-only transaction", "25006", ReadOnlyServer),
            ("terminating connection due to something new", "", ConnectionLost),
            ("konnte Sperre für Zeile in Relation »t« nicht setzen", "55P03", LockTimeout),
            ("aktuelle Transaktion wurde abgebrochen, Befehle werden", "25P02", TransactionAborted),
            ("server login has been failing, try again later", "08P01", ServerUnavailable),
        ] {
            check(Kind::Unknown, text, code, class);
        }
    }

    /// All translations of PostgreSQL 15.
    #[test]
    fn that_the_transaction_is_gone_is_known_in_any_language() {
        for text in [
            "% kann nur in Transaktionsblöcken verwendet werden",
            "la orden % sólo puede ser usada en bloques de transacción",
            "% peut seulement être utilisé dans des blocs de transaction",
            "si può usare % solo entro blocchi di transazione",
            "%はトランザクションブロック内でのみ使用できます",
            "% მხოლოდ ტრანზაქციის ბლოკში შეიძლება იყოს გამოყენებული",
            "% 명령은 트랜잭션 블럭에서만 사용될 수 있음",
            "% может выполняться только внутри блоков транзакций",
            "% kan bara användas i transaktionsblock",
            "% може використовуватися тільки в блоках транзакції",
            "% 只能在事务块中使用",
        ] {
            for command in ["SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK AND CHAIN"] {
                let text = text.replace('%', command);
                check(Kind::Unknown, &text, "25P01", TransactionLost);
            }
        }
        for text in [
            "Sicherungspunkt »%« existiert nicht",
            "no existe el “savepoint” «%»",
            "le point de sauvegarde « % » n'existe pas",
            "il punto di salvataggio \"%\" non esiste",
            "セーブポイント\"%\"は存在しません",
            "შესანახი წერტილი არ არსებობს: %",
            "\"%\" 이름의 저장위치가 없음",
            "точка сохранения \"%\" не существует",
            "sparpunkt \"%\" existerar inte",
            "точка збереження \"%\" не існує",
            "保存点\"%\"不存在",
        ] {
            for name in ["dbop_alive", "dbop_savepoint_1", "diesel_savepoint_2"] {
                let text = text.replace('%', name);
                check(Kind::Unknown, &text, "3B001", TransactionLost);
            }
        }
    }

    #[test]
    fn kinds_decide_where_they_are_exact() {
        for (kind, code, class) in [
            (Kind::UniqueViolation, "23505", Constraint),
            (Kind::ForeignKeyViolation, "23503", Constraint),
            (Kind::RestrictViolation, "23001", Constraint),
            (Kind::NotNullViolation, "23502", Constraint),
            (Kind::CheckViolation, "23514", Constraint),
            (Kind::ExclusionViolation, "23P01", Constraint),
            (Kind::ReadOnlyTransaction, "25006", ReadOnlyServer),
            (Kind::SerializationFailure, "40001", SerializationFailure),
            (Kind::ClosedConnection, "", ConnectionLost),
            (Kind::UnableToSendCommand, "", Unknown),
        ] {
            check(kind, "dans une autre langue", code, class);
        }
        check(
            Kind::UniqueViolation,
            "deadlock detected",
            "23505",
            Constraint,
        );
    }

    #[test]
    fn a_dead_connection_outranks_kind_and_code() {
        for text in [
            "terminating connection due to conflict with recovery",
            "Verbindung wird abgebrochen wegen Konflikt mit der Wiederherstellung",
        ] {
            check(Kind::SerializationFailure, text, "40001", ConnectionLost);
        }
        for (text, code, class) in [
            (
                "server closed the connection unexpectedly\n",
                "",
                ConnectionLost,
            ),
            ("deadlock detected", "40P01", ConnectionLost),
            ("query_wait_timeout", "08P01", ServerUnavailable),
        ] {
            check(Kind::ClosedConnection, text, code, class);
        }
    }

    #[test]
    #[rustfmt::skip] // One row, one line.
    fn client_texts_count_only_where_no_server_spoke() {
        for (text, class) in [
            ("connection closed", ConnectionLost),
            ("error communicating with the server: Broken pipe (os error 32)", ConnectionLost),
            ("error connecting to server: Connection refused (os error 111)", NotConnected),
            ("error serializing parameter 0: cannot convert", Permanent),
            ("expected 2 parameters but got 1", Permanent),
            ("number of parameters must be between 0 and 65535\n", Permanent),
        ] {
            check(Kind::UnableToSendCommand, text, "", class);
            check(Kind::Unknown, text, "", Unknown);
        }
        check(Kind::UnableToSendCommand, "no connection to the server\n", "", NotConnected);
    }

    #[test]
    #[rustfmt::skip] // One row, one line.
    fn a_refused_connection_says_why() {
        for (reason, code, class) in [
            ("Connection refused\n\tIs the server running on that host", "", NotConnected),
            ("FATAL:  das Datenbanksystem startet", "57P03", ServerUnavailable),
            ("FATAL:  sorry, too many clients already", "53300", ServerUnavailable),
            ("FATAL:  database \"nodb\" does not exist", "3D000", Permanent),
            ("FATAL:  something new", "", NotConnected),
        ] {
            let text = format!("connection to server at \"::1\", port 5432 failed: {reason}\n");
            check(Kind::Unknown, &text, code, class);
        }
    }

    #[test]
    fn other_texts_are_unknown() {
        for text in [
            "relation \"deadlock detected\" does not exist",
            "order 7: could not obtain lock on row in relation \"t\"",
            "savepoint \"a\" does not exist any more",
            "query timeout",
        ] {
            check(Kind::Unknown, text, "", Unknown);
        }
    }

    #[test]
    fn every_row_is_reached_and_agrees_with_its_code() {
        for &(format, code, expected) in TEXTS.iter().chain(CLIENT_TEXTS) {
            let text = format.replace('*', "x");
            check(Kind::UnableToSendCommand, &text, code, expected);
            // Here the text says more than the code.
            let vague = ["", "0A000", "08P01", "57014", "XX000", "XXUUU"].contains(&code);
            if !vague && format != "terminating connection due to conflict with recovery" {
                assert_eq!(SqlState::new(code).map(class), Some(expected), "{format}");
            }
        }
    }

    fn check(kind: Kind, text: &str, code: &str, class: FaultClass) {
        let expected = (SqlState::new(code).map(Code::SqlState), class);
        assert_eq!(recognize(kind, text), expected, "{kind:?}: {text}");
    }
}
