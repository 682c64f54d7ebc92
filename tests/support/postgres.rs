//! Test beds on PostgreSQL: a schema each.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, PooledConnection};
use diesel::sql_query;

pub use pooler::{Onlooker, PgBouncer, Pooler};

use crate::{
    ACCOUNTS, Number, Opponent, Pooled, TestBed, accounts, eventually, server_url, unique_name,
};

mod pooler;

/// Its dialect.
pub const DIALECT: dbop_core::Dialect = dbop_core::Dialect::Postgres;

/// The connection of the sync adapter.
pub type Conn = PgConnection;

/// A test bed that hands out pooled connections.
pub type PooledBed = Pooled<Bed, Conn>;

/// One of those.
pub type PooledConn = PooledConnection<ConnectionManager<Conn>>;

/// A schema of its own, with `accounts`.
#[derive(Debug)]
pub struct Bed {
    url: String,
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
        let name = unique_name();
        let mut admin = PgConnection::establish(&server_url()).expect("the server answers");
        admin
            .batch_execute(&format!("CREATE SCHEMA {name}"))
            .expect("a new schema");
        let bed = Self {
            url: format!("{}?options=-csearch_path%3D{name}", server_url()),
        };
        bed.connect().batch_execute(ACCOUNTS).expect("a new table");
        bed
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to it.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn connect(&self) -> Conn {
        Conn::establish(&self.url).expect("the server answers")
    }

    /// Where it is for somebody else, perhaps in another database.
    ///
    /// # Panics
    ///
    /// If the URL is not one of a server.
    #[must_use]
    pub fn url_with(&self, credentials: &str, database: Option<&str>) -> String {
        let (_, address) = self.url.split_once('@').expect("user@host");
        let address = match database {
            Some(database) => address.replacen("/dbop", &format!("/{database}"), 1),
            None => address.into(),
        };
        format!("postgres://{credentials}@{address}")
    }

    /// Who the tests are: the user, with the password if there is one.
    ///
    /// # Panics
    ///
    /// If the URL is not one of a server.
    #[must_use]
    pub fn credentials(&self) -> &str {
        let (_, rest) = self.url.split_once("://").expect("a scheme");
        rest.split_once('@').expect("user@host").0
    }

    /// Where it is for a user of its own who may have one connection.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn url_of_a_user_with_one_connection(&self) -> String {
        let (_, name) = self.url.rsplit_once("%3D").expect("a schema");
        self.connect()
            .batch_execute(&format!(
                "CREATE ROLE {name} LOGIN PASSWORD '{name}' CONNECTION LIMIT 1; \
                 GRANT USAGE ON SCHEMA {name} TO {name}; \
                 GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {name}"
            ))
            .expect("superuser");
        self.url_with(&format!("{name}:{name}"), None)
    }

    /// A session of another user.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn opponent_at(&self, url: &str) -> Opponent {
        let mut conn = Conn::establish(url).expect("the server answers");
        let id = Self::session_id(&mut conn);
        Opponent::new(conn, id)
    }

    /// A second session. It is never the victim of a deadlock.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn opponent(&self) -> Opponent {
        let mut conn = self.connect();
        conn.batch_execute("SET deadlock_timeout = '60s'; SET lock_timeout = '30s'")
            .expect("superuser");
        let id = Self::session_id(&mut conn);
        Opponent::new(conn, id)
    }

    /// The id of a session on the server.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn session_id(conn: &mut Conn) -> i64 {
        let row: Number = sql_query(SESSION_ID).get_result(conn).expect("an id");
        row.n
    }

    /// Waits until this session waits for a lock.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub fn wait_until_blocked(&self, session: i64) {
        let mut conn = self.connect();
        eventually("a session waits for a lock", || {
            let row: Number = sql_query(format!(
                "SELECT count(*) AS n FROM pg_stat_activity \
                 WHERE pid = {session} AND wait_event_type = 'Lock'"
            ))
            .get_result(&mut conn)
            .expect("an answer");
            row.n == 1
        });
    }

    /// Waits until this session does not wait for a lock any more.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub fn wait_until_free(&self, session: i64) {
        let mut conn = self.connect();
        eventually("a session waits no longer", || {
            let row: Number = sql_query(format!(
                "SELECT cardinality(pg_blocking_pids({session}::int))::bigint AS n"
            ))
            .get_result(&mut conn)
            .expect("an answer");
            row.n == 0
        });
    }

    /// Whether this session is in a transaction that has written something.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn has_written(&self, session: i64) -> bool {
        let row: Number = sql_query(format!(
            "SELECT count(*) AS n FROM pg_stat_activity \
             WHERE pid = {session} AND backend_xid IS NOT NULL"
        ))
        .get_result(&mut self.connect())
        .expect("an answer");
        row.n == 1
    }

    /// Ends a session from outside.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub fn kill(&self, session: i64) {
        sql_query(format!("SELECT pg_terminate_backend({session}::int)"))
            .execute(&mut self.connect())
            .expect("allowed to");
    }

    /// Waits until the server has done with this session.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub fn wait_until_gone(&self, session: i64) {
        let mut conn = self.connect();
        eventually("a session ends", || {
            let row: Number = sql_query(format!(
                "SELECT count(*) AS n FROM pg_stat_activity WHERE pid = {session}"
            ))
            .get_result(&mut conn)
            .expect("an answer");
            row.n == 0
        });
    }

    /// The balances, in order, as a session of its own sees them.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn balances(&self) -> Vec<(i32, i64)> {
        accounts::table
            .order(accounts::id)
            .load(&mut self.connect())
            .expect("an answer")
    }
}

impl TestBed for Bed {
    fn fresh() -> Self {
        Self::new()
    }

    fn address(&self) -> &str {
        &self.url
    }
}

/// Its name in records.
pub const BACKEND: &str = "postgresql";

/// What makes a transaction win every deadlock: nothing, here that is up to the session.
pub const BALLAST: &str = "SELECT 1";

/// Asks for the id of the session.
pub const SESSION_ID: &str = "SELECT pg_backend_pid()::bigint AS n";

/// What every transaction of dbop begins with.
pub const BEGIN: &str = "BEGIN";

/// No transaction of the session can write any more, as on a standby.
pub const READ_ONLY_SESSION: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";

/// Who the tests are on the servers of `tests/run.sh`.
pub const USER: &str = "postgres";

/// What servers answered that were starting up, in recovery, full: code and message.
pub const NOT_NOW: &[(&str, &str)] = &[
    ("57P03", "the database system is starting up"),
    (
        "57P03",
        "the database system is not yet accepting connections",
    ),
    ("53300", "sorry, too many clients already"),
];

/// What a server answered to a wrong password.
pub const WRONG_PASSWORD: (&str, &str) =
    ("28P01", "password authentication failed for user \"dbop\"");

/// No SQL at all.
pub const SYNTAX_ERROR: &str = "SELEC 1";

/// An error of the data, which no schema could have foreseen.
pub const DATA_ERROR: &str = "UPDATE accounts SET balance = balance / 0 WHERE id = 1";

/// An error whose message quotes `secret-4711`.
pub const QUOTING_ERROR: &str = "SELECT 'secret-4711'::int";

/// A table with a foreign key to `accounts`, on a connection that enforces it.
pub const OWNERS: &str = "CREATE TABLE owners (account INTEGER NOT NULL REFERENCES accounts (id))";

/// The code of a unique violation.
pub const UNIQUE_VIOLATION: &str = "23505";

/// The code of a write in a read-only transaction.
pub const READ_ONLY: &str = "25006";

/// Whether an operation in a savepoint can be read-only.
pub const READ_ONLY_IN_SAVEPOINT: bool = true;

/// Whether there is a statement timeout.
pub const STATEMENT_TIMEOUT: bool = true;
