//! What most tests do with their accounts, on any kind of connection.

use dbop_diesel_async::SupportedConnection;
use dbop_tests::accounts;
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;

use super::Db;

pub(super) async fn add<C>(conn: &mut C, id: i32, amount: i64) -> QueryResult<usize>
where
    C: SupportedConnection<Backend = Db>,
{
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(accounts::balance + amount))
        .execute(conn)
        .await
}

pub(super) async fn balance<C>(conn: &mut C, id: i32) -> QueryResult<i64>
where
    C: SupportedConnection<Backend = Db>,
{
    accounts::table
        .find(id)
        .select(accounts::balance)
        .get_result(conn)
        .await
}

/// Takes 10 from the first account and gives them to the others, in three statements.
pub(super) async fn share_out<C>(conn: &mut C) -> QueryResult<()>
where
    C: SupportedConnection<Backend = Db>,
{
    add(conn, 1, -10).await?;
    add(conn, 2, 4).await?;
    add(conn, 3, 6).await?;
    Ok(())
}
