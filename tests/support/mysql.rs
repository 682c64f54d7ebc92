//! Test beds on MySQL and MariaDB: a database each.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;

use crate::{ACCOUNTS, Number, Opponent, accounts, eventually, server_url, unique_name};

/// The connection of the sync adapter.
pub type Conn = MysqlConnection;

/// A database of its own, with `accounts`.
#[derive(Debug)]
pub struct Bed {
    url: String,
}

impl Bed {
    /// A fresh one.
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
    #[must_use]
    pub fn connect(&self) -> Conn {
        Conn::establish(&self.url).expect("the server answers")
    }

    /// A second session. After [`BALLAST`] in its transaction it is never the victim of a deadlock.
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
    #[must_use]
    pub fn session_id(conn: &mut Conn) -> i64 {
        let row: Number = sql_query("SELECT CAST(connection_id() AS SIGNED) AS n")
            .get_result(conn)
            .expect("an id");
        row.n
    }

    /// Waits until this session waits for a lock.
    pub fn wait_until_blocked(&self, session: i64) {
        let mut conn = self.connect();
        eventually("a session waits for a lock", || {
            let row: Number = sql_query(format!(
                "SELECT count(*) AS n FROM information_schema.innodb_trx \
                 WHERE trx_mysql_thread_id = {session} AND trx_state = 'LOCK WAIT'"
            ))
            .get_result(&mut conn)
            .expect("an answer");
            row.n == 1
        });
    }

    /// Ends a session from outside.
    pub fn kill(&self, session: i64) {
        self.connect()
            .batch_execute(&format!("KILL CONNECTION {session}"))
            .expect("allowed to");
    }

    /// The balances, in order, as a session of its own sees them.
    #[must_use]
    pub fn balances(&self) -> Vec<(i32, i64)> {
        accounts::table
            .order(accounts::id)
            .load(&mut self.connect())
            .expect("an answer")
    }
}

/// Makes a transaction heavier than any other in these tests.
pub const BALLAST: &str = "INSERT INTO ballast (x) VALUES (1),(1),(1),(1),(1),(1),(1),(1),(1),(1),\
                           (1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1)";

fn owned((left, right): (&str, &str)) -> (String, String) {
    (left.into(), right.into())
}
