//! What the scenarios for MySQL and MariaDB share.

use std::collections::{BTreeMap, BTreeSet};

use dbop_diesel::{Dialect, FaultClass, fault_of};
use dbop_tests::mysql::BALLAST;
use dbop_tests::{Number, Opponent};
use diesel::result::Error;
use diesel::sql_types::Text;
use diesel::{QueryResult, QueryableByName, sql_query};

use super::money::add;
use super::{Bed, Conn, RunQueryDsl, helper};

/// A number that the session knows.
#[helper]
pub(super) async fn number(conn: &mut Conn, expression: &str) -> i64 {
    let row: Number = sql_query(format!("SELECT CAST({expression} AS SIGNED) AS n"))
        .get_result(conn)
        .await
        .expect("a number");
    row.n
}

/// The session's id on the server.
#[helper]
pub(super) async fn session_id(conn: &mut Conn) -> i64 {
    number(conn, "connection_id()").await
}

/// Somebody who holds account 2, waits for account 1 and wins every deadlock.
#[derive(Debug)]
pub(super) struct Winner(Opponent);

impl Winner {
    /// Waits for account 1, which the caller has to hold.
    pub(super) fn waiting(bed: &Bed) -> Self {
        let opponent = bed.opponent();
        opponent.execute("BEGIN");
        opponent.execute(BALLAST);
        opponent.execute("UPDATE accounts SET balance = balance + 1000 WHERE id = 2");
        opponent.start("UPDATE accounts SET balance = balance + 1000 WHERE id = 1");
        bed.wait_until_blocked(opponent.id());
        Self(opponent)
    }

    /// Has won, and leaves without a trace.
    pub(super) fn leave(self) {
        self.0.finish().expect("the opponent wins");
        self.0.execute("ROLLBACK");
    }
}

/// Loses a deadlock. The transaction has to hold account 1.
#[helper]
pub(super) async fn lose_deadlock(conn: &mut Conn, bed: &Bed) -> QueryResult<usize> {
    let winner = Winner::waiting(bed);
    let lost = add(conn, 2, 1).await;
    winner.leave();
    lost
}

/// Loses a deadlock, hides it and writes on to account 3.
#[helper]
pub(super) async fn hide_deadlock(
    conn: &mut Conn,
    bed: &Bed,
    ends_well: bool,
) -> QueryResult<usize> {
    lose_deadlock(conn, bed).await.expect_err("the victim");
    let added = add(conn, 3, 10).await;
    if ends_well {
        added
    } else {
        Err(Error::RollbackTransaction)
    }
}

/// Whether it is a deadlock. Diesel has a kind for it in some places only, dbop a class everywhere.
pub(super) fn is_deadlock(error: &Error) -> bool {
    let fault = fault_of(Dialect::Mysql, error);
    fault.is_some_and(|fault| fault.class() == FaultClass::Deadlock)
}

/// A variable as the server shows it.
#[derive(Debug, QueryableByName)]
struct Variable {
    #[diesel(sql_type = Text, column_name = "Variable_name")]
    name: String,
    #[diesel(sql_type = Text, column_name = "Value")]
    value: String,
}

/// The variables of the session whose names fit, by name.
#[helper]
pub(super) async fn variables(conn: &mut Conn, like: &str) -> BTreeMap<String, String> {
    let rows: Vec<Variable> = sql_query(format!("SHOW SESSION VARIABLES LIKE '{like}'"))
        .load(conn)
        .await
        .expect("an answer");
    rows.into_iter().map(|row| (row.name, row.value)).collect()
}

/// Everything that the server says about a session.
#[derive(Clone, Debug)]
pub(super) struct Session(BTreeMap<String, String>);

/// What the session is now.
#[helper]
pub(super) async fn session(conn: &mut Conn) -> Session {
    Session(variables(conn, "%").await)
}

impl Session {
    /// What is different later, but for what changes by itself.
    pub(super) fn changes(&self, later: &Self) -> Vec<String> {
        let names = self.0.keys().chain(later.0.keys()).collect::<BTreeSet<_>>();
        let different = names.into_iter().filter(|&name| {
            !CHANGING.contains(&name.as_str()) && self.0.get(name) != later.0.get(name)
        });
        different
            .map(|name| format!("{name}: {:?} -> {:?}", self.0.get(name), later.0.get(name)))
            .collect()
    }
}

/// Panics if the session is not what it was.
#[helper]
pub(super) async fn assert_unchanged(conn: &mut Conn, before: &Session) {
    let changes = before.changes(&session(conn).await);
    assert!(changes.is_empty(), "{changes:?}");
}

const CHANGING: [&str; 6] = [
    "gtid_binlog_pos",
    "gtid_binlog_state",
    "gtid_current_pos",
    "last_gtid",
    "statement_id",
    "timestamp",
];
