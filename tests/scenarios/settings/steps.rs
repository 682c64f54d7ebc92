//! What a session says about the timeouts in force.

use dbop_tests::Number;
use diesel::sql_query;

use super::{Conn, RunQueryDsl as _, SimpleConnection as _, backend, helper};

/// Its lock timeout and its statement timeout, in ms. Zero where there is none.
#[helper]
pub(super) async fn in_force(conn: &mut Conn) -> [i64; 2] {
    let queries = match backend::BACKEND {
        "postgresql" => [
            "SELECT setting::bigint AS n FROM pg_settings WHERE name = 'lock_timeout'",
            "SELECT setting::bigint AS n FROM pg_settings WHERE name = 'statement_timeout'",
        ],
        "mysql" => [
            "SELECT CAST(@@innodb_lock_wait_timeout * 1000 AS SIGNED) AS n",
            "SELECT CAST(/*M!100100 @@max_statement_time * 1000 */ \
             /*!80000 @@max_execution_time */ AS SIGNED) AS n",
        ],
        _ => [
            "SELECT timeout AS n FROM pragma_busy_timeout",
            "SELECT 0 AS n",
        ],
    };
    let mut found = [0; 2];
    for (found, query) in found.iter_mut().zip(queries) {
        let row: Number = sql_query(query).get_result(conn).await.expect("a setting");
        *found = row.n;
    }
    found
}

/// Has the user set the same two, to whole seconds. SQLite has only the first.
#[helper]
pub(super) async fn set_session(conn: &mut Conn, [lock, statement]: [i64; 2]) {
    let sql = match backend::BACKEND {
        "postgresql" => {
            format!("SET lock_timeout = '{lock}s'; SET statement_timeout = '{statement}s'")
        }
        "mysql" => format!(
            "SET SESSION innodb_lock_wait_timeout = {lock}, SESSION \
             /*M!100100 max_statement_time = {statement} */ \
             /*!80000 max_execution_time = {statement}000 */"
        ),
        _ => format!("PRAGMA busy_timeout = {lock}000"),
    };
    conn.batch_execute(&sql).await.expect("allowed to");
}
