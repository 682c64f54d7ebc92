//! The start of a generated crate: what its sync operations share. run.sh adds one line for each
//! operation, such as `read!(operation_0, 0);`. The number is in the operation's code, because LLVM
//! merges functions that do the same.

use dbop_diesel::{OperationError, Runner, diesel_error_in};
use diesel::prelude::*;

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
fn balance(conn: &mut SqliteConnection, id: i32) -> QueryResult<i64> {
    accounts::table
        .find(id)
        .select(accounts::balance)
        .first(conn)
}

#[inline(never)]
fn owner(conn: &mut SqliteConnection, id: i32) -> QueryResult<String> {
    accounts::table.find(id).select(accounts::owner).first(conn)
}

#[inline(never)]
fn all(conn: &mut SqliteConnection) -> QueryResult<Vec<Account>> {
    accounts::table.load(conn)
}

#[inline(never)]
fn pay(conn: &mut SqliteConnection, id: i32, amount: i64) -> QueryResult<usize> {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(accounts::balance + amount))
        .execute(conn)
}

#[cfg(operation)]
const LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// How operations of this crate are run: `rustc --cfg bare`, or the method's name.
macro_rules! operation {
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty, |$conn:ident| $body:block) => {
        #[cfg(bare)]
        pub fn $name(conn: &mut SqliteConnection, $($argument: $type),*) -> Result<$result, Failure> {
            conn.transaction(|$conn| $body)
        }

        #[cfg(run)]
        pub fn $name(
            runner: &Runner,
            conn: &mut SqliteConnection,
            $($argument: $type),*
        ) -> Result<$result, Failure> {
            runner.run(conn, |$conn| $body)
        }

        #[cfg(operation)]
        pub fn $name(
            runner: &Runner,
            conn: &mut SqliteConnection,
            $($argument: $type),*
        ) -> Result<$result, Failure> {
            let operation = runner.operation(stringify!($name)).lock_timeout(LOCK_TIMEOUT);
            operation.run(conn, |$conn| $body)
        }

        #[cfg(run_on)]
        pub fn $name(
            runner: &Runner,
            pool: &fn() -> ConnectionResult<SqliteConnection>,
            $($argument: $type),*
        ) -> Result<$result, Failure> {
            runner.run_on(pool, |$conn| $body)
        }
    };
}

// The kinds of operations: each has another result, and no two operations have the same closure.

macro_rules! read {
    ($name:ident, $number:literal) => {
        operation!($name(id: i32) -> i64, |conn| {
            Ok(balance(conn, id + $number)?)
        });
    };
}

macro_rules! transfer {
    ($name:ident, $number:literal) => {
        operation!($name(from: i32, to: i32, amount: i64) -> (), |conn| {
            if balance(conn, from)? < amount + $number {
                return Err(Failure::NotEnough);
            }
            pay(conn, from, -amount)?;
            pay(conn, to, amount)?;
            Ok(())
        });
    };
}

macro_rules! name {
    ($name:ident, $number:literal) => {
        operation!($name(id: i32) -> String, |conn| {
            pay(conn, id, $number)?;
            Ok(owner(conn, id)?)
        });
    };
}

macro_rules! list {
    ($name:ident, $number:literal) => {
        operation!($name(amounts: &[i64]) -> Vec<Account>, |conn| {
            for (id, amount) in ($number..).zip(amounts) {
                pay(conn, id, *amount)?;
            }
            Ok(all(conn)?)
        });
    };
}
