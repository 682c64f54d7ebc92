//! Hooks for after a COMMIT whose answer was lost: called only if the COMMIT was found.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Ledger, Outcome, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, Said, assert_unknown};
use diesel::QueryResult;

use super::money::add;
use super::{
    Bed, Conn, Connection as _, Runner, SimpleConnection as _, after_commit, backend, scenario,
};

#[scenario]
async fn those_of_the_attempt_that_was_committed_are_called_once() {
    for (cut, attempts, expected) in [
        (Cut::AnswerLost, 1, ["builder", "attempt 1"]),
        (Cut::BeforeSent, 2, ["builder", "attempt 2"]),
    ] {
        let bed = Bed::new();
        let mut conn = bed.connect();
        let table = Ledger::create_table(backend::DIALECT);
        conn.batch_execute(table).await.expect("a new table");
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), cut);
        let (ledger, said, bodies) = (Ledger::new(), Said::new(), AtomicU32::new(0));
        let hook = || said.say("builder");
        let runner = Runner::default().with_clock(InstantClock::new());
        let report = runner
            .operation("pay")
            .ledger(&ledger)
            .begin_with_sql("UPDATE accounts SET balance = balance + 1 WHERE id = 2")
            .after_commit(&hook)
            .run_on_report(
                &async || Conn::establish(proxy.url()).await,
                async |conn: &mut Conn| {
                    let number = bodies.fetch_add(1, Ordering::Relaxed) + 1;
                    let said = said.clone();
                    after_commit(conn, async move || said.say(format!("attempt {number}")))?;
                    add(conn, 1, 10).await
                },
            )
            .await;
        assert_eq!(report.result, Ok(1), "{cut:?}");
        assert_eq!(report.outcome, Outcome::Committed);
        assert_eq!(report.attempts, attempts, "{cut:?}");
        assert_eq!(said.all(), expected, "{cut:?}");
        assert_eq!(said.holders(), 0);
        assert_eq!(bed.balances(), [(1, 110), (2, 101), (3, 100)]);
    }
}

#[scenario]
async fn after_an_unknown_outcome_none_is_called() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let said = Said::new();
    let hook = || said.say("builder");
    let stops = std::sync::Mutex::new(Vec::new());
    let note = |it: &dbop_diesel::GivenUp| {
        stops
            .lock()
            .expect("a list")
            .push((it.stop(), it.outcome()));
    };
    let runner = Runner::default();
    let result: QueryResult<usize> = runner
        .operation("pay")
        .after_commit(&hook)
        .after_giving_up(&note)
        .run_on(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                let said = said.clone();
                after_commit(conn, async move || said.say("body"))?;
                add(conn, 1, 10).await
            },
        )
        .await;
    assert!(result.is_err());
    assert_eq!((said.all().len(), said.holders()), (0, 0));
    assert_eq!(bed.balances()[0], (1, 110), "although it was committed");
    let unknown = (StopReason::OutcomeUnknown, Outcome::Unknown);
    assert_eq!(*stops.lock().expect("a list"), [unknown]);
}

/// What is harmless to do again is done again: its first attempt does not count.
#[scenario]
async fn those_of_an_attempt_that_is_done_again_are_dropped() {
    let bed = Bed::new();
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::AnswerLost);
    let (said, bodies) = (Said::new(), AtomicU32::new(0));
    let runner = Runner::default().with_clock(InstantClock::new());
    let result: QueryResult<usize> = runner
        .operation("pay")
        .idempotent()
        .run_on(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                assert_eq!(said.holders(), 0);
                let number = bodies.fetch_add(1, Ordering::Relaxed) + 1;
                let said = said.clone();
                after_commit(conn, async move || said.say(format!("attempt {number}")))?;
                add(conn, 1, 10).await
            },
        )
        .await;
    assert_eq!(result, Ok(1));
    assert_eq!(said.all(), ["attempt 2"]);
}

#[scenario]
async fn own_sql_that_ends_the_transaction_is_an_unknown_outcome() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let said = Said::new();
    let hook = || said.say("committed");
    let runner = Runner::default();
    let report = runner
        .operation("pay")
        .begin_with_sql("COMMIT")
        .after_commit(&hook)
        .run_report(&mut conn, async |conn: &mut Conn| add(conn, 1, 1).await)
        .await;
    assert_unknown(&report);
    assert_eq!(said.all(), [""; 0]);
}
