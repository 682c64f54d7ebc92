//! What the scenarios for SQLite share.

use std::sync::Arc;

use dbop_tests::{Meanwhile, Number, Opponent};
use diesel::sql_query;

use super::{Bed, Conn, RunQueryDsl as _, helper};

/// What a pragma of the connection is.
#[helper]
pub(super) async fn pragma(conn: &mut Conn, name: &str) -> i64 {
    let column = if name == "busy_timeout" {
        "timeout"
    } else {
        name
    };
    let row: Number = sql_query(format!("SELECT {column} AS n FROM pragma_{name}"))
        .get_result(conn)
        .await
        .expect("a number");
    row.n
}

/// The pragmas that dbop changes.
#[helper]
pub(super) async fn pragmas(conn: &mut Conn) -> [i64; 2] {
    [
        pragma(conn, "busy_timeout").await,
        pragma(conn, "query_only").await,
    ]
}

/// Somebody who has the write lock, and a change to account 3 that is not committed yet.
pub(super) fn writer(bed: &Bed) -> Opponent {
    let opponent = bed.opponent();
    opponent.execute("BEGIN IMMEDIATE; UPDATE accounts SET balance = balance + 1000 WHERE id = 3");
    opponent
}

/// A clock: this opponent commits during this sleep, counted from 1.
pub(super) fn commits_during(sleep: usize, opponent: Opponent) -> Arc<Meanwhile> {
    Meanwhile::new(move |number| {
        if number == sleep {
            opponent.execute("COMMIT");
        }
    })
}
