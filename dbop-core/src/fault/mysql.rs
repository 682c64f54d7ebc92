//! MySQL and MariaDB, and what speaks their protocol: Galera, TiDB, Vitess.
//!
//! What a number means is taken from the manuals and from what the servers did. Diesel 2.3 shows
//! no number: a kind for a few of them on sync Diesel's prepared path, fewer on diesel-async, none
//! in a batch. The rest is known by text. Those texts are the servers' and client libraries' own
//! formats (MariaDB 10.11 and 11.8, MySQL 9.7, libmariadb 3.3, libmysqlclient 9.7, mysql_async
//! 0.36), the ones that matter measured; TiDB's and Vitess's are from their source. In another
//! language the adapter can ask the server for the number (`GET DIAGNOSTICS`).

use super::FaultClass::{self, *};
use super::text::{Table, name_in, table};
use super::{Code, ErrorKind};

/// The class of an error number of a server (from 1000) or a client library (2000 to 2999).
///
/// A number of MySQL or MariaDB that is not listed is a definite answer of the server and so
/// [`FaultClass::Permanent`].
pub(super) fn class(errno: u16) -> FaultClass {
    match errno {
        // LOCK_DEADLOCK, XA_RBDEADLOCK, InnoDB's own number, and USER_LOCK_DEADLOCK (GET_LOCK).
        1213 | 1614 | 149 | 3058 => Deadlock,
        // CHECKREAD; Group Replication's rollback during COMMIT.
        1020 | 3101 => SerializationFailure,
        // TiDB: write conflicts, a schema changed meanwhile, a snapshot outlived by the garbage
        // collector. The transaction is rolled back.
        8002 | 8005 | 8022 | 8028 | 9006 | 9007 => SerializationFailure,
        // LOCK_WAIT_TIMEOUT, also MariaDB's NOWAIT; XA_RBTIMEOUT; MySQL's LOCK_NOWAIT.
        1205 | 1613 | 3572 => LockTimeout,
        // Gone, cut, killed, shut down, idle too long, out of step, or TLS broke.
        1053 | 1152 | 1158..=1161 | 1184 | 1927 | 4031 => ConnectionLost,
        2006 | 2013 | 2014 | 2026 | 2027 | 2045 | 2048 | 2055 => ConnectionLost,
        // TiDB lost its storage nodes or waited too long for them: before the COMMIT another try
        // can do it, during the COMMIT the outcome is unknown, as after losing the connection.
        9001..=9005 | 9008 | 9010..=9013 => ConnectionLost,
        2002 | 2003 | 2005 => NotConnected,
        // Too many connections; a Galera node without its cluster; offline mode; TiDB's schema is
        // out of date.
        1040 | 1047 | 1203 | 1226 | 3032 | 8027 => ServerUnavailable,
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
        // SP_DOES_NOT_EXIST is a savepoint unless the text says otherwise; ROLLBACK_ONLY; TiDB's
        // transaction outlived its time to live.
        1305 | 4060 | 8229 => TransactionLost,
        // ERROR_DURING_COMMIT.
        1180 => OutcomeUnknown,
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
    static TABLE: Table = table!(TEXTS);

    if let Some(found) = TABLE.find(message) {
        let (_, errno, class) = TEXTS[usize::from(found.meaning)];
        return Some((errno.map(Code::Errno), class));
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
        Some(Code::Errno(1206 | 4060)) => true,
        _ => matches!(class, Deadlock | SerializationFailure | LockTimeout),
    }
}

fn exactly(errno: u16) -> Judged {
    (Some(Code::Errno(errno)), class(errno))
}

/// A text with `*` for any text, its number if it has one, and its class. The row that says the most
/// counts.
type Row = (&'static str, Option<u16>, FaultClass);

#[rustfmt::skip] // One row, one line.
const TEXTS: &[Row] = &[
    ("Deadlock found when trying to get lock; try restarting transaction", Some(1213), Deadlock),
    ("WSREP detected deadlock/conflict and aborted the transaction*", Some(1213), Deadlock),
    ("Deadlock found when trying to get user-level lock; *", Some(3058), Deadlock),
    ("XA_RBDEADLOCK: *", Some(1614), Deadlock),
    ("Got error 149 *from storage engine*", Some(1030), Deadlock),
    // MariaDB continues with "; try restarting transaction".
    ("Record has changed since last read in table '*'*", Some(1020), SerializationFailure),
    ("Plugin instructed the server to rollback the current *", Some(3101), SerializationFailure),
    ("Lock wait timeout exceeded; try restarting transaction", Some(1205), LockTimeout),
    ("Statement aborted because lock(s) could not be acquired *", Some(3572), LockTimeout),
    ("XA_RBTIMEOUT: *", Some(1613), LockTimeout),
    ("SAVEPOINT * does not exist", Some(1305), TransactionLost),
    ("FUNCTION * does not exist", Some(1305), Permanent),
    ("PROCEDURE * does not exist", Some(1305), Permanent),
    ("This transaction was rolled back and cannot be committed. *", Some(4060), TransactionLost),
    ("Got error * during COMMIT", Some(1180), OutcomeUnknown),
    ("Error while appending streaming replication fragment*", Some(1180), OutcomeUnknown),
    // MySQL ends this one with a period.
    ("Cannot execute statement in a READ ONLY transaction", Some(1792), ReadOnlyServer),
    ("Cannot execute statement in a READ ONLY transaction.", Some(1792), ReadOnlyServer),
    ("The * server is running with the --read-only option so it cannot execute *", Some(1290), ReadOnlyServer),
    ("The * server is running with the --super-read-only option so it cannot execute *", Some(1290), ReadOnlyServer),
    ("The * server is running with the * option so it cannot execute *", Some(1290), Permanent),
    ("Running in read-only mode", Some(1836), ReadOnlyServer),
    ("Schema '*' is in read only mode.", Some(3989), ReadOnlyServer),
    ("Query execution was interrupted, maximum statement *", Some(3024), StatementTimeout),
    ("Query execution was interrupted (max_statement_time exceeded)", Some(1969), StatementTimeout),
    ("Sort aborted*", Some(1028), StatementTimeout),
    ("Query execution was interrupted", Some(1317), Canceled),
    ("Table definition has changed, please retry transaction", Some(1412), StalePlan),
    ("Prepared statement needs to be re-prepared", Some(1615), StalePlan),
    ("Server shutdown in progress", Some(1053), ConnectionLost),
    ("Connection was killed", Some(1927), ConnectionLost),
    ("The client was disconnected by the server because of *", Some(4031), ConnectionLost),
    ("Too many connections", Some(1040), ServerUnavailable),
    ("User * already has more than 'max_user_connections' *", Some(1203), ServerUnavailable),
    ("User '*' has exceeded the '*' resource (current value: *)", Some(1226), ServerUnavailable),
    ("WSREP has not yet prepared node for application use", Some(1047), ServerUnavailable),
    ("Unknown command", Some(1047), Permanent),
    ("The server is currently in offline mode", Some(3032), ServerUnavailable),
    ("The total number of locks exceeds the lock table size", Some(1206), ResourceExhausted),
    ("The table '*' is full", Some(1114), ResourceExhausted),
    ("Disk full (*", Some(1021), ResourceExhausted),
    ("Got error 28 *from storage engine*", Some(1030), ResourceExhausted),
    ("Duplicate entry '*' for key '*'", Some(1062), Constraint),
    ("Duplicate entry for key '*'", Some(1859), Constraint),
    ("Cannot add or update a child row: a foreign key constraint fails", Some(1216), Constraint),
    ("Cannot add or update a child row: a foreign key *", Some(1452), Constraint),
    ("Cannot delete or update a parent row: a foreign key constraint fails", Some(1217), Constraint),
    ("Cannot delete or update a parent row: a foreign key *", Some(1451), Constraint),
    ("Column '*' cannot be null", Some(1048), Constraint),
    ("Field '*' doesn't have a default value", Some(1364), Constraint),
    ("Check constraint '*' is violated.", Some(3819), Constraint),
    ("CONSTRAINT `*` failed for `*`", Some(4025), Constraint),
    ("Access denied for user '*' to database '*'", Some(1044), Permanent),
    ("Access denied for user '*' (using password: *)", Some(1045), Permanent),
    ("Unknown database '*'", Some(1049), Permanent),
    ("You have an error in your SQL syntax; *", Some(1064), Permanent),
    ("Table '*' doesn't exist", Some(1146), Permanent),
    // German, where it differs. MariaDB has 1213 in English.
    ("Beim Versuch, eine Sperre anzufordern, ist ein Deadlock aufgetreten. *", Some(1213), Deadlock),
    ("Beim Warten auf eine Sperre wurde die zulässige Wartezeit *", Some(1205), LockTimeout),
    ("Datensatz hat sich seit dem letzten Zugriff auf *", Some(1020), SerializationFailure),
    ("SAVEPOINT * existiert nicht", Some(1305), TransactionLost),
    // libmariadb and libmysqlclient; pymysql and proxies append a reason.
    ("Lost connection to server during query*", Some(2013), ConnectionLost),
    ("Lost connection to MySQL server during query*", Some(2013), ConnectionLost),
    ("Lost connection to * at '*', system error: *", Some(2013), ConnectionLost),
    ("Server has gone away", Some(2006), ConnectionLost),
    ("MySQL server has gone away", Some(2006), ConnectionLost),
    ("Commands out of sync; you can't run this command now", Some(2014), ConnectionLost),
    ("TLS/SSL error: *", Some(2026), ConnectionLost),
    ("SSL connection error: *", Some(2026), ConnectionLost),
    ("Malformed packet", Some(2027), ConnectionLost),
    ("Received malformed packet", Some(2027), ConnectionLost),
    ("Can't connect to local *server through socket '*' (*)", Some(2002), NotConnected),
    ("Can't connect to server on '*' (*)", Some(2002), NotConnected),
    ("Can't connect to MySQL server on '*' (*)", Some(2003), NotConnected),
    ("Unknown server host '*' (*)", Some(2005), NotConnected),
    ("Unknown MySQL server host '*' (*)", Some(2005), NotConnected),
    // mysql_async. Connecting and name look-up happen before anything is sent.
    ("Input/output error: *Connection refused*", None, NotConnected),
    ("Input/output error: *failed to lookup address information*", None, NotConnected),
    ("Input/output error: *packet too large", None, Permanent),
    ("Input/output error: *", None, ConnectionLost),
    ("Driver error: `Connection to the server is closed.'", None, ConnectionLost),
    ("Driver error: `Pool was disconnected.'", None, ConnectionLost),
    ("Driver error: `Packet out of order.'", None, ConnectionLost),
    ("Driver error: `Unexpected packet.'", None, ConnectionLost),
    ("Driver error: `Bad compressed packet header.'", None, ConnectionLost),
    ("Driver error: `*'", None, Permanent),
    // Diesel's own, which a pool passes on as a text.
    ("MySQL connection URLs must be in the form *", None, Permanent),
    // MySQL names a plugin at random to a user whom it does not know.
    ("Unknown authentication plugin `*'.", None, Permanent),
    ("Authentication plugin '*' cannot be loaded: *", None, Permanent),
    ("URL error: `*'", None, Permanent),
    // TiDB.
    ("Write conflict, txnStartTS=*", Some(9007), SerializationFailure),
    ("Write conflict, txnStartTS * is stale*", Some(8005), SerializationFailure),
    ("[*] can not retry select for update statement", Some(8002), SerializationFailure),
    ("[*] can not retry select for update statement [try again later]", Some(8002), SerializationFailure),
    ("Error: KV error safe to retry *", Some(8022), SerializationFailure),
    ("Information schema is changed during the execution *", Some(8028), SerializationFailure),
    ("Information schema is out of date: *", Some(8027), ServerUnavailable),
    ("TTL manager has timed out, pessimistic locks may expire, *", Some(8229), TransactionLost),
    ("PD server timeout*", Some(9001), ConnectionLost),
    ("TiKV server timeout*", Some(9002), ConnectionLost),
    ("TiKV server is busy*", Some(9003), ConnectionLost),
    ("Resolve lock timeout*", Some(9004), ConnectionLost),
    ("Region is unavailable*", Some(9005), ConnectionLost),
    ("GC life time is shorter than transaction duration*", Some(9006), SerializationFailure),
    // Vitess wraps the error of a shard, under 1105 or another number; Aurora has 1105 as well.
    ("target: *(errno 1213) (sqlstate 40001)*", Some(1213), Deadlock),
    ("target: *(errno 1205) (sqlstate HY000)*", Some(1205), LockTimeout),
    ("target: *vttablet: rpc error: code = Aborted desc = *", None, SerializationFailure),
    ("vttablet: rpc error: code = Aborted desc = *", None, SerializationFailure),
    ("target: *: primary is not serving, there may be a reparent *", None, ServerUnavailable),
    ("target: *: current keyspace is being resharded*", None, ServerUnavailable),
    ("target: *: no healthy tablet available *", None, ServerUnavailable),
    ("target: *transaction pool connection limit exceeded*", None, ServerUnavailable),
    ("target: *code = FailedPrecondition desc = disallowed due to rule: *", None, ServerUnavailable),
    ("vtgate connection error: no healthy endpoints*", None, ServerUnavailable),
    ("The last transaction was aborted due to Seamless *", Some(1105), SerializationFailure),
];

/// Some numbers stand for several errors. This word, which no language translates, is in the message of
/// the one that has the class of the number; the others are permanent.
pub(super) const fn word_in(errno: u16) -> &'static str {
    match errno {
        1047 => "WSREP",
        1290 => "read-only",
        1305 => "SAVEPOINT",
        _ => "",
    }
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
