//! Texts of PostgreSQL, of what speaks its protocol and of the clients that no catalog translates.
//!
//! Those of the relatives and poolers are from their documentation and source.

use super::FaultClass::*;
use super::messages::Row;

/// Texts that no catalog translates; `*` is any text.
#[rustfmt::skip] // One row, one line.
pub(super) const OTHERS: &[Row] = &[
    // PostgreSQL; other versions, and where the reason is the operating system's.
    ("could not extend file \"*\": No space left on device", "53100", ResourceExhausted),
    ("remaining connection slots are reserved for *", "53300", ServerUnavailable),
    ("no pg_hba.conf entry for *", "28000", Permanent),
    ("could not connect to server: *", "", NotConnected),
    // libpq.
    ("fe_sendauth: no password supplied", "", Permanent),
    // Internal errors are not translated. Two commands changed the same row of a system catalog, for
    // example GRANT or CREATE OR REPLACE (simple_heap_update, simple_heap_delete in heapam.c).
    ("tuple concurrently updated", "XX000", SerializationFailure),
    ("tuple concurrently deleted", "XX000", SerializationFailure),
    // Citus: distributed_deadlock_detection.c.
    ("canceling the transaction since it was involved in a distributed deadlock", "40P01", Deadlock),
    // CockroachDB and YugabyteDB.
    ("restart transaction: *", "40001", SerializationFailure),
    ("result is ambiguous*", "40003", OutcomeUnknown),
    // They name the row, by its key.
    ("canceling statement due to lock timeout on row *", "55P03", LockTimeout),
    ("could not obtain lock on row (*", "55P03", LockTimeout),
    ("query execution canceled due to statement timeout", "57014", StatementTimeout),
    ("query execution canceled due to transaction timeout", "57014", StatementTimeout),
    ("query execution canceled", "57014", Canceled),
    // To SAVEPOINT, COMMIT and ROLLBACK; PostgreSQL only warns.
    ("there is no transaction in progress", "25P01", TransactionLost),
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
    ("pgbouncer cannot connect to server", "08P01", ServerUnavailable),
    ("pooler is shutting down", "08P01", ServerUnavailable),
    ("server conn crashed?", "08P01", ConnectionLost),
    ("client_idle_timeout", "08P01", ConnectionLost),
    // Since 1.21, when its own record of prepared statements is wrong: it closes the connection.
    ("prepared statement did not exist", "08P01", ConnectionLost),
    // PgCat, and what was made from it.
    ("could not get connection from the pool", "", ServerUnavailable),
    ("could not get connection from the pool - *", "", ServerUnavailable),
    ("error receiving data from server: *", "", ConnectionLost),
    // PgDog.
    ("connection pool is down", "", ServerUnavailable),
    ("checkout timeout", "", ServerUnavailable),
    ("replica checkout timeout", "", ServerUnavailable),
    ("pool is banned", "", ServerUnavailable),
    ("pool is shut down", "", ServerUnavailable),
    ("all replicas down", "", ServerUnavailable),
    ("PgDog is shutting down", "57P01", ConnectionLost),
    ("disconnecting idle client", "57P05", ConnectionLost),
    ("password for user \"*\" and database \"*\" is wrong, or the database does not exist", "28000", Permanent),
    // Supavisor: old and new texts of its limits, and its queue's.
    ("Max client connections reached", "", ServerUnavailable),
    ("(EMAXCONN) max client connections reached*", "", ServerUnavailable),
    ("MaxClientsInSessionMode: max clients reached*", "", ServerUnavailable),
    ("(EMAXCONNSESSION) max clients reached*", "", ServerUnavailable),
    ("Unable to check out process from the pool due to timeout", "", ServerUnavailable),
    // RDS Proxy, with and without a period.
    ("Timed-out waiting to acquire database connection", "", ServerUnavailable),
    ("Timed-out waiting to acquire database connection.", "", ServerUnavailable),
    // Azure's gateway.
    ("SSL connection is required. Please specify SSL options and retry.", "", Permanent),
    // Neon's proxy.
    ("Control plane request failed*", "", ServerUnavailable),
    ("Couldn't connect to compute node*", "", ServerUnavailable),
    ("Failed to acquire permit to connect to the database. *", "", ServerUnavailable),
];

/// Texts of the client libraries that a server could send as well, so they count only where the
/// kind says that no server did: libpq, tokio-postgres 0.7 (with and without its cause) and the
/// channel by which diesel-async hears of the end of a connection.
#[rustfmt::skip] // One row, one line.
pub(super) const CLIENT_TEXTS: &[Row] = &[
    ("connection closed", "", ConnectionLost),
    ("error communicating with the server*", "", ConnectionLost),
    ("channel closed", "", ConnectionLost),
    ("channel lagged by *", "", ConnectionLost),
    // The two sides no longer agree about where a message starts.
    ("unexpected message from server", "", ConnectionLost),
    ("error parsing response from server*", "", ConnectionLost),
    ("error connecting to server*", "", NotConnected),
    ("error performing TLS handshake: server does not support TLS", "", Permanent),
    ("error performing TLS handshake: no TLS implementation configured", "", Permanent),
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
