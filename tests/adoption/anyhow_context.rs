//! Errors of anyhow: with context, and around errors that are transparent.

use anyhow::{Context as _, ensure};
use diesel::QueryResult;

use super::locked::Locked;
use super::money::{add, balance};
use super::{Bed, Conn, helper, scenario};

/// What the layer below the service returns. Its variant hides Diesel's error from `source()`.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Database(#[from] diesel::result::Error),
}

#[helper]
async fn store(conn: &mut Conn, account: i32, amount: i64) -> Result<(), StoreError> {
    add(conn, account, amount).await?;
    Ok(())
}

#[helper]
async fn pay(conn: &mut Conn) -> anyhow::Result<()> {
    store(conn, 1, -10).await.context("account 1")?;
    let left: QueryResult<i64> = balance(conn, 1).await;
    ensure!(left.context("account 1")? >= 90, "not enough money");
    let paid = store(conn, 2, 10).await;
    paid.context("account 2").context("the payment")
}

#[scenario]
async fn a_busy_lock_is_retried_and_a_refusal_is_not() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let runner = locked.runner();
    let mut conn = bed.connect();
    let paid = runner.run(&mut conn, pay).await;
    paid.expect("paid");
    assert_eq!(locked.attempts(), 2);

    let refused = runner.run(&mut conn, pay).await;
    let error = refused.expect_err("there is too little");
    assert_eq!(error.to_string(), "not enough money");
    assert_eq!(locked.attempts(), 1);
    assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);
}
