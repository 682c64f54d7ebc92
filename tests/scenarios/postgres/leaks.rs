//! PostgreSQL brings back most settings by itself; what dbop sets for the session and puts back is
//! right also where a transaction could not begin or not be committed, and where the caller has
//! settings of his own.

use dbop_tests::InstantClock;
use dbop_tests::session::Session;
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance, insert};
use super::sessions::{Trouble, assert_unchanged, operations, runners, session, sessions};
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, helper, scenario};

fn runner() -> Runner {
    Runner::default().with_clock(InstantClock::new())
}

/// A foreign key is violated, which is found at the end.
#[scenario]
async fn nothing_is_left_of_a_transaction_that_could_not_be_committed() {
    let bed = Bed::new();
    bed.opponent().execute(
        "CREATE TABLE owners (account INTEGER NOT NULL REFERENCES accounts (id) \
         DEFERRABLE INITIALLY DEFERRED)",
    );
    for sql in sessions().into_iter().take(3) {
        let mut conn = bed.connect();
        conn.batch_execute(sql).await.expect("it can be set");
        let before = session(&mut conn).await;
        for runner in runners(&runner()) {
            for operation in operations(&runner) {
                let result: Result<(), Trouble> = operation
                    .run(&mut conn, async |conn: &mut Conn| {
                        conn.batch_execute("INSERT INTO owners VALUES (77)").await?;
                        Ok(())
                    })
                    .await;
                result.expect_err("there is no such account");
                assert_unchanged(&mut conn, &before, &format!("{operation:?}")).await;
            }
        }
    }
}

/// Somebody has begun one in SQL, which Diesel does not know.
#[scenario]
async fn nothing_is_left_of_a_transaction_that_could_not_begin() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    conn.batch_execute("SET app.tenant = 'somebody'; SET lock_timeout = '2h'")
        .await
        .expect("it can be set");
    let before = session(&mut conn).await;
    for runner in runners(&runner()) {
        for operation in operations(&runner) {
            conn.batch_execute("BEGIN; SELECT FROM accounts")
                .await
                .expect("open");
            let result: Result<i64, Trouble> = operation
                .run(&mut conn, async |conn: &mut Conn| {
                    Ok(balance(conn, 1).await?)
                })
                .await;
            drop(result);
            conn.batch_execute("ROLLBACK").await.expect("closed");
            assert_unchanged(&mut conn, &before, &format!("{operation:?}")).await;
        }
    }
}

/// The caller goes on in a transaction that is aborted already.
#[scenario]
async fn nor_of_a_step_that_could_not_begin() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let before = session(&mut conn).await;
    for runner in runners(&runner()) {
        for operation in operations(&runner) {
            let result: QueryResult<()> = conn
                .transaction(async |conn: &mut Conn| {
                    insert(conn, 1).await.expect_err("a unique violation");
                    let step: Result<i64, Trouble> = operation
                        .run(conn, async |conn: &mut Conn| Ok(balance(conn, 1).await?))
                        .await;
                    step.expect_err("the transaction is aborted");
                    Err(Error::RollbackTransaction)
                })
                .await;
            assert_eq!(result, Err(Error::RollbackTransaction));
            assert_unchanged(&mut conn, &before, &format!("{operation:?}")).await;
        }
    }
}

/// `SET LOCAL` ends with the transaction and `SET` does not, unless it is rolled back; steps in
/// between make no difference.
#[scenario]
async fn the_callers_own_set_and_set_local_are_as_if_there_had_been_no_steps() {
    let bed = Bed::new();
    for own in [
        "SET LOCAL lock_timeout = '7s'; SET LOCAL statement_timeout = '70s'",
        "SET lock_timeout = '7s'; SET statement_timeout = '70s'",
        "SET lock_timeout = '7s'; SET LOCAL lock_timeout = '6s'; SET app.tenant = 'somebody'",
        "SET LOCAL lock_timeout = '7s'; SET default_transaction_isolation = 'serializable'",
        "SET TRANSACTION READ ONLY",
    ] {
        for commits in [true, false] {
            let without = after_the_callers_transaction(&bed, own, None, commits).await;
            for runner in runners(&runner()) {
                let with = after_the_callers_transaction(&bed, own, Some(&runner), commits).await;
                for (without, with) in without.iter().zip(&with) {
                    let changes = without.changes(with);
                    assert!(changes.is_empty(), "{own}, {commits}: {changes:#?}");
                }
            }
        }
    }
}

/// What the session is at the end of the transaction, and after it.
#[helper]
async fn after_the_callers_transaction(
    bed: &Bed,
    own: &str,
    runner: Option<&Runner>,
    commits: bool,
) -> [Session; 2] {
    let mut conn = bed.connect();
    let mut at_the_end = Session::default();
    let result: QueryResult<()> = conn
        .transaction(async |conn: &mut Conn| {
            steps(conn, runner).await;
            conn.batch_execute(own).await?;
            steps(conn, runner).await;
            at_the_end = session(conn).await;
            match commits {
                true => Ok(()),
                false => Err(Error::RollbackTransaction),
            }
        })
        .await;
    assert_eq!(result.is_ok(), commits);
    [at_the_end, session(&mut conn).await]
}

#[helper]
async fn steps(conn: &mut Conn, runner: Option<&Runner>) {
    for operation in runner.map(operations).unwrap_or_default() {
        let kept: Result<i64, Trouble> = operation
            .run(conn, async |conn: &mut Conn| Ok(balance(conn, 1).await?))
            .await;
        drop(kept);
        let undone: Result<usize, Trouble> = operation
            .run(conn, async |conn: &mut Conn| {
                add(conn, 1, 1).await?;
                Err(Trouble::Own)
            })
            .await;
        undone.expect_err("as it says");
    }
}
