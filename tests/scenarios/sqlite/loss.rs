//! Some errors make SQLite roll back the whole transaction by itself: `ON CONFLICT ROLLBACK`, a
//! full disk. A step that meets one takes everything before it along, and that is noticed: no step
//! is kept without those before it, and nothing that is written afterwards.

use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{OperationError as _, Outcome, StopReason};
use dbop_tests::{InstantClock, assert_unknown, is_lost};
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::add;
use super::{Bed, Conn, Connection as _, RunQueryDsl as _, Runner, SimpleConnection as _};
use super::{depth, helper, scenario};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

/// Statements that end the transaction, with what SQLite says, and what is known after that. Most
/// constraints end nothing, so that one can as well have been violated after a COMMIT.
const ENDINGS: [(&str, &str, Outcome); 2] = [
    (
        "INSERT OR ROLLBACK INTO accounts VALUES (1, 0)",
        "UNIQUE constraint failed: accounts.id",
        Outcome::Unknown,
    ),
    (
        "INSERT INTO accounts VALUES (4, zeroblob(1000000))",
        "database or disk is full",
        Outcome::Undone,
    ),
];

/// What comes after the end of the transaction, and what is known then.
const AFTERWARDS: [(&str, Outcome); 2] = [
    (
        "UPDATE accounts SET balance = 7 WHERE id = 3",
        Outcome::Unknown,
    ),
    ("SELECT 1", Outcome::Undone),
];

/// It is the error of SQLite, or dbop's own with that, or that of a step, as its source.
fn assert_says(error: &Error, says: &str, outcome: Outcome) {
    let said = match error.dbop_error() {
        Some(own) => {
            assert!(own.is_outcome_unknown(), "{own}");
            assert_eq!(outcome, Outcome::Unknown);
            let source = own.source().expect("a source").to_string();
            if source == own.to_string() {
                says.to_owned()
            } else {
                source
            }
        }
        None => {
            assert_eq!(outcome, Outcome::Undone);
            error.to_string()
        }
    };
    assert_eq!(said, says);
}

/// A connection to a disk that is full.
#[helper]
async fn connect(bed: &Bed) -> Conn {
    let mut conn = bed.connect();
    conn.batch_execute("PRAGMA max_page_count = 1")
        .await
        .expect("set");
    conn
}

#[helper]
async fn execute(conn: &mut Conn, statement: &str) -> QueryResult<usize> {
    sql_query(statement).execute(conn).await
}

#[scenario]
async fn at_top_level_the_error_is_reported_and_all_is_undone() {
    for (ending, says, outcome) in ENDINGS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let runner = Runner::default().with_clock(InstantClock::new());
        let bodies = AtomicU32::new(0);
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 2, 10).await?;
                execute(conn, ending).await
            })
            .await;
        let error = report.result.expect_err(ending);
        assert_says(&error, says, outcome);
        if outcome == Outcome::Undone {
            assert_eq!(report.stop, StopReason::NotRetryable);
        }
        assert_eq!(report.outcome, outcome);
        assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
        assert_eq!(bed.balances(), UNTOUCHED);
        let next = runner
            .run(&mut conn, async |conn: &mut Conn| add(conn, 2, 10).await)
            .await;
        assert_eq!(next, Ok(1));
    }
}

#[scenario]
async fn at_top_level_a_body_that_swallows_it_gets_no_ok() {
    let bed = Bed::new();
    let mut conn = connect(&bed).await;
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 2, 10).await?;
            execute(conn, ENDINGS[0].0).await.expect_err("taken");
            QueryResult::Ok(())
        })
        .await;
    assert_unknown(&report);
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances(), UNTOUCHED);
    assert_eq!(depth(&mut conn), Some(0));
}

#[scenario]
async fn in_a_step_the_error_goes_up_and_all_is_undone() {
    for (ending, says, outcome) in ENDINGS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let runner = Runner::default().with_clock(InstantClock::new());
        let [outer, step] = [const { AtomicU32::new(0) }; 2];
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                outer.fetch_add(1, Ordering::Relaxed);
                add(conn, 2, 10).await?;
                runner
                    .run(conn, async |conn: &mut Conn| {
                        step.fetch_add(1, Ordering::Relaxed);
                        execute(conn, ending).await
                    })
                    .await
            })
            .await;
        let error = report.result.expect_err(ending);
        assert_says(&error, says, outcome);
        assert_eq!(report.outcome, outcome);
        assert_eq!([outer, step].map(AtomicU32::into_inner), [1, 1]);
        assert_eq!(bed.balances(), UNTOUCHED);
        let next = runner
            .run(&mut conn, async |conn: &mut Conn| add(conn, 2, 10).await)
            .await;
        assert_eq!(next, Ok(1), "the connection is as good as before");
    }
}

#[scenario]
async fn an_outer_body_that_swallows_it_and_writes_on_gets_no_ok_and_keeps_nothing() {
    for (ending, _, outcome) in ENDINGS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let runner = Runner::default().with_clock(InstantClock::new());
        let bodies = AtomicU32::new(0);
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                let step: QueryResult<usize> = runner
                    .operation("step")
                    .fallback(77)
                    .run(conn, async |conn: &mut Conn| execute(conn, ending).await)
                    .await;
                step.expect_err("no fallback in a lost transaction");
                let further: QueryResult<usize> = runner
                    .run(conn, async |conn: &mut Conn| {
                        bodies.fetch_add(1, Ordering::Relaxed);
                        add(conn, 1, 10).await
                    })
                    .await;
                let refusal = further.expect_err("refused");
                assert!(is_lost(&refusal), "{refusal}");
                let written = add(conn, 3, 10).await;
                assert_eq!(written, Ok(1), "SQLite lets it pass");
                assert_eq!(bed.balances(), UNTOUCHED, "contained");
                written
            })
            .await;
        let error = report.result.expect_err("half of it is lost");
        let own = error.dbop_error().expect("dbop's own");
        match outcome {
            Outcome::Undone => assert!(own.is_transaction_lost(), "{own}"),
            _ => assert!(own.is_outcome_unknown(), "{own}"),
        }
        assert_eq!(report.outcome, outcome);
        assert_eq!(bodies.into_inner(), 0);
        assert_eq!(bed.balances(), UNTOUCHED);
        assert_eq!(depth(&mut conn), Some(0));
        let next = runner
            .run(&mut conn, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        assert_eq!(next, Ok(1));
    }
}

#[scenario]
async fn in_the_callers_transaction_nothing_is_kept_and_the_connection_refuses() {
    for (ending, says, outcome) in ENDINGS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let runner = Runner::default();
        let result: QueryResult<usize> = conn
            .transaction(async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                let step = runner
                    .run_report(conn, async |conn: &mut Conn| execute(conn, ending).await)
                    .await;
                assert_eq!(step.outcome, outcome);
                assert_says(&step.result.expect_err(ending), says, outcome);
                let written = add(conn, 3, 10).await;
                assert_eq!(written, Ok(1), "SQLite lets it pass");
                written
            })
            .await;
        assert!(
            matches!(result, Err(Error::BrokenTransactionManager)),
            "swallowed by the caller: {result:?}"
        );
        assert_eq!(depth(&mut conn), None);
        assert_eq!(bed.balances(), UNTOUCHED);
        drop(conn);
        assert_eq!(bed.balances(), UNTOUCHED);
    }
}

#[scenario]
async fn a_constraint_that_ends_only_its_statement_leaves_what_was_before() {
    let bed = Bed::new();
    let mut conn = connect(&bed).await;
    let runner = Runner::default();
    let result: QueryResult<usize> = conn
        .transaction(async |conn: &mut Conn| {
            add(conn, 2, 10).await?;
            let step: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| {
                    execute(conn, "INSERT INTO accounts VALUES (1, 0)").await
                })
                .await;
            step.expect_err("taken");
            add(conn, 3, 10).await
        })
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bed.balances(), [(1, 100), (2, 110), (3, 110)]);
}

/// Diesel itself notices the end of the transaction when a statement was sent as text.
#[scenario]
async fn at_top_level_a_statement_sent_as_text_is_no_different() {
    for (ending, says, outcome) in ENDINGS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let report = Runner::default()
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                conn.batch_execute(ending).await
            })
            .await;
        assert_says(&report.result.expect_err(ending), says, outcome);
        assert_eq!(report.outcome, outcome);
        assert_eq!(bed.balances(), UNTOUCHED);
        assert_eq!(depth(&mut conn), Some(0));
    }
}

#[scenario]
async fn in_a_step_a_statement_sent_as_text_is_no_different() {
    for (ending, says, outcome) in ENDINGS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let runner = Runner::default();
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                let step: QueryResult<()> = runner
                    .run(conn, async |conn: &mut Conn| {
                        conn.batch_execute(ending).await
                    })
                    .await;
                let written = add(conn, 3, 10).await;
                assert_eq!(written, Ok(1), "SQLite lets it pass");
                step
            })
            .await;
        assert_says(&report.result.expect_err(ending), says, outcome);
        assert_eq!(report.outcome, outcome);
        assert_eq!(bed.balances(), UNTOUCHED);
        assert_eq!(depth(&mut conn), Some(0));
    }
}

#[scenario]
async fn in_the_callers_transaction_a_statement_sent_as_text_is_no_different() {
    for (ending, says, outcome) in ENDINGS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let runner = Runner::default();
        let result: QueryResult<usize> = conn
            .transaction(async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                let step: QueryResult<()> = runner
                    .run(conn, async |conn: &mut Conn| {
                        conn.batch_execute(ending).await
                    })
                    .await;
                assert_says(&step.expect_err(ending), says, outcome);
                let written = add(conn, 3, 10).await;
                assert_eq!(written, Ok(1), "SQLite lets it pass");
                written
            })
            .await;
        result.expect_err("swallowed by the caller");
        drop(conn);
        assert_eq!(bed.balances(), UNTOUCHED);
    }
}

/// A constraint that is violated after the operation's own COMMIT has undone nothing.
#[scenario]
async fn a_constraint_after_a_commit_of_the_operations_own_is_no_proof() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .operation("ends it")
        .fallback(77)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            add(conn, 2, 10).await?;
            execute(conn, "COMMIT").await?;
            execute(conn, "INSERT INTO accounts VALUES (1, 0)").await
        })
        .await;
    assert_eq!(report.outcome, Outcome::Unknown);
    report.result.expect_err("no fallback: it is not undone");
    assert_eq!(bodies.into_inner(), 1);
    assert_eq!(bed.balances()[1], (2, 110));
}

/// What SQLite has rolled back, Diesel knows when it was sent as text. A step after that is alone.
#[scenario]
async fn a_step_after_the_end_of_the_transaction_does_not_make_it_undone() {
    let bed = Bed::new();
    let mut conn = connect(&bed).await;
    let runner = Runner::default();
    let report = runner
        .operation("outer")
        .fallback(())
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 2, 10).await?;
            let first = conn.batch_execute(ENDINGS[1].0).await;
            let audit: QueryResult<usize> = runner
                .run(conn, async |conn: &mut Conn| add(conn, 3, 10).await)
                .await;
            assert_eq!(audit, Ok(1));
            first
        })
        .await;
    report.result.expect_err("no fallback: it is not undone");
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(depth(&mut conn), None, "it refuses to go on");
    drop(conn);
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 110)]);
}

/// Nothing keeps a body from writing on, each statement for itself, when SQLite has ended the
/// transaction. What it looks like then is not called undone.
#[scenario]
async fn what_a_body_writes_after_the_end_is_not_called_undone() {
    for (after, outcome) in AFTERWARDS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let report = Runner::default()
            .operation("write on")
            .fallback(())
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 2, 10).await?;
                let full = execute(conn, ENDINGS[1].0).await;
                conn.batch_execute(after).await?;
                full?;
                QueryResult::Ok(())
            })
            .await;
        assert_eq!(report.outcome, outcome, "{after}");
        let written_on = outcome == Outcome::Unknown;
        if written_on {
            assert_says(&report.result.expect_err("unknown"), ENDINGS[1].1, outcome);
            assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 7)]);
        } else {
            assert_eq!(report.result, Ok(()), "the fallback value");
            assert_eq!(bed.balances(), UNTOUCHED);
        }
    }
}

/// The same in a step.
#[scenario]
async fn what_a_step_writes_after_the_end_is_not_called_undone() {
    for (after, outcome) in AFTERWARDS {
        let bed = Bed::new();
        let mut conn = connect(&bed).await;
        let runner = Runner::default();
        let report = runner
            .run_report(&mut conn, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                runner
                    .run(conn, async |conn: &mut Conn| {
                        add(conn, 2, 10).await?;
                        let full = execute(conn, ENDINGS[1].0).await;
                        conn.batch_execute(after).await?;
                        full
                    })
                    .await
            })
            .await;
        assert_eq!(report.outcome, outcome, "{after}");
        assert!(report.result.is_err());
        let now = if outcome == Outcome::Unknown { 7 } else { 100 };
        assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, now)]);
    }
}

/// Diesel's own SAVEPOINT begins a transaction where there is none any more, and its ROLLBACK TO leaves
/// that open: it is not the operation's, and is not committed for it.
#[scenario]
async fn a_transaction_that_a_savepoint_has_begun_after_the_end_is_not_committed() {
    let bed = Bed::new();
    let mut conn = connect(&bed).await;
    let report = Runner::default()
        .operation("go on")
        .fallback(())
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            execute(conn, ENDINGS[1].0).await.expect_err("a full disk");
            let nested: QueryResult<()> = conn
                .transaction(async |_: &mut Conn| Err(Error::RollbackTransaction))
                .await;
            assert_eq!(nested, Err(Error::RollbackTransaction));
            add(conn, 2, 10).await?;
            QueryResult::Ok(())
        })
        .await;
    assert_unknown(&report);
    assert_eq!(bed.balances(), UNTOUCHED);
    let next: QueryResult<usize> = Runner::default()
        .run(&mut conn, async |conn: &mut Conn| add(conn, 3, 1).await)
        .await;
    assert_eq!(next, Ok(1), "nothing of it is left open");
}

/// An operation that commits and begins another transaction, in SQL.
#[scenario]
async fn another_transaction_of_the_bodys_own_is_not_committed() {
    let bed = Bed::new();
    let mut conn = connect(&bed).await;
    let report = Runner::default()
        .run_report(&mut conn, async |conn: &mut Conn| {
            add(conn, 1, 10).await?;
            conn.batch_execute("COMMIT; BEGIN").await?;
            add(conn, 2, 10).await
        })
        .await;
    assert_unknown(&report);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}

/// What only reads has no savepoint: COMMIT tells that its transaction is gone.
#[scenario]
async fn one_that_only_reads_gets_no_ok_without_its_transaction() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let report = runner
        .operation("read")
        .read_only()
        .run_report(&mut conn, async |conn: &mut Conn| {
            conn.batch_execute("COMMIT").await
        })
        .await;
    report.result.expect_err("it has read in no transaction");
    let next = runner.run(&mut conn, async |conn: &mut Conn| add(conn, 3, 1).await);
    assert_eq!(next.await, Ok(1), "not read-only any more");
}
