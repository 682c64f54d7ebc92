//! What became of a lost COMMIT is asked on a fresh connection. That shares the limit of retries,
//! can fail itself, and runs code of the caller's that can do anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Dialect, Jitter, Ledger, OperationError as _, Outcome, RetryPolicy, StopReason};
use dbop_tests::proxy::{Cut, Proxy, Until, When};
use dbop_tests::{Capture, InstantClock, Meanwhile, blocking, is_unknown};
use diesel::QueryResult;
use diesel::result::Error;
use log::Level;

use super::lost::losing_an_answer;
use super::money::{add, balance, insert};
use super::{
    Bed, Conn, Connection as _, Manager, Runner, SimpleConnection as _, TransactionManager as _,
    backend, caught, helper, scenario,
};

#[helper]
async fn with_ledger() -> Bed {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    bed
}

/// One that never waits for long.
fn runner() -> Runner {
    let policy = RetryPolicy::new().with_jitter(Jitter::None);
    Runner::new(policy.with_initial_delay(std::time::Duration::from_millis(20)))
}

#[scenario]
async fn the_value_is_that_of_the_attempt_whose_work_is_there() {
    for (cut, expected) in [(Cut::AnswerLost, 1), (Cut::BeforeSent, 2)] {
        for has_ledger in [false, true] {
            let bed = with_ledger().await;
            let proxy = Proxy::start(bed.url());
            _ = proxy.cut(When::commit(), cut);
            let ledger = Ledger::new();
            let bodies = AtomicU32::new(0);
            let source = async || Conn::establish(proxy.url()).await;
            let body = async |conn: &mut Conn| {
                let number = bodies.fetch_add(1, Ordering::Relaxed) + 1;
                add(conn, 1, 10).await?;
                QueryResult::Ok(number)
            };
            let look = async |conn: &mut Conn| Ok(balance(conn, 1).await? == 110);
            let runner = runner();
            let pay = runner.operation("pay");
            let value = if has_ledger {
                pay.ledger(&ledger).run_on(&source, body).await
            } else {
                pay.verify(look).run_on(&source, body).await
            };
            assert_eq!(value, Ok(expected), "{cut:?} {has_ledger}");
            assert_eq!(bed.balances()[0], (1, 110));
        }
    }
}

#[scenario]
async fn without_retries_it_is_asked_once_and_nothing_is_done_again() {
    for cut in [Cut::AnswerLost, Cut::BeforeSent] {
        for has_ledger in [false, true] {
            let outcome = match (cut, has_ledger) {
                (Cut::AnswerLost, _) => Outcome::Committed,
                // The ledger proves it; a COMMIT on its way could still arrive after a look.
                (_, true) => Outcome::Undone,
                (_, false) => Outcome::Unknown,
            };
            let bed = with_ledger().await;
            let proxy = Proxy::start(bed.url());
            _ = proxy.cut(When::commit(), cut);
            let ledger = Ledger::new();
            let (bodies, looks) = (AtomicU32::new(0), AtomicU32::new(0));
            let source = async || Conn::establish(proxy.url()).await;
            let body = async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            };
            let look = async |conn: &mut Conn| {
                looks.fetch_add(1, Ordering::Relaxed);
                Ok(balance(conn, 1).await? == 110)
            };
            let runner = runner();
            let pay = runner.operation("pay").max_retries(0);
            let report = if has_ledger {
                pay.ledger(&ledger).run_on_report(&source, body).await
            } else {
                pay.verify(look).run_on_report(&source, body).await
            };
            let cell = (cut, has_ledger);
            assert_eq!(report.outcome, outcome, "{cell:?}");
            assert_eq!(bodies.into_inner(), 1, "{cell:?}");
            assert_eq!(looks.into_inner(), u32::from(!has_ledger), "{cell:?}");
            assert_eq!(proxy.connections(), 2, "{cell:?}");
            if outcome == Outcome::Committed {
                assert_eq!(report.result, Ok(1));
                assert_eq!(bed.balances()[0], (1, 110));
            } else {
                let error = report.result.expect_err("not done");
                assert_eq!(is_unknown(&error), !has_ledger, "{error}");
                let stop = match has_ledger {
                    true => StopReason::RetriesExhausted,
                    false => StopReason::OutcomeUnknown,
                };
                assert_eq!(report.stop, stop);
                assert_eq!(bed.balances()[0], (1, 100));
            }
        }
    }
}

/// A key of the application's keeps the work from being done twice. That the second attempt violates
/// it does not mean that nothing is there.
#[scenario]
async fn what_comes_after_the_look_is_not_called_undone() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    let cut = proxy.cut(When::commit(), Cut::Late(Until::Released));
    let bodies = AtomicU32::new(0);
    let report = runner()
        .operation("open")
        .verify(async |_: &mut Conn| Ok(false))
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                if bodies.fetch_add(1, Ordering::Relaxed) == 1 {
                    cut.release();
                    blocking(|| cut.wait_until_finished());
                }
                insert(conn, 4).await
            },
        )
        .await;
    let error = report.result.expect_err("it is there already");
    assert!(is_unknown(&error), "{error}");
    let source = std::error::Error::source(error.dbop_error().expect("dbop's own"));
    let said = source.expect("the key").to_string();
    assert!(said.contains("uplicate"), "{said}");
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
    assert_eq!(bed.balances().len(), 4, "once");
}

/// The operation looks by itself, and finds its own work: that it has nothing to do is no answer. With
/// `verify`, whose no is no proof, and with `idempotent`, which does not ask.
#[scenario]
async fn an_error_of_the_second_attempts_own_hides_nothing() {
    for is_idempotent in [false, true] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), Cut::AnswerLost);
        let (bodies, log) = (AtomicU32::new(0), Capture::new());
        let source = async || Conn::establish(proxy.url()).await;
        let body = async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            if balance(conn, 1).await? != 100 {
                return Err(Error::NotFound);
            }
            add(conn, 1, 10).await
        };
        let runner = runner().with_logger(log.clone());
        let operation = runner.operation("pay once");
        let report = if is_idempotent {
            operation.idempotent().run_on_report(&source, body).await
        } else {
            let look = async |_: &mut Conn| Ok(false);
            operation.verify(look).run_on_report(&source, body).await
        };
        let error = report.result.expect_err("nobody knows");
        assert!(is_unknown(&error), "{error}");
        assert_eq!(report.outcome, Outcome::Unknown);
        let last = report.failures.last().expect("the second attempt");
        assert_eq!(last.error, Some(Error::NotFound));
        assert_eq!((report.attempts, bodies.into_inner()), (2, 2));
        assert_eq!(log.levels().last(), Some(&Level::Error));
        assert_eq!(bed.balances()[0], (1, 110));
    }
}

/// The server cannot be reached any more once COMMIT is under way.
#[scenario]
async fn if_nobody_can_be_asked_nothing_is_claimed() {
    for cut in [Cut::AnswerLost, Cut::BeforeSent] {
        for way in 0..3 {
            if way == 2 && backend::DIALECT != Dialect::Postgres {
                continue;
            }
            let bed = with_ledger().await;
            let proxy = Proxy::start(bed.url());
            _ = proxy.cut(When::commit(), cut);
            let ledger = Ledger::new();
            let (bodies, looks) = (AtomicU32::new(0), AtomicU32::new(0));
            let clock = InstantClock::new();
            let source = async || Conn::establish(proxy.url()).await;
            let body = async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                proxy.refuse(true);
                add(conn, 1, 10).await
            };
            let look = async |_: &mut Conn| {
                looks.fetch_add(1, Ordering::Relaxed);
                Ok(false)
            };
            let runner = runner().with_clock(clock.clone());
            let pay = runner.operation("pay").max_retries(3);
            let report = match way {
                0 => pay.verify(look).run_on_report(&source, body).await,
                1 => pay.ledger(&ledger).run_on_report(&source, body).await,
                _ => pay.transaction_status().run_on_report(&source, body).await,
            };
            let cell = (cut, way);
            let error = report.result.expect_err("nobody knows");
            assert!(is_unknown(&error), "{cell:?}: {error}");
            assert_eq!(report.outcome, Outcome::Unknown, "{cell:?}");
            assert_eq!(report.stop, StopReason::OutcomeUnknown);
            assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
            assert_eq!(looks.into_inner(), 0);
            assert_eq!(clock.slept().len(), 4, "once, and three retries");
            assert_eq!(proxy.connections(), 1);
        }
    }
}

#[scenario]
async fn it_is_asked_as_soon_as_the_server_can_be_reached_again() {
    let bed = with_ledger().await;
    let proxy = Arc::new(Proxy::start(bed.url()));
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let back = Arc::clone(&proxy);
    let clock = Meanwhile::new(move |number| {
        if number == 3 {
            back.refuse(false);
        }
    });
    let ledger = Ledger::new();
    let runner = runner().with_clock(clock.clone());
    let report = runner
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                proxy.refuse(true);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.attempts, 1);
    assert_eq!(clock.slept().len(), 3);
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn a_look_that_ends_in_an_error_of_its_own_leaves_it_unknown() {
    let bed = Bed::new();
    let proxy = losing_an_answer(&bed);
    let (bodies, looks) = (AtomicU32::new(0), AtomicU32::new(0));
    let report = runner()
        .operation("pay")
        .verify(async |_: &mut Conn| {
            looks.fetch_add(1, Ordering::Relaxed);
            Err(Error::NotFound)
        })
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert!(is_unknown(&report.result.expect_err("nobody knows")));
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!((bodies.into_inner(), looks.into_inner()), (1, 1));
}

#[scenario]
async fn a_look_that_panics_goes_on_panicking() {
    let bed = Bed::new();
    let proxy = losing_an_answer(&bed);
    let bodies = AtomicU32::new(0);
    let runner = runner();
    let panicked = caught(async || {
        let never: QueryResult<usize> = runner
            .operation("pay")
            .verify(async |_: &mut Conn| -> QueryResult<bool> { panic!("in the look") })
            .run_on(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    add(conn, 1, 10).await
                },
            )
            .await;
        never
    })
    .await;
    let payload = panicked.expect_err("the panic");
    assert_eq!(payload.downcast_ref(), Some(&"in the look"));
    assert_eq!(bodies.into_inner(), 1, "not done again");
}

/// Whatever the look has left there must not get into the next attempt.
#[scenario]
async fn a_look_that_leaves_a_transaction_open_costs_the_connection() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::BeforeSent);
    let bodies = AtomicU32::new(0);
    let result: QueryResult<usize> = runner()
        .operation("pay")
        .verify(async |conn: &mut Conn| {
            Manager::begin_transaction(conn).await?;
            add(conn, 2, 1000).await?;
            Ok(false)
        })
        .run_on(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(proxy.connections(), 3);
    assert_eq!(bed.balances(), [(1, 110), (2, 100), (3, 100)]);
}

/// It is no part of the operation, which goes on with its own retries.
#[scenario]
async fn a_look_can_use_a_runner() {
    for (cut, attempts) in [(Cut::AnswerLost, 1), (Cut::BeforeSent, 2)] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), cut);
        let runner = runner();
        let report = runner
            .operation("pay")
            .max_retries(1)
            .verify(async |conn: &mut Conn| {
                let look = runner.operation("look").max_retries(0);
                look.run(conn, async |conn: &mut Conn| {
                    QueryResult::Ok(balance(conn, 1).await? == 110)
                })
                .await
            })
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| add(conn, 1, 10).await,
            )
            .await;
        assert_eq!(report.result, Ok(1), "{cut:?}");
        assert_eq!(report.attempts, attempts, "{cut:?}");
        assert_eq!(bed.balances()[0], (1, 110));
    }
}

/// The connection that was asked is good enough for the next attempt, at once.
#[scenario]
async fn after_a_no_the_next_attempt_needs_no_further_connection() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::BeforeSent);
    let clock = InstantClock::new();
    let result: QueryResult<usize> = runner()
        .with_clock(clock.clone())
        .operation("pay")
        .verify(async |_: &mut Conn| Ok(false))
        .run_on(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(proxy.connections(), 2);
    assert_eq!(clock.slept().len(), 1, "before the question only");
}
