//! What SQLite is asked.

use std::sync::OnceLock;

use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::BigInt;
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl};

/// Asks for the value of a pragma, even when another connection has locked the file: the table-valued
/// function of the same name, on a new connection, would have to read the schema first (measured).
///
/// Diesel must not cache the question. SQLite finds the answer when it prepares the statement, and gives
/// the same one each time that it is run (measured).
macro_rules! pragma {
    ($(#[$docs:meta])* $name:ident: $sql:literal) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl QueryId for $name {
            type QueryId = ();
            const HAS_STATIC_QUERY_ID: bool = false;
        }

        impl Query for $name {
            type SqlType = BigInt;
        }

        impl QueryFragment<Sqlite> for $name {
            fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
                pass.unsafe_to_cache_prepared();
                pass.push_sql($sql);
                Ok(())
            }
        }

        impl<C> RunQueryDsl<C> for $name {}
    };
}

pragma!(
    /// SQLite's [`dbop_core::machine::SavedPragmas::busy_timeout`], in milliseconds.
    BusyTimeout: "PRAGMA busy_timeout"
);
pragma!(
    /// SQLite's [`dbop_core::machine::SavedPragmas::query_only`]. Zero: no.
    QueryOnly: "PRAGMA query_only"
);

/// Statements with which it is found out whether SQLite sets `query_only` when it explains that, and the
/// values that it has then. SQLite's documentation says that this can change with every version, so it is
/// tried, once in a process: that has one SQLite.
pub const EXPLAINED: [(&str, i64); 2] = [
    ("EXPLAIN QUERY PLAN PRAGMA query_only=1", 1),
    ("EXPLAIN QUERY PLAN PRAGMA query_only=0", 0),
];

/// What follows, whatever they have done.
pub const UNSET: &str = "PRAGMA query_only=0";

/// What was found out.
pub static IS_SET_BY_EXPLAIN: OnceLock<bool> = OnceLock::new();
