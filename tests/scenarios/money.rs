//! What most scenarios do with their accounts.

use dbop_tests::accounts;
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};

use super::{Conn, RunQueryDsl, helper};

#[helper]
pub(super) async fn set(conn: &mut Conn, id: i32, balance: i64) -> QueryResult<usize> {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(balance))
        .execute(conn)
        .await
}

#[helper]
pub(super) async fn add(conn: &mut Conn, id: i32, amount: i64) -> QueryResult<usize> {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(accounts::balance + amount))
        .execute(conn)
        .await
}

#[helper]
pub(super) async fn balance(conn: &mut Conn, id: i32) -> QueryResult<i64> {
    accounts::table
        .find(id)
        .select(accounts::balance)
        .get_result(conn)
        .await
}

/// Opens an account. Those of the test bed exist already: a unique violation.
#[helper]
pub(super) async fn insert(conn: &mut Conn, id: i32) -> QueryResult<usize> {
    diesel::insert_into(accounts::table)
        .values((accounts::id.eq(id), accounts::balance.eq(0)))
        .execute(conn)
        .await
}
