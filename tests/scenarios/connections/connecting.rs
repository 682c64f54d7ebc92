//! `run_on`: connecting is a part of the attempt. A server that is down, starting up or full is
//! waited for; what will not get better is given up at once, with its cause. No secret is shown.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use dbop_diesel::{FaultClass, Outcome, Report, StopReason};
use dbop_tests::proxy::Proxy;
use dbop_tests::{Capture, InstantClock, Meanwhile, Reluctant};
use diesel::result::Error;

use super::money::add;
use super::steps::{classes, no_connection};
use super::{
    Bed, Conn, Runner, SOURCE_TELLS_WHY, SOURCE_TRIES_AGAIN, backend, impatient, scenario, source,
};

/// The server is not there: no hurry.
fn assert_slow(slept: &[Duration]) {
    let slow = Duration::from_millis(500)..=Duration::from_secs(1);
    assert!(slept.iter().all(|delay| slow.contains(delay)), "{slept:?}");
}

#[scenario]
async fn a_server_that_is_down_for_a_while_is_waited_for() {
    let bed = Bed::new();
    let proxy = Arc::new(Proxy::start(bed.url()));
    let source = impatient(proxy.url());
    proxy.refuse(true);
    let (door, log) = (Arc::clone(&proxy), Capture::new());
    let clock = Meanwhile::new(move |sleep| {
        if sleep == 2 {
            door.refuse(false);
        }
    });
    let report = Runner::default()
        .with_clock(clock.clone())
        .with_logger(log.clone())
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    if !SOURCE_TELLS_WHY {
        // It has waited for as long as it may, and nobody knows what for.
        no_connection(&report.result);
        assert_eq!((report.attempts, report.outcome), (1, Outcome::Undone));
        return;
    }
    assert_eq!(report.result, Ok(1));
    // A pool that tries again by itself needs a while until it notices.
    let attempts = if SOURCE_TRIES_AGAIN { 3..=5 } else { 3..=3 };
    assert!(attempts.contains(&report.attempts), "{}", report.attempts);
    for failure in &report.failures {
        let fault = failure.fault.expect("known");
        assert_eq!(fault.class(), FaultClass::NotConnected);
    }
    assert_eq!(report.failures.len() + 1, report.attempts as usize);
    assert_slow(&clock.slept());
    assert_eq!(classes(&log)[0], "not_connected");
    assert_eq!(log.records()[0].keys["phase"], "connect");
    assert_eq!(log.records()[0].keys["transient"], "true");
    assert_eq!(bed.balances()[0], (1, 110));
}

/// A pool that tries again by itself finds it within the time that it has: one attempt is enough.
#[scenario]
async fn a_server_that_is_there_soon_enough_for_the_pool_costs_it_no_attempt() {
    let bed = Bed::new();
    let proxy = Arc::new(Proxy::start(bed.url()));
    let source = source(proxy.url());
    proxy.refuse(true);
    let door = Arc::clone(&proxy);
    let opens = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        door.refuse(false);
    });
    let report = Runner::default()
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    opens.join().expect("the door opens");
    assert_eq!(report.result, Ok(1));
    let attempts = if SOURCE_TRIES_AGAIN { 1..=1 } else { 2..=4 };
    assert!(attempts.contains(&report.attempts), "{}", report.attempts);
    assert!(report.elapsed >= Duration::from_millis(200), "{report:?}");
    assert_eq!(bed.balances()[0], (1, 110));
}

/// With the answers that such servers gave.
#[scenario]
async fn a_server_that_is_starting_up_or_full_is_waited_for() {
    for (code, message) in backend::NOT_NOW {
        let bed = Bed::new();
        let server = Reluctant::start(bed.url(), 2, code, message);
        let source = source(server.url());
        let (clock, log) = (InstantClock::new(), Capture::new());
        let report = Runner::default()
            .with_clock(clock.clone())
            .with_logger(log.clone())
            .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        assert_eq!(report.result, Ok(1), "{message}");
        assert_eq!(server.refused(), 2);
        assert_eq!(bed.balances()[0], (1, 110));
        if SOURCE_TRIES_AGAIN {
            continue;
        }
        assert_eq!(report.attempts, 3, "{message}");
        let fault = report.failures[0].fault.expect("known");
        assert_eq!(
            fault.class(),
            FaultClass::ServerUnavailable,
            "{:?}",
            report.failures
        );
        let code_of = |fault: dbop_diesel::Fault| fault.code().map(|code| code.to_string());
        assert_eq!(code_of(fault).as_deref(), Some(*code));
        assert_slow(&clock.slept());
        assert_eq!(classes(&log), ["server_unavailable"; 2]);
    }
}

/// One session is allowed, and another caller has it.
#[scenario]
async fn too_many_connections_are_waited_for() {
    let bed = Arc::new(Bed::new());
    let url = bed.url_of_a_user_with_one_connection();
    let other = std::sync::Mutex::new(Some(bed.opponent_at(&url)));
    let source = impatient(&url);
    let server = Arc::clone(&bed);
    let clock = Meanwhile::new(move |_| {
        if let Some(other) = other.lock().expect("no panic").take() {
            let session = other.id();
            drop(other);
            server.wait_until_gone(session);
        }
    });
    let runner = Runner::default().with_clock(clock.clone());
    let report = runner
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    if !SOURCE_TELLS_WHY {
        no_connection(&report.result);
        return;
    }
    assert_eq!(report.result, Ok(1), "{:?}", report.failures);
    // A session is no longer listed a moment before it no longer counts.
    assert!((2..=5).contains(&report.attempts), "{}", report.attempts);
    let fault = report.failures[0].fault.expect("known");
    assert_eq!(fault.class(), FaultClass::ServerUnavailable);
    assert_slow(&clock.slept());
    assert_eq!(bed.balances()[0], (1, 110));
}

/// The report of an operation that gets no connection, and what was logged.
fn assert_given_up(report: &Report<usize, Error>, log: &Capture, clock: &InstantClock) {
    let error = no_connection(&report.result);
    assert_eq!(
        (report.attempts, report.outcome),
        (1, Outcome::Undone),
        "{report:?}"
    );
    assert_eq!(report.stop, StopReason::NotRetryable);
    assert_eq!(clock.slept(), []);
    let classes = classes(log);
    assert_eq!(classes.len(), 1, "{classes:?}");
    let mut shown = format!("{report:?} {error} {:?}", log.records());
    let mut next = error.source();
    while let Some(cause) = next {
        shown += &format!(" {cause} {cause:?}");
        next = cause.source();
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains("@127.0.0.1"), "{shown}");
}

#[scenario]
async fn what_will_not_get_better_is_given_up_at_once() {
    let bed = Bed::new();
    for url in [
        bed.url_with("stranger:hunter2", None),
        bed.url_with(bed.credentials(), Some("no_such_database")),
        "no_url_at_all".to_owned(),
        bed.url_with("dbop:hunter2", None)
            .replace("127.0.0.1:", "127.0.0.1:x"),
    ] {
        let source = impatient(&url);
        let (clock, log) = (InstantClock::new(), Capture::new());
        let report = Runner::default()
            .with_clock(clock.clone())
            .with_logger(log.clone())
            .with_server_messages(true)
            .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
            .await;
        assert_given_up(&report, &log, &clock);
        if SOURCE_TELLS_WHY {
            assert_ne!(classes(&log), ["not_connected"], "{url}");
        }
    }
}

/// With the answer of a real server, as those of the tests trust everybody.
#[scenario]
async fn a_wrong_password_is_given_up_at_once() {
    let bed = Bed::new();
    let (code, message) = backend::WRONG_PASSWORD;
    let server = Reluctant::start(&bed.url_with("dbop:hunter2", None), u32::MAX, code, message);
    let source = impatient(server.url());
    let (clock, log) = (InstantClock::new(), Capture::new());
    let report = Runner::default()
        .with_clock(clock.clone())
        .with_logger(log.clone())
        .run_on_report(&source, async |conn: &mut Conn| add(conn, 1, 10).await)
        .await;
    assert_given_up(&report, &log, &clock);
    if !SOURCE_TRIES_AGAIN {
        assert_eq!(server.refused(), 1);
    }
    if SOURCE_TELLS_WHY {
        assert_eq!(log.records()[0].keys["code"], code);
        let error = no_connection(&report.result);
        let causes = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(causes.contains(message), "{causes}");
    }
}
