//! The databases that dbop knows.

use dbop_core::Dialect;
use dbop_core::machine::{Batch, PragmasToRead, SavedPragmas, TextQuery};
use diesel::QueryResult;
use diesel::connection::LoadConnection;

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use crate::adapter::statements::Read;

/// A Diesel backend whose SQL dbop knows: `Pg`, `Mysql` and `Sqlite`, each with the feature of its
/// name.
// A build without any backend is no error: it has documentation, types and policies, and a workspace may
// turn the feature on elsewhere. So the message comes where an operation is to run.
#[diagnostic::on_unimplemented(
    message = "dbop does not know the backend `{Self}`",
    label = "not a backend of dbop",
    note = "enable the feature `postgres`, `mysql` or `sqlite` of dbop-diesel",
    note = "an enum with `#[derive(MultiConnection)]` is not supported: match on it and run the \
            operation on the connection inside"
)]
pub trait SupportedBackend: diesel::backend::Backend + Sealed {
    /// Its SQL and its rules.
    const DIALECT: Dialect;

    /// Sends a batch.
    #[doc(hidden)]
    fn send<C>(conn: &mut C, sql: &str) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Self>,
    {
        conn.batch_execute(sql)
    }

    /// Reads those values of the session that the dialect's SQL cannot keep by itself.
    #[doc(hidden)]
    fn read_pragmas<C>(_conn: &mut C, _needs: PragmasToRead) -> QueryResult<SavedPragmas>
    where
        C: LoadConnection<Backend = Self>,
    {
        Ok(SavedPragmas::default())
    }

    /// Reads one text.
    #[doc(hidden)]
    fn read<C>(conn: &mut C, query: TextQuery<'_>) -> QueryResult<Option<String>>
    where
        C: LoadConnection<Backend = Self>;

    /// Sends a batch as one compound statement where the server has them: MariaDB only.
    #[doc(hidden)]
    fn send_as_one<C>(conn: &mut C, batch: Batch<'_>) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Self>,
    {
        Self::send(conn, batch.sql)
    }

    /// Reads what two answers have in common only if Diesel's cache of prepared statements is on.
    #[doc(hidden)]
    fn read_cache_mark<C>(_conn: &mut C) -> QueryResult<Option<String>>
    where
        C: LoadConnection<Backend = Self>,
    {
        Ok(None)
    }
}

#[doc(hidden)]
#[allow(
    unnameable_types,
    reason = "it keeps other crates from implementing `SupportedBackend`"
)]
pub trait Sealed {}

#[cfg(feature = "postgres")]
mod postgres {
    use diesel::connection::LoadConnection;
    use diesel::pg::Pg;
    use diesel::{QueryResult, RunQueryDsl};

    use crate::adapter::postgres::PREPARED_AS;

    use super::{Dialect, Read, Sealed, SupportedBackend, TextQuery};

    impl Sealed for Pg {}

    impl SupportedBackend for Pg {
        const DIALECT: Dialect = Dialect::Postgres;

        fn read<C>(conn: &mut C, query: TextQuery<'_>) -> QueryResult<Option<String>>
        where
            C: LoadConnection<Backend = Self>,
        {
            Read(query).get_result(conn)
        }

        fn read_cache_mark<C>(conn: &mut C) -> QueryResult<Option<String>>
        where
            C: LoadConnection<Backend = Self>,
        {
            Self::read(conn, TextQuery::constant(PREPARED_AS))
        }
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use diesel::connection::LoadConnection;
    use diesel::mysql::Mysql;
    use diesel::{QueryResult, RunQueryDsl};

    use crate::adapter::mysql::{PreparedSoFar, send_as_one};

    use super::{Batch, Dialect, Read, Sealed, SupportedBackend, TextQuery};

    impl Sealed for Mysql {}

    impl SupportedBackend for Mysql {
        const DIALECT: Dialect = Dialect::Mysql;

        fn read<C>(conn: &mut C, query: TextQuery<'_>) -> QueryResult<Option<String>>
        where
            C: LoadConnection<Backend = Self>,
        {
            Read(query).get_result(conn)
        }

        fn read_cache_mark<C>(conn: &mut C) -> QueryResult<Option<String>>
        where
            C: LoadConnection<Backend = Self>,
        {
            let (_name, count): (String, String) = PreparedSoFar.get_result(conn)?;
            Ok(Some(count))
        }

        fn send_as_one<C>(conn: &mut C, batch: Batch<'_>) -> QueryResult<()>
        where
            C: LoadConnection<Backend = Self>,
        {
            send_as_one(conn, batch)
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use dbop_core::machine::{PragmasToRead, SavedPragmas};
    use diesel::connection::LoadConnection;
    use diesel::sqlite::Sqlite;
    use diesel::{QueryResult, RunQueryDsl};

    use crate::adapter::sqlite::{BusyTimeout, EXPLAINED, IS_SET_BY_EXPLAIN, QueryOnly, UNSET};

    use super::{Dialect, Read, Sealed, SupportedBackend, TextQuery};

    impl Sealed for Sqlite {}

    impl SupportedBackend for Sqlite {
        const DIALECT: Dialect = Dialect::Sqlite;

        fn send<C>(conn: &mut C, sql: &str) -> QueryResult<()>
        where
            C: LoadConnection<Backend = Self>,
        {
            crate::prepared::send(conn, sql)
        }

        fn read_pragmas<C>(conn: &mut C, needs: PragmasToRead) -> QueryResult<SavedPragmas>
        where
            C: LoadConnection<Backend = Self>,
        {
            let mut pragmas = SavedPragmas::default();
            if needs.busy_timeout {
                pragmas.busy_timeout = BusyTimeout.get_result(conn)?;
            }
            if needs.query_only {
                let query_only: i64 = QueryOnly.get_result(conn)?;
                pragmas.query_only = query_only != 0;
                pragmas.is_set_by_explain = !pragmas.query_only && is_set_by_explain(conn)?;
            }
            Ok(pragmas)
        }

        fn read<C>(conn: &mut C, query: TextQuery<'_>) -> QueryResult<Option<String>>
        where
            C: LoadConnection<Backend = Self>,
        {
            Read(query).get_result(conn)
        }
    }

    /// Of a session that is not read-only.
    fn is_set_by_explain<C>(conn: &mut C) -> QueryResult<bool>
    where
        C: LoadConnection<Backend = Sqlite>,
    {
        if let Some(known) = IS_SET_BY_EXPLAIN.get() {
            return Ok(*known);
        }
        let mut is_set = true;
        for (sql, expected) in EXPLAINED {
            is_set &= conn.batch_execute(sql).is_ok();
            is_set &= QueryOnly.get_result::<i64>(conn) == Ok(expected);
        }
        conn.batch_execute(UNSET)?;
        Ok(*IS_SET_BY_EXPLAIN.get_or_init(|| is_set))
    }
}
