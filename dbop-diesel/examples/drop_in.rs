//! A hand-rolled retry loop, and the line that replaces it.
//!
//! `cargo test -p dbop-diesel --features sqlite --example drop_in` runs the same tests on both.

#![allow(clippy::print_stdout, reason = "an example that prints what it does")]
#![allow(missing_docs, reason = "`table!` makes items without documentation")]

use std::time::Duration;

use dbop_diesel::Runner;
use diesel::prelude::*;
use diesel::result::Error;

diesel::table! {
    accounts {
        id -> Integer,
        balance -> BigInt,
    }
}

/// What many applications have. It matches error texts and waits a fixed time, and must not be called
/// inside an open transaction.
fn transfer_by_hand(conn: &mut SqliteConnection, transfer: Transfer) -> QueryResult<()> {
    let mut retries = 0;
    loop {
        match conn.transaction(|conn| transfer.execute(conn)) {
            Err(Error::DatabaseError(_, info))
                if retries < 5 && info.message() == "database is locked" =>
            {
                retries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// The same with dbop.
fn transfer_with_dbop(conn: &mut SqliteConnection, transfer: Transfer) -> QueryResult<()> {
    Runner::default().run(conn, |conn| transfer.execute(conn))
}

#[derive(Clone, Copy)]
struct Transfer {
    from: i32,
    to: i32,
    amount: i64,
}

impl Transfer {
    fn execute(self, conn: &mut SqliteConnection) -> QueryResult<()> {
        let balance: i64 = accounts::table
            .find(self.from)
            .select(accounts::balance)
            .first(conn)?;
        if balance < self.amount {
            return Err(Error::RollbackTransaction);
        }
        for (id, change) in [(self.from, -self.amount), (self.to, self.amount)] {
            diesel::update(accounts::table.find(id))
                .set(accounts::balance.eq(accounts::balance + change))
                .execute(conn)?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bank = Bank::new()?;
    let mut conn = bank.connect()?;
    let transfer = Transfer {
        from: 1,
        to: 2,
        amount: 10,
    };
    transfer_by_hand(&mut conn, transfer)?;
    transfer_with_dbop(&mut conn, transfer)?;
    println!(
        "Two transfers, by hand and with dbop: {:?}",
        bank.balances()?
    );
    Ok(())
}

/// A database file with two accounts of 100 each.
struct Bank {
    directory: tempfile::TempDir,
}

impl Bank {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let bank = Self {
            directory: tempfile::tempdir()?,
        };
        diesel::connection::SimpleConnection::batch_execute(
            &mut bank.connect()?,
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL);
             INSERT INTO accounts VALUES (1, 100), (2, 100)",
        )?;
        Ok(bank)
    }

    fn connect(&self) -> ConnectionResult<SqliteConnection> {
        SqliteConnection::establish(&self.directory.path().join("bank.db").display().to_string())
    }

    fn balances(&self) -> Result<Vec<i64>, Box<dyn std::error::Error>> {
        let query = accounts::table
            .order(accounts::id)
            .select(accounts::balance);
        Ok(query.load(&mut self.connect()?)?)
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection as _;

    use super::*;

    type ToTest = fn(&mut SqliteConnection, Transfer) -> QueryResult<()>;
    const BOTH: [ToTest; 2] = [transfer_by_hand, transfer_with_dbop];

    fn transfer(amount: i64) -> Transfer {
        Transfer {
            from: 1,
            to: 2,
            amount,
        }
    }

    #[test]
    fn moves_the_money() {
        for run in BOTH {
            let bank = Bank::new().expect("a database");
            let mut conn = bank.connect().expect("a connection");
            assert_eq!(run(&mut conn, transfer(30)), Ok(()));
            assert_eq!(bank.balances().expect("an answer"), [70, 130]);
        }
    }

    #[test]
    fn refuses_without_a_trace() {
        for run in BOTH {
            let bank = Bank::new().expect("a database");
            let mut conn = bank.connect().expect("a connection");
            assert_eq!(
                run(&mut conn, transfer(101)),
                Err(Error::RollbackTransaction)
            );
            assert_eq!(bank.balances().expect("an answer"), [100, 100]);
        }
    }

    #[test]
    fn waits_for_another_writer() {
        for run in BOTH {
            let bank = Bank::new().expect("a database");
            let mut conn = bank.connect().expect("a connection");
            let mut other = bank.connect().expect("a connection");
            other.batch_execute("BEGIN IMMEDIATE").expect("the lock");
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| run(&mut conn, transfer(30)));
                std::thread::sleep(Duration::from_millis(30));
                other
                    .batch_execute("COMMIT")
                    .expect("the lock is given back");
                assert_eq!(waiting.join().expect("no panic"), Ok(()));
            });
            assert_eq!(bank.balances().expect("an answer"), [70, 130]);
        }
    }
}
