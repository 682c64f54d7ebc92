//! Runs one case so many times, for counting what it costs: see run.sh.

use std::env;

use libsqlite3_sys as _;

mod sync;
mod texts;

#[cfg(any(feature = "postgres", feature = "mysql"))]
mod asynchronous;

#[allow(missing_docs, reason = "a macro writes it")]
mod schema {
    diesel::table! { accounts { id -> Integer, balance -> BigInt } }
}

use schema::accounts;

#[cfg(feature = "postgres")]
mod conn {
    pub(crate) type SyncConn = diesel::PgConnection;
    pub(crate) type AsyncConn = diesel_async::AsyncPgConnection;
    /// For the connection alone.
    pub(crate) const TABLE: &str = "TEMPORARY TABLE";
}

#[cfg(all(feature = "mysql", not(feature = "postgres")))]
mod conn {
    pub(crate) type SyncConn = diesel::MysqlConnection;
    pub(crate) type AsyncConn = diesel_async::AsyncMysqlConnection;
    pub(crate) const TABLE: &str = "TEMPORARY TABLE";
}

#[cfg(not(any(feature = "postgres", feature = "mysql")))]
mod conn {
    pub(crate) type SyncConn = diesel::SqliteConnection;
    pub(crate) const TABLE: &str = "TABLE";
}

use conn::*;

/// The statements that make what the cases work with.
fn setup() -> String {
    format!(
        "CREATE {TABLE} accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL); \
         INSERT INTO accounts VALUES (1, 100)"
    )
}

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [adapter, case, times] = arguments.as_slice() else {
        panic!("usage: dbop-instructions ADAPTER CASE TIMES");
    };
    let times = times.parse().expect("a number");
    let url = env::var("DBOP_TEST_URL").unwrap_or_else(|_| ":memory:".to_owned());
    match adapter.as_str() {
        "sync" => sync::run(case, &url, times),
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        "async" => asynchronous::run(case, &url, times),
        other => panic!("no adapter: {other}"),
    }
}
