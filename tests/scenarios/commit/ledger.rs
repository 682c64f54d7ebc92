//! The ledger: an operation is done exactly once, its table stays small, and nobody else notices
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{Dialect, FaultClass, Ledger, OperationError as _, Outcome, StopReason};
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use dbop_tests::{InstantClock, Meanwhile, Number, blocking};
use diesel::result::Error;
use diesel::{QueryResult, sql_query};

use super::money::{add, balance, insert};
use super::{
    Bed, Conn, Connection as _, RunQueryDsl, Runner, SimpleConnection as _, backend, caught,
    helper, scenario, together,
};

/// A bed with the table.
#[helper]
pub(crate) async fn with_table() -> Bed {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    bed
}

/// How many tokens there are.
#[helper]
async fn tokens(bed: &Bed) -> i64 {
    let row: Number = sql_query("SELECT count(*) AS n FROM dbop_ledger")
        .get_result(&mut bed.connect())
        .await
        .expect("a number");
    row.n
}

/// One in 64 deletes those of the 64 before it, in front of its own transaction.
#[scenario]
async fn the_table_stays_small_and_its_rows_are_deleted_in_passing() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    let ledger = Ledger::new();
    let runner = Runner::default();
    let pay = runner.operation("pay").ledger(&ledger);
    let source = async || Conn::establish(proxy.url()).await;
    for number in 0..130 {
        proxy.reset();
        let seen = pay
            .run_on(&source, async |conn: &mut Conn| {
                add(conn, 1, 10).await?;
                // Its own is not committed yet, but those that it has deleted are gone.
                QueryResult::Ok(tokens(&bed).await)
            })
            .await;
        let others = if number % 64 == 0 { 0 } else { number % 64 };
        assert_eq!(seen, Ok(others), "in operation {number}");
        assert_eq!(tokens(&bed).await, others + 1, "after operation {number}");
        let deletes = is_in(&proxy, "DELETE");
        assert_eq!(
            deletes,
            u32::from(number == 64 || number == 128),
            "{number}"
        );
    }
    assert_eq!(bed.balances()[0], (1, 1400));
}

/// How many messages have these words in them.
fn is_in(proxy: &Proxy, words: &str) -> u32 {
    let lines = proxy.conversation();
    let found = lines.iter().filter(|line| line.contains(words)).count();
    u32::try_from(found).expect("few")
}

#[scenario]
async fn what_fails_or_is_refused_loses_no_token_out_of_sight() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let pay = runner.operation("pay").ledger(&ledger);
    let refused = runner
        .operation("pay")
        .lock_timeout(Duration::ZERO)
        .ledger(&ledger);
    let source = async || Conn::establish(bed.url()).await;
    for paid_before in 0..3 {
        let paid = pay
            .run_on(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        assert_eq!(paid, Ok(1));
        let never: QueryResult<()> = refused.run_on(&source, async |_: &mut Conn| Ok(())).await;
        let error = never.expect_err("no timeout");
        assert!(
            error
                .dbop_error()
                .is_some_and(|own| own.is_invalid_setting())
        );
        let failed = pay
            .run_on(&source, async |conn: &mut Conn| insert(conn, 1).await)
            .await;
        failed.expect_err("a duplicate");
        let panicked = caught(async || {
            let never: QueryResult<()> = pay
                .run_on(&source, async |_: &mut Conn| panic!("in the operation"))
                .await;
            never
        })
        .await;
        assert!(panicked.is_err());
        assert_eq!(tokens(&bed).await, paid_before + 1);
    }
}

#[scenario]
async fn operations_at_the_same_time_do_not_get_in_each_others_way() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let runner = Runner::default();
    let source = async || Conn::establish(bed.url()).await;
    let pay = runner.operation("pay").max_retries(0).ledger(&ledger);
    let (one, other) = together(
        async || {
            for _ in 0..20 {
                let paid = pay
                    .run_on(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
                    .await;
                assert_eq!(paid, Ok(1));
            }
            tokens(&bed).await
        },
        async || {
            for _ in 0..20 {
                let paid = pay
                    .run_on(&source, async |conn: &mut Conn| add(conn, 2, 10).await)
                    .await;
                assert_eq!(paid, Ok(1));
            }
            tokens(&bed).await
        },
    )
    .await;
    assert!(one <= 40 && other <= 40, "{one} {other}");
    assert_eq!(bed.balances(), [(1, 300), (2, 300), (3, 100)]);
    let paid = pay
        .run_on(&source, async |conn: &mut Conn| add(conn, 3, 10).await)
        .await;
    assert_eq!(paid, Ok(1));
    assert_eq!(tokens(&bed).await, 41);
}

#[scenario]
async fn the_table_can_be_created_again() {
    let bed = with_table().await;
    let again = bed
        .connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await;
    assert_eq!(again, Ok(()));
}

#[scenario]
async fn without_its_table_the_operation_is_not_begun_and_the_error_names_it() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let ledger = Ledger::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    let error = report.result.expect_err("no table");
    assert!(matches!(error, Error::DatabaseError(..)), "{error:?}");
    assert!(error.to_string().contains("dbop_ledger"), "{error}");
    assert_eq!((report.attempts, bodies.into_inner()), (1, 0));
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(report.outcome, Outcome::Undone);
    let rolled_back = |line: &String| line.contains("ROLLBACK");
    assert!(proxy.conversation().iter().any(rolled_back));
}

#[scenario]
async fn it_costs_two_statements_and_no_round_trip() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    let ledger = Ledger::new();
    let runner = Runner::default();
    let source = async || Conn::establish(proxy.url()).await;
    let body = async |conn: &mut Conn| conn.batch_execute("UPDATE accounts SET balance = 1").await;
    let (mut trips, mut statements) = (Vec::new(), Vec::new());
    // On PostgreSQL a runner's first operation asks its session, which takes statements of its own.
    assert_eq!(runner.run_on(&source, body).await, Ok(()));
    for has_ledger in [false, true, true] {
        proxy.reset();
        let operation = runner.operation("pay");
        let result = if has_ledger {
            operation.ledger(&ledger).run_on(&source, body).await
        } else {
            operation.run_on(&source, body).await
        };
        assert_eq!(result, Ok(()));
        trips.push(proxy.round_trips());
        let lines = proxy.conversation();
        let sent: Vec<_> = lines.iter().flat_map(|line| line.split("; ")).collect();
        let about_it = sent
            .iter()
            .filter(|sql| sql.contains("dbop_ledger"))
            .count();
        assert_eq!(about_it, if has_ledger { 2 } else { 0 }, "{sent:#?}");
        statements.push(sent.len());
    }
    assert_eq!(trips, [trips[0]; 3]);
    let more = statements.iter().map(|count| count - statements[0]);
    assert_eq!(more.collect::<Vec<_>>(), [0, 2, 2], "one written twice");
}

/// The question waits for the transaction that still holds the token, and is asked again when that
/// takes longer than a lock timeout.
#[scenario]
async fn a_commit_held_up_for_longer_than_a_question_waits_is_asked_about_again() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    let cut = Arc::new(proxy.cut(When::commit(), Cut::Late(Until::Released)));
    let clock = {
        let cut = Arc::clone(&cut);
        Meanwhile::new(move |sleep| {
            if sleep == 3 {
                cut.release();
                cut.wait_until_finished();
            }
        })
    };
    let ledger = Ledger::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .operation("pay")
        .lock_timeout(Duration::from_secs(1))
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(clock.slept().len(), 3);
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn while_it_stays_held_up_nothing_is_claimed() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    let cut = proxy.cut(When::commit(), Cut::Late(Until::Released));
    let ledger = Ledger::new();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("pay")
        .max_retries(1)
        .lock_timeout(Duration::from_secs(1))
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    report.result.expect_err("nobody knows");
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(bed.balances()[0], (1, 100));
    cut.release();
    blocking(|| cut.wait_until_finished());
    assert_eq!(bed.balances()[0], (1, 110));
}

/// It has nothing to find again: by a default of the runner as well as by its own setting.
#[scenario]
async fn what_writes_nothing_writes_no_token() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let source = async || Conn::establish(bed.url()).await;
    let writes = Runner::default();
    let reads = Runner::default().with_default_read_only(true);
    let pay = writes.operation("pay").ledger(&ledger);
    let add = async |conn: &mut Conn| add(conn, 1, 10).await;
    let look = async |conn: &mut Conn| balance(conn, 1).await;
    assert_eq!(pay.run_on(&source, add).await, Ok(1));
    for operation in [
        reads.operation("by default"),
        writes.operation("asked for").read_only(),
    ] {
        let seen = operation.ledger(&ledger).run_on(&source, look).await;
        assert_eq!(seen, Ok(110));
        assert_eq!(tokens(&bed).await, 1);
    }
    assert_eq!(pay.run_on(&source, add).await, Ok(1));
    assert_eq!(tokens(&bed).await, 2);
}

/// Tokens of others are not waited for, however small the table is and whatever the level.
#[scenario]
async fn deleting_many_tokens_waits_for_no_other_session() {
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let bed = with_table().await;
        let ledger = Ledger::new();
        let set = match backend::DIALECT {
            Dialect::Mysql => format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}"),
            _ => format!("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}"),
        };
        let source = async || {
            let mut conn = Conn::establish(bed.url()).await?;
            conn.batch_execute(&set).await.expect("a level");
            diesel::ConnectionResult::Ok(conn)
        };
        let runner = Runner::default();
        for _ in 0..64 {
            let operation = runner.operation("read").ledger(&ledger);
            let read = operation.run_on(&source, async |conn: &mut Conn| balance(conn, 1).await);
            assert_eq!(read.await, Ok(100));
        }
        let opponent = bed.opponent();
        let others = ["00", "7f", "ff"].map(|id| match backend::DIALECT {
            Dialect::Mysql => format!("(X'64626f70', X'{id}')"),
            _ => format!("(decode('64626f70', 'hex'), decode('{id}', 'hex'))"),
        });
        opponent.execute(&format!(
            "BEGIN; INSERT INTO dbop_ledger (scope, id) VALUES {}",
            others.join(", ")
        ));
        let paid: QueryResult<usize> = runner
            .operation("pay")
            .max_retries(0)
            .lock_timeout(Duration::from_secs(1))
            .ledger(&ledger)
            .run_on(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        assert_eq!(paid, Ok(1), "{level}");
        opponent.execute("ROLLBACK");
        assert_eq!(tokens(&bed).await, 1, "{level}");
    }
}

#[scenario]
async fn what_is_read_only_has_no_token_and_is_done_again() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let ledger = Ledger::new();
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("read")
        .read_only()
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| balance(conn, 1).await,
        )
        .await;
    assert_eq!(report.result, Ok(100));
    assert_eq!(report.attempts, 2);
    assert_eq!(tokens(&bed).await, 0);
}

#[scenario]
async fn with_operations_nested_in_it_everything_is_done_once() {
    for (cut, times) in [(Cut::AnswerLost, 1), (Cut::BeforeSent, 2)] {
        let bed = with_table().await;
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), cut);
        let ledger = Ledger::new();
        let runner = Runner::default();
        let (outer, inner) = (AtomicU32::new(0), AtomicU32::new(0));
        let report = runner
            .operation("pay")
            .ledger(&ledger)
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    outer.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, -10).await?;
                    runner
                        .run(conn, async |conn: &mut Conn| {
                            inner.fetch_add(1, Ordering::Relaxed);
                            add(conn, 2, 10).await
                        })
                        .await
                },
            )
            .await;
        assert_eq!(report.result, Ok(1), "{cut:?}");
        let bodies = (outer.into_inner(), inner.into_inner());
        assert_eq!(bodies, (times, times), "{cut:?}");
        assert_eq!(bed.balances(), [(1, 90), (2, 110), (3, 100)], "{cut:?}");
        assert_eq!(tokens(&bed).await, i64::from(times));
    }
}

/// A duplicate of the operation's own is not taken for its token.
#[scenario]
async fn a_duplicate_in_the_operation_is_an_answer() {
    let bed = with_table().await;
    let ledger = Ledger::new();
    let report = Runner::default()
        .operation("open")
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(bed.url()).await,
            async |conn: &mut Conn| insert(conn, 1).await,
        )
        .await;
    report.result.expect_err("a duplicate");
    assert_eq!(report.outcome, Outcome::Undone);
    let fault = report.failures[0].fault.expect("a database error");
    assert_eq!(fault.class(), FaultClass::Constraint);
    assert_eq!(tokens(&bed).await, 0);
}

/// As a former primary does after a failover. It cannot take the token, so it cannot tell.
#[scenario]
async fn a_server_that_takes_no_writes_is_not_the_one_to_ask() {
    let bed = with_table().await;
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let read_only = match backend::DIALECT {
        Dialect::Mysql => "SET SESSION TRANSACTION READ ONLY",
        _ => "SET default_transaction_read_only = on",
    };
    let (ledger, connections) = (Ledger::new(), AtomicU32::new(0));
    let source = async || {
        let mut conn = Conn::establish(proxy.url()).await?;
        if connections.fetch_add(1, Ordering::Relaxed) == 1 {
            conn.batch_execute(read_only).await.expect("a variable");
        }
        diesel::ConnectionResult::Ok(conn)
    };
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.attempts, 1);
    assert_eq!(connections.into_inner(), 3);
    assert_eq!(bed.balances()[0], (1, 110));
}
