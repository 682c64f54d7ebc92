//! Errors of eyre, with what wraps them.

use diesel::result::Error;
use eyre::{WrapErr as _, ensure};

use super::locked::Locked;
use super::money::{add, balance};
use super::{Bed, Conn, helper, scenario};

#[helper]
async fn pay(conn: &mut Conn) -> eyre::Result<()> {
    add(conn, 1, -10).await.wrap_err("account 1")?;
    let left = balance(conn, 1).await.wrap_err("account 1")?;
    ensure!(left >= 90, "not enough money");
    add(conn, 2, 10).await.wrap_err("account 2")?;
    Ok(())
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
    assert!(error.downcast_ref::<Error>().is_none());
    assert_eq!(locked.attempts(), 1);
    assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);
}
