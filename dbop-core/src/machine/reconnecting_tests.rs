//! The machine with a source of connections, against scripts: no database, no clock, no sleep.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tests::{MESSAGE, SPEC, config, connect, new_key, no_clock};
use super::*;
use crate::budget::RetryBudget;
use crate::fault::FaultClass;
use crate::outcome::{Outcome, StopReason};
use crate::policy::RetryPolicy;
use crate::request::Purpose;
use crate::retry::Advice;

/// What happens next, in order. Where nothing is said, all is well.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given {
    Fine,
    Fails(Fault),
    Reads(&'static str),
    Finds(bool),
    /// The operation returns an error of its own.
    Refuses,
    /// One that wants another attempt.
    Wants,
    Panics,
    /// The pool had no connection for as long as it waits.
    Exhausted,
    /// A look finds nothing, and leaves a transaction open.
    LeavesOpen,
}

use Given::{Exhausted, Fails, Finds, Fine, LeavesOpen, Panics, Reads, Refuses, Wants};

pub(super) struct Script {
    dialect: Dialect,
    pub(super) policy: RetryPolicy,
    pub(super) budget: Option<Arc<RetryBudget>>,
    pub(super) spec: Spec<'static>,
    pub(super) steps: Vec<String>,
    pub(super) delays: Vec<Duration>,
    /// What the source was told: the purpose, whether it is read-only, and the class of the fault before.
    pub(super) requests: Vec<(Purpose, bool, Option<FaultClass>)>,
    /// What its connections were discarded for.
    pub(super) discarded_for: Vec<Option<FaultClass>>,
    /// The opening batches.
    pub(super) opened: Vec<String>,
    /// What time it is, and how long a step takes.
    pub(super) time: Option<(Instant, Duration)>,
    /// From this step on, counted from 1, a step takes so long.
    pub(super) slow_from: Option<(usize, Duration)>,
    /// Whether a pooler has statements of its own.
    pub(super) pooler_keeps_statements: bool,
}

impl Script {
    pub(super) fn new(dialect: Dialect, resolution: Resolution<'static>) -> Self {
        Self {
            dialect,
            policy: RetryPolicy::new().with_jitter(crate::Jitter::None),
            budget: None,
            spec: Spec { resolution, ..SPEC },
            steps: Vec::new(),
            delays: Vec::new(),
            requests: Vec::new(),
            discarded_for: Vec::new(),
            opened: Vec::new(),
            time: None,
            slow_from: None,
            pooler_keeps_statements: false,
        }
    }

    pub(super) fn run(&mut self, answers: impl IntoIterator<Item = Given>) -> Done {
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        let mut next = || answers.pop_front().unwrap_or(Fine);
        let (mut config, spec) = (config(self.policy), self.spec);
        if let Some(budget) = &self.budget {
            config.set_retry_budget(Arc::clone(budget));
        }
        let begin = self.time.map(|(now, _)| now);
        let begin = || begin.expect("a script with a deadline or a budget has the time");
        let machine = Machine::new(self.dialect, &config, &spec, true, begin);
        let mut machine = machine.expect("valid settings");
        loop {
            let fails = |answer| match answer {
                Fails(fault) => Err(fault),
                _ => Ok(()),
            };
            if let Some((now, per_step)) = &mut self.time {
                *now += match self.slow_from {
                    Some((first, slow)) if self.steps.len() >= first => slow,
                    _ => *per_step,
                };
            }
            let now = self.time.map(|(now, _)| now);
            let now = || now.expect("a script with a deadline or a budget has the time");
            match machine.step(now) {
                Step::Connect { within } => {
                    self.steps.push("connect".into());
                    let request = machine.request(within, &Instant::now);
                    let after = request.after.map(|fault| fault.class());
                    self.requests
                        .push((request.purpose, request.read_only, after));
                    let answer = next();
                    match fails(answer) {
                        _ if matches!(answer, Exhausted) => {
                            let class = FaultClass::NotConnected;
                            let fault = Fault::from_class(self.dialect, class);
                            _ = machine.connect_failed(fault, Advice::Never, now);
                        }
                        Ok(()) => connect(&mut machine, new_key(), 0),
                        Err(fault) => _ = machine.connect_failed(fault, Advice::Judge, now),
                    }
                }
                Step::Batch(batch) => {
                    if matches!(batch.purpose, BatchPurpose::Begin | BatchPurpose::Ask) {
                        self.opened.push(batch.sql.to_owned());
                    }
                    self.steps.push(format!("{:?}", batch.purpose));
                    _ = machine.batch_done(fails(next()));
                }
                Step::Body => {
                    self.steps.push("body".into());
                    match next() {
                        Fails(fault) => {
                            let end = BodyEnd::Failed {
                                fault: Some(fault),
                                advice: Advice::Judge,
                            };
                            let lost = !fault.leaves_connection_usable();
                            machine.body_done(end, if lost { None } else { Some(1) });
                        }
                        Panics => machine.body_done(BodyEnd::Panicked, Some(1)),
                        answer @ (Refuses | Wants) => {
                            let end = BodyEnd::Failed {
                                fault: None,
                                advice: match answer {
                                    Wants => Advice::Retry,
                                    _ => Advice::Judge,
                                },
                            };
                            machine.body_done(end, Some(1));
                        }
                        _ => machine.body_done(BodyEnd::Ok, Some(1)),
                    }
                }
                Step::Read(query) if query.is_constant => {
                    self.steps.push("id".into());
                    _ = machine.read_done(match next() {
                        Fails(fault) => Err(fault),
                        Finds(false) => Ok(Some("f  0".into())),
                        Reads(id) => Ok(Some(format!("t {id} 0"))),
                        _ => Ok(Some("t  0".into())),
                    });
                }
                Step::Read(_) => {
                    let is_token = matches!(self.spec.resolution, Resolution::Ledger(_));
                    self.steps
                        .push(if is_token { "token" } else { "status" }.into());
                    _ = machine.read_done(match next() {
                        Fails(fault) => Err(fault),
                        Reads(text) => Ok(Some(text.into())),
                        // A token that was not there is one that is never committed.
                        _ => Ok(is_token.then(|| "2".into())),
                    });
                }
                Step::Diagnose(_) => {
                    self.steps.push("diagnose".into());
                    machine.diagnosed(
                        match next() {
                            Fails(fault) => Err(fault),
                            Reads(kept) => Ok(Some(kept.into())),
                            _ => Ok(None),
                        },
                        Some(MESSAGE),
                    );
                }
                Step::Verify => {
                    self.steps.push("verify".into());
                    let answer = next();
                    let verified = match answer {
                        Finds(found) => Verified::Committed(found),
                        LeavesOpen => Verified::Committed(false),
                        Fails(fault) => Verified::Failed {
                            fault: Some(fault),
                            advice: Advice::Judge,
                        },
                        _ => Verified::Panicked,
                    };
                    let depth = u32::from(matches!(answer, LeavesOpen));
                    machine.verify_done(verified, Some(depth));
                }
                Step::Report(event) => self.steps.push(format!("{:?}", event.kind())),
                Step::Pause(pause) => {
                    self.delays.push(pause.delay);
                    if pause.connection == ConnectionAction::Discard {
                        let why = machine.last_fault().map(|fault| fault.class());
                        self.discarded_for.push(why);
                    }
                    if let Some((now, _)) = &mut self.time {
                        *now += pause.delay;
                    }
                    let clears = pause.connection == ConnectionAction::ClearStatementCache;
                    if clears && self.pooler_keeps_statements {
                        machine.pooler_keeps_statements();
                    }
                    let settled = if pause.settled { "settled" } else { "open" };
                    self.steps.push(format!("{:?} {settled}", pause.connection));
                }
                Step::Queue => unreachable!("there is no gate"),
                Step::Done(done) => return done,
            }
        }
    }
}

/// A ledger of the test's own.
pub(super) fn ledger() -> Resolution<'static> {
    Resolution::Ledger(Box::leak(Box::default()))
}

pub(super) fn fault(dialect: Dialect, class: FaultClass) -> Given {
    Fails(Fault::from_class(dialect, class))
}

pub(super) fn lost() -> Given {
    fault(Dialect::Postgres, FaultClass::ConnectionLost)
}

#[test]
fn a_lost_connection_is_discarded_and_the_next_one_tried() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let done = script.run([Fine, Fine, lost()]);
    assert_eq!(
        script.steps,
        [
            "connect",
            "Begin",
            "body",
            "Retrying",
            "Discard settled",
            "connect",
            "Begin",
            "body",
            "Commit",
            "Succeeded"
        ]
    );
    assert_eq!((done.attempts, done.outcome), (2, Outcome::Committed));
    assert!(!done.connection_broken);
    assert_eq!(script.delays, [Duration::from_millis(100)], "no longer");
}

#[test]
fn a_source_is_told_what_for_and_after_what() {
    let (lost_class, refused_class) = (FaultClass::ConnectionLost, FaultClass::NotConnected);
    let refused = fault(Dialect::Postgres, refused_class);
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    // Refused, lost in BEGIN, lost in COMMIT; the question is refused, answered "no", and all is well.
    let lost_commit = [Fine, Fine, Fine, lost()];
    let question = [refused, Fine, Finds(false)];
    let answers = [refused, Fine, lost()];
    let answers = answers.into_iter().chain(lost_commit).chain(question);
    let done = script.run(answers);
    assert_eq!(done.outcome, Outcome::Committed);
    let (work, question) = (Purpose::Work, Purpose::Question);
    let expected = [
        (work, false, None),
        (work, false, Some(refused_class)),
        (work, false, Some(lost_class)),
        (question, false, Some(lost_class)),
        (question, false, Some(refused_class)),
    ];
    assert_eq!(script.requests, expected);
    let why = [refused_class, lost_class, lost_class, refused_class].map(Some);
    assert_eq!(script.discarded_for, why);
}

/// It is another connection than that of the COMMIT, and has answered.
#[test]
fn a_question_that_is_answered_leaves_no_fault_behind() {
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let begun = [Fine, Fine, Fine, Reads("741"), lost()];
    let questions = [Fine, Reads("in progress"), Fine, Reads("committed")];
    let done = script.run(begun.into_iter().chain(questions));
    assert_eq!(done.outcome, Outcome::Committed);
    let expected = [
        (Purpose::Work, None),
        (Purpose::Question, Some(FaultClass::ConnectionLost)),
        (Purpose::Question, None),
    ];
    let told = script.requests.iter();
    let told: Vec<_> = told
        .map(|(what_for, _, after)| (*what_for, *after))
        .collect();
    assert_eq!(told, expected);
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    script.run([Fine, Fine, Fine, lost(), Fine, LeavesOpen]);
    let why = [Some(FaultClass::ConnectionLost), None];
    assert_eq!(script.discarded_for, why);
}

#[test]
fn a_source_is_told_that_the_operation_only_reads() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.spec.settings.read_only = true;
    // An error of the operation's own says nothing about its connection.
    let done = script.run([Fine, Fine, Wants]);
    assert_eq!(done.attempts, 2);
    assert_eq!(script.requests[0], (Purpose::Work, true, None));
    assert_eq!(script.requests.last().map(|last| last.2), Some(None));
}

#[test]
fn connecting_is_a_part_of_the_attempt_and_waits_longer() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
    let done = script.run([refused, refused]);
    assert_eq!((done.attempts, done.outcome), (3, Outcome::Committed));
    for delay in &script.delays {
        let (half, whole) = (Duration::from_millis(500), Duration::from_secs(1));
        assert!((half..=whole).contains(delay), "{delay:?}");
    }
}

#[test]
fn a_wrong_password_is_not_tried_again() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let done = script.run([fault(Dialect::Postgres, FaultClass::Permanent)]);
    assert_eq!((done.attempts, done.stop), (1, StopReason::NotRetryable));
    assert_eq!(done.outcome, Outcome::Undone);
    assert!(matches!(done.answer, Answer::Own(error) if error.is_no_connection()));
}

#[test]
fn a_long_pause_gives_the_connection_back_a_short_one_keeps_it() {
    let deadlock = fault(Dialect::Postgres, FaultClass::Deadlock);
    for (millis, expected) in [(9, "Keep settled"), (10, "GiveBack settled")] {
        let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
        script.policy = RetryPolicy::new()
            .with_jitter(crate::Jitter::None)
            .with_initial_delay(Duration::from_millis(millis));
        let done = script.run([Fine, Fine, deadlock]);
        assert_eq!(done.attempts, 2);
        assert!(
            script.steps.contains(&expected.into()),
            "{:?}",
            script.steps
        );
    }
}

#[test]
fn retries_are_shared_by_all_connections() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
    let done = script.run([refused; 100]);
    assert_eq!(
        (done.attempts, done.stop),
        (6, StopReason::RetriesExhausted)
    );
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.policy = script.policy.with_max_silent_losses(100);
    let done = script.run([Fine, Fine, lost()].into_iter().cycle().take(100));
    assert_eq!(
        (done.attempts, done.stop),
        (6, StopReason::RetriesExhausted)
    );
}

#[test]
fn a_server_that_takes_no_writes_is_left() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let standby = fault(Dialect::Postgres, FaultClass::ReadOnlyServer);
    let done = script.run([Fine, Fine, standby]);
    assert!(script.steps.contains(&"Discard settled".into()));
    assert_eq!(done.attempts, 2);
    // A failover takes its time.
    assert_eq!(script.delays, [script.policy.delays().next_slow()]);
    script.policy = RetryPolicy::no_retries();
    let done = script.run([Fine, Fine, standby]);
    assert_eq!(done.attempts, 1);
    assert!(done.connection_broken, "it does not go back to its pool");
}

#[test]
fn sqlite_commits_again_alone() {
    let busy = fault(Dialect::Sqlite, FaultClass::Busy);
    let mut script = Script::new(Dialect::Sqlite, Resolution::Nothing);
    let done = script.run([Fine, Fine, Fine, busy, busy]);
    assert_eq!(
        script.steps[3..],
        [
            "Commit",
            "Retrying",
            "Keep open",
            "CommitAgain",
            "Retrying",
            "Keep open",
            "CommitAgain",
            "Succeeded"
        ]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
    let full = fault(Dialect::Sqlite, FaultClass::Constraint);
    let done = script.run([Fine, Fine, Fine, busy, full]);
    assert_eq!(
        (done.outcome, done.stop),
        (Outcome::Undone, StopReason::NotRetryable)
    );
    let done = script.run([Fine, Fine, Fine].into_iter().chain([busy; 21]));
    assert_eq!(
        (done.outcome, done.stop),
        (Outcome::Undone, StopReason::RetriesExhausted)
    );
    assert_eq!(done.attempts, 1);
}

/// Meanwhile no other connection can write.
#[test]
fn sqlite_pauses_for_a_tenth_of_a_second_at_most_while_it_holds_the_lock() {
    const MS: Duration = Duration::from_millis(1);
    let busy = fault(Dialect::Sqlite, FaultClass::Busy);
    let delays = |policy: RetryPolicy, busy_commits: usize| {
        let mut script = Script::new(Dialect::Sqlite, Resolution::Nothing);
        script.policy = policy.with_jitter(crate::Jitter::None);
        let answers = [Fine, Fine, Fine].into_iter();
        script.run(answers.chain(std::iter::repeat_n(busy, busy_commits)));
        script.delays
    };
    let policy = RetryPolicy::new();
    assert_eq!(delays(policy, 3), [20 * MS, 100 * MS, 100 * MS]);
    let all: Duration = delays(policy, 21).iter().sum();
    assert_eq!(all, 1920 * MS, "20 retries");
    let steep = policy.with_initial_delay(1000 * MS);
    assert_eq!(delays(steep, 1), [100 * MS]);
    // A function of the user's has the last word.
    let by_hand = policy.with_backoff_fn(|_| Duration::from_millis(300));
    assert_eq!(delays(by_hand, 1), [300 * MS]);
}

#[test]
fn the_text_goes_along_to_a_connection_like_the_one_before() {
    let same = SavedPragmas::default();
    let other = SavedPragmas {
        busy_timeout: 17,
        ..same
    };
    let config = config(RetryPolicy::new());
    for (depth, session, expected) in [(0, same, true), (0, other, false), (1, same, false)] {
        let machine = Machine::new(Dialect::Postgres, &config, &SPEC, true, no_clock);
        let mut machine = machine.expect("valid settings");
        assert!(matches!(machine.step(no_clock), Step::Connect { .. }));
        connect(&mut machine, new_key(), 0);
        assert!(matches!(machine.step(no_clock), Step::Batch(_)));
        let lost = Fault::from_class(Dialect::Postgres, FaultClass::ConnectionLost);
        assert_eq!(machine.batch_done(Err(lost)), ErrorSlot::First);
        while !matches!(machine.step(no_clock), Step::Connect { .. }) {}
        let placement = machine.place(new_key(), depth);
        let parked = machine.parked_batches(&placement, session);
        assert_eq!(parked.is_some(), expected, "{depth} {session:?}");
    }
}

#[test]
fn an_operation_can_have_its_own_number_of_retries() {
    for max_retries in [0, 9] {
        let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
        script.spec.max_retries = Some(max_retries);
        script.policy = script.policy.with_max_silent_losses(100);
        let done = script.run([Fine, Fine, lost()].into_iter().cycle().take(100));
        assert_eq!(done.attempts, max_retries + 1);
    }
}

#[test]
fn the_statement_cache_is_cleared_for_a_stale_plan() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let done = script.run([Fine, Fine, fault(Dialect::Postgres, FaultClass::StalePlan)]);
    assert_eq!((done.attempts, done.outcome), (2, Outcome::Committed));
    let cleared = "ClearStatementCache settled".to_owned();
    assert!(script.steps.contains(&cleared), "{:?}", script.steps);
}

/// On the server connection of the next attempt, whichever that is.
#[test]
fn the_next_attempt_has_a_pooler_forget_a_stale_plan() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.pooler_keeps_statements = true;
    let done = script.run([Fine, Fine, fault(Dialect::Postgres, FaultClass::StalePlan)]);
    assert_eq!((done.attempts, done.outcome), (2, Outcome::Committed));
    let forget = "BEGIN NOT DEFERRABLE; DEALLOCATE ALL; COMMIT; BEGIN";
    assert_eq!(script.opened, ["BEGIN", forget]);
}

#[test]
fn what_is_skipped_is_reported_once_on_however_many_connections() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.spec.settings.begin_mode = Some(crate::BeginMode::Immediate);
    script.spec.settings.best_effort = true;
    let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
    let done = script.run([refused, Fine, Fine, lost()]);
    assert_eq!(done.attempts, 3);
    let is_skipped = |step: &&String| *step == "SettingSkipped(BeginMode)";
    assert_eq!(script.steps.iter().filter(is_skipped).count(), 1);
}

#[test]
fn what_a_runner_for_tests_skips_is_reported_once_for_each_name() {
    let mut config = config(RetryPolicy::new());
    config.set_defaults(|defaults| defaults.skip_what_open_transactions_refuse = true);
    let reports = |name, best_effort| {
        let mut spec = Spec::new(Name::Given(name));
        spec.settings.isolation = Some(crate::IsolationLevel::Serializable);
        spec.settings.best_effort = best_effort;
        let machine = Machine::new(Dialect::Postgres, &config, &spec, false, no_clock);
        let mut machine = machine.expect("valid");
        connect(&mut machine, new_key(), 1);
        machine.next_report().is_some()
    };
    assert!(reports("pay", false));
    assert!(!reports("pay", false));
    assert!(reports("pay", true), "the operation itself asks for it");
    assert!(reports("move", false));
}

#[test]
fn a_connection_that_is_given_up_is_free_for_others() {
    let config = config(RetryPolicy::new());
    let machine = || Machine::new(Dialect::Postgres, &config, &SPEC, true, no_clock);
    let (mut machine, other) = (machine().expect("valid"), machine().expect("valid"));
    let key = new_key();
    assert!(!machine.has_connected());
    loop {
        let has_connected = machine.has_connected();
        match machine.step(no_clock) {
            Step::Connect { .. } if has_connected => break,
            Step::Connect { .. } => connect(&mut machine, key, 0),
            Step::Body => {
                assert!(!other.place(key, 1).is_outermost());
                machine.body_done(BodyEnd::Ok, None);
            }
            Step::Batch(_) => _ = machine.batch_done(Ok(())),
            Step::Report(_) | Step::Pause(_) => {}
            step => unreachable!("{step:?}"),
        }
    }
    // While the one that has left it waits for another one.
    assert!(other.place(key, 1).is_outermost());
}

#[test]
fn a_transaction_whose_status_is_asked_for_has_a_mark_of_ours() {
    let opened = |resolution| {
        let mut script = Script::new(Dialect::Postgres, resolution);
        script.run([]);
        script.opened.remove(0)
    };
    let marked = opened(Resolution::TransactionStatus);
    assert!(marked.contains("SAVEPOINT"), "{marked}");
    assert!(!opened(Resolution::Nothing).contains("SAVEPOINT"));
}

#[test]
fn at_the_end_a_connection_is_given_up_only_if_another_one_is_of_more_use() {
    let read_only = fault(Dialect::Postgres, FaultClass::ReadOnlyServer);
    let taken = fault(Dialect::Postgres, FaultClass::Constraint);
    for (answer, is_given_up) in [(Refuses, false), (taken, false), (read_only, true)] {
        let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
        script.policy = RetryPolicy::no_retries();
        let done = script.run([Fine, Fine, answer]);
        assert_eq!(done.connection_broken, is_given_up, "{answer:?}");
    }
    // The caller's connection is the caller's.
    let mut script = tests::Script::new(Dialect::Postgres);
    let read_only = Fault::from_class(Dialect::Postgres, FaultClass::ReadOnlyServer);
    let done = script.run(&[], |_| tests::failed(read_only, 1));
    assert!(!done.connection_broken);
}
