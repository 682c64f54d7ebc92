//! The machine with a source of connections, against scripts: no database, no clock, no sleep.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::tests::new_key;
use super::*;
use crate::{Defaults, Ledger, SessionBefore, Settings};

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
        let before = SessionBefore::default();
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

fn lost() -> Given {
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
fn a_lost_commit_is_unknown_and_the_end() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!(
        script.steps,
        ["connect", "Begin", "body", "Commit", "OutcomeUnknown"]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert!(!done.fallback_allowed && done.connection_broken);
}

#[test]
fn a_commit_that_was_never_sent_is_undone() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    let done = script.run([
        Fine,
        Fine,
        Fine,
        fault(Dialect::Postgres, FaultClass::NotConnected),
    ]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn what_writes_nothing_is_free_to_be_done_again() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.settings.read_only = true;
    script.terms.read_only = true;
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn what_is_idempotent_is_done_again_but_never_called_undone() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.terms.idempotent = true;
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    // The second attempt is undone for certain, the first one is not.
    let constraint = fault(Dialect::Postgres, FaultClass::Constraint);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine, constraint]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));
    assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
    assert!(!done.fallback_allowed);
}

/// Nor by an error of the operation's own, which is about the second attempt alone.
#[test]
fn an_error_of_its_own_does_not_settle_what_went_before() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.terms.idempotent = true;
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine, Refuses]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));
    assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
    assert!(script.steps.contains(&"OutcomeUnknown".into()));

    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Finds(false), Fine, Refuses]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));

    // Nor by a panic.
    let mut script = Script::new(Dialect::Postgres, Resolution::Nothing);
    script.terms.idempotent = true;
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine, Panics]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 2));
    assert!(matches!(done.answer, Answer::Panic));

    // The ledger's no is a proof.
    let mut script = Script::new(Dialect::Postgres, Resolution::Ledger);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine, Fine, Fine, Refuses]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Undone, 2));
    assert!(matches!(done.answer, Answer::FirstError));
}

#[test]
fn verify_says_what_became_of_it() {
    let lose = [Fine, Fine, Fine, lost(), Fine];
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run(lose.into_iter().chain([Finds(true)]));
    assert_eq!(
        script.steps[3..],
        [
            "Commit",
            "Asking",
            "Discard open",
            "connect",
            "verify",
            "FoundCommitted"
        ]
    );
    assert!(matches!(done.answer, Answer::Value));
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));

    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run(lose.into_iter().chain([Finds(false)]));
    assert_eq!(
        script.steps[6..],
        [
            "connect",
            "verify",
            "Retrying",
            "Keep settled",
            "Begin",
            "body",
            "Commit",
            "Succeeded"
        ],
        "on the fresh connection, at once"
    );
    assert_eq!(script.delays[1], Duration::ZERO);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn questions_share_the_retries_but_the_first_one_is_free() {
    let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
    let lose = [Fine, Fine, Fine, lost()];
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run(lose.into_iter().chain([refused; 100]));
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert_eq!(script.delays.len(), 6);

    script = Script::new(Dialect::Postgres, Resolution::Verify);
    script.policy = RetryPolicy::no_retries();
    let done = script.run(lose.into_iter().chain([Fine, Finds(false)]));
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    assert!(matches!(done.answer, Answer::Own(error) if error.is_outcome_unknown()));
}

/// What is late can still arrive after a look: only the ledger and the server know better.
#[test]
fn a_no_of_verify_is_no_proof_and_others_are() {
    let constraint = fault(Dialect::Postgres, FaultClass::Constraint);
    let lose = [Fine, Fine, Fine, lost()];
    for (resolution, expected) in [
        (Resolution::Verify, Outcome::Unknown),
        (Resolution::Ledger, Outcome::Undone),
    ] {
        let mut script = Script::new(Dialect::Postgres, resolution);
        let asked = match resolution {
            Resolution::Verify => vec![Fine, Finds(false)],
            _ => vec![Fine, Fine, Fine],
        };
        let answers = lose.into_iter().chain(asked).chain([Fine, constraint]);
        let done = script.run(answers);
        assert_eq!(
            (done.outcome, done.attempts),
            (expected, 2),
            "{:?}",
            script.steps
        );
        assert!(!done.fallback_allowed || expected == Outcome::Undone);
    }
}

#[test]
fn a_panic_while_looking_leaves_it_unknown() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Verify);
    let done = script.run([Fine, Fine, Fine, lost(), Fine, Fine]);
    assert!(matches!(done.answer, Answer::Panic));
    assert_eq!(done.outcome, Outcome::Unknown);
}

#[test]
fn the_transaction_status_is_asked_until_it_is_final() {
    let begin = [Fine, Fine, Fine, Reads("741"), lost(), Fine];
    for (status, attempts) in [("committed", 1), ("aborted", 2)] {
        let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
        let busy = Reads("in progress");
        let answers = [busy, Fine, busy, Fine, Reads(status)];
        let done = script.run(begin.into_iter().chain(answers));
        assert_eq!(
            (done.outcome, done.attempts),
            (Outcome::Committed, attempts)
        );
        let asked = script.steps.iter().filter(|step| *step == "status").count();
        assert_eq!(asked, 3);
    }
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let done = script.run(begin.into_iter().chain([Fine]));
    assert_eq!(done.outcome, Outcome::Unknown, "forgotten by the server");
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let done = script.run([Fine, Fine, Fine, Fine, lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    assert!(!script.steps.contains(&"status".into()), "it had no id");
}

#[test]
fn a_transaction_without_its_id_is_not_committed() {
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let aborted = fault(Dialect::Postgres, FaultClass::TransactionAborted);
    let done = script.run([Fine, Fine, Fine, aborted]);
    assert!(matches!(done.answer, Answer::Own(error) if error.is_rolled_back()));
    assert_eq!(done.outcome, Outcome::Undone);
    let done = script.run([Fine, Fine, Fine, lost()]);
    assert_eq!(done.attempts, 2, "COMMIT was not sent");
}

/// Of another transaction, or perhaps only without its mark: what COMMIT says counts.
#[test]
fn the_id_of_another_transaction_is_not_asked_for() {
    let mut script = Script::new(Dialect::Postgres, Resolution::TransactionStatus);
    let done = script.run([Fine, Fine, Fine, Finds(false)]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
    let done = script.run([Fine, Fine, Fine, Finds(false), lost()]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
    let gone = fault(Dialect::Postgres, FaultClass::TransactionLost);
    let done = script.run([Fine, Fine, Fine, Finds(false), gone]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
}

#[test]
fn the_ledger_is_asked_by_inserting_the_token_again() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let lost = fault(dialect, FaultClass::ConnectionLost);
        let lose = [Fine, Fine, Fine, lost, Fine];
        let mut script = Script::new(dialect, Resolution::Ledger);
        let there = fault(dialect, FaultClass::Constraint);
        let done = script.run(lose.into_iter().chain([there, Fine, there]));
        assert_eq!(
            script.steps[6..],
            [
                "connect",
                "Begin",
                "Rollback",
                "Begin",
                "Rollback",
                "FoundCommitted"
            ]
        );
        assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
        assert!(script.opened[1].contains("VALUES ('"));
        let completed = "; INSERT INTO dbop_ledger (token) SELECT token FROM dbop_ledger WHERE";
        assert!(script.opened[2].contains(completed), "{:?}", script.opened);

        let mut script = Script::new(dialect, Resolution::Ledger);
        let done = script.run(lose.into_iter().chain([there]));
        assert_eq!(
            script.steps[9..],
            ["Begin", "Rollback", "OutcomeUnknown"],
            "committed by DDL, as far as it had come"
        );
        assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));

        // Whoever cannot be asked the second question is asked both, again.
        let blocked = fault(dialect, FaultClass::LockTimeout);
        for in_the_way in [
            vec![there, Fine, lost, Fine],
            vec![there, lost, Fine],
            vec![there, Fine, blocked, Fine, Fine],
        ] {
            let mut script = Script::new(dialect, Resolution::Ledger);
            let then = [there, Fine, there];
            let answers = lose.into_iter().chain(in_the_way).chain(then);
            let done = script.run(answers);
            let is_asked = |step: &&String| *step == "Asking";
            assert_eq!(script.steps.iter().filter(is_asked).count(), 2);
            assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 1));
        }

        let mut script = Script::new(dialect, Resolution::Ledger);
        let done = script.run(lose.into_iter().chain([blocked, Fine, Fine]));
        assert_eq!(
            script.steps[6..],
            [
                "connect",
                "Begin",
                "Rollback",
                "Asking",
                "GiveBack open",
                "connect",
                "Begin",
                "Rollback",
                "Retrying",
                "Keep settled",
                "Begin",
                "body",
                "Commit",
                "Succeeded"
            ]
        );
        assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    }
}

/// Whoever holds the token up can be waited for until there is no more time or no more retry, and a
/// connection on which nobody could be asked is nobody's any more.
#[test]
fn asking_is_not_given_up_early_and_leaves_no_broken_connection() {
    for dialect in [Dialect::Postgres, Dialect::Mysql] {
        let lost = fault(dialect, FaultClass::ConnectionLost);
        let lose = [Fine, Fine, Fine, lost, Fine];
        let slow = fault(dialect, FaultClass::StatementTimeout);
        let mut script = Script::new(dialect, Resolution::Ledger);
        let done = script.run(lose.into_iter().chain([slow]));
        assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));

        let standby = fault(dialect, FaultClass::ReadOnlyServer);
        for in_the_way in [lost, standby] {
            let mut script = Script::new(dialect, Resolution::Ledger);
            script.policy = RetryPolicy::no_retries();
            let done = script.run(lose.into_iter().chain([in_the_way]));
            assert_eq!(done.outcome, Outcome::Unknown);
            assert!(done.connection_broken);
        }
    }
}

/// A pool that had no connection has waited for one. What is asked is worth another wait.
#[test]
fn a_pool_without_a_connection_does_not_end_the_asking() {
    let mut script = Script::new(Dialect::Postgres, Resolution::Ledger);
    let done = script.run([Fine, Fine, Fine, lost(), Exhausted, Exhausted]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
    let mut script = Script::new(Dialect::Postgres, Resolution::Ledger);
    let done = script.run([Exhausted]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Undone, 1));
}

/// Unless the caller has to look, whose looks are attempts.
#[test]
fn where_there_is_a_deadline_the_server_is_asked_until_then() {
    for (resolution, connects) in [(Resolution::Ledger, 101), (Resolution::Verify, 4)] {
        let mut script = Script::new(Dialect::Postgres, resolution);
        script.policy = script.policy.with_max_retries(2);
        let now = Instant::now();
        script.terms.deadline = Some(now + Duration::from_secs(100_000));
        script.time = Some((now, Duration::from_millis(1)));
        let refused = fault(Dialect::Postgres, FaultClass::NotConnected);
        let answers = [Fine, Fine, Fine, lost()].into_iter();
        let done = script.run(answers.chain([refused; 99]));
        let made = script
            .steps
            .iter()
            .filter(|step| *step == "connect")
            .count();
        assert_eq!(made, connects, "{resolution:?}");
        let is_known = done.outcome != Outcome::Unknown;
        assert_eq!(is_known, resolution == Resolution::Ledger);
        // And no longer.
        script.terms.deadline = Some(now + Duration::from_secs(30));
        script.time = Some((now, Duration::from_millis(1)));
        let answers = [Fine, Fine, Fine, lost()].into_iter();
        let done = script.run(answers.chain([refused; 999]));
        assert_eq!(done.outcome, Outcome::Unknown);
    }
}

#[test]
fn a_question_takes_no_longer_than_what_is_left() {
    for (dialect, limit) in [
        (Dialect::Postgres, "statement_timeout"),
        (Dialect::Mysql, "innodb_lock_wait_timeout"),
    ] {
        let lost = fault(dialect, FaultClass::ConnectionLost);
        let mut script = Script::new(dialect, Resolution::Ledger);
        let now = Instant::now();
        script.terms.deadline = Some(now + Duration::from_secs(60));
        script.time = Some((now, Duration::from_secs(3)));
        script.run([Fine, Fine, Fine, lost]);
        let probe = &script.opened[1];
        assert!(probe.contains(limit), "{probe}");
        assert_ne!(*probe, script.opened[0], "less is left");
    }
}

#[test]
fn a_commit_that_failed_without_an_answer_that_counts_is_asked_about() {
    let mut script = Script::new(Dialect::Mysql, Resolution::Ledger);
    let during_commit = fault(Dialect::Mysql, FaultClass::OutcomeUnknown);
    let done = script.run([Fine, Fine, Fine, during_commit]);
    assert_eq!(
        script.steps[3..],
        [
            "Commit",
            "Rollback",
            "Asking",
            "GiveBack open",
            "connect",
            "Begin",
            "Rollback",
            "Retrying",
            "Keep settled",
            "Begin",
            "body",
            "Commit",
            "Succeeded"
        ]
    );
    assert_eq!((done.outcome, done.attempts), (Outcome::Committed, 2));
}

#[test]
fn ddl_is_not_settled_by_a_token_that_it_has_committed() {
    let mut script = Script::new(Dialect::Mysql, Resolution::Ledger);
    let gone = fault(Dialect::Mysql, FaultClass::TransactionLost);
    let done = script.run([Fine, Fine, Fine, gone]);
    assert_eq!((done.outcome, done.attempts), (Outcome::Unknown, 1));
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
        SessionBefore::default(),
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
    let before = SessionBefore::default();
    let other = SessionBefore {
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
