//! The databases that dbop knows.

use std::future::Future;

use dbop_core::machine::{PragmasToRead, SavedPragmas, TextQuery};
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use dbop_diesel::adapter::statements::Read;
use diesel::QueryResult;
use diesel_async::AsyncConnection;

/// A backend that dbop knows the SQL of, for async connections: `Pg`, `Mysql` and `Sqlite`, each
/// with the feature of its name.
#[diagnostic::on_unimplemented(
    message = "dbop does not know the backend `{Self}`",
    label = "not a backend of dbop",
    note = "enable the feature `postgres`, `mysql` or `sqlite` of dbop-diesel-async"
)]
pub trait SupportedBackend: dbop_diesel::SupportedBackend {
    /// Reads those values of the session that the dialect's SQL cannot keep by itself.
    #[doc(hidden)]
    fn read_pragmas<C>(
        _conn: &mut C,
        _needs: PragmasToRead,
    ) -> impl Future<Output = QueryResult<SavedPragmas>> + Send
    where
        C: AsyncConnection<Backend = Self>,
    {
        std::future::ready(Ok(SavedPragmas::default()))
    }

    /// Reads one text.
    #[doc(hidden)]
    fn read<C>(
        conn: &mut C,
        query: TextQuery<'_>,
    ) -> impl Future<Output = QueryResult<Option<String>>> + Send
    where
        C: AsyncConnection<Backend = Self>;

    /// Reads what two answers have in common only if Diesel's cache of prepared statements is on.
    #[doc(hidden)]
    fn read_cache_mark<C>(_conn: &mut C) -> impl Future<Output = QueryResult<Option<String>>> + Send
    where
        C: AsyncConnection<Backend = Self>,
    {
        std::future::ready(Ok(None))
    }
}

#[cfg(feature = "postgres")]
impl SupportedBackend for diesel::pg::Pg {
    async fn read<C>(conn: &mut C, query: TextQuery<'_>) -> QueryResult<Option<String>>
    where
        C: AsyncConnection<Backend = Self>,
    {
        diesel_async::RunQueryDsl::get_result(Read(query), conn).await
    }

    async fn read_cache_mark<C>(conn: &mut C) -> QueryResult<Option<String>>
    where
        C: AsyncConnection<Backend = Self>,
    {
        let query = TextQuery::constant(dbop_diesel::adapter::postgres::PREPARED_AS);
        <Self as SupportedBackend>::read(conn, query).await
    }
}

#[cfg(feature = "mysql")]
impl SupportedBackend for diesel::mysql::Mysql {
    async fn read<C>(conn: &mut C, query: TextQuery<'_>) -> QueryResult<Option<String>>
    where
        C: AsyncConnection<Backend = Self>,
    {
        diesel_async::RunQueryDsl::get_result(Read(query), conn).await
    }

    async fn read_cache_mark<C>(conn: &mut C) -> QueryResult<Option<String>>
    where
        C: AsyncConnection<Backend = Self>,
    {
        use dbop_diesel::adapter::mysql::PreparedSoFar;
        use diesel_async::RunQueryDsl as _;

        let (_name, count): (String, String) = PreparedSoFar.get_result(conn).await?;
        Ok(Some(count))
    }
}

#[cfg(feature = "sqlite")]
impl SupportedBackend for diesel::sqlite::Sqlite {
    async fn read_pragmas<C>(conn: &mut C, needs: PragmasToRead) -> QueryResult<SavedPragmas>
    where
        C: AsyncConnection<Backend = Self>,
    {
        use dbop_diesel::adapter::sqlite::{BusyTimeout, QueryOnly};
        use diesel_async::RunQueryDsl as _;

        let mut pragmas = SavedPragmas::default();
        if needs.busy_timeout {
            pragmas.busy_timeout = BusyTimeout.get_result(conn).await?;
        }
        if needs.query_only {
            let query_only: i64 = QueryOnly.get_result(conn).await?;
            pragmas.query_only = query_only != 0;
            pragmas.is_set_by_explain = !pragmas.query_only && is_set_by_explain(conn).await?;
        }
        Ok(pragmas)
    }

    async fn read<C>(conn: &mut C, query: TextQuery<'_>) -> QueryResult<Option<String>>
    where
        C: AsyncConnection<Backend = Self>,
    {
        diesel_async::RunQueryDsl::get_result(Read(query), conn).await
    }
}

/// Of a session that is not read-only.
#[cfg(feature = "sqlite")]
async fn is_set_by_explain<C>(conn: &mut C) -> QueryResult<bool>
where
    C: AsyncConnection<Backend = diesel::sqlite::Sqlite>,
{
    use dbop_diesel::adapter::sqlite::{EXPLAINED, IS_SET_BY_EXPLAIN, QueryOnly, UNSET};
    use diesel_async::RunQueryDsl as _;

    if let Some(known) = IS_SET_BY_EXPLAIN.get() {
        return Ok(*known);
    }
    let mut is_set = true;
    for (sql, expected) in EXPLAINED {
        is_set &= conn.batch_execute(sql).await.is_ok();
        is_set &= QueryOnly.get_result::<i64>(conn).await == Ok(expected);
    }
    conn.batch_execute(UNSET).await?;
    Ok(*IS_SET_BY_EXPLAIN.get_or_init(|| is_set))
}
