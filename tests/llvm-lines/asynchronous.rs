//! The start of a generated crate: what its async operations share. run.sh adds one line for each
//! operation, such as `read!(operation_0, 0);`. The number is in the operation's code, because LLVM
//! merges functions that do the same.

use std::future::Future;
use std::pin::Pin;

use dbop_diesel_async::{OperationError, Runner, diesel_error_in};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

/// What a service's router makes of each handler, which has them compiled here.
type Boxed<'a, R> = Pin<Box<dyn Future<Output = R> + Send + 'a>>;

diesel::table! {
    accounts {
        id -> Integer,
        balance -> BigInt,
        owner -> Text,
    }
}

#[derive(Debug, Queryable)]
pub struct Account {
    pub id: i32,
    pub balance: i64,
    pub owner: String,
}

#[derive(Debug)]
pub enum Failure {
    NotEnough,
    Database(diesel::result::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no transfer")
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotEnough => None,
            Self::Database(error) => Some(error),
        }
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

impl OperationError for Failure {
    fn diesel_error(&self) -> Option<&diesel::result::Error> {
        diesel_error_in(self)
    }
}

// The statements are not what is measured, so each of them exists once.

#[inline(never)]
fn balance(conn: &mut AsyncPgConnection, id: i32) -> Boxed<'_, QueryResult<i64>> {
    Box::pin(async move {
        accounts::table
            .find(id)
            .select(accounts::balance)
            .first(conn)
            .await
    })
}

#[inline(never)]
fn owner(conn: &mut AsyncPgConnection, id: i32) -> Boxed<'_, QueryResult<String>> {
    Box::pin(async move {
        accounts::table
            .find(id)
            .select(accounts::owner)
            .first(conn)
            .await
    })
}

#[inline(never)]
fn all(conn: &mut AsyncPgConnection) -> Boxed<'_, QueryResult<Vec<Account>>> {
    Box::pin(async move { accounts::table.load(conn).await })
}

#[inline(never)]
fn pay(conn: &mut AsyncPgConnection, id: i32, amount: i64) -> Boxed<'_, QueryResult<usize>> {
    Box::pin(async move {
        diesel::update(accounts::table.find(id))
            .set(accounts::balance.eq(accounts::balance + amount))
            .execute(conn)
            .await
    })
}

#[cfg(operation)]
const LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(run_on)]
pub type Connect = fn() -> Boxed<'static, ConnectionResult<AsyncPgConnection>>;

/// How operations of this crate are run: `rustc --cfg bare`, or the method's name.
macro_rules! operation {
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty, |$conn:ident| $body:block) => {
        #[cfg(bare)]
        pub fn $name<'a>(
            conn: &'a mut AsyncPgConnection,
            $($argument: $type),*
        ) -> Boxed<'a, Result<$result, Failure>> {
            Box::pin(async move { conn.transaction(async |$conn| $body).await })
        }

        #[cfg(run)]
        pub fn $name<'a>(
            runner: &'a Runner,
            conn: &'a mut AsyncPgConnection,
            $($argument: $type),*
        ) -> Boxed<'a, Result<$result, Failure>> {
            Box::pin(async move { runner.run(conn, async |$conn| $body).await })
        }

        #[cfg(operation)]
        pub fn $name<'a>(
            runner: &'a Runner,
            conn: &'a mut AsyncPgConnection,
            $($argument: $type),*
        ) -> Boxed<'a, Result<$result, Failure>> {
            Box::pin(async move {
                let operation = runner.operation(stringify!($name)).lock_timeout(LOCK_TIMEOUT);
                operation.run(conn, async |$conn| $body).await
            })
        }

        #[cfg(run_on)]
        pub fn $name<'a>(
            runner: &'a Runner,
            connect: &'a Connect,
            $($argument: $type),*
        ) -> Boxed<'a, Result<$result, Failure>> {
            Box::pin(async move { runner.run_on(connect, async |$conn| $body).await })
        }
    };
}

// The kinds of operations: each has another result, and no two operations have the same closure.

macro_rules! read {
    ($name:ident, $number:literal) => {
        operation!($name(id: i32) -> i64, |conn| {
            Ok(balance(conn, id + $number).await?)
        });
    };
}

macro_rules! transfer {
    ($name:ident, $number:literal) => {
        operation!($name(from: i32, to: i32, amount: i64) -> (), |conn| {
            if balance(conn, from).await? < amount + $number {
                return Err(Failure::NotEnough);
            }
            pay(conn, from, -amount).await?;
            pay(conn, to, amount).await?;
            Ok(())
        });
    };
}

macro_rules! name {
    ($name:ident, $number:literal) => {
        operation!($name(id: i32) -> String, |conn| {
            pay(conn, id, $number).await?;
            Ok(owner(conn, id).await?)
        });
    };
}

macro_rules! list {
    ($name:ident, $number:literal) => {
        operation!($name(amounts: &'a [i64]) -> Vec<Account>, |conn| {
            for (id, amount) in ($number..).zip(amounts) {
                pay(conn, id, *amount).await?;
            }
            Ok(all(conn).await?)
        });
    };
}
