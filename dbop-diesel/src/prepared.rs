//! What most operations send to SQLite, as statements that Diesel's cache keeps prepared: on SQLite, to
//! prepare such a statement takes longer than to run it.

use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Untyped;
use diesel::sqlite::Sqlite;

/// Sends a batch. What is not known is sent as text.
pub(crate) fn send<C>(conn: &mut C, sql: &str) -> QueryResult<()>
where
    C: LoadConnection<Backend = Sqlite>,
{
    if let Some(begin) = sql.strip_suffix("; SAVEPOINT dbop_alive") {
        // Prepared, BEGIN IMMEDIATE would leave out a database that has been attached since.
        conn.batch_execute(begin)?;
        return quietly(conn, SavepointAlive);
    }
    if let Some(rest) = sql.strip_prefix("RELEASE SAVEPOINT dbop_alive; COMMIT") {
        quietly(conn, ReleaseAlive)?;
        execute(conn, &Commit)?;
        return match rest.strip_prefix("; ") {
            Some(rest) => conn.batch_execute(rest),
            None => Ok(()),
        };
    }
    match sql {
        "BEGIN" => execute(conn, &Begin),
        "COMMIT" => execute(conn, &Commit),
        "SAVEPOINT dbop_savepoint_1" => execute(conn, &Savepoint1),
        "RELEASE SAVEPOINT dbop_savepoint_1" => execute(conn, &Release1),
        "SAVEPOINT dbop_savepoint_2" => execute(conn, &Savepoint2),
        "RELEASE SAVEPOINT dbop_savepoint_2" => execute(conn, &Release2),
        _ => conn.batch_execute(sql),
    }
}

/// Diesel's instrumentation is told of an error. It takes one allocation.
fn execute<C, S>(conn: &mut C, statement: &S) -> QueryResult<()>
where
    C: LoadConnection<Backend = Sqlite>,
    S: QueryFragment<Sqlite> + QueryId,
{
    conn.execute_returning_count(statement).map(drop)
}

/// It takes none, so that both statements of a batch take one, as the text of the batch would. Diesel's
/// instrumentation is told that it has ended, not of an error.
fn quietly<C, S>(conn: &mut C, statement: S) -> QueryResult<()>
where
    C: LoadConnection<Backend = Sqlite>,
    S: Query<SqlType = Untyped> + QueryFragment<Sqlite> + QueryId,
{
    match conn.load(statement)?.next() {
        Some(Err(error)) => Err(error),
        Some(Ok(_)) | None => Ok(()),
    }
}

macro_rules! statements {
    ($($name:ident: $sql:literal,)*) => {$(
        #[derive(Clone, Copy, Debug, QueryId)]
        struct $name;

        impl Query for $name {
            type SqlType = Untyped;
        }

        impl QueryFragment<Sqlite> for $name {
            fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
                pass.push_sql($sql);
                Ok(())
            }
        }
    )*};
}

statements! {
    Begin: "BEGIN",
    SavepointAlive: "SAVEPOINT dbop_alive",
    ReleaseAlive: "RELEASE SAVEPOINT dbop_alive",
    Commit: "COMMIT",
    Savepoint1: "SAVEPOINT dbop_savepoint_1",
    Release1: "RELEASE SAVEPOINT dbop_savepoint_1",
    Savepoint2: "SAVEPOINT dbop_savepoint_2",
    Release2: "RELEASE SAVEPOINT dbop_savepoint_2",
}
