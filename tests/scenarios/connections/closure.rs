//! `run_on` with a closure that connects: one connection for a run while it is healthy, as many as
//! it takes otherwise, and no loop without an end.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use dbop_diesel::{
    BeginMode, ConnectError, FaultClass, GivenUp, IsolationLevel, OperationError as _, Outcome,
    Report, RetryPolicy, StopReason,
};
use dbop_tests::{Again, Capture, InstantClock, Notes};
use diesel::QueryResult;
use diesel::result::{ConnectionError, Error};

use super::money::set;
use super::{
    Bed, Conn, Connection as _, Manager, Runner, TransactionManager as _, depth, helper, scenario,
};

const UNTOUCHED: [(i32, i64); 3] = [(1, 100), (2, 100), (3, 100)];

/// To connect anew costs more than to wait.
#[scenario]
async fn a_healthy_connection_is_kept_between_attempts() {
    let bed = Bed::new();
    let (connected, bodies) = (AtomicU32::new(0), AtomicU32::new(0));
    let clock = InstantClock::new();
    let result = Runner::default()
        .with_clock(clock.clone())
        .run_on(
            &async || {
                connected.fetch_add(1, Ordering::Relaxed);
                Conn::establish(bed.url()).await
            },
            async |conn: &mut Conn| {
                set(conn, 1, 1).await?;
                match bodies.fetch_add(1, Ordering::Relaxed) {
                    5 => Ok(()),
                    _ => Err(Again),
                }
            },
        )
        .await;
    assert_eq!(result, Ok(()));
    assert_eq!((connected.into_inner(), bodies.into_inner()), (1, 6));
    assert_eq!(clock.slept().len(), 5);
    assert_eq!(bed.balances()[0], (1, 1));
}

#[scenario]
async fn each_run_has_a_connection_of_its_own() {
    let bed = Bed::new();
    let connected = AtomicU32::new(0);
    for balance in 1..=3 {
        let result = Runner::default()
            .run_on(
                &async || {
                    connected.fetch_add(1, Ordering::Relaxed);
                    Conn::establish(bed.url()).await
                },
                async |conn: &mut Conn| set(conn, 1, balance).await,
            )
            .await;
        assert_eq!(result, Ok(1));
    }
    assert_eq!(connected.into_inner(), 3);
}

#[scenario]
async fn that_there_is_no_connection_tells_after_how_many_attempts() {
    let runner = Runner::new(RetryPolicy::new().with_max_retries(2));
    let result: Result<(), Error> = runner
        .with_clock(InstantClock::new())
        .run_on(
            &async || {
                let refused = ConnectionError::BadConnection("connection refused".into());
                Err::<Conn, _>(refused)
            },
            async |_: &mut Conn| Ok(()),
        )
        .await;
    let error = result.expect_err("no connection");
    let own = error.dbop_error().expect("dbop's");
    assert!(own.is_no_connection() && own.is_exhausted());
    assert_eq!(
        (own.attempts(), own.stop()),
        (3, Some(StopReason::RetriesExhausted))
    );
}

/// That the operation asks for what there is not turns out on a connection, which the second attempt is the first
/// one to have.
#[scenario]
async fn what_is_refused_tells_after_how_many_attempts() {
    let bed = Bed::new();
    let (asked, notes, given_up) = (AtomicU32::new(0), Notes::new(), AtomicU32::new(0));
    let note = |it: &GivenUp| given_up.store(it.attempts(), Ordering::Relaxed);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .with_observer(notes.clone())
        .operation("pay")
        .lock_timeout(Duration::ZERO)
        .after_giving_up(&note)
        .run_on_report(
            &async || match asked.fetch_add(1, Ordering::Relaxed) {
                0 => Err(ConnectionError::BadConnection("connection refused".into())),
                _ => Conn::establish(bed.url()).await,
            },
            async |conn: &mut Conn| set(conn, 1, 1).await,
        )
        .await;
    let expected = [
        "pay: start",
        "pay: attempt 1",
        "pay: Retrying",
        "pay: attempt 2",
        "pay: end 2 undone not_retryable",
    ];
    assert_eq!(notes.take(), expected);
    assert_eq!((report.attempts, given_up.into_inner()), (2, 2));
    assert_eq!(
        (report.failures.len(), report.outcome),
        (1, Outcome::Undone)
    );
    let error = report.result.expect_err("refused");
    let own = error.dbop_error().expect("dbop's");
    assert_eq!(
        (own.attempts(), own.stop()),
        (2, Some(StopReason::NotRetryable))
    );
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn the_time_in_which_it_waits_for_connections_is_told() {
    let bed = Bed::new();
    let notes = Notes::new();
    let asked = AtomicU32::new(0);
    let runner = Runner::new(RetryPolicy::new().with_initial_delay(Duration::ZERO))
        .with_observer(notes.clone());
    let report = runner
        .run_on_report(
            &async || {
                std::thread::sleep(Duration::from_millis(20));
                match asked.fetch_add(1, Ordering::Relaxed) {
                    0 => Err(ConnectionError::BadConnection("connection refused".into())),
                    _ => Conn::establish(bed.url()).await,
                }
            },
            async |conn: &mut Conn| set(conn, 1, 1).await,
        )
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.succeeded_after(), Some(2));
    let (failed, least) = (&report.failures[0], Duration::from_millis(20));
    assert!(failed.connection_wait >= least && failed.elapsed >= failed.connection_wait);
    assert!(report.last_connection_wait >= least);
    assert!(report.last_elapsed >= report.last_connection_wait);
    let all = failed.connection_wait + report.last_connection_wait;
    assert_eq!(report.connection_wait, all);
    assert!(report.elapsed >= all);
    assert_eq!(notes.end().connection_wait(), all);
}

#[scenario]
async fn a_source_of_broken_connections_is_not_asked_for_ever() {
    let bed = Bed::new();
    let (connected, bodies) = (AtomicU32::new(0), AtomicU32::new(0));
    let (clock, log) = (InstantClock::new(), Capture::new());
    let report: Report<usize, Error> = Runner::default()
        .with_clock(clock.clone())
        .with_logger(log.clone())
        .run_on_report(
            &async || {
                connected.fetch_add(1, Ordering::Relaxed);
                let mut conn = Conn::establish(bed.url()).await?;
                Manager::transaction_manager_status_mut(&mut conn).set_in_error();
                Ok::<_, ConnectionError>(conn)
            },
            async |conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                set(conn, 1, 1).await
            },
        )
        .await;
    let error = report.result.expect_err("none is usable");
    assert!(
        error
            .dbop_error()
            .is_some_and(|error| error.is_no_connection())
    );
    assert_eq!(
        (report.attempts, report.stop),
        (6, StopReason::RetriesExhausted)
    );
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!((connected.into_inner(), bodies.into_inner()), (6, 0));
    assert_eq!(clock.slept().len(), 5);
    assert_eq!(
        log.records()[0].keys["class"],
        FaultClass::NotConnected.as_str()
    );
    assert_eq!(log.records()[0].keys["phase"], "connect");
}

#[scenario]
async fn a_broken_connection_among_good_ones_costs_an_attempt() {
    let bed = Bed::new();
    let connected = AtomicU32::new(0);
    let report: Report<usize, Error> = Runner::default()
        .with_clock(InstantClock::new())
        .run_on_report(
            &async || {
                let mut conn = Conn::establish(bed.url()).await?;
                if connected.fetch_add(1, Ordering::Relaxed) == 0 {
                    Manager::transaction_manager_status_mut(&mut conn).set_in_error();
                }
                Ok::<_, ConnectionError>(conn)
            },
            async |conn: &mut Conn| set(conn, 1, 1).await,
        )
        .await;
    assert_eq!((report.result, report.attempts), (Ok(1), 2));
    assert_eq!(bed.balances()[0], (1, 1));
}

/// What is done without is told, whichever attempt gets the first good connection.
#[scenario]
async fn a_skipped_setting_is_logged_once_even_after_a_failed_connect() {
    let bed = Bed::new();
    let connected = AtomicU32::new(0);
    let log = Capture::new();
    let result: QueryResult<usize> = Runner::default()
        .with_clock(InstantClock::new())
        .with_logger(log.clone())
        .operation("asks")
        .begin_mode(BeginMode::Immediate)
        .statement_timeout(Duration::from_secs(5))
        .best_effort()
        .run_on(
            &async || {
                let mut conn = Conn::establish(bed.url()).await?;
                if connected.fetch_add(1, Ordering::Relaxed) < 2 {
                    Manager::transaction_manager_status_mut(&mut conn).set_in_error();
                }
                Ok::<_, ConnectionError>(conn)
            },
            async |conn: &mut Conn| set(conn, 1, 1).await,
        )
        .await;
    assert_eq!(result, Ok(1));
    let records = log.records();
    let skipped = records.iter().filter(|r| r.keys.contains_key("setting"));
    assert_eq!(skipped.count(), 1, "{records:?}");
}

/// The source's second connection has a transaction open, in which the operation's isolation level
/// is not supported: that does not make the first attempt undone.
#[scenario]
async fn a_refusal_on_a_later_connection_does_not_hide_what_became_of_the_first() {
    let bed = Bed::new();
    let connected = AtomicU32::new(0);
    let log = Capture::new();
    let report: Report<usize, Again> = Runner::default()
        .with_clock(InstantClock::new())
        .with_logger(log.clone())
        .operation("asks")
        .isolation(IsolationLevel::Serializable)
        .run_on_report(
            &async || {
                let mut conn = Conn::establish(bed.url()).await?;
                if connected.fetch_add(1, Ordering::Relaxed) == 1 {
                    conn.begin_test_transaction().await.expect("begun");
                }
                Ok::<_, ConnectionError>(conn)
            },
            async |conn: &mut Conn| {
                set(conn, 1, 1).await?;
                Manager::transaction_manager_status_mut(conn).set_in_error();
                Err(Again)
            },
        )
        .await;
    assert!(report.result.is_err());
    assert_eq!(
        (report.attempts, report.stop),
        (2, StopReason::NotRetryable)
    );
    assert_eq!(report.outcome, Outcome::Undone);
    assert_eq!(report.failures.len(), 2);
    assert_eq!(log.records().len(), 2, "a retry and the end");
    assert_eq!(bed.balances(), UNTOUCHED);
}

/// Of an error that says nothing it is not known that it stays: there is no connection, as yet.
#[scenario]
async fn an_error_of_the_closures_own_is_not_connected() {
    let (report, attempts) = refused(|| "not today".into()).await;
    let error = report.result.expect_err("no connection");
    let error = error.dbop_error().expect("an error of dbop's own");
    assert!(error.is_no_connection());
    let cause = std::error::Error::source(error).expect("a cause");
    assert_eq!(cause.to_string(), "not today");
    assert_eq!((report.attempts, attempts), (6, 6));
    assert_eq!(report.stop, StopReason::RetriesExhausted);
    let fault = report.failures[0].fault.expect("a fault");
    assert_eq!(fault.class(), FaultClass::NotConnected);
}

/// The closure says so, or Diesel does.
#[scenario]
async fn what_another_attempt_would_meet_again_is_given_up_at_once() {
    let causes: [fn() -> Cause; 4] = [
        || ConnectError::permanent("no DATABASE_URL").into(),
        || ConnectionError::InvalidConnectionUrl("nothing".to_owned()).into(),
        || {
            std::io::Error::other(ConnectionError::InvalidConnectionUrl("nothing".to_owned()))
                .into()
        },
        || Error::NotFound.into(),
    ];
    for cause in causes {
        let (report, attempts) = refused(cause).await;
        assert_eq!((report.attempts, attempts), (1, 1), "{report:?}");
        assert_eq!(report.stop, StopReason::NotRetryable);
        let error = report.result.expect_err("no connection");
        assert!(error.dbop_error().is_some_and(|own| own.is_no_connection()));
    }
}

/// A pool that waited in vain, whatever the closure makes of its error.
#[scenario]
async fn a_pool_that_has_waited_is_not_asked_again() {
    let causes: [fn() -> Cause; 3] = [
        || ConnectError::pool_timeout("nothing free").into(),
        || "timed out waiting for connection".into(),
        || std::io::Error::other("Timed out in bb8").into(),
    ];
    for cause in causes {
        let (report, attempts) = refused(cause).await;
        assert_eq!((report.attempts, attempts), (1, 1), "{report:?}");
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Runs an operation on a closure that only has this error, and counts how often it is called.
#[helper]
async fn refused(cause: fn() -> Cause) -> (Report<usize, Error>, u32) {
    let connects = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .run_on_report(
            &async || {
                connects.fetch_add(1, Ordering::Relaxed);
                Err::<Conn, _>(cause())
            },
            async |conn: &mut Conn| set(conn, 1, 1).await,
        )
        .await;
    (report, connects.into_inner())
}

/// As with Diesel's `begin_test_transaction` on each connection of a pool.
#[scenario]
async fn on_a_connection_with_an_open_transaction_it_is_a_savepoint() {
    let bed = Bed::new();
    let report: Report<usize, Error> = Runner::default()
        .run_on_report(
            &async || {
                let mut conn = Conn::establish(bed.url()).await?;
                conn.begin_test_transaction()
                    .await
                    .map_err(ConnectionError::CouldntSetupConfiguration)?;
                Ok::<_, ConnectionError>(conn)
            },
            async |conn: &mut Conn| {
                assert_eq!(depth(conn), Some(2));
                set(conn, 1, 1).await
            },
        )
        .await;
    assert_eq!((report.result, report.attempts), (Ok(1), 1));
    assert_eq!(bed.balances(), UNTOUCHED);
}

#[scenario]
async fn a_fallback_value_stands_for_an_error_beside_a_resolution() {
    let bed = Bed::new();
    let bodies = AtomicU32::new(0);
    let result: Result<u32, Error> = Runner::default()
        .operation("lookup")
        .verify(async |_conn: &mut Conn| Ok::<_, Error>(true))
        .fallback(7)
        .run_on(
            &async || Conn::establish(bed.url()).await,
            async |_conn: &mut Conn| {
                bodies.fetch_add(1, Ordering::Relaxed);
                Err(Error::NotFound)
            },
        )
        .await;
    assert_eq!((result, bodies.into_inner()), (Ok(7), 1));
}

/// The value that an attempt leaves behind may hold what others wait for.
#[scenario]
async fn the_value_of_a_failed_attempt_is_dropped_before_the_sleep() {
    let bed = Bed::new();
    let value = Arc::new(());
    let clock = HolderClock::of(&value);
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(clock.clone())
        .run_on_report(
            &async || Conn::establish(bed.url()).await,
            async |conn: &mut Conn| {
                if bodies.fetch_add(1, Ordering::Relaxed) == 0 {
                    // The connection breaks, and the body has not noticed.
                    Manager::transaction_manager_status_mut(conn).set_in_error();
                }
                Ok::<_, Error>(value.clone())
            },
        )
        .await;
    assert_eq!(report.attempts, 2);
    assert_eq!(
        *clock.holders.lock().expect("no panic"),
        [1],
        "the test alone"
    );
    assert!(Arc::ptr_eq(
        &report.result.expect("the second value"),
        &value
    ));
    assert_eq!(report.failures.len(), 1);
}

/// A clock that does not wait, but writes down how many hold something while others would wait.
struct HolderClock {
    held: Weak<()>,
    holders: Mutex<Vec<usize>>,
}

impl HolderClock {
    fn of(held: &Arc<()>) -> Arc<Self> {
        Arc::new(Self {
            held: Arc::downgrade(held),
            holders: Mutex::default(),
        })
    }
}

impl dbop_diesel::Clock for HolderClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, _duration: Duration) {
        let mut holders = self.holders.lock().expect("no panic");
        holders.push(self.held.strong_count());
    }
}

impl dbop_diesel_async::Clock for HolderClock {
    fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        dbop_diesel::Clock::sleep(self, duration);
        Box::pin(std::future::ready(()))
    }
}
