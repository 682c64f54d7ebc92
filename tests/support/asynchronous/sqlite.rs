//! SQLite, which the async adapter reaches through diesel-async's wrapper of sync connections.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection as _;
use diesel::sql_query;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool,
};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, RunQueryDsl as _, SimpleAsyncConnection as _};

use super::eventually;
use super::scenarios::{Pooled, Unpooled};
use crate::{Number, sqlite};

/// The connection of the async adapter.
pub type Conn = SyncConnectionWrapper<SqliteConnection>;

/// Its backend.
pub type Db = diesel::sqlite::Sqlite;

/// The test bed of the scenarios.
pub type ScenarioBed = Unpooled<sqlite::Bed, Conn>;

impl ScenarioBed {
    /// A fresh one, with the journal that SQLite has by default: readers block COMMIT.
    #[must_use]
    pub fn with_rollback_journal() -> Self {
        Self::on(sqlite::Bed::with_rollback_journal())
    }

    /// A fresh one, whose connections share a cache.
    #[must_use]
    pub fn with_shared_cache() -> Self {
        Self::on(sqlite::Bed::with_shared_cache())
    }
}

/// The test bed of the scenarios that want pooled connections.
pub type PooledBed = Pooled<sqlite::Bed, AsyncDieselConnectionManager<Conn>>;

/// One of those.
pub type PooledConn = deadpool::Object<Conn>;

/// A database file of its own in WAL mode, with `accounts`.
#[derive(Debug)]
pub struct Bed(sqlite::Bed);

impl Bed {
    /// A fresh one.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Self {
        Self(sqlite::Bed::new())
    }

    /// A connection to it, which does not wait for locks.
    ///
    /// # Panics
    ///
    /// If the file is gone.
    pub async fn connect(&self) -> Conn {
        let conn = connect(self.url(), Duration::ZERO).await;
        conn.expect("the file is there")
    }

    /// What makes the connections of a pool, which wait a second for locks, and checks them so.
    #[must_use]
    pub fn manager(&self, check: RecyclingMethod<Conn>) -> AsyncDieselConnectionManager<Conn> {
        let mut config = ManagerConfig::default();
        config.recycling_method = check;
        config.custom_setup = Box::new(|url| Box::pin(connect(url, Duration::from_secs(1))));
        AsyncDieselConnectionManager::new_with_config(self.url(), config)
    }

    /// Where it is for a service.
    #[must_use]
    pub fn service_url(&self) -> String {
        self.url().into()
    }

    /// The number of a connection.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub async fn session_id<C: AsyncConnection<Backend = Db>>(conn: &mut C) -> i64 {
        let row: Number = sql_query("SELECT id AS n FROM temp.session")
            .get_result(conn)
            .await
            .expect("an id");
        row.n
    }

    /// Waits until no transaction holds the write lock.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub async fn session_ends(&self, _: i64) {
        self.transactions_end().await;
    }

    /// Waits until no transaction holds the write lock.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub async fn transactions_end(&self) {
        let mut conn = self.0.connect();
        eventually("all transactions end", || {
            conn.batch_execute("BEGIN IMMEDIATE; ROLLBACK").is_ok()
        })
        .await;
    }
}

impl Deref for Bed {
    type Target = sqlite::Bed;

    fn deref(&self) -> &sqlite::Bed {
        &self.0
    }
}

/// Locks the accounts until the end of the transaction.
pub const LOCK: &str = "BEGIN IMMEDIATE";

/// What then fails at once, if not already the BEGIN.
pub const LOCK_NOWAIT: &str = "SELECT 1";

async fn connect(url: &str, patience: Duration) -> diesel::ConnectionResult<Conn> {
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let mut conn = Conn::establish(url).await?;
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let patience = patience.as_millis();
    let setup = format!(
        "PRAGMA busy_timeout={patience}; PRAGMA synchronous=OFF; \
         CREATE TEMP TABLE session AS SELECT {id} AS id"
    );
    conn.batch_execute(&setup)
        .await
        .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}
