//! Who is told what, in which order, and what a panic of theirs does not change.

use std::sync::Mutex;
use std::time::Instant;

use log::{Level, Log, Metadata, Record};

use super::*;
use crate::budget::RetryBudget;
use crate::config::RunnerConfig;
use crate::dialect::Dialect;
use crate::event::{EventKind, Name};
use crate::fault::FaultClass;
use crate::machine::Step;
use crate::outcome::Phase;

/// Writes down what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().expect("no panic").push(note);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

impl Observer for Notes {
    fn on_start(&self, subject: &Subject<'_>) {
        self.add(format!("start {}", subject.name()));
    }

    fn on_attempt(&self, _: &Subject<'_>, number: u32) {
        self.add(format!("attempt {number}"));
    }

    fn on_event(&self, _: &Subject<'_>, event: &Event) {
        self.add(format!("{:?}", event.kind()));
    }

    fn on_end(&self, _: &Subject<'_>, summary: &Summary) {
        self.add(format!("end: {summary}"));
    }
}

/// Panics whenever it can, with something that panics again.
struct Loud;

struct LoudPayload;

impl Drop for LoudPayload {
    fn drop(&mut self) {
        std::panic::panic_any("dropped");
    }
}

impl Observer for Loud {
    fn on_start(&self, _: &Subject<'_>) {
        std::panic::panic_any(LoudPayload);
    }

    fn on_end(&self, _: &Subject<'_>, _: &Summary) {
        panic!("at the end");
    }
}

/// The records of the observers' panics.
#[derive(Default)]
struct Records(Mutex<Vec<(Level, String)>>);

impl Log for Records {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut records = self.0.lock().expect("no panic");
        records.push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

const SUBJECT: Subject<'static> = Subject::new(Name::Given("pay"), Dialect::Postgres, "sync");

fn event(kind: EventKind, fault: Option<Fault>) -> Event {
    Event {
        kind,
        attempt: 1,
        fault,
        own: None,
        phase: Phase::Body,
        delay: None,
        rollback_fault: None,
        is_autocommit: false,
    }
}

fn second(start: Instant, number: u64) -> Instant {
    start + Duration::from_secs(number)
}

#[test]
fn without_an_observer_or_a_report_the_clock_is_not_read() {
    let config = RunnerConfig::default();
    let no_clock = || panic!("the clock is read");
    assert!(Observation::begin(&config, SUBJECT, false, true, no_clock).is_none());
    assert!(Observation::begin(&config, SUBJECT, true, true, Instant::now).is_some());
}

#[test]
fn all_are_told_in_order_although_one_panics() {
    let (first, last, log) = (
        Arc::new(Notes::default()),
        Arc::new(Notes::default()),
        Arc::new(Records::default()),
    );
    let mut config = RunnerConfig::default();
    config.add_observer(first.clone());
    config.add_observer(Loud);
    config.add_observer(last.clone());
    config.set_logging(|logging| logging.logger = Some(log.clone()));
    let now = Instant::now();
    for _ in 0..2 {
        let observation = Observation::begin(&config, SUBJECT, false, true, || now);
        let mut observation = observation.expect("it is observed");
        observation.step(1, &Step::Connect { within: None }, || now);
        observation.connected(|| now);
        observation.step(1, &Step::Body, || now);
        observation.event(&event(EventKind::Succeeded, None));
        let (outcome, stop) = (Outcome::Committed, StopReason::Succeeded);
        _ = observation.end(1, outcome, stop, None, || now);
    }
    let expected = [
        "start pay",
        "attempt 1",
        "Succeeded",
        "end: committed after 1 attempt and 0.0ns",
    ];
    let twice = [expected, expected].concat();
    assert_eq!(first.take(), twice);
    assert_eq!(last.take(), twice);
    let records = log.0.lock().expect("no panic");
    let text = "pay: an observer panicked; that and its further panics are ignored";
    assert_eq!(*records, [(Level::Warn, text.to_owned())]);
}

/// Observes an operation while a panic unwinds.
struct Unwinding<'a>(&'a RunnerConfig);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        let observation = Observation::begin(self.0, SUBJECT, false, true, Instant::now);
        let (outcome, stop) = (Outcome::Undone, StopReason::Panicked);
        _ = observation
            .expect("it is observed")
            .end(0, outcome, stop, None, Instant::now);
    }
}

#[test]
fn a_panic_of_an_observer_during_a_panic_does_not_abort() {
    let notes = Arc::new(Notes::default());
    let mut config = RunnerConfig::default();
    config.add_observer(Loud);
    config.add_observer(notes.clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _unwinding = Unwinding(&config);
        panic!("the operation's");
    }));
    let payload = panicked.expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&"the operation's"));
    let notes = notes.take();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[1].starts_with("end: undone after no attempt"));
    assert!(notes[1].ends_with(", panicked"));
}

#[test]
fn times_are_told_apart() {
    let config = RunnerConfig::default();
    let start = Instant::now();
    let at = |number| move || second(start, number);
    let connect = Step::Connect { within: None };
    let observation = Observation::begin(&config, SUBJECT, true, true, at(0));
    let mut observation = observation.expect("it is reported");
    observation.step(1, &connect, at(1));
    observation.connected(at(3));
    observation.step(1, &Step::Body, at(3));
    let first = observation.attempt_times(at(10));
    assert_eq!(first.elapsed, Duration::from_secs(9));
    assert_eq!(first.connection_wait, Duration::from_secs(2));
    observation.pause(at(10));
    observation.step(1, &Step::Queue, at(17));
    observation.step(2, &connect, at(20));
    observation.connected(at(25));
    let (outcome, stop) = (Outcome::Undone, StopReason::OwnError);
    let times = observation.end(2, outcome, stop, None, at(40));
    assert_eq!(times.elapsed, Duration::from_secs(40));
    assert_eq!(times.paused, Duration::from_secs(7));
    assert_eq!(times.queued, Duration::from_secs(3));
    assert_eq!(times.connection_wait, Duration::from_secs(7));
    assert_eq!(times.last_attempt.elapsed, Duration::from_secs(20));
    assert_eq!(times.last_attempt.connection_wait, Duration::from_secs(5));
}

#[test]
fn what_it_waits_for_when_it_is_dropped_counts() {
    let config = RunnerConfig::default();
    let start = Instant::now();
    let begun = || {
        let observation = Observation::begin(&config, SUBJECT, true, true, || start);
        observation.expect("it is reported")
    };
    let end = |mut observation: Box<Observation<'_>>| {
        let (outcome, stop) = (Outcome::Undone, StopReason::Cancelled);
        observation.end(1, outcome, stop, None, || second(start, 5))
    };
    let mut connecting = begun();
    connecting.step(1, &Step::Connect { within: None }, || start);
    assert_eq!(end(connecting).connection_wait, Duration::from_secs(5));
    let mut pausing = begun();
    pausing.pause(|| start);
    assert_eq!(end(pausing).paused, Duration::from_secs(5));
    let mut queueing = begun();
    queueing.step(0, &Step::Queue, || start);
    assert_eq!(end(queueing).queued, Duration::from_secs(5));
}

/// Keeps the last summary.
#[derive(Default)]
struct Last(Mutex<Option<Summary>>);

impl Observer for Last {
    fn on_end(&self, _: &Subject<'_>, summary: &Summary) {
        *self.0.lock().expect("no panic") = Some(*summary);
    }
}

/// The hooks of an operation come after that, and take a time of their own.
#[test]
fn an_end_is_told_once_with_its_own_time() {
    let notes = Arc::new(Notes::default());
    let mut config = RunnerConfig::default();
    config.add_observer(notes.clone());
    let start = Instant::now();
    let observation = Observation::begin(&config, SUBJECT, false, true, || start);
    let mut observation = observation.expect("it is observed");
    assert!(!observation.has_ended());
    let (outcome, stop) = (Outcome::Committed, StopReason::Succeeded);
    for _ in 0..2 {
        let now = || match notes.0.lock().expect("no panic").len() {
            1 => second(start, 5),
            _ => panic!("the clock is read again"),
        };
        let times = observation.end(1, outcome, stop, None, now);
        assert_eq!(times.elapsed, Duration::from_secs(5));
        assert!(observation.has_ended());
    }
    let expected = ["start pay", "end: committed after 1 attempt and 5.0s"];
    assert_eq!(notes.take(), expected);
}

#[test]
fn the_end_says_how_the_gate_and_the_budget_stand() {
    let last = Arc::new(Last::default());
    let mut config = RunnerConfig::default();
    config.add_observer(last.clone());
    let (outcome, stop, now) = (Outcome::Undone, StopReason::OwnError, Instant::now());
    let end = |config: &RunnerConfig, gate| {
        let observation = Observation::begin(config, SUBJECT, false, true, || now);
        let mut observation = observation.expect("it is observed");
        _ = observation.end(1, outcome, stop, gate, || now);
        let summary = last.0.lock().expect("no panic").take().expect("an end");
        (summary.gate(), summary.retries_left())
    };
    assert_eq!(end(&config, None), (None, None));
    let gate = Some(GateStatus {
        limit: Some(2),
        inside: 1,
        waiting: 3,
    });
    config.set_retry_budget(Arc::new(RetryBudget::token_bucket(35)));
    assert_eq!(end(&config, gate), (gate, Some(7)));
}

#[test]
fn the_last_fault_is_that_of_the_last_failed_attempt() {
    let last = Arc::new(Last::default());
    let mut config = RunnerConfig::default();
    config.add_observer(last.clone());
    let now = Instant::now();
    let deadlock = Fault::from_class(Dialect::Postgres, FaultClass::Deadlock);
    let retrying = event(EventKind::Retrying, Some(deadlock));
    for (end, stop, expected) in [
        (EventKind::Succeeded, StopReason::Succeeded, Some(deadlock)),
        (EventKind::Returned, StopReason::OwnError, None),
    ] {
        let observation = Observation::begin(&config, SUBJECT, false, true, || now);
        let mut observation = observation.expect("it is observed");
        observation.event(&retrying);
        observation.event(&event(end, None));
        _ = observation.end(2, Outcome::Undone, stop, None, || now);
        let summary = last.0.lock().expect("no panic").take().expect("an end");
        assert_eq!(summary.last_fault(), expected);
        assert_eq!(summary.is_success(), stop == StopReason::Succeeded);
        assert!(!summary.is_failure() && !summary.is_cancelled() && !summary.is_panicked());
    }
}

#[test]
fn a_summary_says_how_it_ended() {
    use StopReason::{Cancelled, NotRetryable, OwnError, Panicked, Succeeded};

    let last = Arc::new(Last::default());
    let mut config = RunnerConfig::default();
    config.add_observer(last.clone());
    let now = Instant::now();
    for (stop, is_failure) in [
        (Succeeded, false),
        (OwnError, false),
        (Cancelled, false),
        (Panicked, true),
        (NotRetryable, true),
    ] {
        let observation = Observation::begin(&config, SUBJECT, false, true, || now);
        let mut observation = observation.expect("it is observed");
        _ = observation.end(3, Outcome::Undone, stop, None, || now);
        let summary = last.0.lock().expect("no panic").take().expect("an end");
        assert_eq!((summary.attempts(), summary.stop()), (3, stop));
        assert_eq!(summary.is_success(), stop == Succeeded);
        assert_eq!(summary.is_failure(), is_failure, "{stop:?}");
        assert_eq!(summary.is_cancelled(), stop == Cancelled);
        assert_eq!(summary.is_panicked(), stop == Panicked);
    }
}

/// The caller's connection is there.
#[test]
fn only_a_connection_from_a_source_is_waited_for() {
    for (waits, expected) in [(true, 3), (false, 0)] {
        let mut config = RunnerConfig::default();
        config.add_observer(Arc::new(Notes::default()));
        let start = Instant::now();
        let observation = Observation::begin(&config, SUBJECT, false, waits, || start);
        let mut observation = observation.expect("it is observed");
        observation.step(1, &Step::Connect { within: None }, || start);
        observation.connected(|| second(start, 3));
        observation.step(1, &Step::Body, || second(start, 4));
        let (outcome, stop) = (Outcome::Committed, StopReason::Succeeded);
        let times = observation.end(1, outcome, stop, None, || second(start, 9));
        assert_eq!(times.connection_wait, Duration::from_secs(expected));
    }
}
