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
        ("current transaction is aborted, commands ignored until end of transaction block", "25P02",
         TransactionAborted),
        ("RELEASE SAVEPOINT can only be used in transaction blocks", "25P01", TransactionLost),
        ("cannot set transaction read-write mode during recovery", "0A000", ReadOnlyServer),
        ("konnte Sperre für Zeile in Relation »t« nicht setzen", "55P03", LockTimeout),
        ("aktuelle Transaktion wurde abgebrochen, Befehle werden bis zum Ende der Transaktion ignoriert",
         "25P02", TransactionAborted),
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

/// Whatever language it is.
#[test]
fn a_savepoint_of_dbops_or_diesels_is_known_by_its_name() {
    for name in ["dbop_alive", "dbop_savepoint_3", "diesel_savepoint_2"] {
        for text in [format!("nie ma \"{name}\""), format!("nie ma {name}")] {
            check(Kind::Unknown, &text, "3B001", TransactionLost);
        }
    }
    check(Kind::Unknown, "nie ma \"another_one\"", "", Unknown);
}

#[test]
fn a_text_counts_where_its_kind_was_lost() {
    let text = "could not serialize access due to concurrent update";
    check(Kind::Lost, text, "40001", SerializationFailure);
    check(Kind::Unknown, text, "", Unknown);
    let text = "server closed the connection unexpectedly\n\tThis probably means that";
    for kind in [Kind::Unknown, Kind::Lost] {
        check(kind, text, "", ConnectionLost);
        check(kind, "deadlock detected\n\tand more", "", Unknown);
    }
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
#[rustfmt::skip] // One row, one line.
fn what_poolers_say() {
    for (text, code, class) in [
        ("unnamed prepared statement does not exist", "26000", StalePlan),
        ("prepared statement did not exist", "08P01", ConnectionLost),
        ("bind message supplies 4 parameters, but prepared statement \"s12\" requires 1", "08P01", StalePlan),
        ("pgbouncer cannot connect to server", "08P01", ServerUnavailable),
        ("Max client connections reached", "", ServerUnavailable),
        ("(EMAXCONN) max client connections reached, limit: 200", "", ServerUnavailable),
        ("MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size", "", ServerUnavailable),
        ("Unable to check out process from the pool due to timeout", "", ServerUnavailable),
        ("could not get connection from the pool - AllServersDown", "", ServerUnavailable),
        ("error receiving data from server: SocketError(\"Error reading message code\")", "",
         ConnectionLost),
        ("checkout timeout", "", ServerUnavailable),
        ("PgDog is shutting down", "57P01", ConnectionLost),
        ("password for user \"app\" and database \"shop\" is wrong, or the database does not exist",
         "28000", Permanent),
        ("Timed-out waiting to acquire database connection", "", ServerUnavailable),
        ("Timed-out waiting to acquire database connection.", "", ServerUnavailable),
        ("Control plane request failed", "", ServerUnavailable),
        ("Couldn't connect to compute node", "", ServerUnavailable),
        ("Failed to acquire permit to connect to the database. Too many database connection attempts are currently ongoing.", "", ServerUnavailable),
        ("canceling the transaction since it was involved in a distributed deadlock", "40P01", Deadlock),
        ("tuple concurrently updated", "XX000", SerializationFailure),
        ("tuple concurrently deleted", "XX000", SerializationFailure),
        ("SSL error: unexpected eof while reading", "", ConnectionLost),
    ] {
        check(Kind::Unknown, text, code, class);
        check(Kind::UnableToSendCommand, text, code, class);
        check(Kind::Unknown, &format!("order 7: {text}"), "", Unknown);
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn a_severity_need_not_follow_an_address() {
    for (text, code, class) in [
        ("FATAL:  the database system is starting up", "57P03", ServerUnavailable),
        ("FATAL:  sorry, too many clients already\n", "53300", ServerUnavailable),
        ("FEHLER:  Verklemmung (Deadlock) entdeckt", "40P01", Deadlock),
        ("ERROR:  could not serialize access due to concurrent update\n", "40001", SerializationFailure),
        ("FATAL:  terminating connection due to administrator command\nserver closed the connection unexpectedly\n",
         "57P01", ConnectionLost),
        ("FATAL:  something new", "", Unknown),
        ("order 7:  deadlock detected", "", Unknown),
    ] {
        check(Kind::Unknown, text, code, class);
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn what_an_application_raises_has_no_kind() {
    for text in [
        "could not serialize access due to concurrent update",
        "could not serialize access due to budget rules",
        "cannot execute INSERT in a read-only transaction",
        "restart transaction: too many parts",
        "the database system is closed on Sundays",
        "terminating connection due to budget rules",
        "column \"SAVEPOINT\" does not exist",
    ] {
        check(Kind::Unknown, text, "", Unknown);
    }
    check(Kind::SerializationFailure, "anything", "40001", SerializationFailure);
}

#[test]
#[rustfmt::skip] // One row, one line.
fn a_refusal_by_the_server_outranks_an_address_without_one() {
    let refused = |host, reason| {
        format!("connection to server at \"{host}\" (192.0.2.1), port 5432 failed: {reason}\n")
    };
    let silent = refused("a", "Connection refused\n\tIs the server running on that host?");
    let password = refused("b", "ERROR:  password authentication failed for user \"app\"");
    let full = refused("c", "FATAL:  sorry, too many clients already");
    let certificate = refused("d", "SSL error: certificate verify failed: expired");
    for (text, code, class) in [
        (format!("{silent}{password}"), "28P01", Permanent),
        (format!("{password}{silent}"), "28P01", Permanent),
        (format!("{password}{full}"), "53300", ServerUnavailable),
        (format!("{full}{password}"), "53300", ServerUnavailable),
        (format!("{silent}{certificate}"), "", NotConnected),
        (certificate, "", Permanent),
        (silent, "", NotConnected),
    ] {
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
    for (index, &(format, code, expected)) in FORMATS.iter().enumerate() {
        if SEVERITY.contains(&index) {
            continue;
        }
        let text = with_values(format);
        // A severity stands where there is no kind.
        check(Kind::Unknown, &format!("ERROR:  {text}\n"), code, expected);
        let has_kind = ["40001", "25006"].contains(&code) && expected != ConnectionLost;
        let (seen, class) = if has_kind {
            ("", Unknown)
        } else {
            (code, expected)
        };
        check(Kind::Unknown, &text, seen, class);
        agrees(format, code, expected);
    }
    for &(format, code, expected) in CLIENT_TEXTS {
        check(
            Kind::UnableToSendCommand,
            &with_values(format),
            code,
            expected,
        );
        agrees(format, code, expected);
    }
}

fn agrees(format: &str, code: &str, expected: FaultClass) {
    // Here the text says more than the code.
    let vague = ["", "0A000", "08P01", "57014", "XX000", "XXUUU"].contains(&code);
    if !vague && format != "terminating connection due to conflict with recovery" {
        assert_eq!(SqlState::new(code).map(class), Some(expected), "{format}");
    }
}

/// Every value is an "x".
fn with_values(format: &str) -> String {
    let mut text = format.replace('*', "x");
    for placeholder in ["%s", "%d", "%u", "%c", "%m"] {
        text = text.replace(placeholder, "x");
    }
    text
}

fn check(kind: Kind, text: &str, code: &str, class: FaultClass) {
    let expected = (SqlState::new(code).map(Code::SqlState), class);
    assert_eq!(recognize(kind, text), expected, "{kind:?}: {text}");
}

#[test]
fn a_unique_violation_of_a_system_catalog_is_a_race() {
    for (text, class) in [
        (
            "duplicate key value violates unique constraint \"pg_type_typname_nsp_index\"",
            SerializationFailure,
        ),
        (
            "повторяющееся значение ключа нарушает ограничение уникальности \"pg_class_relname_nsp_index\"",
            SerializationFailure,
        ),
        (
            "doppelter Schlüsselwert verletzt Unique-Constraint »pg_namespace_nspname_index«",
            SerializationFailure,
        ),
        (
            "重複したキー値は一意性制約\"pg_type_typname_nsp_index\"違反となります",
            SerializationFailure,
        ),
        ("pg_type_typname_nsp_index\"", SerializationFailure),
        (
            "duplicate key value violates unique constraint \"app_pg_type_index\"",
            Constraint,
        ),
        (
            "duplicate key value violates unique constraint \"pg_accounts_key\"",
            Constraint,
        ),
    ] {
        check(Kind::UniqueViolation, text, "23505", class);
    }
}

/// By their sources: none of them was measured.
#[test]
#[rustfmt::skip] // One row, one line.
fn texts_of_relatives() {
    for (text, code, class) in [
        ("canceling statement due to lock timeout on row (k)=(1) in t@t_pkey", "55P03", LockTimeout),
        ("could not obtain lock on row (k)=(1) in t@t_pkey", "55P03", LockTimeout),
        ("query execution canceled due to statement timeout", "57014", StatementTimeout),
        ("query execution canceled due to transaction timeout", "57014", StatementTimeout),
        ("query execution canceled", "57014", Canceled),
        ("there is no transaction in progress", "25P01", TransactionLost),
        ("canceling the transaction since it was involved in a distributed deadlock", "40P01", Deadlock),
        ("Restart read required at: { read: .. }", "YB003", SerializationFailure),
    ] {
        check(Kind::Unknown, text, code, class);
    }
    // After a timeout between nodes it is not known whether it was undone.
    let text = "Perform RPC (request call id 7) to 10.0.0.1:9100 timed out after 120.000s";
    let reported = crate::Reported::new(Kind::Unknown, text);
    let fault = crate::Fault::recognize(crate::Dialect::Postgres, reported);
    assert_eq!(fault.class(), Unknown);
    assert!(!crate::Dialect::Postgres.commit_error_is_definite(&fault));
}
