//! Observers are told of each operation's start, attempts, events and end: one end for each start,
//! whatever becomes of the operation, and whatever becomes of an observer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dbop_diesel::{
    Event, EventKind, FaultClass, GivenUp, Observer, OperationError as _, Outcome, RetryPolicy,
    StopReason, Subject, Summary,
};
use dbop_tests::{Capture, InstantClock, Meanwhile, Notes};
use diesel::QueryResult;
use diesel::result::Error;
use log::Level;

use super::money::{insert, set};
use super::{Bed, Conn, MODE, Manager, Runner, TransactionManager as _, backend, caught, scenario};

/// So that a unique violation, which needs no other session, can stand for what may be retried.
const POLICY: RetryPolicy = RetryPolicy::new()
    .with_max_retries(1)
    .with_retry_on(FaultClass::Constraint);

#[scenario]
async fn each_operation_has_one_start_and_one_end() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let notes = Notes::new();
    let runner = Runner::new(POLICY)
        .with_clock(InstantClock::new())
        .with_observer(notes.clone());
    let bodies = AtomicU32::new(0);
    let result = runner
        .operation("pay")
        .run(&mut conn, async |conn: &mut Conn| {
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => insert(conn, 1).await,
                _ => set(conn, 1, 1).await,
            }
        })
        .await;
    assert_eq!(result, Ok(1));
    let expected = [
        "pay: start",
        "pay: attempt 1",
        "pay: Retrying",
        "pay: attempt 2",
        "pay: Succeeded",
        "pay: end 2 committed succeeded",
    ];
    assert_eq!(notes.take(), expected);

    let result: QueryResult<usize> = runner
        .operation("open")
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    let expected = [
        "open: start",
        "open: attempt 1",
        "open: Retrying",
        "open: attempt 2",
        "open: Failed",
        "open: end 2 undone retries_exhausted",
    ];
    assert_eq!(notes.take(), expected);

    let result: QueryResult<()> = runner
        .operation("look up")
        .run(&mut conn, async |_: &mut Conn| Err(Error::NotFound))
        .await;
    assert_eq!(result, Err(Error::NotFound));
    let expected = [
        "look up: start",
        "look up: attempt 1",
        "look up: Returned",
        "look up: end 1 undone own_error",
    ];
    assert_eq!(notes.take(), expected);
}

#[scenario]
async fn what_is_refused_has_an_end_too() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let notes = Notes::new();
    let runner = Runner::default().with_observer(notes.clone());
    let result: QueryResult<usize> = runner
        .operation("impatient")
        .lock_timeout(Duration::ZERO)
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert!(result.is_err());
    let refused = |name| {
        [
            format!("{name}: start"),
            format!("{name}: end 0 undone not_retryable"),
        ]
    };
    assert_eq!(notes.take(), refused("impatient"));

    // One that only the machine's beginning can tell.
    let timeouts = [Duration::ZERO];
    let result: QueryResult<usize> = runner
        .operation("in steps")
        .lock_timeouts(&timeouts)
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    assert!(result.is_err());
    assert_eq!(notes.take(), refused("in steps"));
}

#[scenario]
async fn a_panic_is_an_end() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let notes = Notes::new();
    let runner = Runner::default().with_observer(notes.clone());
    let panicked = caught(async || {
        let never: QueryResult<()> = runner
            .operation("pay")
            .run(&mut conn, async |conn: &mut Conn| {
                set(conn, 1, 1).await?;
                panic!("no money")
            })
            .await;
        never
    })
    .await;
    assert!(panicked.is_err());
    let expected = [
        "pay: start",
        "pay: attempt 1",
        "pay: Panicked",
        "pay: end 1 undone panicked",
    ];
    assert_eq!(notes.take(), expected);
    assert!(notes.end().is_panicked() && notes.end().is_failure());
}

#[scenario]
async fn nested_operations_are_told_of_on_their_own() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let notes = Notes::new();
    let runner = Runner::default().with_observer(notes.clone());
    let result = runner
        .operation("transfer")
        .run(&mut conn, async |conn: &mut Conn| {
            runner
                .operation("withdraw")
                .run(conn, async |conn: &mut Conn| set(conn, 1, 1).await)
                .await
        })
        .await;
    assert_eq!(result, Ok(1));
    let expected = [
        "transfer: start",
        "transfer: attempt 1",
        "withdraw: start",
        "withdraw: attempt 1",
        "withdraw: Succeeded",
        "withdraw: end 1 committed succeeded",
        "transfer: Succeeded",
        "transfer: end 1 committed succeeded",
    ];
    assert_eq!(notes.take(), expected);
}

/// Panics at each opportunity.
struct Loud;

impl Observer for Loud {
    fn on_start(&self, _: &Subject<'_>) {
        panic!("start");
    }

    fn on_attempt(&self, _: &Subject<'_>, _: u32) {
        panic!("attempt");
    }

    fn on_event(&self, _: &Subject<'_>, _: &Event) {
        panic!("event");
    }

    fn on_end(&self, _: &Subject<'_>, _: &Summary) {
        panic!("end");
    }
}

#[scenario]
async fn a_panic_of_an_observer_changes_nothing_and_is_told_once() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let (before, after, log) = (Notes::new(), Notes::new(), Capture::new());
    let runner = Runner::default()
        .with_logger(log.clone())
        .with_observer(before.clone())
        .with_observer(Loud)
        .with_observer(after.clone());
    for balance in [1, 2] {
        let result = runner
            .operation("pay")
            .run(&mut conn, async |conn: &mut Conn| {
                set(conn, 1, balance).await
            })
            .await;
        assert_eq!(result, Ok(1));
        assert_eq!(bed.balances()[0], (1, balance));
        let told = before.take();
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told, after.take());
    }
    let warned: Vec<_> = log
        .records()
        .into_iter()
        .filter(|record| record.level == Level::Warn)
        .collect();
    let [record] = &warned[..] else {
        panic!("one record: {warned:?}");
    };
    assert!(record.text.contains("observer panicked"), "{record:?}");
    assert_eq!(record.keys["operation"], "pay");
}

#[scenario]
async fn a_panic_of_an_observer_does_not_replace_that_of_the_operation() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_observer(Loud);
    let panicked = caught(async || {
        let never: QueryResult<()> = runner
            .run(&mut conn, async |_: &mut Conn| panic!("no money"))
            .await;
        never
    })
    .await;
    let payload = panicked.expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"no money"));
}

#[scenario]
async fn the_end_says_how_long_it_took_and_what_for() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let notes = Notes::new();
    let policy = POLICY.with_max_retries(3).with_seed(7);
    let result: QueryResult<usize> = Runner::new(policy)
        .with_clock(Meanwhile::new(|_| ()))
        .with_observer(notes.clone())
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    let expected: Duration = policy.delays().take(3).sum();
    let end = notes.end();
    assert_eq!((end.elapsed(), end.paused()), (expected, expected));
    assert_eq!(end.connection_wait(), Duration::ZERO);
    assert_eq!(end.attempts(), 4);
    let fault = end.last_fault().expect("a database error");
    assert_eq!(fault.class(), FaultClass::Constraint);
    assert!(end.is_failure() && !end.is_success() && !end.is_cancelled());
}

/// So the time of an operation is its own, whichever adapter runs it.
#[scenario]
async fn the_end_comes_before_the_hooks_and_has_no_time_of_theirs() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for is_ok in [true, false] {
        let (notes, clock) = (Notes::new(), Meanwhile::new(|_| ()));
        let told = Mutex::new(Vec::new());
        let hook = || {
            dbop_diesel::Clock::sleep(&*clock, Duration::from_secs(60));
            told.lock().expect("no panic").push(notes.take());
        };
        let note = |_: &GivenUp| hook();
        let report = Runner::default()
            .with_clock(clock.clone())
            .with_observer(notes.clone())
            .operation("pay")
            .after_commit(&hook)
            .after_giving_up(&note)
            .run_report(&mut conn, async |conn: &mut Conn| {
                set(conn, 1, 1).await?;
                if is_ok { Ok(()) } else { Err(Error::NotFound) }
            })
            .await;
        assert_eq!(report.result.is_ok(), is_ok);
        let (event, end) = match is_ok {
            true => ("Succeeded", "committed succeeded"),
            false => ("Returned", "undone own_error"),
        };
        let expected = [
            "pay: start".to_owned(),
            "pay: attempt 1".to_owned(),
            format!("pay: {event}"),
            format!("pay: end 1 {end}"),
        ];
        assert_eq!(*told.lock().expect("no panic"), [expected]);
        assert_eq!(notes.take(), [""; 0], "once");
        assert_eq!(notes.end().elapsed(), Duration::ZERO);
        assert_eq!(report.elapsed, Duration::ZERO);
        assert_eq!(clock.slept().len(), 1);
    }
}

/// Keeps what events say.
#[derive(Default)]
struct Look(Mutex<Vec<String>>);

impl Observer for Look {
    fn on_event(&self, subject: &Subject<'_>, event: &Event) {
        let (dialect, mode) = (subject.dialect(), subject.mode());
        let fault = event.fault().expect("a database error");
        let code = fault.code().expect("a code");
        let (class, phase, attempt) = (fault.class(), event.phase(), event.attempt());
        let others = (event.rollback_fault(), event.setting(), event.delay());
        let text = format!("{dialect} {mode} {class} {code} {phase} {attempt} {others:?}");
        self.0.lock().expect("no panic").push(text);
    }
}

#[scenario]
async fn an_event_says_what_its_record_says() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let look = Arc::new(Look::default());
    let result: QueryResult<usize> = Runner::default()
        .with_observer(look.clone())
        .operation("open")
        .run(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert!(result.is_err());
    let (backend, code) = (backend::BACKEND, backend::UNIQUE_VIOLATION);
    let expected = format!("{backend} {MODE} constraint {code} body 1 (None, None, None)");
    assert_eq!(*look.0.lock().expect("no panic"), [expected]);
}

/// Looks at what kind of error an event is about.
#[derive(Default)]
struct Looked(AtomicU32);

impl Observer for Looked {
    fn on_event(&self, _: &Subject<'_>, event: &Event) {
        let bit = match event.kind() {
            EventKind::Returned => u32::from(event.is_own_error()),
            EventKind::Panicked => u32::from(event.is_panic() && !event.is_own_error()) << 1,
            EventKind::Failed => u32::from(event.is_dbop_error()) << 2,
            _ => 0,
        };
        self.0.fetch_or(bit, Ordering::Relaxed);
    }
}

#[scenario]
async fn an_event_says_whose_error_it_is() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let looked = Arc::new(Looked::default());
    let runner = Runner::default().with_observer(looked.clone());
    let own: QueryResult<()> = runner
        .run(&mut conn, async |_: &mut Conn| Err(Error::NotFound))
        .await;
    assert_eq!(own, Err(Error::NotFound));
    let panicked = caught(async || {
        let never: QueryResult<()> = runner
            .run(&mut conn, async |_: &mut Conn| panic!("loud"))
            .await;
        never
    })
    .await;
    assert!(panicked.is_err());
    // A savepoint that is left open is dbop's to tell.
    let unbalanced: QueryResult<()> = runner
        .run(&mut conn, async |conn: &mut Conn| {
            Manager::begin_transaction(conn).await
        })
        .await;
    assert!(unbalanced.is_err());
    assert_eq!(looked.0.load(Ordering::Relaxed), 0b111);
}

#[scenario]
async fn the_users_error_is_handed_back_and_dbops_own_tells_the_end() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let result: QueryResult<usize> = Runner::default()
        .operation("impatient")
        .lock_timeout(Duration::ZERO)
        .run(&mut conn, async |conn: &mut Conn| set(conn, 1, 1).await)
        .await;
    let error = result.expect_err("refused");
    let own = error.dbop_error().expect("dbop's");
    assert_eq!(
        (own.attempts(), own.stop()),
        (0, Some(StopReason::NotRetryable))
    );
    assert!(!own.is_exhausted());
}

#[scenario]
async fn a_report_says_in_one_line_what_happened() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let runner = Runner::new(POLICY).with_clock(Meanwhile::new(|_| ()));
    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| {
            match bodies.fetch_add(1, Ordering::Relaxed) {
                0 => insert(conn, 1).await,
                _ => set(conn, 1, 1).await,
            }
        })
        .await;
    assert_eq!(report.succeeded_after(), Some(2));
    let text = report.to_string();
    assert!(text.starts_with("committed in attempt 2 after "), "{text}");
    assert_eq!(report.paused, report.failures[0].delay);
    assert_eq!(report.elapsed, report.paused);
    assert_eq!(report.last_elapsed, Duration::ZERO);

    let report = runner
        .run_report(&mut conn, async |conn: &mut Conn| insert(conn, 1).await)
        .await;
    assert_eq!(report.succeeded_after(), None);
    assert_eq!(report.outcome, Outcome::Undone);
    let text = report.to_string();
    assert!(text.starts_with("undone after 2 attempts and "), "{text}");
    assert!(text.ends_with(", retries_exhausted"), "{text}");
}
