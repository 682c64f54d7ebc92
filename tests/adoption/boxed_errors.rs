//! Errors in a box, of whatever type.

use std::io;

use diesel::result::DatabaseErrorKind::UniqueViolation;
use diesel::result::Error;

use super::locked::Locked;
use super::money::{add, insert};
use super::{Bed, BoxedError, Conn, helper, scenario};

#[helper]
async fn pay(conn: &mut Conn) -> Result<usize, BoxedError> {
    add(conn, 1, -10).await?;
    Ok(add(conn, 2, 10).await.map_err(io::Error::other)?)
}

#[helper]
async fn open(conn: &mut Conn) -> Result<usize, BoxedError> {
    Ok(insert(conn, 1).await?)
}

#[scenario]
async fn a_busy_lock_is_retried_and_a_duplicate_is_not() {
    let bed = Bed::new();
    let locked = Locked::new(&bed);
    let runner = locked.runner();
    let mut conn = bed.connect();
    let paid = runner.run(&mut conn, pay).await;
    assert_eq!(paid.expect("paid"), 1);
    assert_eq!(locked.attempts(), 2);
    assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)]);

    let opened = runner.run(&mut conn, open).await;
    let error = opened.expect_err("there is one");
    let error = error.downcast_ref::<Error>().expect("Diesel's, unchanged");
    assert!(matches!(error, Error::DatabaseError(UniqueViolation, _)));
    assert_eq!(locked.attempts(), 1);
}
