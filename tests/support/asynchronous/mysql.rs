//! MySQL and MariaDB.

use std::ops::Deref;

use diesel::connection::SimpleConnection as _;
use diesel::{MysqlConnection, sql_query};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool,
};
use diesel_async::{AsyncConnection, AsyncMysqlConnection, RunQueryDsl as _};

use super::eventually;
use super::scenarios::{Pooled, Unpooled};
use crate::{Number, mysql};

/// The connection of the async adapter.
pub type Conn = AsyncMysqlConnection;

/// Its backend.
pub type Db = diesel::mysql::Mysql;

/// The test bed of the scenarios.
pub type ScenarioBed = Unpooled<mysql::Bed, Conn>;

/// The test bed of the scenarios that want pooled connections.
pub type PooledBed = Pooled<mysql::Bed, AsyncDieselConnectionManager<Conn>>;

/// One of those.
pub type PooledConn = deadpool::Object<Conn>;

/// A database of its own, with `accounts`.
#[derive(Debug)]
pub struct Bed(mysql::Bed);

impl Bed {
    /// A fresh one.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it talks to a server")]
    pub fn new() -> Self {
        Self(mysql::Bed::new())
    }

    /// A connection to it.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn connect(&self) -> Conn {
        Conn::establish(self.url())
            .await
            .expect("the server answers")
    }

    /// Where it is for a service, whose deadlocks are found at once.
    #[must_use]
    pub fn service_url(&self) -> String {
        self.url().to_owned()
    }

    /// What makes the connections of a pool, and checks them so.
    #[must_use]
    pub fn manager(&self, check: RecyclingMethod<Conn>) -> AsyncDieselConnectionManager<Conn> {
        let mut config = ManagerConfig::default();
        config.recycling_method = check;
        AsyncDieselConnectionManager::new_with_config(self.url(), config)
    }

    /// The id of a session on the server.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn session_id<C: AsyncConnection<Backend = Db>>(conn: &mut C) -> i64 {
        let row: Number = sql_query("SELECT CAST(connection_id() AS SIGNED) AS n")
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
        let mut conn = self.0.connect();
        eventually("a session ends", || {
            let sql = "SELECT id AS n FROM information_schema.processlist WHERE id = ";
            ids(&mut conn, format!("{sql}{session}")).is_empty()
        })
        .await;
    }

    /// Waits until no session is in a transaction that has used the accounts.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub async fn transactions_end(&self) {
        let mut conn = self.0.connect();
        // Every transaction keeps the tables that it has used from being locked as a whole.
        let sql = "SET lock_wait_timeout=1; LOCK TABLES accounts WRITE; UNLOCK TABLES";
        eventually("all transactions end", || conn.batch_execute(sql).is_ok()).await;
    }
}

impl Deref for Bed {
    type Target = mysql::Bed;

    fn deref(&self) -> &mysql::Bed {
        &self.0
    }
}

/// Locks the accounts until the end of the transaction.
pub const LOCK: &str = "BEGIN; SELECT * FROM accounts FOR UPDATE";

/// What then fails at once.
pub const LOCK_NOWAIT: &str = "SELECT * FROM accounts FOR UPDATE NOWAIT";

fn ids(conn: &mut MysqlConnection, sql: String) -> Vec<i64> {
    let rows: Vec<Number> = diesel::RunQueryDsl::load(sql_query(sql), conn).expect("an answer");
    rows.iter().map(|row| row.n).collect()
}
