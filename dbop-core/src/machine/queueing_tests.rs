//! Operations at gates.

use std::cell::Cell;
use std::task::Waker;

use super::tests::{SPEC, connect, new_key};
use super::*;
use crate::fault::FaultClass;
use crate::gate::{Keys, RECHECK};
use crate::key::Key;
use crate::ledger::Ledger;
use crate::policy::RetryPolicy;
use crate::retry::Advice;

const HURRIED_SQL: &str = "SET LOCAL lock_timeout = 100";
const MS: Duration = Duration::from_millis(1);

thread_local! {
    static NOW: Cell<Instant> = Cell::new(Instant::now());
}

fn now() -> Instant {
    NOW.get()
}

fn pass(time: Duration) {
    NOW.set(NOW.get() + time);
}

fn gated() -> RunnerConfig {
    let mut config = RunnerConfig::default();
    config.set_policy(RetryPolicy::new().with_initial_delay(Duration::ZERO));
    config.set_gates(true);
    config
}

fn spec(keys: &Keys) -> Spec<'_> {
    Spec {
        exclusive_by: Some(keys),
        ..SPEC
    }
}

/// An operation that takes its connections from a source.
fn machine<'a>(config: &'a RunnerConfig, spec: &'a Spec<'a>) -> Machine<'a> {
    Machine::new(Dialect::Postgres, config, spec, true, now).expect("valid settings")
}

/// Takes the steps until it is the turn of the body, or until it has to wait.
fn until_body(machine: &mut Machine<'_>) -> Vec<String> {
    let mut steps = Vec::new();
    loop {
        match machine.step(now) {
            Step::Queue => {
                steps.push("queue".to_owned());
                if let Some(time) = machine.queue(Waker::noop(), &now) {
                    steps.push(format!("wait {}", time.as_millis()));
                    return steps;
                }
            }
            Step::Connect { .. } => {
                steps.push("connect".to_owned());
                connect(machine, new_key(), 0);
            }
            Step::Batch(batch) => {
                let is_hurried = batch.sql.split("; ").any(|part| part == HURRIED_SQL);
                let text = match batch.purpose {
                    BatchPurpose::Begin if is_hurried => "hurried begin",
                    BatchPurpose::Begin => "begin",
                    _ => "batch",
                };
                steps.push(text.to_owned());
                _ = machine.batch_done(Ok(()));
            }
            Step::Report(event) => steps.push(format!("{:?}", event.kind())),
            Step::Pause(pause) => steps.push(format!("pause {:?}", pause.connection)),
            Step::Body => return steps,
            Step::Done(done) => {
                steps.push(format!("{:?} {:?}", done.outcome, done.stop));
                return steps;
            }
            step => unreachable!("{step:?}"),
        }
    }
}

fn fail(machine: &mut Machine<'_>, class: FaultClass) {
    let fault = Some(Fault::from_class(Dialect::Postgres, class));
    let advice = Advice::Judge;
    machine.body_done(BodyEnd::Failed { fault, advice }, Some(1));
}

#[test]
fn the_turn_comes_before_the_connection_and_ends_with_the_attempt() {
    let (config, keys) = (gated(), Keys::new("queueing-1", [1]));
    let spec = spec(&keys);
    let (mut first, mut second) = (machine(&config, &spec), machine(&config, &spec));
    assert_eq!(until_body(&mut first), ["queue", "connect", "begin"]);
    assert_eq!(until_body(&mut second), ["queue", "wait 100"]);
    // While the attempt is rolled back it still has its locks.
    fail(&mut first, FaultClass::Deadlock);
    assert!(matches!(first.step(now), Step::Batch(_)));
    assert_eq!(until_body(&mut second), ["queue", "wait 100"]);
    _ = first.batch_done(Ok(()));
    pass(7 * MS);
    assert!(matches!(first.step(now), Step::Report(_)));
    assert_eq!(
        until_body(&mut second),
        ["queue", "Queued", "connect", "begin"]
    );
    // The first one waits for the second one now, without a connection.
    assert_eq!(
        until_body(&mut first),
        ["pause GiveBack", "queue", "wait 100"]
    );
    second.body_done(BodyEnd::Ok, Some(1));
    assert_eq!(
        until_body(&mut second),
        ["batch", "Succeeded", "Committed Succeeded"]
    );
    assert_eq!(
        until_body(&mut first),
        ["queue", "Queued", "connect", "hurried begin"]
    );
}

#[test]
fn an_operation_that_goes_away_lets_the_next_one_in() {
    let (config, keys) = (RunnerConfig::default(), Keys::new("queueing-2", [1]));
    let spec = spec(&keys);
    let mut machines = [(); 3].map(|()| machine(&config, &spec));
    let waits: Vec<bool> = machines
        .iter_mut()
        .map(|machine| until_body(machine).contains(&"wait 100".to_owned()))
        .collect();
    assert_eq!(waits, [false, true, true]);
    let [first, second, mut third] = machines;
    drop(second);
    drop(first);
    assert_eq!(
        until_body(&mut third),
        ["queue", "Queued", "connect", "begin"]
    );
}

#[test]
fn the_deadline_ends_the_wait() {
    let (config, keys) = (RunnerConfig::default(), Keys::new("queueing-3", [1]));
    let holds = spec(&keys);
    let waits = Spec {
        deadline: Some(RECHECK + 30 * MS),
        ..holds
    };
    let mut first = machine(&config, &holds);
    assert_eq!(until_body(&mut first).len(), 3);
    let mut second = machine(&config, &waits);
    assert_eq!(until_body(&mut second), ["queue", "wait 100"]);
    pass(RECHECK);
    assert_eq!(until_body(&mut second), ["queue", "wait 30"]);
    pass(30 * MS);
    let end = ["queue", "Failed", "Undone DeadlineExceeded"];
    assert_eq!(until_body(&mut second), end);
}

/// The server may still hold the locks of a transaction whose COMMIT has no answer.
#[test]
fn the_turn_is_kept_while_the_outcome_is_asked_for() {
    let (config, keys) = (RunnerConfig::default(), Keys::new("queueing-4", [1]));
    let waits = spec(&keys);
    let asks = Spec {
        resolution: Resolution::Verify,
        ..waits
    };
    let (mut first, mut second) = (machine(&config, &asks), machine(&config, &waits));
    assert_eq!(until_body(&mut first).len(), 3);
    assert_eq!(until_body(&mut second), ["queue", "wait 100"]);
    first.body_done(BodyEnd::Ok, Some(1));
    assert!(matches!(first.step(now), Step::Batch(_)));
    let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
    _ = first.batch_done(Err(lost));
    loop {
        match first.step(now) {
            Step::Verify => break,
            Step::Connect { .. } => connect(&mut first, new_key(), 0),
            Step::Report(_) | Step::Pause(_) => {}
            step => unreachable!("{step:?}"),
        }
    }
    assert_eq!(until_body(&mut second), ["queue", "wait 100"]);
    first.verify_done(Verified::Committed(true), Some(0));
    assert_eq!(
        until_body(&mut first),
        ["FoundCommitted", "Committed Succeeded"]
    );
    assert_eq!(
        until_body(&mut second),
        ["queue", "Queued", "connect", "begin"]
    );
}

/// On a connection of the caller, at this depth, and what is reported at first.
fn on_connection(config: &RunnerConfig, spec: &Spec<'_>, depth: u32) -> Vec<String> {
    let mut machine =
        Machine::new(Dialect::Postgres, config, spec, false, now).expect("valid settings");
    let mut steps = Vec::new();
    loop {
        match machine.step(now) {
            Step::Queue => {
                steps.push("queue".to_owned());
                assert_eq!(machine.queue(Waker::noop(), &now), None);
            }
            Step::Connect { .. } => connect(&mut machine, new_key(), depth),
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Report(event) => steps.push(format!("{:?}", event.kind())),
            Step::Body => return steps,
            step => unreachable!("{step:?}"),
        }
    }
}

#[test]
fn on_the_callers_connection_it_has_to_be_asked_for() {
    let (config, keys) = (gated(), Keys::new("queueing-5", [1]));
    let keyed = spec(&keys);
    let skipped = "SettingSkipped(ExclusiveBy)";
    assert_eq!(on_connection(&config, &keyed, 0), [skipped]);
    // Once for each name.
    assert!(on_connection(&config, &keyed, 0).is_empty());
    assert!(on_connection(&config, &SPEC, 0).is_empty());
    for gate in [keyed, SPEC] {
        let queues = Spec {
            queues_with_connection: true,
            ..gate
        };
        assert_eq!(on_connection(&config, &queues, 0), ["queue"]);
    }
    let queues = Spec {
        name: Name::Given("step"),
        queues_with_connection: true,
        ..keyed
    };
    assert_eq!(on_connection(&config, &queues, 1), [skipped]);
    let none = Keys::new("queueing-5", [0; 0]);
    assert!(on_connection(&RunnerConfig::default(), &spec(&none), 0).is_empty());
}

#[test]
fn a_conflict_closes_the_gate_of_the_name() {
    let config = gated();
    let (spec, other) = (
        Spec::new(Name::Given("queueing-6")),
        Spec::new(Name::Given("queueing-7")),
    );
    let (mut first, mut second) = (machine(&config, &spec), machine(&config, &spec));
    assert_eq!(
        until_body(&mut first),
        ["queue", "connect", "hurried begin"]
    );
    assert_eq!(
        until_body(&mut second),
        ["queue", "connect", "hurried begin"]
    );
    fail(&mut first, FaultClass::SerializationFailure);
    // Nested operations and constraints are no conflicts.
    fail(&mut second, FaultClass::Constraint);
    let steps = until_body(&mut first);
    let retried = [
        "batch",
        "Retrying",
        "Limited(1)",
        "pause GiveBack",
        "queue",
        "connect",
        "hurried begin",
    ];
    assert_eq!(steps, retried);
    assert_eq!(
        until_body(&mut second),
        ["batch", "Failed", "Undone NotRetryable"]
    );
    let mut third = machine(&config, &spec);
    assert_eq!(until_body(&mut third), ["queue", "wait 100"]);
    let status = third.gate_status().expect("it has a name");
    assert_eq!((status.limit, status.waiting), (Some(1), 1));
    let mut fourth = machine(&config, &other);
    assert_eq!(
        until_body(&mut fourth),
        ["queue", "connect", "hurried begin"]
    );
    let ungated = Spec {
        ungated: true,
        ..spec
    };
    assert_eq!(
        until_body(&mut machine(&config, &ungated)),
        ["connect", "begin"]
    );
}

/// Fails with a lock timeout until it ends, and returns how often it began, and how often hurried.
fn lock_timeouts(config: &RunnerConfig, spec: &Spec<'_>) -> (usize, usize) {
    let mut machine = machine(config, spec);
    _ = until_body(&mut machine);
    fail(&mut machine, FaultClass::Deadlock);
    let mut begun = (1, 0);
    loop {
        let steps = until_body(&mut machine);
        begun.0 += steps.iter().filter(|step| step.ends_with("begin")).count();
        begun.1 += steps
            .iter()
            .filter(|step| **step == "hurried begin")
            .count();
        if steps.last().is_some_and(|step| step.starts_with("Undone")) {
            return begun;
        }
        fail(&mut machine, FaultClass::LockTimeout);
    }
}

#[test]
fn a_lock_that_was_not_waited_for_takes_no_retry_until_all_of_them_are_the_whole_wait() {
    let mut config = gated();
    config.set_defaults(|defaults| defaults.lock_timeout = Some(2000 * MS));
    let spec = Spec::new(Name::Given("queueing-8"));
    // The first attempt, 20 times 100 ms, and what is left of the 5 retries after the deadlock.
    assert_eq!(lock_timeouts(&config, &spec), (1 + 20 + 5, 20));
    // The operation's own timeout stands, and so does a short one, and none.
    let own = Settings {
        lock_timeout: Some(2000 * MS),
        ..Settings::NONE
    };
    let own = Spec {
        settings: own,
        ..Spec::new(Name::Given("queueing-9"))
    };
    assert_eq!(lock_timeouts(&config, &own), (6, 0));
    let spec = Spec::new(Name::Given("queueing-10"));
    for timeout in [None, Some(99 * MS)] {
        config.set_defaults(|defaults| defaults.lock_timeout = timeout);
        assert_eq!(lock_timeouts(&config, &spec), (6, 0), "{timeout:?}");
    }
}

#[test]
fn after_a_panic_a_lock_that_was_not_waited_for_is_not_waited_for_again() {
    let (config, spec) = (gated(), Spec::new(Name::Given("queueing-12")));
    let mut machine = machine(&config, &spec);
    let steps = until_body(&mut machine);
    assert_eq!(steps, ["queue", "connect", "hurried begin"]);
    machine.user_code_panicked(Box::new("in the classifier"));
    fail(&mut machine, FaultClass::LockTimeout);
    let steps = until_body(&mut machine);
    assert_eq!(
        steps,
        ["batch", "Failed", "Limited(1)", "Undone NotRetryable"]
    );
}

/// What waits for its turn has no connection.
#[test]
fn at_a_gate_each_pause_gives_the_connection_back() {
    use ConnectionAction::{ClearStatementCache, Discard, GiveBack, Keep};

    let (config, keys) = (gated(), Keys::new("queueing-13", [1]));
    let spec = spec(&keys);
    let without = RunnerConfig::default();
    let (mut gated, plain) = (machine(&config, &spec), machine(&without, &SPEC));
    assert_eq!(until_body(&mut gated), ["queue", "connect", "begin"]);
    let (short, long) = (Duration::ZERO, Duration::from_secs(60));
    for (machine, keeps, clears, keeps_long) in [
        (&gated, GiveBack, Discard, GiveBack),
        (&plain, Keep, ClearStatementCache, GiveBack),
    ] {
        assert_eq!(machine.for_so_long(Keep, short), keeps);
        assert_eq!(machine.for_so_long(ClearStatementCache, short), clears);
        assert_eq!(machine.for_so_long(Keep, long), keeps_long);
        assert_eq!(machine.for_so_long(ClearStatementCache, long), clears);
        assert_eq!(machine.for_so_long(Discard, long), Discard);
    }
}

#[test]
fn with_keys_only_an_attempt_after_a_conflict_is_hurried() {
    let keys = Keys::new("queueing-11", [1]);
    let config = gated();
    let spec = spec(&keys);
    let mut machine = machine(&config, &spec);
    assert_eq!(until_body(&mut machine), ["queue", "connect", "begin"]);
    fail(&mut machine, FaultClass::LockTimeout);
    let retried = [
        "batch",
        "Retrying",
        "pause GiveBack",
        "queue",
        "connect",
        "begin",
    ];
    assert_eq!(until_body(&mut machine), retried);
    fail(&mut machine, FaultClass::Deadlock);
    assert_eq!(
        until_body(&mut machine).last().map(String::as_str),
        Some("hurried begin")
    );
    machine.body_done(BodyEnd::Ok, Some(1));
    assert_eq!(
        until_body(&mut machine),
        ["batch", "Succeeded", "Committed Succeeded"]
    );
}

#[test]
fn who_says_never_is_not_tried_again_after_a_short_wait_either() {
    let config = gated();
    let name = Spec::new(Name::Given("queueing-12"));
    let never = Spec {
        classes: name.classes.never(FaultClass::LockTimeout),
        ..name
    };
    let mut machine = machine(&config, &never);
    assert_eq!(
        until_body(&mut machine),
        ["queue", "connect", "hurried begin"]
    );
    fail(&mut machine, FaultClass::LockTimeout);
    let end = until_body(&mut machine);
    assert_eq!(end.last().map(String::as_str), Some("Undone NotRetryable"));
    // Who has no retries waits for as long as it may.
    let once = Spec {
        max_retries: Some(0),
        ..name
    };
    let mut machine = self::machine(&config, &once);
    assert_eq!(
        until_body(&mut machine).last().map(String::as_str),
        Some("begin")
    );
}

/// What asks for the token waits for the transaction that may hold it.
#[test]
fn the_question_about_a_lost_commit_is_not_hurried() {
    static LEDGER: Ledger = Ledger::new();
    let config = gated();
    let spec = Spec {
        resolution: Resolution::Ledger(&LEDGER),
        ..Spec::new(Name::Given("queueing-13"))
    };
    let mut machine = machine(&config, &spec);
    assert_eq!(
        until_body(&mut machine),
        ["queue", "connect", "hurried begin"]
    );
    machine.body_done(BodyEnd::Ok, Some(1));
    assert!(matches!(machine.step(now), Step::Batch(_)));
    let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
    _ = machine.batch_done(Err(lost));
    loop {
        match machine.step(now) {
            Step::Batch(batch) => {
                assert!(
                    !batch.sql.contains(&format!("{HURRIED_SQL};")),
                    "{}",
                    batch.sql
                );
                assert!(
                    batch.sql.contains("SET LOCAL lock_timeout = 10000;"),
                    "{}",
                    batch.sql
                );
                break;
            }
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Report(_) | Step::Pause(_) => {}
            step => unreachable!("{step:?}"),
        }
    }
}

/// There is no gate, so there is nothing to hurry for.
#[test]
fn in_a_transaction_of_the_callers_no_one_is_hurried() {
    let config = gated();
    let spec = Spec {
        queues_with_connection: true,
        ..Spec::new(Name::Given("queueing-14"))
    };
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &spec, false, now).expect("valid settings");
    assert!(matches!(machine.step(now), Step::Connect { .. }));
    connect(&mut machine, new_key(), 1);
    match machine.step(now) {
        Step::Batch(batch) => assert!(!batch.sql.contains("'100 ms'"), "{}", batch.sql),
        step => unreachable!("{step:?}"),
    };
}

/// An attempt at a gate that does not wait for a lock for long does not wait for a key either. Its lock timeout
/// is not how long the operation may wait.
#[test]
fn a_key_that_another_call_holds_is_waited_for_as_long_as_without_a_gate() {
    let mut config = gated();
    config.set_defaults(|defaults| defaults.lock_timeout = Some(2000 * MS));
    let (ledger, key) = (Ledger::new(), Key::new(b"k"));
    let spec = Spec {
        resolution: Resolution::Ledger(&ledger),
        key: Some(&key),
        ..Spec::new(Name::Given("queueing-12"))
    };
    let mut machine = machine(&config, &spec);
    // After a conflict the gate hurries what comes next.
    _ = until_body(&mut machine);
    fail(&mut machine, FaultClass::Deadlock);
    let begun = now();
    let (mut begins, mut hurried) = (0, 0);
    loop {
        match machine.step(now) {
            Step::Queue => assert_eq!(machine.queue(Waker::noop(), &now), None),
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(batch) if batch.purpose == BatchPurpose::Begin => {
                begins += 1;
                hurried += u32::from(batch.sql.split("; ").any(|part| part == HURRIED_SQL));
                pass(100 * MS);
                let timeout = Fault::from_class(Dialect::Postgres, FaultClass::LockTimeout);
                _ = machine.batch_done(Err(timeout));
            }
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Report(_) | Step::Pause(_) => {}
            Step::Done(done) => {
                let Answer::Own(error) = done.answer else {
                    panic!("{:?}", done.answer);
                };
                assert!(error.is_under_way());
                break;
            }
            step => unreachable!("{step:?}"),
        }
    }
    assert_eq!((now() - begun, begins, hurried), (2000 * MS, 20, 20));
}
