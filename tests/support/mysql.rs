//! Test beds on MySQL and MariaDB: a database each.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, PooledConnection};
use diesel::sql_query;

use crate::{
    ACCOUNTS, Number, Opponent, Pooled, TestBed, accounts, eventually, server_url, unique_name,
};

/// Its dialect.
pub const DIALECT: dbop_core::Dialect = dbop_core::Dialect::Mysql;

/// The connection of the sync adapter.
pub type Conn = MysqlConnection;

/// A test bed that hands out pooled connections.
pub type PooledBed = Pooled<Bed, Conn>;

/// One of those.
pub type PooledConn = PooledConnection<ConnectionManager<Conn>>;

/// A database of its own, with `accounts`.
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
        let mut admin = MysqlConnection::establish(&server_url()).expect("the server answers");
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .expect("a new database");
        let (server, _) = server_url()
            .rsplit_once('/')
            .map(owned)
            .expect("a database in the URL");
        let bed = Self {
            url: format!("{server}/{name}"),
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
        let (server, name) = address.rsplit_once('/').expect("a database");
        format!(
            "mysql://{credentials}@{server}/{}",
            database.unwrap_or(name)
        )
    }

    /// Where it is on another server that has the same databases.
    ///
    /// # Panics
    ///
    /// If one of the URLs has no database.
    #[must_use]
    pub fn url_at(&self, server: &str) -> String {
        let (_, name) = self.url.rsplit_once('/').expect("a database");
        let (server, _) = server.rsplit_once('/').expect("a database");
        format!("{server}/{name}")
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
        let (_, name) = self.url.rsplit_once('/').expect("a database");
        self.connect()
            .batch_execute(&format!(
                "CREATE USER {name} IDENTIFIED BY '{name}' WITH MAX_USER_CONNECTIONS 1; \
                 GRANT ALL ON {name}.* TO {name}"
            ))
            .expect("allowed to");
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

    /// A second session. After [`BALLAST`] in its transaction it is never the victim of a deadlock.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    #[must_use]
    pub fn opponent(&self) -> Opponent {
        let mut conn = self.connect();
        // InnoDB picks the transaction that has changed the fewest rows.
        conn.batch_execute(
            "CREATE TABLE IF NOT EXISTS ballast (n INT AUTO_INCREMENT PRIMARY KEY, x INT)",
        )
        .expect("a new table");
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
    pub fn wait_until_blocked(&self, session: i64) {
        let is_blocked = |row: &Transaction| (row.session == session && row.waits).then_some(());
        self.wait_for("a session waits for a lock", is_blocked);
    }

    /// Waits until the server shows this session in this state.
    ///
    /// # Panics
    ///
    /// If that takes more than half a minute.
    pub fn wait_until_in_state(&self, session: i64, state: &str) {
        let mut conn = self.connect();
        eventually(state, || {
            let row: Number = sql_query(format!(
                "SELECT count(*) AS n FROM information_schema.processlist \
                 WHERE id = {session} AND state = '{state}'"
            ))
            .get_result(&mut conn)
            .expect("an answer");
            row.n == 1
        });
    }

    /// The isolation level of the transaction that this session has open and has read in, as the
    /// server calls it: `READ COMMITTED`.
    #[must_use]
    pub fn isolation_level(&self, session: i64) -> String {
        let level = |row: &Transaction| (row.session == session).then(|| row.isolation.clone());
        self.wait_for("a session is in a transaction", level)
    }

    fn wait_for<T>(&self, what: &str, find: impl Fn(&Transaction) -> Option<T>) -> T {
        let asked = Instant::now();
        let mut conn = self.connect();
        let mut found = None;
        eventually(what, || {
            let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.next_look.is_none_or(|next| Instant::now() >= next) {
                *seen = Seen::look(&mut conn);
            }
            if seen.looked_at > Some(asked) {
                found = seen.transactions.iter().find_map(&find);
            }
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// Ends a session from outside.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub fn kill(&self, session: i64) {
        self.connect()
            .batch_execute(&format!("KILL CONNECTION {session}"))
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
                "SELECT count(*) AS n FROM information_schema.processlist WHERE id = {session}"
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

/// Makes a transaction heavier than any other in these tests.
pub const BALLAST: &str = "INSERT INTO ballast (x) VALUES (1),(1),(1),(1),(1),(1),(1),(1),(1),(1),\
                           (1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1)";

/// Its name in records.
pub const BACKEND: &str = "mysql";

/// Asks for the id of the session.
pub const SESSION_ID: &str = "SELECT CAST(connection_id() AS SIGNED) AS n";

/// What every transaction of dbop begins with.
pub const BEGIN: &str = "START TRANSACTION";

/// No transaction of the session can write any more.
pub const READ_ONLY_SESSION: &str = "SET SESSION TRANSACTION READ ONLY";

/// Who the tests are on the servers of `tests/run.sh`.
pub const USER: &str = "dbop";

/// What a server answered that was full: code and message.
pub const NOT_NOW: &[(&str, &str)] = &[("1040", "Too many connections")];

/// What a server answered to a wrong password.
pub const WRONG_PASSWORD: (&str, &str) = (
    "1045",
    "Access denied for user 'dbop'@'127.0.0.1' (using password: YES)",
);

/// No SQL at all.
pub const SYNTAX_ERROR: &str = "SELEC 1";

/// An error of the data, which no schema could have foreseen.
pub const DATA_ERROR: &str = "UPDATE accounts SET balance = balance / 0 WHERE id = 1";

/// An error whose message quotes `secret-4711`.
pub const QUOTING_ERROR: &str = "INSERT INTO accounts (id, balance) VALUES (4, 'secret-4711')";

/// A table with a foreign key to `accounts`, on a connection that enforces it.
pub const OWNERS: &str = "CREATE TABLE owners (account INTEGER NOT NULL, \
                          FOREIGN KEY (account) REFERENCES accounts (id))";

/// The code of a unique violation.
pub const UNIQUE_VIOLATION: &str = "1062";

/// The code of a write in a read-only transaction.
pub const READ_ONLY: &str = "1792";

/// Whether an operation in a savepoint can be read-only.
pub const READ_ONLY_IN_SAVEPOINT: bool = false;

/// Whether there is a statement timeout.
pub const STATEMENT_TIMEOUT: bool = true;

/// The transactions of all sessions. All tests look together, and not often: the server shows a
/// copy, which it does not renew as long as somebody reads it more often than every 100 ms.
struct Seen {
    looked_at: Option<Instant>,
    next_look: Option<Instant>,
    transactions: Vec<Transaction>,
}

#[derive(QueryableByName)]
struct Transaction {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    session: i64,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    waits: bool,
    #[diesel(sql_type = diesel::sql_types::Text)]
    isolation: String,
}

static SEEN: Mutex<Seen> = Mutex::new(Seen {
    looked_at: None,
    next_look: None,
    transactions: Vec::new(),
});

impl Seen {
    fn look(conn: &mut Conn) -> Self {
        let looked_at = Instant::now();
        let transactions = sql_query(
            "SELECT CAST(trx_mysql_thread_id AS SIGNED) AS session, \
             trx_state = 'LOCK WAIT' AS waits, trx_isolation_level AS isolation \
             FROM information_schema.innodb_trx",
        )
        .load(conn)
        .expect("an answer");
        let now = Instant::now();
        // Not in step with whoever else looks at this server.
        let jitter = u64::from(now.duration_since(looked_at).subsec_nanos() % 64);
        Self {
            looked_at: Some(looked_at),
            next_look: Some(now + Duration::from_millis(110 + jitter)),
            transactions,
        }
    }
}

fn owned((left, right): (&str, &str)) -> (String, String) {
    (left.into(), right.into())
}
