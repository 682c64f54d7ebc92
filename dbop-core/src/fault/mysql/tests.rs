use super::*;
use ErrorKind as Kind;

#[test]
#[rustfmt::skip] // One row, one line.
fn codes_have_classes() {
    for (codes, expected) in [
        (&[149, 1213, 1614, 3058][..], Deadlock),
        (&[1020, 1613, 3101, 4060, 8002, 8005, 8022, 8028, 9006, 9007], SerializationFailure),
        (&[1205, 3572], LockTimeout),
        (&[1053, 1152, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2014, 2026, 2045, 2048, 2055, 4031], ConnectionLost),
        (&[9001, 9002, 9003, 9004, 9005, 9008, 9010, 9012, 9013], ConnectionLost),
        (&[2002, 2003, 2005], NotConnected),
        (&[1040, 1047, 1135, 1203, 1226, 3032, 8027], ServerUnavailable),
        (&[1637], Busy),
        (&[1290, 1792, 1836, 3989], ReadOnlyServer),
        (&[1412, 1615], StalePlan),
        (&[1028, 1969, 3024], StatementTimeout),
        (&[1317], Canceled),
        (&[1021, 1114, 1206], ResourceExhausted),
        (&[1305, 8229], TransactionLost),
        (&[1180, 3100], OutcomeUnknown),
        (&[1048, 1062, 1216, 1217, 1364, 1451, 1452, 1586, 1859, 3819, 4025], Constraint),
        (&[1044, 1045, 1049, 1129, 1130, 1698, 3118, 3955, 4151, 1064, 1146, 1193, 1366, 1568, 4078], Permanent),
        (&[0, 148, 1030, 1105, 2000, 2059, 8001, 9014, 65535], Unknown),
    ] {
        for &code in codes {
            assert_eq!(class(code), expected, "{code}");
        }
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn measured_texts() {
    for (text, code, class) in [
        ("Record has changed since last read in table 't'; try restarting transaction", 1020,
         SerializationFailure),
        ("SAVEPOINT diesel_savepoint_1 does not exist", 1305, TransactionLost),
        ("FUNCTION lab.f does not exist", 1305, Permanent),
        ("The MariaDB server is running with the --read-only option so it cannot execute this \
          statement", 1290, ReadOnlyServer),
        ("The MySQL server is running with the --super-read-only option so it cannot execute \
          this statement", 1290, ReadOnlyServer),
        ("The MySQL server is running with the --secure-file-priv option so it cannot execute \
          this statement", 1290, Permanent),
        ("Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT", 1180, Deadlock),
        ("Got error 6 \"No such device or address\" during COMMIT", 1180, OutcomeUnknown),
        ("Error on observer while running replication hook 'before_commit'.", 3100,
         OutcomeUnknown),
        ("Deadlock: wsrep aborted transaction", 1213, Deadlock),
        ("Got error 149 - 'Lock deadlock; Retry transaction' from storage engine", 1030,
         Deadlock),
        ("Got error 153 - 'No savepoint with that name' from storage engine", 1030, Deadlock),
        ("Error while appending streaming replication fragment(provider status: Not connected \
          to Primary Component)", 1180, OutcomeUnknown),
        ("Lost connection to server during query (timed out)", 2013, ConnectionLost),
        ("TLS/SSL error: unexpected eof while reading", 2026, ConnectionLost),
        ("Can't connect to server on '127.0.0.1' (115)", 2002, NotConnected),
        ("Can't connect to MySQL server on '127.0.0.1:1' (111)", 2003, NotConnected),
        ("Can't connect to remote MySQL server for client connected to '127.0.0.1:6446'", 2003,
         NotConnected),
        ("Max connect timeout reached while reaching hostgroup 0 after 10000ms", 9001,
         ServerUnavailable),
        ("Internal error: Session creation failed", 1815, ServerUnavailable),
        ("Connection killed by MaxScale", 1927, ConnectionLost),
        ("Connection killed by MaxScale: Router could not recover from connection errors", 1927,
         ConnectionLost),
        ("Lost connection to backend server: network error (server1: 111, Connection refused)", 1927,
         ConnectionLost),
        ("Access denied.", 1045, Permanent),
        ("Client with IP address '192.0.2.1' is not allowed to connect to this MySQL server.", 9000,
         Permanent),
        ("SSL connection is required. Please specify SSL options and retry.", 9002, Permanent),
        ("Got timeout reading communication packets", 1159, ConnectionLost),
        ("Host '172.17.0.1' is not allowed to connect to this MySQL server", 1130, Permanent),
        ("Host '172.17.0.1' is blocked because of many connection errors; unblock with \
          'mariadb-admin flush-hosts'", 1129, Permanent),
        ("Can't create a new thread (errno 11 \"Resource temporarily unavailable\"); if you are \
          not out of available memory, you can consult the manual for a possible OS-dependent \
          bug", 1135, ServerUnavailable),
        ("Access denied for user 'a'@'localhost'", 1698, Permanent),
        ("Access denied for user 'a'@'localhost' (using password: YES)", 1045, Permanent),
        ("Duplicate entry 'Deadlock found' for key 'u.PRIMARY'", 1062, Constraint),
    ] {
        check(Kind::Unknown, text, Some(code), class);
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn texts_without_a_number() {
    for (text, class) in [
        ("Input/output error: Input/output error: Broken pipe (os error 32)", ConnectionLost),
        ("Input/output error: Input/output error: connection closed", ConnectionLost),
        ("Input/output error: Connection refused (os error 111)", NotConnected),
        ("Input/output error: Input/output error: packet too large", Permanent),
        ("Driver error: `Connection to the server is closed.'", ConnectionLost),
        ("Driver error: `Statement takes 1 parameters but 2 was supplied.'", Permanent),
        ("Unknown authentication plugin `sha256_password'.", Permanent),
        ("MySQL connection URLs must be in the form `mysql://[[user]:`", Permanent),
        ("target: ks.-80.primary: vttablet: rpc error: code = Aborted desc = transaction 7: \
          not found (CallerID: )", SerializationFailure),
        ("target: ks.-.primary: primary is not serving, there may be a reparent operation in \
          progress", ServerUnavailable),
    ] {
        check(Kind::Unknown, text, None, class);
    }
}

#[test]
fn other_texts_are_unknown() {
    for text in [
        "",
        "order 7: Deadlock found when trying to get lock; try restarting transaction",
        "Deadlock found when trying to get lock; try restarting transaction (order 7)",
        "Too many connections between these two stations",
        "the server has gone away",
        "Lock wait timeout exceeded",
        "primary is not serving, there may be a reparent operation in progress",
        "Data too long for column 'name' at row 1",
    ] {
        check(Kind::Unknown, text, None, Unknown);
    }
}

#[test]
fn kinds_decide_where_they_are_exact() {
    let german = "in einer anderen Sprache";
    check(Kind::SerializationFailure, german, Some(1213), Deadlock);
    check(
        Kind::ReadOnlyTransaction,
        german,
        Some(1792),
        ReadOnlyServer,
    );
    check(Kind::UniqueViolation, german, None, Constraint);
    check(Kind::ClosedConnection, german, None, ConnectionLost);
    check(Kind::UnableToSendCommand, german, None, Unknown);

    let duplicate = "Duplicate entry '1' for key 'PRIMARY'";
    check(Kind::UniqueViolation, duplicate, Some(1062), Constraint);
    let parent = "Cannot delete or update a parent row: a foreign key constraint fails (`a`)";
    check(Kind::ForeignKeyViolation, parent, Some(1451), Constraint);
    // Without the privilege to see the other table they end earlier.
    for (text, short, long) in [
        ("Cannot delete or update a parent row", 1217, 1451),
        ("Cannot add or update a child row", 1216, 1452),
    ] {
        let text = format!("{text}: a foreign key constraint fails");
        check(Kind::ForeignKeyViolation, &text, Some(short), Constraint);
        let text = format!("{text} (`a`)");
        check(Kind::ForeignKeyViolation, &text, Some(long), Constraint);
    }
    // A constraint whose text is a deadlock's is still a constraint.
    check(Kind::CheckViolation, TEXTS[0].0, None, Constraint);
    check(
        Kind::ClosedConnection,
        TEXTS[0].0,
        Some(1213),
        ConnectionLost,
    );
    // A text that says more about the connection than the kind does.
    let refused = "Can't connect to server on '127.0.0.1' (115)";
    check(Kind::ClosedConnection, refused, Some(2002), NotConnected);
}

#[test]
fn every_row_is_reached_and_agrees_with_its_number() {
    for &(format, errno, expected) in TEXTS {
        check(Kind::Unknown, &format.replace('*', "x"), errno, expected);
        // Here the text says more than the number.
        let vague = [1030, 1047, 1105, 1180, 1290, 1305, 1815, 9000, 9001, 9002];
        if let Some(errno) = errno.filter(|errno| !vague.contains(errno)) {
            assert_eq!(class(errno), expected, "{format}");
        }
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn other_languages() {
    for (text, code, class) in [
        ("Beim Versuch, eine Sperre anzufordern, ist ein Deadlock aufgetreten. Versuchen Sie, die \
          Transaktion neu zu starten", 1213, Deadlock),
        ("Deadlock découvert en essayant d'obtenir les verrous : essayez de redémarrer la \
          transaction", 1213, Deadlock),
        ("ロック取得中にデッドロックが検出されました。トランザクションを再試行してください。", 1213, Deadlock),
        ("Таймаут ожидания блокировки истек; попробуйте перезапустить транзакцию", 1205, LockTimeout),
        ("Zu viele Verbindungen", 1040, ServerUnavailable),
        ("Benutzer 'a'@'localhost' hat keine Zugriffsberechtigung (verwendetes Passwort: JA)", 1045,
         Permanent),
        // One of these has no end that is long enough to be looked up by.
        ("'a'@'localhost' 사용자는 접근이 거부 되었습니다. (using password: 아니오)", 1045, Permanent),
        ("Base 'nope' inconnue", 1049, Permanent),
        // The words that tell several errors with one number apart are not translated.
        ("Der MariaDB-Server läuft mit der Option --read-only und kann diese Anweisung deswegen \
          nicht ausführen", 1290, ReadOnlyServer),
        ("Der MariaDB-Server läuft mit der Option --secure-file-priv und kann diese Anweisung \
          deswegen nicht ausführen", 1290, Permanent),
        ("Fehler 149 \"Lock deadlock; Retry transaction\" beim COMMIT", 1180, Deadlock),
        ("Fehler 5 \"Input/output error\" beim COMMIT", 1180, OutcomeUnknown),
    ] {
        check(Kind::Unknown, text, Some(code), class);
    }
}

#[test]
fn a_number_that_stands_for_several_errors_needs_what_tells_them_apart() {
    for (errno, with, expected, without, otherwise) in [
        (
            1305,
            "SAVEPOINT q inconnu",
            TransactionLost,
            "PROCEDURE q",
            Permanent,
        ),
        (
            1290,
            "--read-only",
            ReadOnlyServer,
            "--secure-file-priv",
            Permanent,
        ),
        (
            1047,
            "WSREP n'est pas",
            ServerUnavailable,
            "inconnue",
            Permanent,
        ),
        (
            1180,
            "Erreur 149 x",
            Deadlock,
            "Erreur 1490 x 149",
            OutcomeUnknown,
        ),
        (1030, "Erreur 149 x", Deadlock, "Erreur 14 x", Unknown),
        (1030, "Erreur 153 x", Deadlock, "Erreur 154 x", Unknown),
        (1030, "Erreur 28", ResourceExhausted, "Erreur 280", Unknown),
        (1213, "un interblocage", Deadlock, "", Deadlock),
    ] {
        assert_eq!(class_of(errno, with), expected, "{errno}");
        assert_eq!(class_of(errno, without), otherwise, "{errno}");
    }
}

#[test]
fn what_is_dbop_s_own_is_known_in_any_language() {
    for name in ["dbop_alive", "dbop_savepoint_1", "diesel_savepoint_2"] {
        let text = format!("no existe SAVEPOINT {name}");
        check(Kind::Unknown, &text, Some(1305), TransactionLost);
    }
    let text = "Duplicata du champ 'dbop00a1' pour la clef 'dbop_ledger.PRIMARY'";
    check(Kind::Unknown, text, Some(1062), Constraint);
}

#[test]
fn some_errors_may_end_the_transaction() {
    let ends = |errno| may_end_transaction(Some(Code::Errno(errno)), class(errno));
    for errno in [1213, 1020, 1205, 1206, 1613, 1614, 3101, 4060, 9007] {
        assert!(ends(errno), "{errno}");
    }
    for errno in [
        1047, 1062, 1180, 1290, 1305, 1317, 1792, 1969, 2013, 3024, 3058, 3572,
    ] {
        assert!(!ends(errno), "{errno}");
    }
    assert!(may_end_transaction(Some(Code::Errno(1030)), Deadlock));
    assert!(may_end_transaction(None, LockTimeout));
    assert!(!may_end_transaction(None, ConnectionLost));
    assert!(!may_end_transaction(None, Unknown));
}

fn check(kind: Kind, text: &str, errno: Option<u16>, class: FaultClass) {
    let expected = (errno.map(Code::Errno), class);
    assert_eq!(recognize(kind, text), expected, "{kind:?}: {text}");
}
