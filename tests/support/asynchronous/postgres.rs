//! PostgreSQL.

use std::ops::Deref;

use diesel::{PgConnection, sql_query};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl as _};

use super::eventually;
use super::scenarios::{Pooled, Unpooled};
use crate::{Number, postgres};

/// The connection of the async adapter.
pub type Conn = AsyncPgConnection;

/// Its backend.
pub type Db = diesel::pg::Pg;

/// The test bed of the scenarios.
pub type ScenarioBed = Unpooled<postgres::Bed, Conn>;

/// The test bed of the scenarios that want pooled connections.
pub type PooledBed = Pooled<postgres::Bed, AsyncDieselConnectionManager<Conn>>;

/// One of those.
pub type PooledConn = deadpool::Object<Conn>;

/// A schema of its own, with `accounts`.
#[derive(Debug)]
pub struct Bed {
    bed: postgres::Bed,
    url: String,
    name: String,
}

impl Bed {
    /// A fresh one.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it talks to a server")]
    pub fn new() -> Self {
        let bed = postgres::Bed::new();
        let name = crate::unique_name();
        let url = format!("{}&application_name={name}", bed.url());
        Self { bed, url, name }
    }

    /// Where it is for sessions of the async adapter.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to it.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn connect(&self) -> Conn {
        Conn::establish(&self.url)
            .await
            .expect("the server answers")
    }

    /// What makes the connections of a pool, and checks them so.
    #[must_use]
    pub fn manager(&self, check: RecyclingMethod<Conn>) -> AsyncDieselConnectionManager<Conn> {
        let mut config = ManagerConfig::default();
        config.recycling_method = check;
        AsyncDieselConnectionManager::new_with_config(&self.url, config)
    }

    /// Where it is for a service, whose deadlocks are found soon.
    #[must_use]
    pub fn service_url(&self) -> String {
        let (url, name) = (self.bed.url(), &self.name);
        format!("{url}%20-cdeadlock_timeout%3D50ms&application_name={name}")
    }

    /// The id of a session on the server.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn session_id<C: AsyncConnection<Backend = Db>>(conn: &mut C) -> i64 {
        let row: Number = sql_query("SELECT pg_backend_pid()::bigint AS n")
            .get_result(conn)
            .await
            .expect("an id");
        row.n
    }

    /// Waits until the server has done with this session.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub async fn session_ends(&self, session: i64) {
        let mut conn = self.bed.connect();
        eventually("a session ends", || {
            let sql = "SELECT count(*) AS n FROM pg_stat_activity WHERE pid = ";
            number(&mut conn, format!("{sql}{session}")) == 0
        })
        .await;
    }

    /// Waits until one of the sessions of the async adapter waits for a lock: which?
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub async fn blocked_session(&self) -> i64 {
        let mut conn = self.bed.connect();
        let mut session = 0;
        eventually("somebody waits for a lock", || {
            let sql = "SELECT coalesce(max(pid), 0)::bigint AS n FROM pg_stat_activity \
                       WHERE wait_event_type = 'Lock' AND application_name = ";
            session = number(&mut conn, format!("{sql}'{}'", self.name));
            session != 0
        })
        .await;
        session
    }

    /// Waits until so many of the sessions of the async adapter wait for a lock.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub async fn blocked_sessions(&self, wanted: i64) {
        let mut conn = self.bed.connect();
        eventually("some wait for a lock", || {
            let sql = "SELECT count(*) AS n FROM pg_stat_activity \
                       WHERE wait_event_type = 'Lock' AND application_name = ";
            number(&mut conn, format!("{sql}'{}'", self.name)) == wanted
        })
        .await;
    }

    /// Waits until none of the sessions of the async adapter is in a transaction.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub async fn transactions_end(&self) {
        let mut conn = self.bed.connect();
        eventually("all transactions end", || {
            let sql = "SELECT count(*) AS n FROM pg_stat_activity \
                       WHERE xact_start IS NOT NULL AND application_name = ";
            number(&mut conn, format!("{sql}'{}'", self.name)) == 0
        })
        .await;
    }
}

impl Deref for Bed {
    type Target = postgres::Bed;

    fn deref(&self) -> &postgres::Bed {
        &self.bed
    }
}

/// Locks the accounts until the end of the transaction.
pub const LOCK: &str = "BEGIN; SELECT FROM accounts FOR UPDATE";

/// What then fails at once.
pub const LOCK_NOWAIT: &str = "SELECT FROM accounts FOR UPDATE NOWAIT";

fn number(conn: &mut PgConnection, sql: String) -> i64 {
    let row: Number = diesel::RunQueryDsl::get_result(sql_query(sql), conn).expect("an answer");
    row.n
}
