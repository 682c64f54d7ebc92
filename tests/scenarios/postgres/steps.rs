//! What the scenarios on PostgreSQL have in common.

use std::sync::Arc;

use dbop_tests::{Meanwhile, Number, Opponent, Word};
use diesel::sql_query;

use super::{Bed, Conn, RunQueryDsl, SimpleConnection as _, helper};

/// A connection that finds its deadlocks soon.
#[helper]
pub(super) async fn connect(bed: &Bed) -> Conn {
    let mut conn = bed.connect();
    conn.batch_execute("SET deadlock_timeout = '20ms'")
        .await
        .expect("superuser");
    conn
}

/// Its id on the server.
#[helper]
pub(super) async fn session_id(conn: &mut Conn) -> i64 {
    let row: Number = sql_query("SELECT pg_backend_pid()::bigint AS n")
        .get_result(conn)
        .await
        .expect("an id");
    row.n
}

/// What it has to say about a setting.
#[helper]
pub(super) async fn show(conn: &mut Conn, setting: &str) -> String {
    let row: Word = sql_query(format!("SELECT current_setting('{setting}') AS s"))
        .get_result(conn)
        .await
        .expect("a setting");
    row.s
}

/// Its `lock_timeout` and `statement_timeout`.
#[helper]
pub(super) async fn timeouts(conn: &mut Conn) -> [String; 2] {
    [
        show(conn, "lock_timeout").await,
        show(conn, "statement_timeout").await,
    ]
}

/// A clock: during this sleep, counted from 1, the opponent gets the lock that it has been waiting
/// for, and commits.
pub(super) fn opponent_goes_on_during(
    sleep: usize,
    bed: &Arc<Bed>,
    opponent: &Arc<Opponent>,
) -> Arc<Meanwhile> {
    let (bed, opponent) = (Arc::clone(bed), Arc::clone(opponent));
    Meanwhile::new(move |number| {
        if number == sleep {
            bed.wait_until_free(opponent.id());
            opponent.finish().expect("it got its lock");
            opponent.execute("COMMIT");
        }
    })
}

/// A clock: during the first sleep the opponent commits what it holds locks with.
pub(super) fn opponent_commits(opponent: &Arc<Opponent>) -> Arc<Meanwhile> {
    let opponent = Arc::clone(opponent);
    Meanwhile::new(move |number| {
        if number == 1 {
            opponent.execute("COMMIT");
        }
    })
}
