//! Statements of dbop's own in a body, and Diesel's cache of prepared statements.

use dbop_core::Dialect;
use dbop_core::machine::TextQuery;
use diesel::backend::Backend;
use diesel::connection::CacheSize;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Nullable, Text};
use diesel::{QueryResult, RunQueryDsl};

/// A statement for any backend, which Diesel does not keep prepared.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a>(pub &'a str);

impl QueryId for Statement<'_> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Backend> QueryFragment<DB> for Statement<'_> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        pass.unsafe_to_cache_prepared();
        pass.push_sql(self.0);
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for Statement<'_> {}

/// A query for one text, or NULL, for Diesel: whatever dbop reads is read by this type, so that what Diesel and its
/// clients do with a query is compiled once.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a>(pub TextQuery<'a>);

impl Query for Read<'_> {
    type SqlType = Nullable<Text>;
}

impl QueryId for Read<'_> {
    type QueryId = ();

    // The text tells them apart.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Backend> QueryFragment<DB> for Read<'_> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        if !self.0.is_constant {
            pass.unsafe_to_cache_prepared();
        }
        pass.push_sql(self.0.sql);
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for Read<'_> {}

/// Which sizes to set, one after the other, so that the cache forgets its statements and stays as the
/// caller has set it.
///
/// Diesel 2.3 does not tell whether its cache is on. The same question, asked twice, does: with the
/// cache on it is prepared once, and both answers are equal. Turning the cache off is the only way to
/// empty it.
pub fn sizes_to_forget(
    dialect: Dialect,
    first: QueryResult<Option<String>>,
    second: QueryResult<Option<String>>,
) -> &'static [CacheSize] {
    // SQLite prepares a statement anew by itself.
    if dialect == Dialect::Sqlite {
        return &[];
    }
    match (first, second) {
        (Ok(first), Ok(second)) if first.is_none() || first != second => &[CacheSize::Disabled],
        // Also if the server does not answer: then the next attempt needs an empty cache all the same.
        _ => &[CacheSize::Disabled, CacheSize::Unbounded],
    }
}

/// Whether the statement that has this name on the server got it from a pooler, which keeps it for all of its
/// clients. PgBouncer does, from version 1.21 on.
#[must_use]
pub fn is_of_pooler(name: &QueryResult<Option<String>>) -> bool {
    matches!(name, Ok(Some(name)) if name.starts_with("PGBOUNCER_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_of_a_pooler_are_told_by_their_names() {
        for (name, is_of) in [
            ("PGBOUNCER_12", true),
            ("__diesel_stmt_1", false),
            ("s5", false),
        ] {
            assert_eq!(is_of_pooler(&Ok(Some(name.to_owned()))), is_of, "{name}");
        }
        assert!(!is_of_pooler(&Ok(None)));
        assert!(!is_of_pooler(&Err(diesel::NotFound)));
    }

    #[test]
    fn the_cache_stays_as_it_was() {
        let name = |name: &str| Ok(Some(name.to_owned()));
        let off: &[CacheSize] = &[CacheSize::Disabled];
        let on: &[CacheSize] = &[CacheSize::Disabled, CacheSize::Unbounded];
        for (first, second, expected) in [
            (name("__diesel_stmt_1"), name("__diesel_stmt_1"), on),
            (name("s5"), name("s6"), off),
            (Ok(None), Ok(None), off),
            (Err(diesel::NotFound), Err(diesel::NotFound), on),
        ] {
            assert_eq!(sizes_to_forget(Dialect::Postgres, first, second), expected);
        }
        assert!(sizes_to_forget(Dialect::Sqlite, Ok(None), Ok(None)).is_empty());
    }
}
