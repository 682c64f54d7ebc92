//! The messages of PostgreSQL and libpq that decide about a retry, in English.
//!
//! They are written as in the source, where they also name their translations: `just languages`
//! looks them up in the catalogs. A row is a message, its SQLSTATE ("" where there is none or more
//! than one), and its class. Of a message of several lines this is the first one.

use super::FaultClass::{self, *};

/// A message, its SQLSTATE and its class.
pub(crate) type Row = (&'static str, &'static str, FaultClass);

/// What the server says. Its `elog` messages have no translations, so they are elsewhere.
#[rustfmt::skip] // One row, one line.
pub(crate) const SERVER: &[Row] = &[
    ("deadlock detected", "40P01", Deadlock),
    ("could not serialize access due to concurrent update", "40001", SerializationFailure),
    ("could not serialize access due to concurrent delete", "40001", SerializationFailure),
    ("could not serialize access due to read/write dependencies among transactions", "40001", SerializationFailure),
    ("tuple to be deleted was already moved to another partition due to concurrent update", "40001", SerializationFailure),
    ("tuple to be locked was already moved to another partition due to concurrent update", "40001", SerializationFailure),
    ("tuple to be merged was already moved to another partition due to concurrent update", "40001", SerializationFailure),
    ("canceling statement due to conflict with recovery", "40001", SerializationFailure),
    ("canceling statement due to lock timeout", "55P03", LockTimeout),
    ("could not obtain lock on row in relation \"%s\"", "55P03", LockTimeout),
    ("could not obtain lock on relation \"%s\"", "55P03", LockTimeout),
    ("could not obtain lock on relation \"%s.%s\"", "55P03", LockTimeout),
    ("canceling statement due to statement timeout", "57014", StatementTimeout),
    ("canceling statement due to user request", "57014", Canceled),
    ("canceling autovacuum task", "57014", Canceled),
    // While connecting.
    ("canceling authentication due to timeout", "57014", NotConnected),
    ("current transaction is aborted, commands ignored until end of transaction block", "25P02", TransactionAborted),
    ("savepoint \"%s\" does not exist", "3B001", TransactionLost),
    ("savepoint \"%s\" does not exist within current savepoint level", "3B001", TransactionLost),
    ("cannot execute %s in a read-only transaction", "25006", ReadOnlyServer),
    ("cannot execute %s during recovery", "25006", ReadOnlyServer),
    // On a standby the BEGIN itself fails, as a missing feature.
    ("cannot set transaction read-write mode during recovery", "0A000", ReadOnlyServer),
    ("cannot use serializable mode in a hot standby", "0A000", ReadOnlyServer),
    ("cached plan must not change result type", "0A000", StalePlan),
    // Transaction pooling mixes up the prepared statements of its clients.
    ("prepared statement \"%s\" does not exist", "26000", StalePlan),
    ("unnamed prepared statement does not exist", "26000", StalePlan),
    ("prepared statement \"%s\" already exists", "42P05", StalePlan),
    ("relation \"%s\" already exists", "42P07", SerializationFailure),
    ("schema \"%s\" already exists", "42P06", SerializationFailure),
    ("type \"%s\" already exists", "42710", SerializationFailure),
    ("bind message supplies %d parameters, but prepared statement \"%s\" requires %d", "08P01", StalePlan),
    ("out of shared memory", "53200", ResourceExhausted),
    ("out of memory", "53200", ResourceExhausted),
    ("could not extend file \"%s\": wrote only %d of %d bytes at block %u", "53100", ResourceExhausted),
    // The reason is the operating system's.
    ("could not extend file \"%s\": %m", "", ResourceExhausted),
    ("could not extend file \"%s\" with FileFallocate(): %m", "", ResourceExhausted),
    ("temporary file size exceeds temp_file_limit (%dkB)", "53400", ResourceExhausted),
    ("temporary file size exceeds \"temp_file_limit\" (%dkB)", "53400", ResourceExhausted),
    // FATAL: the connection is gone, whatever the code.
    ("terminating connection due to administrator command", "57P01", ConnectionLost),
    ("terminating connection due to immediate shutdown command", "57P01", ConnectionLost),
    ("terminating connection due to unexpected postmaster exit", "57P01", ConnectionLost),
    ("terminating connection because of unexpected SIGQUIT signal", "57P01", ConnectionLost),
    ("canceling the wait for synchronous replication and terminating connection due to administrator command", "57P01", ConnectionLost),
    ("terminating connection because of crash of another server process", "57P02", ConnectionLost),
    ("terminating connection due to idle-in-transaction timeout", "25P03", ConnectionLost),
    ("terminating connection due to idle-session timeout", "57P05", ConnectionLost),
    ("terminating connection due to transaction timeout", "25P04", ConnectionLost),
    // 40001, or 57P04 where the database was dropped.
    ("terminating connection due to conflict with recovery", "40001", ConnectionLost),
    ("terminating connection because protocol synchronization was lost", "08P01", ConnectionLost),
    // While connecting: what passes.
    ("the database system is starting up", "57P03", ServerUnavailable),
    ("the database system is shutting down", "57P03", ServerUnavailable),
    ("the database system is in recovery mode", "57P03", ServerUnavailable),
    ("the database system is not yet accepting connections", "57P03", ServerUnavailable),
    ("the database system is not accepting connections", "57P03", ServerUnavailable),
    ("sorry, too many clients already", "53300", ServerUnavailable),
    ("remaining connection slots are reserved for non-replication superuser connections", "53300", ServerUnavailable),
    ("remaining connection slots are reserved for roles with the %s attribute", "53300", ServerUnavailable),
    ("remaining connection slots are reserved for roles with privileges of the \"%s\" role", "53300", ServerUnavailable),
    ("too many connections for role \"%s\"", "53300", ServerUnavailable),
    ("too many connections for database \"%s\"", "53300", ServerUnavailable),
    // While connecting: what does not.
    ("database \"%s\" does not exist", "3D000", Permanent),
    ("database \"%s\" is not currently accepting connections", "55000", Permanent),
    ("permission denied for database \"%s\"", "42501", Permanent),
    ("permission denied for database %s", "42501", Permanent),
    // 28000 when connecting, 42704 in a statement.
    ("role \"%s\" does not exist", "", Permanent),
    ("role \"%s\" is not permitted to log in", "28000", Permanent),
    ("password authentication failed for user \"%s\"", "28P01", Permanent),
    ("\"trust\" authentication failed for user \"%s\"", "28000", Permanent),
    ("authentication failed for user \"%s\": host rejected", "28000", Permanent),
    ("authentication failed for user \"%s\": invalid authentication method", "28000", Permanent),
    ("BSD authentication failed for user \"%s\"", "28000", Permanent),
    ("GSSAPI authentication failed for user \"%s\"", "28000", Permanent),
    ("Ident authentication failed for user \"%s\"", "28000", Permanent),
    ("LDAP authentication failed for user \"%s\"", "28000", Permanent),
    ("OAuth bearer authentication failed for user \"%s\"", "28000", Permanent),
    ("PAM authentication failed for user \"%s\"", "28000", Permanent),
    ("Peer authentication failed for user \"%s\"", "28000", Permanent),
    ("RADIUS authentication failed for user \"%s\"", "28000", Permanent),
    ("SSPI authentication failed for user \"%s\"", "28000", Permanent),
    ("certificate authentication failed for user \"%s\"", "28000", Permanent),
    ("certificate authentication failed for user \"%s\": client certificate contains no user name", "28000", Permanent),
    ("certificate authentication failed for user \"%s\": unable to retrieve subject DN", "28000", Permanent),
    ("connection requires a valid client certificate", "28000", Permanent),
    ("no pg_hba.conf entry for host \"%s\", user \"%s\", database \"%s\", %s", "28000", Permanent),
    ("no pg_hba.conf entry for replication connection from host \"%s\", user \"%s\", %s", "28000", Permanent),
    ("pg_hba.conf rejects connection for host \"%s\", user \"%s\", database \"%s\", %s", "28000", Permanent),
    ("pg_hba.conf rejects replication connection for host \"%s\", user \"%s\", %s", "28000", Permanent),
];

/// What libpq says by itself.
#[rustfmt::skip] // One row, one line.
pub(crate) const LIBPQ: &[Row] = &[
    ("server closed the connection unexpectedly", "", ConnectionLost),
    ("could not receive data from server: %s", "", ConnectionLost),
    ("could not send data to server: %s", "", ConnectionLost),
    ("SSL connection has been closed unexpectedly", "", ConnectionLost),
    ("SSL SYSCALL error: EOF detected", "", ConnectionLost),
    ("SSL SYSCALL error: %s", "", ConnectionLost),
    ("SSL error: %s", "", ConnectionLost),
    ("lost synchronization with server: got message type \"%c\", length %d", "", ConnectionLost),
    // It knows before it sends anything.
    ("no connection to the server", "", NotConnected),
    ("could not translate host name \"%s\" to address: %s", "", NotConnected),
    // While connecting: what no other try changes.
    ("SSL error: certificate verify failed: %s", "", Permanent),
    ("server does not support SSL, but SSL was required", "", Permanent),
    ("server certificate for \"%s\" does not match host name \"%s\"", "", Permanent),
    ("server certificate for \"%s\" (and %d other name) does not match host name \"%s\"", "", Permanent),
    ("server certificate for \"%s\" (and %d other names) does not match host name \"%s\"", "", Permanent),
    ("root certificate file \"%s\" does not exist", "", Permanent),
    ("could not get home directory to locate root certificate file", "", Permanent),
    ("could not read root certificate file \"%s\": %s", "", Permanent),
    ("could not open certificate file \"%s\": %s", "", Permanent),
    ("could not read certificate file \"%s\": %s", "", Permanent),
    ("certificate present, but not private key file \"%s\"", "", Permanent),
    ("certificate does not match private key file \"%s\": %s", "", Permanent),
    ("could not load private key file \"%s\": %s", "", Permanent),
    ("private key file \"%s\" is not a regular file", "", Permanent),
    ("channel binding is required, but client does not support it", "", Permanent),
    ("channel binding required, but SSL not in use", "", Permanent),
    ("channel binding required but not supported by server's authentication request", "", Permanent),
    ("none of the server's SASL authentication mechanisms are supported", "", Permanent),
    ("invalid connection option \"%s\"", "", Permanent),
    ("invalid port number: \"%s\"", "", Permanent),
    ("definition of service \"%s\" not found", "", Permanent),
];

/// What libpq puts in front of the reason why it has no connection: its own, or the server's.
pub(crate) const REFUSALS: &[Row] = &[
    (
        "connection to server at \"%s\" (%s), port %s failed: %s",
        "",
        NotConnected,
    ),
    (
        "connection to server at \"%s\", port %s failed: %s",
        "",
        NotConnected,
    ),
    (
        "connection to server on socket \"%s\" failed: %s",
        "",
        NotConnected,
    ),
];

/// What libpq puts in front of a server's message, with a colon and two spaces.
pub(crate) const SEVERITIES: &[Row] = &[
    ("ERROR", "", Unknown),
    ("FATAL", "", Unknown),
    ("PANIC", "", Unknown),
];
