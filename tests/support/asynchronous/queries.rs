use std::future::Future;

use diesel::QueryResult;
use diesel::query_builder::QueryId;
use diesel_async::AsyncConnectionCore;
use diesel_async::methods::{ExecuteDsl, LoadQuery};

/// `RunQueryDsl` of diesel-async, on queries. The original is there for every type, and takes its
/// `load` away from an atomic in the same file.
pub trait RunQueryDsl<C: AsyncConnectionCore>: Sized {
    /// Runs the statement and counts the rows.
    fn execute<'conn, 'query>(
        self,
        conn: &'conn mut C,
    ) -> impl Future<Output = QueryResult<usize>> + Send
    where
        Self: ExecuteDsl<C> + 'query,
        'query: 'conn,
    {
        diesel_async::RunQueryDsl::execute(self, conn)
    }

    /// Runs the query for its rows.
    fn load<'conn, 'query, U>(
        self,
        conn: &'conn mut C,
    ) -> impl Future<Output = QueryResult<Vec<U>>> + Send
    where
        Self: LoadQuery<'query, C, U> + 'query,
        U: Send + 'conn,
        'query: 'conn,
    {
        diesel_async::RunQueryDsl::load(self, conn)
    }

    /// Runs the query for its first row.
    fn get_result<'conn, 'query, U>(
        self,
        conn: &'conn mut C,
    ) -> impl Future<Output = QueryResult<U>> + Send
    where
        Self: LoadQuery<'query, C, U> + 'query,
        U: Send + 'conn,
        'query: 'conn,
    {
        diesel_async::RunQueryDsl::get_result(self, conn)
    }
}

impl<T: QueryId, C: AsyncConnectionCore> RunQueryDsl<C> for T {}
