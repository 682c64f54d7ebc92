//! Hooks for after a COMMIT whose answer was lost: called only if the COMMIT was found.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{GivenUp, Ledger, Outcome, StopReason};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, Said, assert_unknown};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance};
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
        let table = &Ledger::new().create_table(backend::DIALECT);
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
    let note = |it: &GivenUp| {
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

const COMMITTED: (Outcome, StopReason) = (Outcome::Committed, StopReason::Succeeded);
const UNKNOWN: (Outcome, StopReason) = (Outcome::Unknown, StopReason::OutcomeUnknown);

#[scenario]
async fn with_verify_they_are_called_if_the_work_is_found_and_not_if_it_stays_unknown() {
    for (cut, retries, can_look, end, expected) in [
        (
            Cut::AnswerLost,
            5,
            true,
            COMMITTED,
            &["builder", "attempt 1"][..],
        ),
        (
            Cut::BeforeSent,
            5,
            true,
            COMMITTED,
            &["builder", "attempt 2"],
        ),
        // It was not found, which is no proof, and it is not done again.
        (Cut::BeforeSent, 0, true, UNKNOWN, &["given up"]),
        (Cut::AnswerLost, 5, false, UNKNOWN, &["given up"]),
    ] {
        let bed = Bed::new();
        let proxy = Proxy::start(bed.url());
        _ = proxy.cut(When::commit(), cut);
        let (said, bodies) = (Said::new(), AtomicU32::new(0));
        let (hook, note) = (|| said.say("builder"), |_: &GivenUp| said.say("given up"));
        let look = async |conn: &mut Conn| match can_look {
            true => Ok(balance(conn, 1).await? == 110),
            false => Err(Error::NotFound),
        };
        let runner = Runner::default().with_clock(InstantClock::new());
        let report = runner
            .operation("pay")
            .max_retries(retries)
            .verify(look)
            .after_commit(&hook)
            .after_giving_up(&note)
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
        let cell = (cut, retries, can_look);
        assert_eq!((report.outcome, report.stop), end, "{cell:?}");
        assert_eq!(said.all(), expected, "{cell:?}");
        assert_eq!(said.holders(), 0, "{cell:?}");
    }
}

/// The ledger proves it.
#[scenario]
async fn of_what_is_found_undone_and_given_up_none_is_called() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let table = &Ledger::new().create_table(backend::DIALECT);
    conn.batch_execute(table).await.expect("a new table");
    let proxy = Proxy::start(bed.url());
    _ = proxy.cut(When::commit(), Cut::BeforeSent);
    let (ledger, said) = (Ledger::new(), Said::new());
    let (hook, note) = (|| said.say("builder"), |_: &GivenUp| said.say("given up"));
    let runner = Runner::default();
    let report = runner
        .operation("pay")
        .max_retries(0)
        .ledger(&ledger)
        .after_commit(&hook)
        .after_giving_up(&note)
        .run_on_report(
            &async || Conn::establish(proxy.url()).await,
            async |conn: &mut Conn| {
                let said = said.clone();
                after_commit(conn, async move || said.say("body"))?;
                add(conn, 1, 10).await
            },
        )
        .await;
    let end = (report.outcome, report.stop);
    assert_eq!(end, (Outcome::Undone, StopReason::RetriesExhausted));
    assert_eq!(
        (said.all(), said.holders()),
        (vec!["given up".to_owned()], 0)
    );
    assert_eq!(bed.balances()[0], (1, 100));
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
