//! The machine with a deadline and with a ladder of lock timeouts, against scripts.

use std::time::{Duration, Instant};

use super::reconnecting_tests::Given::{self, Finds, Fine};
use super::reconnecting_tests::{Script, fault, ledger};
use super::tests::{SPEC, config, connect, new_key};
use super::*;
use crate::backoff::Jitter;
use crate::dialect::Batches;
use crate::fault::FaultClass;
use crate::outcome::{Outcome, StopReason};
use crate::policy::RetryPolicy;

/// Ten steps a second, a second between two attempts, and so many seconds until the deadline.
fn script(dialect: Dialect, seconds: u64) -> Script {
    let now = Instant::now();
    let mut script = Script::new(dialect, Resolution::Nothing);
    script.policy = RetryPolicy::new()
        .with_jitter(Jitter::None)
        .with_initial_delay(Duration::from_secs(1))
        .with_max_retries(100);
    // It has passed at the first step if it is the shortest there is.
    script.spec.deadline = Some(Duration::from_secs(seconds).max(Duration::from_millis(1)));
    script.time = Some((now, Duration::from_millis(100)));
    script
}

fn deadlocks(dialect: Dialect) -> impl Iterator<Item = Given> {
    let answers = [Fine, Fine, fault(dialect, FaultClass::Deadlock), Fine];
    answers.into_iter().cycle().take(400)
}

#[test]
fn no_delay_ends_and_no_attempt_begins_after_the_deadline() {
    let mut script = script(Dialect::Postgres, 6);
    let (begin, _) = script.time.expect("it has one");
    let deadline = begin + script.spec.deadline.expect("it has one");
    let done = script.run(deadlocks(Dialect::Postgres));
    assert_eq!(done.stop, StopReason::DeadlineExceeded);
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(matches!(done.answer, Answer::FirstError));
    assert!(done.fallback_allowed);
    assert!((3..5).contains(&done.attempts), "{}", done.attempts);
    assert_eq!(script.delays.len() + 1, done.attempts as usize);
    let (end, _) = script.time.expect("it has one");
    // What has begun in time may end later.
    assert!(end < deadline + Duration::from_millis(500));
    assert_eq!(script.steps.last().expect("steps"), "Failed");
}

/// The first step, connecting, takes until then.
#[test]
fn a_connection_that_comes_too_late_is_not_used() {
    let mut script = script(Dialect::Postgres, 1);
    let (now, _) = script.time.expect("it has one");
    script.time = Some((now, Duration::from_millis(600)));
    let done = script.run([Fine]);
    assert_eq!(script.steps, ["connect", "Failed"]);
    assert_eq!(
        (done.attempts, done.stop),
        (1, StopReason::DeadlineExceeded)
    );
    assert!(matches!(done.answer, Answer::Own(error) if error.is_deadline_exceeded()));
}

#[test]
fn a_deadline_that_has_passed_lets_nothing_begin() {
    let mut script = script(Dialect::Postgres, 0);
    let done = script.run([]);
    assert_eq!(script.steps, ["Failed"]);
    assert_eq!(
        (done.attempts, done.stop),
        (0, StopReason::DeadlineExceeded)
    );
    assert!(matches!(done.answer, Answer::Own(error) if error.is_deadline_exceeded()));
}

#[test]
fn a_lost_commit_is_asked_about_until_the_deadline() {
    let mut script = script(Dialect::Postgres, 5);
    script.spec.resolution = Resolution::Verify;
    let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
    let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
    let answers = [Fine, Fine, Fine, lost].into_iter().chain([refused; 100]);
    let done = script.run(answers);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert!((3..6).contains(&script.delays.len()), "{:?}", script.delays);
}

#[test]
fn only_one_question_is_hurried_by_the_deadline() {
    let mut script = script(Dialect::Postgres, 5);
    script.policy = script
        .policy
        .with_initial_delay(Duration::from_secs(60))
        .with_max_delay(Duration::from_secs(60));
    script.spec.resolution = Resolution::Verify;
    let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
    let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
    let answers = [Fine, Fine, Fine, lost].into_iter().chain([refused; 100]);
    let done = script.run(answers);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert_eq!(script.delays.len(), 1, "{:?}", script.delays);
}

#[test]
fn a_deadline_before_the_first_question_does_not_keep_it_from_being_asked() {
    for (found, attempts) in [(true, 1), (false, 2)] {
        let mut script = script(Dialect::Postgres, 5);
        script.policy = script
            .policy
            .with_initial_delay(Duration::from_secs(60))
            .with_max_delay(Duration::from_secs(60));
        script.spec.resolution = Resolution::Verify;
        let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
        let done = script.run([Fine, Fine, Fine, lost, Fine, Finds(found)]);
        assert_eq!(
            (done.outcome, done.attempts),
            (Outcome::Committed, attempts)
        );
        assert!(
            script.delays[0] < Duration::from_secs(5),
            "{:?}",
            script.delays
        );
    }
}

/// It would run without any limit: what is left of the time is nothing.
#[test]
fn a_question_whose_connection_comes_too_late_is_not_asked() {
    for (resolution, question) in [(Resolution::Verify, "verify"), (ledger(), "Ask")] {
        let mut script = script(Dialect::Postgres, 5);
        script.spec.settings.statement_timeout = Some(Duration::from_secs(3));
        script.policy = script.policy.with_initial_delay(Duration::from_millis(1));
        // The attempt takes no time, and then connecting takes until after the deadline.
        script.slow_from = Some((7, Duration::from_secs(6)));
        script.spec.resolution = resolution;
        let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
        let done = script.run([Fine, Fine, Fine, lost]);
        assert_eq!(done.outcome, Outcome::Unknown, "{:?}", script.steps);
        let asked = script.steps.iter().filter(|step| *step == question).count();
        assert_eq!(asked, 0, "{:?}", script.steps);
        assert!(
            script
                .steps
                .iter()
                .filter(|step| *step == "connect")
                .count()
                == 2
        );
    }
}

#[test]
fn what_is_left_is_never_without_a_limit() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let settings = Settings {
            statement_timeout: Some(Duration::from_secs(3)),
            ..Settings::default()
        };
        let (defaults, before) = (Defaults::NONE, SavedPragmas::default());
        let batches = Batches::new(dialect, Level::Transaction, &settings, &defaults, before);
        let batches = batches.expect("valid settings");
        let late = batches.for_attempt(None, Some(Duration::ZERO));
        let late = late.expect("shorter than three seconds");
        let shortest = batches.for_attempt(None, Some(Duration::from_millis(1)));
        assert_eq!(late.begin(), shortest.expect("so is this").begin());
    }
}

#[test]
fn a_busy_commit_is_rolled_back_in_time() {
    let mut script = script(Dialect::Sqlite, 3);
    script.policy = script.policy.with_backoff_fn(|_| Duration::from_secs(2));
    let busy = fault(Dialect::Sqlite, FaultClass::Busy);
    let done = script.run([Fine, Fine, Fine].into_iter().chain([busy; 3]));
    assert_eq!(
        (done.outcome, done.stop),
        (Outcome::Undone, StopReason::DeadlineExceeded)
    );
    assert_eq!(
        script.steps[script.steps.len() - 2..],
        ["Rollback", "Failed"]
    );
}

#[test]
fn statements_get_no_more_time_than_is_left() {
    let mut script = script(Dialect::Postgres, 3);
    script.spec.settings.statement_timeout = Some(Duration::from_millis(2500));
    script.run(deadlocks(Dialect::Postgres));
    let [first, second] = &script.opened[..] else {
        panic!("{:?}", script.opened);
    };
    assert_eq!(first, "BEGIN; SET LOCAL statement_timeout = 2500");
    // A second and six steps later.
    let left = second.strip_prefix("BEGIN; SET LOCAL statement_timeout = ");
    let left: u32 = left.and_then(|left| left.parse().ok()).expect("a timeout");
    assert!((900..1500).contains(&left), "{left}");
}

#[test]
fn every_attempt_has_the_lock_timeout_of_its_rung() {
    const LADDER: &[Duration] = &[Duration::from_millis(10), Duration::from_millis(200)];

    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.spec.lock_timeouts = LADDER;
    script.spec.settings.lock_timeout = Some(Duration::from_millis(10));
    script.policy = RetryPolicy::new().with_max_retries(2);
    let locked = fault(Dialect::Postgres, FaultClass::LockTimeout);
    script.run([
        Fine, Fine, locked, Fine, Fine, Fine, locked, Fine, Fine, Fine,
    ]);
    let timeouts: Vec<_> = script
        .opened
        .iter()
        .map(|sql| sql.rsplit(' ').next().expect("a number"))
        .collect();
    assert_eq!(timeouts, ["10", "200", "200"]);
}

#[test]
fn a_nested_operation_inherits_what_is_left() {
    let (key, now) = (new_key(), Instant::now());
    let config_of = |default| {
        let mut config = config(RetryPolicy::new());
        config.set_defaults(|defaults| defaults.deadline = default);
        config
    };
    let outer_spec = Spec {
        deadline: Some(Duration::from_secs(2)),
        ..SPEC
    };
    let outer_config = config_of(None);
    let outer = Machine::new(Dialect::Postgres, &outer_config, &outer_spec, false, || now);
    let mut outer = outer.expect("a valid deadline");
    connect(&mut outer, key, 0);
    // The default is for outermost operations.
    let inner_config = config_of(Some(Duration::from_millis(1)));
    for (own, left) in [(None, 2), (Some(1), 1), (Some(9), 2), (None, 2)] {
        let spec = Spec {
            deadline: own.map(Duration::from_secs),
            ..SPEC
        };
        let inner = Machine::new(Dialect::Postgres, &inner_config, &spec, false, || now);
        let mut inner = inner.expect("a valid deadline");
        connect(&mut inner, key, 1);
        assert_eq!(
            inner.deadline.left(|| now),
            Some(Duration::from_secs(left)),
            "{own:?}"
        );
    }
}

/// An error of the operation's own that wants another attempt waits no longer than others.
#[test]
fn an_error_that_wants_a_retry_gets_none_after_the_deadline() {
    let now = Instant::now();
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.policy = RetryPolicy::new()
        .with_jitter(Jitter::None)
        .with_initial_delay(Duration::from_secs(1))
        .with_max_retries(10);
    script.spec.deadline = Some(Duration::from_secs(3));
    script.time = Some((now, Duration::ZERO));
    let attempt = [Fine, Fine, Given::Wants, Fine];
    let done = script.run(std::iter::repeat_n(attempt, 20).flatten());
    assert_eq!(done.stop, StopReason::DeadlineExceeded);
    assert!(script.delays.iter().sum::<Duration>() < Duration::from_secs(3));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    const ZERO: &[Duration] = &[Duration::from_millis(10), Duration::ZERO];

    let config = config(RetryPolicy::new());
    let deadline = Spec {
        deadline: Some(Duration::ZERO),
        ..SPEC
    };
    let ladder = Spec {
        lock_timeouts: ZERO,
        ..SPEC
    };
    for spec in [deadline, ladder] {
        let machine = Machine::new(Dialect::Postgres, &config, &spec, false, Instant::now);
        let error = machine.expect_err("zero is no limit");
        assert!(error.is_invalid_setting(), "{error}");
    }
}

#[test]
fn the_default_deadline_limits_the_wait_for_a_connection() {
    let (now, mut config) = (Instant::now(), config(RetryPolicy::new()));
    config.set_defaults(|defaults| defaults.deadline = Some(Duration::from_secs(2)));
    let machine = Machine::new(Dialect::Postgres, &config, &SPEC, true, || now);
    let mut machine = machine.expect("a valid deadline");
    let step = machine.step(|| now + Duration::from_secs(1));
    let left = Duration::from_secs(1);
    assert!(
        matches!(step, Step::Connect { within } if within == Some(left)),
        "{step:?}"
    );
}

#[test]
fn sqlite_waits_no_longer_than_what_is_left() {
    let begin = |lock_timeout: Option<u64>, busy_timeout, left| {
        let settings = Settings {
            lock_timeout: lock_timeout.map(Duration::from_millis),
            ..Settings::default()
        };
        let (defaults, query_only) = (Defaults::NONE, false);
        let before = SavedPragmas {
            busy_timeout,
            query_only,
            ..SavedPragmas::default()
        };
        let level = Level::Transaction;
        let batches = Batches::new(Dialect::Sqlite, level, &settings, &defaults, before);
        let batches = batches.expect("valid settings");
        let late = batches.for_attempt(None, Some(Duration::from_millis(left)));
        late.map(|batches| batches.begin().to_owned())
    };
    let immediate = "PRAGMA busy_timeout=1000; BEGIN IMMEDIATE; SAVEPOINT dbop_alive";
    assert_eq!(begin(Some(3000), 0, 1000).as_deref(), Some(immediate));
    assert_eq!(begin(None, 3000, 1000).as_deref(), Some(immediate));
    assert_eq!(begin(Some(500), 3000, 1000), None);
    assert_eq!(begin(None, 500, 1000), None);
}

/// A machine with a source, five seconds and this grace period.
fn patient<'a>(
    dialect: Dialect,
    (config, spec): (&'a mut RunnerConfig, &'a Spec<'a>),
    grace: Option<Duration>,
    now: Instant,
) -> Machine<'a> {
    config.set_defaults(|defaults| defaults.grace_period = grace);
    Machine::new(dialect, config, spec, true, || now).expect("a valid deadline")
}

const FIVE_SECONDS: Spec<'_> = Spec {
    deadline: Some(Duration::from_secs(5)),
    ..SPEC
};

#[test]
fn what_does_not_answer_is_waited_for_until_the_grace_period_is_over() {
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    for (dialect, spec, grace, limits) in [
        (Dialect::Postgres, FIVE_SECONDS, 3, Some((8, 3))),
        (Dialect::Mysql, FIVE_SECONDS, 1, Some((6, 1))),
        (Dialect::Sqlite, FIVE_SECONDS, 3, None),
        (Dialect::Postgres, FIVE_SECONDS, 0, None),
        (Dialect::Postgres, SPEC, 3, None),
    ] {
        let mut config = config(RetryPolicy::new());
        let grace = (grace > 0).then_some(grace * second);
        let mut machine = patient(dialect, (&mut config, &spec), grace, now);
        assert!(matches!(machine.step(|| now), Step::Connect { .. }));
        connect(&mut machine, new_key(), 0);
        assert!(matches!(machine.step(|| now), Step::Batch(_)));
        let before = limits.map(|(before, _)| before * second);
        assert_eq!(machine.patience(), before, "{dialect:?}");
        _ = machine.batch_done(Ok(()));
        assert!(matches!(machine.step(|| now + 9 * second), Step::Body));
        let after = limits.map(|(_, after)| after * second);
        assert_eq!(machine.patience(), after, "{dialect:?}");
    }
}

/// It would be tried again by the clock of the runner, which need not be the one of the wait.
#[test]
fn what_was_cut_off_is_not_tried_again() {
    let (now, mut config) = (Instant::now(), config(RetryPolicy::new()));
    let mut machine = patient(
        Dialect::Postgres,
        (&mut config, &FIVE_SECONDS),
        Some(Duration::from_secs(1)),
        now,
    );
    assert!(matches!(machine.step(|| now), Step::Connect { .. }));
    connect(&mut machine, new_key(), 0);
    assert!(matches!(machine.step(|| now), Step::Batch(_)));
    _ = machine.batch_done(Ok(()));
    assert!(matches!(machine.step(|| now), Step::Body));
    machine.run_out_of_patience();
    let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
    let failed = BodyEnd::Failed {
        fault: Some(lost),
        advice: crate::retry::Advice::Judge,
    };
    machine.body_done(failed, None);
    assert!(matches!(machine.step(|| now), Step::Report(_)));
    let Step::Done(done) = machine.step(|| now) else {
        panic!("there is nothing left to do");
    };
    assert_eq!(
        (done.outcome, done.stop, done.attempts),
        (Outcome::Undone, StopReason::DeadlineExceeded, 1)
    );
    assert!(done.connection_broken);
}

#[test]
fn a_commit_that_is_lost_after_the_deadline_is_asked_about_for_the_grace_period() {
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let late = now + 9 * second;
    for (grace, finds) in [
        (Some(second), Some(true)),
        (Some(second), Some(false)),
        (None, None),
    ] {
        let mut config = config(RetryPolicy::new());
        let spec = Spec {
            resolution: Resolution::Verify,
            ..FIVE_SECONDS
        };
        let mut machine = patient(Dialect::Postgres, (&mut config, &spec), grace, now);
        assert!(matches!(machine.step(|| now), Step::Connect { .. }));
        connect(&mut machine, new_key(), 0);
        assert!(matches!(machine.step(|| now), Step::Batch(_)));
        _ = machine.batch_done(Ok(()));
        assert!(matches!(machine.step(|| now), Step::Body));
        machine.body_done(BodyEnd::Ok, Some(1));
        assert!(matches!(machine.step(|| now), Step::Batch(_)));
        machine.run_out_of_patience();
        let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
        _ = machine.batch_done(Err(lost));
        let done = loop {
            match machine.step(|| late) {
                Step::Report(_) | Step::Pause(_) => {}
                Step::Connect { within } => {
                    assert_eq!(within, grace);
                    connect(&mut machine, new_key(), 0);
                }
                Step::Verify => {
                    let found = finds.expect("it is not asked");
                    machine.verify_done(Verified::Committed(found), Some(0));
                }
                Step::Done(done) => break done,
                step => panic!("{step:?}"),
            }
        };
        let (outcome, stop) = match finds {
            Some(true) => (Outcome::Committed, StopReason::Succeeded),
            // That a look finds nothing does not settle it.
            _ => (Outcome::Unknown, StopReason::OutcomeUnknown),
        };
        assert_eq!((done.outcome, done.stop), (outcome, stop));
        assert_eq!(done.attempts, 1, "no attempt begins after the deadline");
    }
}
