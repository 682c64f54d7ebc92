//! An isolation level is really in force: by what the server says, and by what is seen of others.
//! A default never makes the session's own level weaker, and nothing is left of it afterwards.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{FaultClass, IsolationLevel};
use dbop_tests::{InstantClock, Opponent};
use diesel::QueryResult;

use super::effect::isolation_level;
use super::money::{balance, set};
use super::{
    Bed, Conn, Connection as _, Operation, Runner, SimpleConnection as _, backend, helper, scenario,
};

use IsolationLevel::{ReadCommitted, ReadUncommitted, RepeatableRead, Serializable};

const LEVELS: [IsolationLevel; 4] = [ReadUncommitted, ReadCommitted, RepeatableRead, Serializable];

const IS_POSTGRES: bool = backend::READ_ONLY_IN_SAVEPOINT;

#[helper]
async fn set_session(conn: &mut Conn, level: IsolationLevel) {
    let level = level.as_str();
    let sql = if IS_POSTGRES {
        format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}")
    } else {
        format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}")
    };
    conn.batch_execute(&sql).await.expect("allowed to");
}

/// What the server says about the transaction of an operation.
#[helper]
async fn seen(bed: &Bed, conn: &mut Conn, operation: Operation<'_>) -> String {
    let result: QueryResult<String> = operation
        .run(conn, async |conn: &mut Conn| {
            balance(conn, 1).await?;
            Ok(isolation_level(bed, conn).await)
        })
        .await;
    result.expect("done")
}

/// What it says about a transaction of the user's own.
#[helper]
async fn seen_without(bed: &Bed, conn: &mut Conn) -> String {
    let result: QueryResult<String> = conn
        .transaction(async |conn: &mut Conn| {
            balance(conn, 1).await?;
            Ok(isolation_level(bed, conn).await)
        })
        .await;
    result.expect("done")
}

#[scenario]
async fn the_server_says_that_it_is_the_one_asked_for() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_default_isolation(RepeatableRead);
    for session in [ReadCommitted, Serializable] {
        set_session(&mut conn, session).await;
        for level in LEVELS {
            let operation = runner.operation("own").isolation(level);
            let inside = seen(&bed, &mut conn, operation).await;
            assert_eq!(inside, level.as_str(), "where the session has {session:?}");
        }
        assert_eq!(seen_without(&bed, &mut conn).await, session.as_str());
    }
}

#[scenario]
async fn a_default_makes_it_stricter_only() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for session in LEVELS {
        set_session(&mut conn, session).await;
        for default in [ReadCommitted, RepeatableRead, Serializable] {
            let runner = Runner::default().with_default_isolation(default);
            let inside = seen(&bed, &mut conn, runner.operation("default")).await;
            let stricter = session.max(default);
            assert_eq!(inside, stricter.as_str(), "{session:?}, {default:?}");
        }
        assert_eq!(seen_without(&bed, &mut conn).await, session.as_str());
    }
}

/// What is read twice, while somebody else commits a change.
#[helper]
async fn reads(
    conn: &mut Conn,
    opponent: &Opponent,
    level: IsolationLevel,
) -> QueryResult<[i64; 2]> {
    Runner::default()
        .operation("read twice")
        .isolation(level)
        .run(conn, async |conn: &mut Conn| {
            let before = balance(conn, 1).await?;
            opponent.execute("UPDATE accounts SET balance = balance + 10 WHERE id = 1");
            Ok([before, balance(conn, 1).await?])
        })
        .await
}

#[scenario]
async fn what_others_commit_meanwhile_is_seen_below_repeatable_read() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = bed.connect();
    assert_eq!(
        reads(&mut conn, &opponent, ReadUncommitted).await,
        Ok([100, 110])
    );
    assert_eq!(
        reads(&mut conn, &opponent, ReadCommitted).await,
        Ok([110, 120])
    );
    assert_eq!(
        reads(&mut conn, &opponent, RepeatableRead).await,
        Ok([120, 120])
    );
    if IS_POSTGRES {
        assert_eq!(
            reads(&mut conn, &opponent, Serializable).await,
            Ok([130, 130])
        );
    }
}

/// What nobody has committed is seen by MySQL and MariaDB, at the level that says so.
#[scenario]
async fn what_others_have_not_committed_is_seen_where_the_server_says_so() {
    let bed = Bed::new();
    let opponent = bed.opponent();
    let mut conn = bed.connect();
    opponent.execute("BEGIN");
    opponent.execute("UPDATE accounts SET balance = 7 WHERE id = 1");
    let runner = Runner::default();
    for (level, expected) in [
        (ReadUncommitted, if IS_POSTGRES { 100 } else { 7 }),
        (ReadCommitted, 100),
        (RepeatableRead, 100),
    ] {
        let read: QueryResult<i64> = runner
            .operation("read")
            .isolation(level)
            .run(&mut conn, async |conn: &mut Conn| balance(conn, 1).await)
            .await;
        assert_eq!(read, Ok(expected), "{level:?}");
    }
    opponent.execute("ROLLBACK");
}

/// Both look at two accounts and change one each: together they do what neither of them would.
#[scenario]
async fn write_skew_is_refused_and_retried_when_serializable_only() {
    for (level, attempts) in [(RepeatableRead, 1), (Serializable, 2)] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        let opponent = bed.opponent();
        let bodies = AtomicU32::new(0);
        let report = Runner::default()
            .with_clock(InstantClock::new())
            .operation("withdraw")
            .isolation(level)
            .run_report(&mut conn, async |conn: &mut Conn| {
                let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
                let sum = balance(conn, 1).await? + balance(conn, 2).await?;
                if is_first {
                    skew(&bed, &opponent, level);
                }
                let changed = set(conn, 1, sum).await;
                if is_first && !IS_POSTGRES && level == Serializable {
                    opponent.finish().expect("it wins the deadlock");
                    opponent.execute("COMMIT");
                }
                changed
            })
            .await;
        assert_eq!(report.result, Ok(1), "{level:?}");
        assert_eq!((report.attempts, bodies.into_inner()), (attempts, attempts));
        if level == Serializable {
            let fault = report.failures[0].fault.expect("a database error");
            let expected = if IS_POSTGRES {
                FaultClass::SerializationFailure
            } else {
                FaultClass::Deadlock
            };
            assert_eq!(fault.class(), expected);
            assert_eq!(
                bed.balances()[..2],
                [(1, 100), (2, 0)],
                "one after the other"
            );
        } else {
            assert_eq!(bed.balances()[..2], [(1, 200), (2, 0)], "both at once");
        }
    }
}

/// What the opponent does. On MySQL and MariaDB a serializable transaction locks what it reads, so
/// that one of the two runs into a deadlock: not the opponent, which has changed more.
fn skew(bed: &Bed, opponent: &Opponent, level: IsolationLevel) {
    let change = "UPDATE accounts SET balance = 0 WHERE id = 2";
    let read = "SELECT * FROM accounts WHERE id < 3";
    if IS_POSTGRES {
        opponent.execute(&format!("BEGIN ISOLATION LEVEL {}", level.as_str()));
        opponent.execute(read);
        opponent.execute(change);
        opponent.execute("COMMIT");
        return;
    }
    opponent.execute(&format!(
        "SET TRANSACTION ISOLATION LEVEL {}",
        level.as_str()
    ));
    opponent.execute("BEGIN");
    opponent
        .execute("INSERT INTO ballast (x) VALUES (1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1),(1)");
    opponent.execute(read);
    if level == Serializable {
        opponent.start(change);
        bed.wait_until_blocked(opponent.id());
    } else {
        opponent.execute(change);
        opponent.execute("COMMIT");
    }
}

#[scenario]
async fn the_level_of_a_nested_operation_is_that_of_the_outermost() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_default_isolation(Serializable);
    let result: QueryResult<String> = runner
        .operation("outer")
        .isolation(ReadCommitted)
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .run(conn, async |conn: &mut Conn| {
                    balance(conn, 1).await?;
                    Ok(isolation_level(&bed, conn).await)
                })
                .await
        })
        .await;
    assert_eq!(result.as_deref(), Ok(ReadCommitted.as_str()));
}
