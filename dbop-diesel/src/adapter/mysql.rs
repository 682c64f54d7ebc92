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
