//! What the scenarios for MySQL and MariaDB ask the server, to know what to expect.

use super::steps::{number, variables};
use super::{Conn, helper};

/// Whether the server has this variable and it is ON.
#[helper]
pub(super) async fn is_on(conn: &mut Conn, variable: &str) -> bool {
    variables(conn, variable)
        .await
        .get(variable)
        .is_some_and(|value| value == "ON")
}

/// Whether a lock timeout rolls back the whole transaction on this server.
#[helper]
pub(super) async fn rolls_back_on_timeout(conn: &mut Conn) -> bool {
    is_on(conn, "innodb_rollback_on_timeout").await
}

/// Whether it is MariaDB, not MySQL.
#[helper]
pub(super) async fn is_mariadb(conn: &mut Conn) -> bool {
    number(conn, "@@version LIKE '%MariaDB%'").await == 1
}
