//! Every class of fault judged to be every other one: what is known of the transaction and of the
//! connection stays the same, and nothing unsafe is retried.

use super::tests::{SPEC, config, connect, new_key, no_clock};
use super::*;
use crate::classifier::tests::CLASSES;
use crate::classifier::{BorrowedClassifier, Seen};
use crate::fault::FaultClass;
use crate::outcome::{Outcome, Phase};
use crate::policy::RetryPolicy;
use crate::retry::{Advice, Scope, Verdict, verdict};

/// An attempt that fails, and what the server makes of the ROLLBACK.
#[derive(Clone, Copy, Debug)]
struct Case {
    dialect: Dialect,
    depth: u32,
    phase: Phase,
    fault: Fault,
    /// The answer to the first ROLLBACK; every later batch has the answer `later`.
    rollback: Result<(), Fault>,
    later: Result<(), Fault>,
    idempotent: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is undone, or worth another attempt anyway.
    Again(ConnectionAction),
    Done {
        outcome: Outcome,
        broken: bool,
        fallback_allowed: bool,
        /// dbop's own error: rolled back, transaction lost, outcome unknown.
        own: Option<[bool; 3]>,
    },
}

impl Case {
    /// Runs the first attempt, with all faults judged to be of this class. Returns the SQL that was
    /// sent, too.
    fn run(
        self,
        judged: Option<FaultClass>,
        can_reconnect: bool,
        max_retries: u32,
    ) -> (Vec<String>, End) {
        let classifier = move |_: &Seen<'_>| judged;
        let config = config(RetryPolicy::new().with_max_retries(max_retries));
        let spec = Spec {
            classifier: Some(BorrowedClassifier(&classifier)),
            idempotent: self.idempotent,
            ..SPEC
        };
        let mut machine =
            Machine::new(self.dialect, &config, &spec, can_reconnect, no_clock).expect("valid");
        let (mut sent, mut rollback) = (Vec::new(), Some(self.rollback));
        loop {
            match machine.step(no_clock) {
                Step::Connect { .. } if self.phase == Phase::Connect => {
                    let fault = machine.judged(self.fault, "");
                    _ = machine.connect_failed(fault, Advice::Judge, no_clock);
                }
                Step::Connect { .. } => connect(&mut machine, new_key(), self.depth),
                Step::Batch(batch) => {
                    sent.push(batch.sql.to_owned());
                    let failure = Err(self.fault);
                    let answer = match batch.purpose {
                        BatchPurpose::Begin if self.phase == Phase::Begin => failure,
                        BatchPurpose::Commit | BatchPurpose::CommitAgain
                            if self.phase == Phase::Commit =>
                        {
                            failure
                        }
                        BatchPurpose::Begin | BatchPurpose::Commit => Ok(()),
                        _ => rollback.take().unwrap_or(self.later),
                    };
                    let answer = answer.map_err(|fault| machine.judged(fault, ""));
                    _ = machine.batch_done(answer);
                }
                Step::Body if self.phase == Phase::Body => {
                    let (fault, advice) = machine.judged_error(Some(self.fault), Advice::Judge, "");
                    let end = BodyEnd::Failed { fault, advice };
                    machine.body_done(end, Some(self.depth + 1));
                }
                Step::Body => machine.body_done(BodyEnd::Ok, Some(self.depth + 1)),
                Step::Report(_) => {}
                Step::Pause(pause) if pause.settled => return (sent, End::Again(pause.connection)),
                Step::Pause(_) => {}
                Step::Diagnose(_) => machine.diagnosed(Ok(None), None),
                Step::Read(_) | Step::Verify => unreachable!("not asked for"),
                Step::Queue => unreachable!("there is no gate"),
                Step::Done(done) => {
                    let own = match done.answer {
                        Answer::Own(error) => Some([
                            error.is_rolled_back(),
                            error.is_transaction_lost(),
                            error.is_outcome_unknown(),
                        ]),
                        _ => None,
                    };
                    let end = End::Done {
                        own,
                        outcome: done.outcome,
                        broken: done.connection_broken,
                        fallback_allowed: done.fallback_allowed,
                    };
                    return (sent, end);
                }
            }
        }
    }

    fn check(self) {
        let (sent, known) = self.run(None, false, 0);
        let End::Done {
            outcome, broken, ..
        } = known
        else {
            panic!("{self:?}: retried without retries");
        };
        let lost = !self.fault.leaves_connection_usable();
        let recognized = self.verdict();
        for judged in CLASSES {
            let about = format!("{self:?} judged as {judged}");
            let same = self.run(Some(judged), false, 0);
            assert_eq!(same, (sent.clone(), known), "{about}");

            let (_, end) = self.run(Some(judged), true, 0);
            let End::Done {
                outcome: found,
                broken: is_thrown_away,
                ..
            } = end
            else {
                panic!("{about}: retried without retries");
            };
            assert_eq!(found, outcome, "{about}");
            assert!(is_thrown_away || !broken, "{about}");
            if self.depth == 0 && lost && outcome == Outcome::Undone {
                assert!(is_thrown_away, "{about}");
            }

            match self.run(Some(judged), true, 1).1 {
                End::Again(connection) => {
                    let may = outcome == Outcome::Undone || self.idempotent;
                    assert!(may, "{about}: retried");
                    assert_ne!(recognized, Verdict::Escalate, "{about}: retried in place");
                    if broken || lost {
                        assert_eq!(connection, ConnectionAction::Discard, "{about}");
                    }
                }
                // SQLite can be told to leave a busy COMMIT alone.
                End::Done { outcome: found, .. } => assert_eq!(found, outcome, "{about}"),
            }
        }
    }

    fn verdict(self) -> Verdict {
        let scope = match (self.depth, self.phase) {
            (0, _) | (_, Phase::Connect) => Scope::Transaction,
            _ => Scope::Savepoint { immediate: false },
        };
        let policy = RetryPolicy::new();
        verdict(Some(self.fault), Advice::Judge, scope, false, &policy)
    }
}

/// Every class judged to be every other one.
fn every_pair(dialect: Dialect) {
    let answer = |class| Err(Fault::from_class(dialect, class));
    for class in CLASSES {
        let fault = Fault::from_class(dialect, class);
        for phase in [Phase::Connect, Phase::Begin, Phase::Body, Phase::Commit] {
            for depth in [0, 1] {
                for (rollback, later) in [
                    (Ok(()), Ok(())),
                    (answer(FaultClass::TransactionLost), Ok(())),
                    (
                        answer(FaultClass::TransactionLost),
                        answer(FaultClass::Unknown),
                    ),
                    (answer(FaultClass::ConnectionLost), Ok(())),
                    (answer(FaultClass::Unknown), Ok(())),
                ] {
                    // While connecting there is neither a savepoint nor a ROLLBACK.
                    if phase == Phase::Connect && (depth > 0 || rollback.is_err()) {
                        continue;
                    }
                    let case = Case {
                        dialect,
                        depth,
                        phase,
                        fault,
                        rollback,
                        later,
                        idempotent: false,
                    };
                    case.check();
                    if phase == Phase::Commit {
                        let idempotent = true;
                        Case { idempotent, ..case }.check();
                    }
                }
            }
        }
    }
}

#[test]
fn no_judgement_changes_what_is_known_on_postgres() {
    every_pair(Dialect::Postgres);
}

#[test]
fn no_judgement_changes_what_is_known_on_mysql() {
    every_pair(Dialect::Mysql);
}

#[test]
fn no_judgement_changes_what_is_known_on_sqlite() {
    every_pair(Dialect::Sqlite);
}
