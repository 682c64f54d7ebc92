//! Test beds on PostgreSQL: a schema each.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;

use crate::{ACCOUNTS, Number, Opponent, accounts, eventually, server_url, unique_name};

/// The connection of the sync adapter.
pub type Conn = PgConnection;

/// A schema of its own, with `accounts`.
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
    #[must_use]
    pub fn connect(&self) -> Conn {
        Conn::establish(&self.url).expect("the server answers")
    }

    /// A second session. It is never the victim of a deadlock.
    #[must_use]
    pub fn opponent(&self) -> Opponent {
        let mut conn = self.connect();
        conn.batch_execute("SET deadlock_timeout = '60s'")
            .expect("superuser");
        let id = Self::session_id(&mut conn);
        Opponent::new(conn, id)
    }

    /// The id of a session on the server.
    #[must_use]
    pub fn session_id(conn: &mut Conn) -> i64 {
        let row: Number = sql_query("SELECT pg_backend_pid()::bigint AS n")
            .get_result(conn)
            .expect("an id");
        row.n
    }

    /// Waits until this session waits for a lock.
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

    /// Ends a session from outside.
    pub fn kill(&self, session: i64) {
        sql_query(format!("SELECT pg_terminate_backend({session}::int)"))
            .execute(&mut self.connect())
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
