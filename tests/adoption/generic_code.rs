//! Code that is generic over the connection.

use dbop_tests::accounts;
use diesel::QueryResult;
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel::sqlite::Sqlite;

use super::locked::Locked;
use super::{Bed, Conn, RunQueryDsl, Runner, SupportedConnection, helper, scenario};

#[helper]
async fn add<C>(conn: &mut C, account: i32, amount: i64) -> QueryResult<usize>
where
    C: SupportedConnection<Backend = Sqlite>,
{
    diesel::update(accounts::table.find(account))
        .set(accounts::balance.eq(accounts::balance + amount))
        .execute(conn)
        .await
}

/// The second half is a step of its own, in a savepoint.
#[helper]
async fn pay<C>(runner: &Runner, conn: &mut C, from: i32, to: i32) -> QueryResult<usize>
where
    C: SupportedConnection<Backend = Sqlite>,
{
    let paying = runner.operation("pay");
    paying
        .run(conn, async |conn: &mut C| {
            match add(conn, from, -10).await? {
                0 => Err(diesel::result::Error::NotFound),
                _ => credit(runner, conn, to).await,
            }
        })
        .await
}

#[helper]
async fn credit<C: SupportedConnection<Backend = Sqlite>>(
    runner: &Runner,
    conn: &mut C,
    account: i32,
) -> QueryResult<usize> {
    let crediting = runner.operation("credit");
    crediting
        .run(conn, async |conn: &mut C| add(conn, account, 10).await)
        .await
}

#[scenario]
async fn a_busy_lock_is_retried_and_a_missing_account_is_not() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let runner = locked.runner();
    let mut conn: Conn = bed.connect();
    assert_eq!(pay(&runner, &mut conn, 1, 2).await, Ok(1));
    assert_eq!((locked.name().as_str(), locked.attempts()), ("pay", 2));
    assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);

    let missing = pay(&runner, &mut conn, 4, 2).await;
    assert_eq!(missing, Err(diesel::result::Error::NotFound));
    assert_eq!((locked.name().as_str(), locked.attempts()), ("pay", 1));
}
