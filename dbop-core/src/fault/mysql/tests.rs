use super::*;
use ErrorKind as Kind;

#[test]
#[rustfmt::skip] // One row, one line.
fn codes_have_classes() {
    for (codes, expected) in [
        (&[149, 1213, 1614, 3058][..], Deadlock),
        (&[1020, 3101, 8002, 8005, 8022, 8028, 9006, 9007], SerializationFailure),
        (&[1205, 1613, 3572], LockTimeout),
        (&[1053, 1927, 2006, 2013, 2014, 2026, 2045, 2048, 2055, 4031], ConnectionLost),
        (&[9001, 9002, 9003, 9004, 9005, 9008, 9010, 9012, 9013], ConnectionLost),
        (&[2002, 2003, 2005], NotConnected),
        (&[1040, 1047, 1203, 1226, 8027], ServerUnavailable),
        (&[1290, 1792, 1836, 3989], ReadOnlyServer),
        (&[1412, 1615], StalePlan),
        (&[1028, 1969, 3024], StatementTimeout),
        (&[1317], Canceled),
        (&[1021, 1114, 1206], ResourceExhausted),
        (&[1305, 4060, 8229], TransactionLost),
        (&[1180], OutcomeUnknown),
        (&[1048, 1062, 1216, 1217, 1364, 1451, 1452, 1586, 1859, 3819, 4025], Constraint),
        (&[1044, 1045, 1049, 1064, 1146, 1193, 1366, 1568, 4078], Permanent),
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
        ("Got error 149 \"Lock deadlock; Retry transaction\" during COMMIT", 1180,
         OutcomeUnknown),
        ("Got error 149 - 'Lock deadlock; Retry transaction' from storage engine", 1030,
         Deadlock),
        ("Error while appending streaming replication fragment(provider status: Not connected \
          to Primary Component)", 1180, OutcomeUnknown),
        ("Lost connection to server during query (timed out)", 2013, ConnectionLost),
        ("TLS/SSL error: unexpected eof while reading", 2026, ConnectionLost),
        ("Can't connect to server on '127.0.0.1' (115)", 2002, NotConnected),
        ("Can't connect to MySQL server on '127.0.0.1:1' (111)", 2003, NotConnected),
        ("Duplicate entry 'Deadlock found' for key 'u.PRIMARY'", 1062, Constraint),
        ("SAVEPOINT q existiert nicht", 1305, TransactionLost),
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
        let vague = [1030, 1047, 1105, 1290, 1305];
        if let Some(errno) = errno.filter(|errno| !vague.contains(errno)) {
            assert_eq!(class(errno), expected, "{format}");
        }
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
