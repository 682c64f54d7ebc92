//! What PostgreSQL is asked.

use dbop_core::machine::{CurrentTransaction, TransactionId};

diesel::define_sql_function! {
    /// PostgreSQL's id of the current transaction, if it has written something. Its type has the
    /// same eight bytes as a BIGINT; with a type of its own, the statement can be cached.
    fn pg_current_xact_id_if_assigned() -> diesel::sql_types::Nullable<diesel::sql_types::BigInt>;
}

diesel::define_sql_function! {
    /// [`TransactionId::statistics_since`], as the eight bytes of a BIGINT.
    fn pg_stat_get_bgwriter_stat_reset_time()
        -> diesel::sql_types::Nullable<diesel::sql_types::BigInt>;
}

diesel::define_sql_function! {
    /// The value of a setting of PostgreSQL's.
    fn current_setting(
        name: diesel::sql_types::Text,
        missing_is_null: diesel::sql_types::Bool,
    ) -> diesel::sql_types::Nullable<diesel::sql_types::Text>;
}

/// The question which transaction this is.
#[diesel::dsl::auto_type]
pub fn which_transaction() -> _ {
    diesel::dsl::select((
        current_setting("dbop.transaction", true),
        pg_current_xact_id_if_assigned(),
        pg_stat_get_bgwriter_stat_reset_time(),
    ))
}

/// What was answered to `which_transaction`.
#[must_use]
pub fn current_transaction(
    (mark, id, since): (Option<String>, Option<i64>, Option<i64>),
) -> CurrentTransaction {
    let id = id.and_then(|id| u64::try_from(id).ok());
    CurrentTransaction {
        // Outside of the transaction that was opened it is empty, or unknown to the session.
        is_ours: mark.is_some_and(|mark| !mark.is_empty()),
        id: id.map(|id| TransactionId {
            id,
            statistics_since: since.unwrap_or_default(),
        }),
    }
}

/// Asks under which name this very statement is prepared.
///
/// Diesel may cache it. Where it does, a second answer has the name of the first. Where the cache is
/// off, the statement has no name (libpq), or a new one each time (tokio-postgres).
#[derive(Clone, Copy, Debug, diesel::query_builder::QueryId)]
pub struct PreparedAs;

impl diesel::query_builder::Query for PreparedAs {
    type SqlType = diesel::sql_types::Nullable<diesel::sql_types::Text>;
}

impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for PreparedAs {
    fn walk_ast<'b>(
        &'b self,
        mut pass: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
    ) -> diesel::QueryResult<()> {
        pass.push_sql(
            "SELECT max(name) FROM pg_catalog.pg_prepared_statements \
             WHERE position('dbop_prepared_as' IN statement) > 0",
        );
        Ok(())
    }
}

impl<C> diesel::RunQueryDsl<C> for PreparedAs {}
