//! What SQLite is asked.

/// SQLite's [`dbop_core::machine::SavedPragmas::busy_timeout`].
#[derive(Clone, Copy, Debug, diesel::QueryableByName)]
pub struct BusyTimeout {
    /// In milliseconds.
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub timeout: i64,
}

impl BusyTimeout {
    /// Reads it, even when another connection has locked the file: the table-valued function of the same
    /// name, on a new connection, would have to read the schema first (measured).
    pub const SQL: &str = "PRAGMA busy_timeout";
}

/// SQLite's [`dbop_core::machine::SavedPragmas::query_only`].
#[derive(Clone, Copy, Debug, diesel::QueryableByName)]
pub struct QueryOnly {
    /// Zero: no.
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub query_only: i64,
}

impl QueryOnly {
    /// Reads it, even when another connection has locked the file.
    pub const SQL: &str = "PRAGMA query_only";
}
