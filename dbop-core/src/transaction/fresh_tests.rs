//! The machine with a source of connections, against scripts: no database, no clock, no sleep.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::tests::new_key;
use super::*;
use crate::{CurrentTransaction, Defaults, Ledger, SavedPragmas, Settings};

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
}

use Given::{Exhausted, Fails, Finds, Fine, Panics, Reads, Refuses, Wants};

pub(super) struct Script {
    dialect: Dialect,
    pub(super) policy: RetryPolicy,
    pub(super) terms: Terms<'static>,
    pub(super) settings: Settings,
    pub(super) steps: Vec<String>,
    pub(super) delays: Vec<Duration>,
    /// The opening batches.
    pub(super) opened: Vec<String>,
    /// What time it is, and how long a step takes.
    pub(super) time: Option<(Instant, Duration)>,
    /// From this step on, counted from 1, a step takes so long.
    pub(super) slow_from: Option<(usize, Duration)>,
}

impl Script {
    pub(super) fn new(dialect: Dialect, resolution: Resolution) -> Self {
        Self {
            dialect,
            policy: RetryPolicy::new().with_jitter(crate::Jitter::None),
            terms: Terms {
                fresh_connections: true,
                resolution,
                ..Terms::default()
            },
            settings: Settings::default(),
            steps: Vec::new(),
            delays: Vec::new(),
            opened: Vec::new(),
            time: None,
            slow_from: None,
        }
    }

    pub(super) fn run(&mut self, answers: impl IntoIterator<Item = Given>) -> Done {
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        let mut next = || answers.pop_front().unwrap_or(Fine);
        let mut machine = Machine::new(self.dialect, self.policy, self.terms);
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
                machine.tell_time(*now);
            }
            match machine.step() {
                Step::Connect => {
                    self.steps.push("connect".into());
                    let answer = next();
                    match fails(answer) {
                        _ if matches!(answer, Exhausted) => {
                            let class = FaultClass::NotConnected;
                            let fault = Fault::from_class(self.dialect, class);
                            machine.connect_failed(fault, Advice::Never);
                        }
                        Ok(()) => {
                            let start = Start::join(new_key(), 0, machine.retries_left());
                            machine.connected(start, Cow::Owned(self.batches()));
                        }
                        Err(fault) => machine.connect_failed(fault, Advice::Judge),
                    }
                }
                Step::Batch(batch) => {
                    if batch.purpose == Purpose::Begin {
                        self.opened.push(batch.sql.to_owned());
                    }
                    self.steps.push(format!("{:?}", batch.purpose));
                    machine.batch_done(fails(next()));
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
                Step::ReadId => {
                    self.steps.push("id".into());
                    machine.id_done(match next() {
                        Fails(fault) => Err(fault),
                        Finds(is_ours) => Ok(CurrentTransaction { is_ours, id: None }),
                        Reads(id) => Ok(CurrentTransaction {
                            is_ours: true,
                            id: id.parse().ok().map(|id| TransactionId {
                                id,
                                statistics_since: 0,
                            }),
                        }),
                        _ => Ok(CurrentTransaction {
                            is_ours: true,
                            id: None,
                        }),
                    });
                }
                Step::Read(_) => {
                    self.steps.push("status".into());
                    machine.read_done(match next() {
                        Fails(fault) => Err(fault),
                        Reads(text) => Ok(Some(text.into())),
                        _ => Ok(None),
                    });
                }
                Step::Verify => {
                    self.steps.push("verify".into());
                    let verified = match next() {
                        Finds(found) => Verified::Committed(found),
                        Fails(fault) => Verified::Failed {
                            fault: Some(fault),
                            advice: Advice::Judge,
                        },
                        _ => Verified::Panicked,
                    };
                    machine.verify_done(verified, Some(0));
                }
                Step::Report(event) => self.steps.push(format!("{:?}", event.kind())),
                Step::Pause(pause) => {
                    self.delays.push(pause.delay);
                    if let Some((now, _)) = &mut self.time {
                        *now += pause.delay;
                    }
                    let settled = if pause.settled { "settled" } else { "open" };
                    self.steps.push(format!("{:?} {settled}", pause.connection));
                }
                Step::Done(done) => return done,
            }
        }
    }

    fn batches(&self) -> Batches {
        let none = Defaults::NONE;
        let before = SavedPragmas::default();
        let level = Level::Transaction;
        let batches = Batches::new(self.dialect, level, &self.settings, &none, before);
        let batches = batches.expect("valid settings");
        match self.terms.resolution {
            Resolution::Ledger => batches.with_token(&Ledger::new().open()),
            _ => batches,
        }
    }
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
    script.policy = RetryPolicy::no_retries();
    let done = script.run([Fine, Fine, standby]);
    assert_eq!(done.attempts, 1);
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
    let done = script.run([Fine, Fine, Fine].into_iter().chain([busy; 6]));
    assert_eq!(
        (done.outcome, done.stop),
        (Outcome::Undone, StopReason::RetriesExhausted)
    );
    assert_eq!(done.attempts, 1);
}

/// A machine whose first connection was lost in BEGIN, and which waits for another one.
fn at_its_second_connection() -> Machine<'static> {
    let terms = Terms {
        fresh_connections: true,
        ..Terms::default()
    };
    let mut machine = Machine::new(Dialect::Postgres, RetryPolicy::new(), terms);
    assert!(matches!(machine.step(), Step::Connect));
    let start = Start::join(new_key(), 0, machine.retries_left());
    let batches = Batches::new(
        Dialect::Postgres,
        Level::Transaction,
        &Settings::default(),
        &Defaults::NONE,
        SavedPragmas::default(),
    );
    machine.connected(start, Cow::Owned(batches.expect("valid settings")));
    assert!(matches!(machine.step(), Step::Batch(_)));
    machine.batch_done(Err(Fault::from_class(
        Dialect::Postgres,
        FaultClass::ConnectionLost,
    )));
    loop {
        if let Step::Connect = machine.step() {
            return machine;
        }
    }
}

#[test]
fn the_text_goes_along_to_a_connection_like_the_one_before() {
    let before = SavedPragmas::default();
    let other = SavedPragmas {
        busy_timeout: 17,
        ..before
    };
    for (depth, session, expected) in [(0, before, true), (0, other, false), (1, before, false)] {
        let mut machine = at_its_second_connection();
        let start = Start::join(new_key(), depth, 5);
        let spare = machine.spare_batches(&start, session);
        assert_eq!(spare.is_some(), expected, "{depth} {session:?}");
    }
}
