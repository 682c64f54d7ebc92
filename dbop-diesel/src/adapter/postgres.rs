//! What PostgreSQL is asked.

/// Asks under which name this very statement is prepared.
///
/// Diesel may cache it. Where it does, a second answer has the name of the first. Where the cache is
/// off, the statement has no name (libpq), or a new one each time (tokio-postgres).
pub const PREPARED_AS: &str = "SELECT max(name) FROM pg_catalog.pg_prepared_statements \
    WHERE position('dbop_prepared_as' IN statement) > 0";
