//! The machine against scripts: no database, no clock, no sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::budget::RetryBudget;
use crate::error::Kind;
use crate::fault::{Code, FaultClass};
use crate::outcome::{Outcome, StopReason};
use crate::policy::RetryPolicy;
use crate::retry::Advice;

/// An operation on a connection of its own, with the steps it was told to take.
pub(super) struct Script {
    pub(super) dialect: Dialect,
    pub(super) key: usize,
    pub(super) settings: Settings,
    pub(super) policy: RetryPolicy,
    /// With it, no time passes.
    pub(super) budget: Option<Arc<RetryBudget>>,
    pub(super) max_retries: Option<u32>,
    pub(super) depth: u32,
    /// What the server has kept about an error, where it is asked.
    pub(super) kept: Result<Option<&'static str>, Fault>,
    pub(super) steps: Vec<String>,
    /// What was sent to contain a loss.
    pub(super) contained: Vec<String>,
}

/// The text of every error.
pub(super) const MESSAGE: &str = "un interblocage";

impl Script {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self::at(dialect, new_key(), 0)
    }

    pub(super) fn at(dialect: Dialect, key: usize, depth: u32) -> Self {
        Self {
            dialect,
            key,
            settings: Settings::NONE,
            policy: RetryPolicy::new(),
            budget: None,
            max_retries: None,
            depth,
            kept: Ok(None),
            steps: Vec::new(),
            contained: Vec::new(),
        }
    }

    pub(super) fn with_policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Runs the machine. Each batch is answered by the next entry of `answers` (`Ok` when they
    /// run out), each body by `body`, which is told the number of the attempt.
    pub(super) fn run(
        &mut self,
        answers: &[Result<(), Fault>],
        mut body: impl FnMut(u32) -> (BodyEnd, Option<u32>),
    ) -> Done {
        let mut config = config(self.policy);
        if let Some(budget) = &self.budget {
            config.set_retry_budget(Arc::clone(budget));
        }
        let has_budget = self.budget.is_some();
        let begun = Instant::now();
        let now = || if has_budget { begun } else { no_clock() };
        let spec = Spec {
            settings: self.settings,
            max_retries: self.max_retries,
            ..SPEC
        };
        let mut machine =
            Machine::new(self.dialect, &config, &spec, false, no_clock).expect("valid settings");
        let mut answers = answers.iter();
        let mut attempt = 0;
        loop {
            match machine.step(now) {
                Step::Batch(batch) => {
                    self.steps.push(format!("{:?}", batch.purpose));
                    if batch.purpose == BatchPurpose::Contain {
                        self.contained.push(batch.sql.to_owned());
                    }
                    _ = machine.batch_done(answers.next().copied().unwrap_or(Ok(())));
                }
                Step::Body => {
                    attempt += 1;
                    self.steps.push(format!("body {attempt}"));
                    let (end, depth) = body(attempt);
                    machine.body_done(end, depth);
                }
                Step::Report(event) => self.steps.push(format!("{:?}", event.kind())),
                Step::Pause(_) => self.steps.push("pause".into()),
                Step::Connect { .. } => connect(&mut machine, self.key, self.depth),
                Step::Diagnose(_) => {
                    self.steps.push("diagnose".into());
                    let kept = self.kept.map(|kept| kept.map(Into::into));
                    machine.diagnosed(kept, Some(MESSAGE));
                }
                Step::Read(_) | Step::Verify => unreachable!("not asked for"),
                Step::Queue => unreachable!("there is no gate"),
                Step::Done(done) => return done,
            }
        }
    }
}

pub(super) const SPEC: Spec<'static> = Spec::new(Name::Given("test"));

/// A runner without default settings.
pub(super) fn config(policy: RetryPolicy) -> RunnerConfig {
    let mut config = RunnerConfig::default();
    config.set_policy(policy);
    config.set_defaults(|defaults| *defaults = Defaults::NONE);
    config
}

pub(super) fn connect(machine: &mut Machine<'_>, key: usize, depth: u32) {
    let placement = machine.place(key, depth);
    let connected = machine.connected(placement, SavedPragmas::default());
    connected.expect("valid settings");
}

/// For operations without a deadline.
pub(super) fn no_clock() -> Instant {
    panic!("the clock is read although there is no deadline");
}

pub(super) fn new_key() -> usize {
    // Far from the keys of the other tests of this crate, which share the table.
    static NEXT: AtomicUsize = AtomicUsize::new(1_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn fault(dialect: Dialect, class: FaultClass) -> Fault {
    Fault::from_class(dialect, class)
}

pub(super) fn errno(errno: u16) -> Fault {
    Fault::from_code(Dialect::Mysql, Code::Errno(errno))
}

pub(super) fn failed(fault: Fault, depth: u32) -> (BodyEnd, Option<u32>) {
    let end = BodyEnd::Failed {
        fault: Some(fault),
        advice: Advice::Judge,
    };
    (end, Some(depth))
}

pub(super) fn own_error(depth: u32) -> (BodyEnd, Option<u32>) {
    let end = BodyEnd::Failed {
        fault: None,
        advice: Advice::Judge,
    };
    (end, Some(depth))
}

pub(super) const OK: Result<(), Fault> = Ok(());

#[test]
fn success_is_begin_body_commit() {
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(script.steps, ["Begin", "body 1", "Commit", "Succeeded"]);
    assert_eq!(
        (done.outcome, done.stop, done.attempts),
        (Outcome::Committed, StopReason::Succeeded, 1)
    );
}

/// Whether a success is reported.
fn reports_success(config: &RunnerConfig, is_watched: bool) -> bool {
    let machine = Machine::new(Dialect::Postgres, config, &SPEC, false, no_clock);
    let mut machine = machine.expect("valid settings");
    machine.set_watched(is_watched);
    connect(&mut machine, new_key(), 0);
    assert!(matches!(machine.step(no_clock), Step::Batch(_)));
    _ = machine.batch_done(Ok(()));
    assert!(matches!(machine.step(no_clock), Step::Body));
    machine.body_done(BodyEnd::Ok, Some(1));
    assert!(matches!(machine.step(no_clock), Step::Batch(_)));
    _ = machine.batch_done(Ok(()));
    match machine.step(no_clock) {
        Step::Report(event) => event.kind() == EventKind::Succeeded,
        _ => false,
    }
}

#[test]
fn a_success_is_reported_where_it_is_seen() {
    let mut config = config(RetryPolicy::new());
    // The global logger of the other tests does not take it.
    config.set_logging(|logging| logging.levels.success = log::Level::Trace);
    assert!(!reports_success(&config, false));
    assert!(reports_success(&config, true));
    config.set_logging(|logging| logging.logger = Some(Arc::new(Nothing)));
    assert!(reports_success(&config, false));
}

/// A logger.
struct Nothing;

impl log::Log for Nothing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {}

    fn flush(&self) {}
}

#[test]
fn what_each_batch_does_to_the_depth() {
    use BatchPurpose as B;
    use DepthChange as D;
    for (purpose, failed, succeeded) in [
        (B::Begin, D::None, D::Open),
        (B::BeginAgain, D::None, D::Open),
        (B::Commit, D::None, D::Close),
        (B::CommitAgain, D::None, D::Close),
        (B::Rollback, D::Close, D::Close),
        (B::RollbackAgain, D::None, D::None),
        (B::CheckUndone, D::None, D::None),
        (B::Contain, D::None, D::None),
    ] {
        let changes = [false, true].map(|succeeded| purpose.depth_change(succeeded));
        assert_eq!(changes, [failed, succeeded], "{purpose:?}");
    }
}

#[test]
fn a_record_of_dbop_s_own_error_says_which_one_it_is() {
    let config = config(RetryPolicy::new());
    let mut machine =
        Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock).expect("valid");
    loop {
        match machine.step(no_clock) {
            Step::Connect { .. } => connect(&mut machine, new_key(), 0),
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            // It has left a savepoint open.
            Step::Body => machine.body_done(BodyEnd::Ok, Some(2)),
            Step::Report(event) => {
                assert_eq!(
                    (event.kind(), event.own),
                    (EventKind::Failed, Some(Kind::Unbalanced))
                );
                break;
            }
            step => unreachable!("{step:?}"),
        }
    }
}

#[test]
fn rolled_back_before_the_pause_and_begun_again() {
    let mut script = Script::new(Dialect::Postgres);
    let deadlock = fault(Dialect::Postgres, FaultClass::Deadlock);
    let done = script.run(&[], |attempt| match attempt {
        1 => failed(deadlock, 1),
        _ => (BodyEnd::Ok, Some(1)),
    });
    assert_eq!(
        script.steps,
        [
            "Begin",
            "body 1",
            "Rollback",
            "Retrying",
            "pause",
            "Begin",
            "body 2",
            "Commit",
            "Succeeded"
        ]
    );
    assert_eq!(done.attempts, 2);
}

#[test]
fn max_retries_counts_what_comes_after_the_first() {
    for max_retries in [0, 1, 5] {
        let mut script = Script::new(Dialect::Postgres)
            .with_policy(RetryPolicy::new().with_max_retries(max_retries));
        let deadlock = fault(Dialect::Postgres, FaultClass::Deadlock);
        let mut bodies = 0;
        let done = script.run(&[], |_| {
            bodies += 1;
            failed(deadlock, 1)
        });
        assert_eq!(bodies, max_retries + 1);
        assert_eq!(done.attempts, max_retries + 1);
        assert_eq!(done.stop, StopReason::RetriesExhausted);
        assert_eq!(done.outcome, Outcome::Undone);
        assert!(matches!(done.answer, Answer::FirstError));
    }
}

#[test]
fn an_own_error_is_rolled_back_and_returned_at_once() {
    let mut script = Script::new(Dialect::Mysql);
    let done = script.run(&[], |_| own_error(1));
    assert_eq!(script.steps, ["Begin", "body 1", "Rollback", "Returned"]);
    assert_eq!(done.stop, StopReason::OwnError);
    assert!(done.fallback_allowed);
}

#[test]
fn a_failed_begin_is_rolled_back_too() {
    let mut script = Script::new(Dialect::Postgres);
    let unknown = fault(Dialect::Postgres, FaultClass::Unknown);
    let done = script.run(&[Err(unknown)], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(script.steps, ["Begin", "Rollback", "Failed"]);
    assert_eq!(done.outcome, Outcome::Undone);
}

#[test]
fn a_failed_begin_on_sqlite_has_opened_nothing() {
    // A ROLLBACK would end a transaction that the caller has begun by hand.
    let mut script = Script::new(Dialect::Sqlite);
    let busy = fault(Dialect::Sqlite, FaultClass::Busy);
    let done = script.run(&[Err(busy)], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(
        script.steps,
        [
            "Begin",
            "Retrying",
            "pause",
            "Begin",
            "body 1",
            "Commit",
            "Succeeded"
        ]
    );
    assert_eq!(done.attempts, 2);
    // But the settings are restored.
    let mut script = Script::new(Dialect::Sqlite);
    script.settings.lock_timeout = Some(Duration::from_secs(1));
    script.run(&[Err(busy)], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(script.steps[..3], ["Begin", "Rollback", "Retrying"]);
}

#[test]
fn a_connection_lost_in_commit_is_unknown_and_nothing_more_is_sent() {
    let mut script = Script::new(Dialect::Postgres);
    let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
    let done = script.run(&[OK, Err(lost)], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(
        script.steps,
        ["Begin", "body 1", "Commit", "OutcomeUnknown"]
    );
    assert_eq!(done.outcome, Outcome::Unknown);
    assert!(done.connection_broken && !done.fallback_allowed);
    assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
}

#[test]
fn a_commit_error_whose_rollback_meets_a_dead_connection_is_unknown() {
    let mut script = Script::new(Dialect::Postgres);
    let unknown = fault(Dialect::Postgres, FaultClass::Unknown);
    let lost = fault(Dialect::Postgres, FaultClass::ConnectionLost);
    let done = script.run(&[OK, Err(unknown), Err(lost)], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(done.outcome, Outcome::Unknown);
    assert!(done.connection_broken);
    // Unless it is one that proves that nothing was committed.
    let refused = fault(Dialect::Postgres, FaultClass::SerializationFailure);
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[OK, Err(refused), Err(lost)], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(done.connection_broken);
}

#[test]
fn a_connection_lost_in_the_body_is_undone_and_needs_a_new_one() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let mut script = Script::new(dialect);
        let lost = fault(dialect, FaultClass::ConnectionLost);
        // Diesel notices it on PostgreSQL, where nothing more is sent, and not on MySQL.
        let depth = (dialect == Dialect::Mysql).then_some(1);
        let done = script.run(&[OK, Err(lost)], |_| (failed(lost, 0).0, depth));
        assert_eq!(done.outcome, Outcome::Undone, "{dialect}");
        assert_eq!(done.stop, StopReason::NeedsConnection, "{dialect}");
        assert!(
            done.connection_broken && !done.fallback_allowed,
            "{dialect}"
        );
    }
}

#[test]
fn an_ok_over_a_dead_connection_is_an_error() {
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[], |_| (BodyEnd::Ok, None));
    assert_eq!(script.steps, ["Begin", "body 1", "Failed"]);
    assert!(done.connection_broken);
    assert!(matches!(done.answer, Answer::FirstError));
}

#[test]
fn a_swallowed_failure_is_an_error_of_its_own() {
    let mut script = Script::new(Dialect::Postgres);
    let aborted = fault(Dialect::Postgres, FaultClass::TransactionAborted);
    let done = script.run(&[OK, Err(aborted)], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(
        script.steps,
        ["Begin", "body 1", "Commit", "Rollback", "Failed"]
    );
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(matches!(done.answer, Answer::Own(error) if error.is_rolled_back()));
}

#[test]
fn what_the_body_left_open_is_rolled_back() {
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[], |_| (BodyEnd::Ok, Some(2)));
    assert_eq!(script.steps, ["Begin", "body 1", "Rollback", "Failed"]);
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(matches!(done.answer, Answer::Own(error) if error.is_unbalanced()));
}

#[test]
fn what_the_body_ended_by_itself_is_unknown() {
    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        for end in [BodyEnd::Ok, own_error(0).0] {
            let mut script = Script::new(dialect);
            let done = script.run(&[], |_| (end, Some(0)));
            assert_eq!(done.outcome, Outcome::Unknown, "{dialect}");
            assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
        }
    }
}

#[test]
fn a_panic_is_rolled_back_first() {
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[], |_| (BodyEnd::Panicked, Some(3)));
    assert_eq!(script.steps, ["Begin", "body 1", "Rollback", "Panicked"]);
    assert!(matches!(done.answer, Answer::Panic));
    assert!(!done.fallback_allowed);
}

#[test]
fn a_rollback_that_fails_never_replaces_the_first_error() {
    let mut script = Script::new(Dialect::Postgres);
    let syntax = fault(Dialect::Postgres, FaultClass::Permanent);
    let unknown = fault(Dialect::Postgres, FaultClass::Unknown);
    let fails = Err(unknown);
    let done = script.run(&[OK, fails, fails], |_| failed(syntax, 1));
    assert!(matches!(done.answer, Answer::FirstError));
    assert!(done.connection_broken, "the transaction may still be open");
    for to_rollback in [1047, 1064] {
        let mut script = Script::new(Dialect::Mysql);
        let done = script.run(&[OK, Err(errno(to_rollback))], |_| failed(errno(1062), 1));
        assert!(matches!(done.answer, Answer::FirstError));
        assert!(done.connection_broken, "the transaction may still be open");
    }
}

/// Galera answers a ROLLBACK so if another node's transaction has come in between.
#[test]
fn a_rollback_that_meets_a_deadlock_is_sent_again() {
    let deadlock = Err(errno(1213));
    let body = |attempt| match attempt {
        1 => failed(errno(1213), 1),
        _ => (BodyEnd::Ok, Some(1)),
    };
    let mut script = Script::new(Dialect::Mysql);
    let done = script.run(&[OK, deadlock], body);
    assert_eq!(
        script.steps[2..5],
        ["Rollback", "RollbackAgain", "Retrying"]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    assert!(!done.connection_broken);
    // No other error leaves it certain that nothing is open.
    let done = Script::new(Dialect::Mysql).run(&[OK, deadlock, deadlock], body);
    assert!(done.connection_broken);
}

#[test]
fn postgres_checks_that_the_transaction_is_still_there() {
    let unique = fault(Dialect::Postgres, FaultClass::Constraint);
    let lost = fault(Dialect::Postgres, FaultClass::TransactionLost);
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[OK, Err(lost)], |_| failed(unique, 1));
    assert_eq!(script.steps[2..4], ["Rollback", "RollbackAgain"]);
    assert_eq!(done.outcome, Outcome::Unknown);
    assert!(!done.connection_broken);
    // A server that speaks the protocol and does not know the check.
    let syntax = fault(Dialect::Postgres, FaultClass::Permanent);
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[OK, Err(syntax)], |_| failed(unique, 1));
    assert_eq!(script.steps[2..4], ["Rollback", "RollbackAgain"]);
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(!done.connection_broken);
    // After a COMMIT there is nothing to check.
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[OK, Err(unique)], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(
        script.steps,
        ["Begin", "body 1", "Commit", "Rollback", "Failed"]
    );
    assert_eq!(done.outcome, Outcome::Undone);
}

#[test]
fn mysql_checks_that_the_transaction_is_still_there() {
    let gone = Err(errno(1305));
    // A deadlock has taken it along for certain: there is nothing to check.
    let mut script = Script::new(Dialect::Mysql);
    let done = script.run(&[], |attempt| match attempt {
        1 => failed(errno(1213), 1),
        _ => (BodyEnd::Ok, Some(1)),
    });
    assert_eq!(
        script.steps[..4],
        ["Begin", "body 1", "Rollback", "Retrying"]
    );
    assert_eq!(done.outcome, Outcome::Committed);
    // NOWAIT never does: DDL has committed it.
    let done = Script::new(Dialect::Mysql).run(&[OK, gone], |_| failed(errno(3572), 1));
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
}

#[test]
fn mysql_is_asked_whether_a_lock_timeout_ends_the_transaction() {
    let (gone, no) = (Err(errno(1305)), Err(errno(1242)));
    let body = |attempt| match attempt {
        1 => failed(errno(1205), 1),
        _ => (BodyEnd::Ok, Some(1)),
    };
    // With innodb_rollback_on_timeout it does.
    let mut script = Script::new(Dialect::Mysql);
    let done = script.run(&[OK, gone, OK, OK], body);
    assert_eq!(
        script.steps[..6],
        [
            "Begin",
            "body 1",
            "Rollback",
            "RollbackAgain",
            "CheckUndone",
            "Retrying"
        ]
    );
    assert_eq!(done.outcome, Outcome::Committed);
    // Without it, DDL has committed it.
    let done = Script::new(Dialect::Mysql).run(&[OK, gone, OK, no], body);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert!(!done.connection_broken);
    // If the connection is gone, the question cannot be asked.
    let lost = Err(fault(Dialect::Mysql, FaultClass::ConnectionLost));
    let done = Script::new(Dialect::Mysql).run(&[OK, gone, lost], body);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    // The same in a savepoint of the caller's transaction.
    for (answer, outcome) in [(OK, Outcome::Undone), (no, Outcome::Unknown)] {
        let mut script = Script::at(Dialect::Mysql, new_key(), 1);
        let done = script.run(&[OK, gone, answer], |_| failed(errno(1205), 2));
        assert_eq!(
            script.steps[..5],
            ["Begin", "body 1", "Rollback", "CheckUndone", "Contain"]
        );
        assert_eq!((done.outcome, done.attempts), (outcome, 1));
    }
}

#[test]
fn what_follows_the_commit_and_fails_is_no_proof() {
    let mut script = Script::new(Dialect::Sqlite);
    script.settings.lock_timeout = Some(Duration::from_secs(1));
    let interrupted = fault(Dialect::Sqlite, FaultClass::Canceled);
    let gone = fault(Dialect::Sqlite, FaultClass::TransactionLost);
    let done = script.run(&[OK, Err(interrupted), Err(gone)], |_| {
        (BodyEnd::Ok, Some(1))
    });
    assert_eq!(done.outcome, Outcome::Unknown);
}

#[test]
fn a_transaction_that_sqlite_dropped_is_undone_also_when_diesel_noticed() {
    let mut script = Script::new(Dialect::Sqlite);
    let full = fault(Dialect::Sqlite, FaultClass::ResourceExhausted);
    let gone = fault(Dialect::Sqlite, FaultClass::TransactionLost);
    let done = script.run(&[OK, Err(gone)], |_| failed(full, 0));
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(matches!(done.answer, Answer::FirstError));
    // Of a constraint it is not known that it was this which ended the transaction.
    let constraint = fault(Dialect::Sqlite, FaultClass::Constraint);
    for depth in [0, 1] {
        let mut script = Script::new(Dialect::Sqlite);
        let done = script.run(&[OK, Err(gone)], |_| failed(constraint, depth));
        assert_eq!(done.outcome, Outcome::Unknown);
    }
}

#[test]
fn what_the_body_ended_by_itself_is_unknown_whatever_fails_then() {
    for errno_after in [1213, 1020, 1205] {
        let mut script = Script::new(Dialect::Mysql);
        let done = script.run(&[], |_| failed(errno(errno_after), 0));
        assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    }
}

#[test]
fn mysql_1305_at_commit_does_not_say_which() {
    let mut script = Script::new(Dialect::Mysql);
    let done = script.run(&[OK, Err(errno(1305))], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(done.outcome, Outcome::Unknown);
    assert_eq!(done.attempts, 1);
}

#[test]
fn mysql_errors_at_commit_are_definite_only_where_known() {
    for (errno_at_commit, outcome) in [
        (1213, Outcome::Committed),
        (1205, Outcome::Committed),
        (1290, Outcome::Undone),
        (1180, Outcome::Unknown),
        (1317, Outcome::Unknown),
        (9999, Outcome::Unknown),
    ] {
        let mut script = Script::new(Dialect::Mysql);
        let done = script.run(&[OK, Err(errno(errno_at_commit))], |_| {
            (BodyEnd::Ok, Some(1))
        });
        assert_eq!(done.outcome, outcome, "{errno_at_commit}");
    }
}

/// It would refuse the ROLLBACK, too, so the connection has to go, with the transaction that is open
/// on it.
#[test]
fn what_a_node_without_a_quorum_refuses_to_commit_is_undone() {
    let mut script = Script::new(Dialect::Mysql);
    let done = script.run(&[OK, Err(errno(1047))], |_| (BodyEnd::Ok, Some(1)));
    assert_eq!(script.steps, ["Begin", "body 1", "Commit", "Failed"]);
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(matches!(done.answer, Answer::FirstError));
    assert!(done.connection_broken);
}

#[test]
fn a_stale_plan_is_tried_once_more_without_the_cache() {
    let mut script = Script::new(Dialect::Postgres);
    let stale = fault(Dialect::Postgres, FaultClass::StalePlan);
    let done = script.run(&[], |_| failed(stale, 1));
    assert_eq!(done.attempts, 2);
}

/// A fault of another kind before it does not count.
#[test]
fn a_stale_plan_after_another_fault_is_tried_once_more_too() {
    let stale = fault(Dialect::Postgres, FaultClass::StalePlan);
    let serialization = fault(Dialect::Postgres, FaultClass::SerializationFailure);
    let mut script = Script::new(Dialect::Postgres);
    let done = script.run(&[], |attempt| match attempt {
        1 => failed(serialization, 1),
        _ => failed(stale, 1),
    });
    assert_eq!(
        (done.attempts, done.stop),
        (3, StopReason::RetriesExhausted)
    );
}

#[test]
fn the_driver_is_told_which_error_is_the_first() {
    let config = config(RetryPolicy::new());
    let machine = Machine::new(Dialect::Postgres, &config, &SPEC, false, no_clock);
    let mut machine = machine.expect("valid settings");
    connect(&mut machine, new_key(), 0);
    assert!(matches!(machine.step(no_clock), Step::Batch(_)));
    assert_eq!(machine.batch_done(OK), ErrorSlot::First);
    assert!(matches!(machine.step(no_clock), Step::Body));
    machine.body_done(BodyEnd::Ok, Some(1));
    let refused = fault(Dialect::Postgres, FaultClass::Constraint);
    for slot in [ErrorSlot::First, ErrorSlot::Rollback] {
        assert!(matches!(machine.step(no_clock), Step::Batch(_)));
        assert_eq!(machine.batch_done(Err(refused)), slot);
    }
}
