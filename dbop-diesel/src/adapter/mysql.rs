//! What MySQL and MariaDB are asked.

use diesel::mysql::Mysql;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

/// Asks how many statements this session has prepared.
///
/// Diesel may cache the question. Where it does, a second answer is the same as the first; where the
/// cache is off, the question itself adds one.
#[derive(Clone, Copy, Debug, QueryId)]
pub struct PreparedSoFar;

impl Query for PreparedSoFar {
    type SqlType = (Text, Text);
}

impl QueryFragment<Mysql> for PreparedSoFar {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Mysql>) -> QueryResult<()> {
        pass.push_sql("SHOW SESSION STATUS LIKE 'Com_stmt_prepare'");
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for PreparedSoFar {}

/// Statements as one, which MariaDB executes until one of them fails. Diesel prepares it once for each
/// connection, unless its cache is off.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a>(pub &'a str);

impl QueryId for Compound<'_> {
    type QueryId = ();

    // The text tells them apart.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Mysql> for Compound<'_> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Mysql>) -> QueryResult<()> {
        pass.push_sql("BEGIN NOT ATOMIC ");
        pass.push_sql(self.0);
        pass.push_sql("; END");
        Ok(())
    }
}

impl<C> RunQueryDsl<C> for Compound<'_> {}
