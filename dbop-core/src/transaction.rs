//! The machine: every rule about the order of BEGIN, body, COMMIT, ROLLBACK and sleep, once.
//!
//! It does no I/O, never sleeps and reads no clock. A driver asks for the next [`Step`], does it,
//! and says how it went; the sync and the async driver differ in `.await` only.
//!
//! ```
//! use std::borrow::Cow;
//!
//! use dbop_core::{
//!     Advice, Batches, BodyEnd, Defaults, Dialect, Fault, FaultClass, Level, Machine,
//!     Purpose, RetryPolicy, SessionBefore, Settings, Start, Step, Terms,
//! };
//!
//! let settings = Settings::default();
//! let none = Defaults::NONE;
//! let before = SessionBefore::default();
//! let batches = Batches::new(Dialect::Postgres, Level::Transaction, &settings, &none, before)?;
//! let mut machine = Machine::new(Dialect::Postgres, RetryPolicy::new(), Terms::default());
//!
//! assert!(matches!(machine.step(), Step::Connect));
//! machine.connected(Start::join(0xA, 0, machine.retries_left()), Cow::Borrowed(&batches));
//! assert!(matches!(machine.step(), Step::Batch(batch) if batch.sql == "BEGIN"));
//! machine.batch_done(Ok(()));
//! assert!(matches!(machine.step(), Step::Body));
//! let deadlock = Fault::from_class(Dialect::Postgres, FaultClass::Deadlock);
//! let end = BodyEnd::Failed { fault: Some(deadlock), advice: Advice::Judge };
//! machine.body_done(end, Some(1));
//! assert!(matches!(machine.step(), Step::Batch(batch) if batch.purpose == Purpose::Rollback));
//! machine.batch_done(Ok(()));
//! assert!(matches!(machine.step(), Step::Report(_)));
//! assert!(matches!(machine.step(), Step::Pause(_))); // only now, with no locks held
//! # Ok::<(), dbop_core::Error>(())
//! ```

use std::borrow::Cow;
use std::time::Instant;

use crate::dialect::Undo;
use crate::error::Kind;
use crate::event::{Event, EventKind};
use crate::nesting::{EnclosingLoss, Seat, UserCode};
use crate::policy::Delays;
use crate::retry::Advice;
use crate::settings::Skipped;
use crate::{Batches, Dialect, Fault, FaultClass, Level, RetryPolicy};

pub use step::{
    Answer, Batch, BodyEnd, CurrentTransaction, Done, Handling, Outcome, Pause, Phase, Purpose,
    Step, StopReason, TransactionId, Verified,
};
pub use terms::{Resolution, Terms};

use state::{AfterPause, Aftermath, Failure, FailureAnswer, Probe, State};

mod again;
mod end;
mod fresh;
mod late;
mod state;
mod step;
mod terms;

/// An operation's place on its connection: alone, or nested in another operation.
#[derive(Debug)]
pub struct Start {
    membership: Seat,
    level: Level,
}

impl Start {
    /// Joins the operations on a connection. `key` identifies the connection for as long as the
    /// outermost operation runs (the address of its transaction status); `depth` is the number of
    /// transactions and savepoints open on it; `retries` are those that the operation has
    /// [left](Machine::retries_left) for itself and everything nested in it.
    #[must_use]
    pub fn join(key: usize, depth: u32, retries: u32) -> Self {
        Self {
            membership: Seat::join(key, depth, retries),
            level: Level::at_depth(depth),
        }
    }

    /// Where the attempts run.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Whether no other operation runs around this one on the same connection. The runner's
    /// default timeouts are for outermost operations: nested ones inherit what is in force.
    #[must_use]
    pub const fn is_outermost(&self) -> bool {
        self.membership.is_outermost()
    }
}

/// What decides about one operation, from its first connection to its answer.
#[derive(Debug)]
pub struct Machine<'a> {
    dialect: Dialect,
    policy: RetryPolicy,
    terms: Terms<'a>,
    /// Its place on its present connection, if it has one.
    membership: Option<Seat>,
    batches: Option<Cow<'a, Batches>>,
    /// Those of the connection before, until there is another one.
    spare_batches: Option<Cow<'a, Batches>>,
    /// The retries left for it and everything nested in it, while it is on no connection.
    spare: u32,
    delays: Option<Delays>,
    retries: u32,
    /// It was tried again after a fault for which that is worth it only once.
    tried_once_more: bool,
    attempt: u32,
    /// The present attempt has begun and is not yet over.
    in_attempt: bool,
    state: State,
    event: Option<Event>,
    sql: Cow<'static, str>,
    undo: Undo,
    /// The first thing that went wrong in the current attempt.
    failure: Option<Failure>,
    /// What the ROLLBACK answered, if that was an error.
    rollback_fault: Option<Fault>,
    /// The body committed or rolled back a transaction that it had not begun.
    ended_by_body: bool,
    connection_broken: bool,
    /// The delay before the next attempt has passed, and the connection is good for it.
    waited: bool,
    /// Whether the commit of the current attempt happened is being asked.
    asking: bool,
    /// When to give up: by its own deadline, or by that of an operation around it.
    deadline: Option<Instant>,
    now: Option<Instant>,
    /// There is no time for another attempt.
    late: bool,
    /// The delay before a question was cut short, so that it is asked in time.
    hurried: bool,
    /// The settings that cannot be had, as far as nobody has been told.
    skipped: Skipped,
    /// It has had a connection.
    begun: bool,
    /// An attempt of unknown outcome was followed by another one.
    unsettled: bool,
    /// PostgreSQL's id of the transaction, once it is known. It has none while it wrote nothing.
    transaction_id: Option<Option<TransactionId>>,
}

impl<'a> Machine<'a> {
    /// A machine at the beginning of an operation.
    #[must_use]
    pub const fn new(dialect: Dialect, policy: RetryPolicy, terms: Terms<'a>) -> Self {
        Self {
            dialect,
            policy,
            terms,
            membership: None,
            batches: None,
            spare_batches: None,
            spare: policy.max_retries(),
            delays: None,
            retries: 0,
            tried_once_more: false,
            attempt: 0,
            in_attempt: false,
            state: State::Connect,
            event: None,
            sql: Cow::Borrowed(""),
            undo: Undo::Rollback,
            failure: None,
            rollback_fault: None,
            ended_by_body: false,
            connection_broken: false,
            waited: false,
            asking: false,
            deadline: match terms.deadline {
                Some(deadline) => Some(deadline),
                None => terms.default_deadline,
            },
            now: None,
            late: false,
            hurried: false,
            skipped: Skipped::NONE,
            begun: false,
            unsettled: false,
            transaction_id: None,
        }
    }

    /// The next thing to do.
    ///
    /// # Panics
    ///
    /// After [`Step::Done`], which is the last step, and if [`Step::Connect`] was not answered.
    pub fn step(&mut self) -> Step<'_> {
        self.mind_the_deadline();
        if let Some(event) = self.event.take() {
            return Step::Report(event);
        }
        if let Some(setting) = self.skipped.take() {
            return Step::Report(self.event(EventKind::SettingSkipped(setting), None));
        }
        if let State::Pause(pause, after) = self.state {
            return self.pause(pause, after);
        }
        match &self.state {
            State::Connect if self.terms.fresh_connections && !self.asking => self.begin_attempt(),
            State::Begin => {
                if let Some(membership) = self.membership.as_ref().filter(|m| m.is_outermost()) {
                    membership.clear_lost();
                }
                self.begin_attempt();
                self.fit_batches();
            }
            State::Body => self.set_user_code(UserCode::Body),
            State::Verify => self.set_user_code(UserCode::Look),
            State::Probe(probe) => {
                let probe = *probe;
                self.fit_batches();
                if probe == Probe::IsCompleted {
                    self.sql = Cow::Owned(self.batches().is_completed());
                }
            }
            State::CommitAgain => self.failure = None,
            State::Rollback => self.undo = self.how_to_undo(),
            State::RollbackAgain { .. } | State::ProbeRollback(..) => {
                self.undo = match self.batches().has(Undo::BlindRollback) {
                    true => Undo::BlindRollback,
                    false => Undo::Rollback,
                };
            }
            State::ReadStatus => self.sql = self.status_query(),
            _ => {}
        }
        let Self {
            batches, sql, undo, ..
        } = self;
        let batches = || batches.as_deref().expect(CONNECTED);
        let (purpose, sql) = match &mut self.state {
            State::Connect | State::Pause(..) => return Step::Connect,
            State::Body => return Step::Body,
            State::Verify => return Step::Verify,
            State::ReadId => return Step::ReadId,
            State::ReadStatus => return Step::Read(sql),
            State::Done(done) => {
                return Step::Done(done.take().expect("`Step::Done` is the last step"));
            }
            State::Begin | State::Probe(Probe::IsThere) => (Purpose::Begin, batches().begin()),
            State::Probe(Probe::IsCompleted) => (Purpose::Begin, &**sql),
            State::Commit => (Purpose::Commit, batches().commit()),
            State::CommitAgain => (Purpose::CommitAgain, batches().commit_again()),
            State::Rollback | State::ProbeRollback(..) => {
                (Purpose::Rollback, batches().undo(*undo))
            }
            State::RollbackAgain { .. } => (Purpose::RollbackAgain, batches().undo(*undo)),
            State::Ask => (Purpose::Ask, self.dialect.asks_whether_undone()),
            State::Contain => (Purpose::Contain, &**sql),
        };
        Step::Batch(Batch { purpose, sql })
    }

    /// The batch of the last step was answered.
    pub fn batch_done(&mut self, result: Result<(), Fault>) {
        match self.state {
            State::Begin => match result {
                Ok(()) => self.state = State::Body,
                Err(fault) => self.batch_failed(Phase::Begin, fault),
            },
            State::Commit | State::CommitAgain => match result {
                Ok(()) => self.succeed(),
                Err(fault) if self.is_savepoint() => self.batch_failed(Phase::Release, fault),
                Err(fault) if self.commit_again(fault) => {}
                Err(fault) => self.batch_failed(Phase::Commit, fault),
            },
            State::Rollback => self.rolled_back(result.err()),
            State::RollbackAgain { gone } => {
                self.connection_broken |= result.is_err();
                self.decide_after_rollback(gone);
            }
            State::Ask => self.asked_whether_undone(result.err()),
            State::Contain => {
                self.connection_broken |= result.is_err();
                self.decide_lost();
            }
            State::Probe(probe) => self.probed(probe, result),
            State::ProbeRollback(probe, found) => {
                self.probe_rolled_back(probe, found, result.is_ok());
            }
            State::Connect
            | State::Body
            | State::ReadId
            | State::ReadStatus
            | State::Verify
            | State::Pause(..)
            | State::Done(_) => {
                debug_assert!(false, "no batch was asked for");
            }
        }
    }

    /// The operation has ended. `depth` is the number of transactions and savepoints now open on
    /// the connection, `None` if its transaction manager is in an error state.
    pub fn body_done(&mut self, end: BodyEnd, depth: Option<u32>) {
        self.set_user_code(UserCode::Nothing);
        match end {
            BodyEnd::Ok => {}
            BodyEnd::Failed { fault, advice } => {
                self.fail(Phase::Body, fault, FailureAnswer::FirstError);
                if let Some(failure) = &mut self.failure {
                    failure.advice = advice;
                }
            }
            BodyEnd::Panicked => self.fail(Phase::Body, None, FailureAnswer::Panic),
        }
        if let Some(lost) = self.lost() {
            self.connection_broken |= depth.is_none() || lost.saved_values_overwritten;
            return self.enclosed_loss(lost);
        }
        let inside = match self.batches().level() {
            Level::Transaction => 1,
            Level::Savepoint(depth) => depth.get() + 1,
        };
        match depth {
            None => self.broke_in_body(),
            // Diesel has noticed that SQLite dropped the transaction. On the others only the body
            // can have done that.
            Some(depth)
                if depth < inside
                    && self.dialect == Dialect::Sqlite
                    && self.may_have_ended_transaction() =>
            {
                self.state = State::Rollback;
            }
            Some(depth) if depth < inside => self.ended_by_body(),
            Some(depth) if depth > inside && self.failure.is_none() => {
                self.fail(Phase::Body, None, FailureAnswer::Own(Kind::Unbalanced));
                self.state = State::Rollback;
            }
            Some(_) if self.failure.is_some() => self.state = State::Rollback,
            Some(_) if self.needs_transaction_id() => self.state = State::ReadId,
            Some(_) => self.state = State::Commit,
        }
    }

    fn set_user_code(&self, code: UserCode) {
        if let Some(membership) = &self.membership {
            membership.set_user_code(code);
        }
    }

    /// Records what went wrong, unless something had gone wrong before.
    fn fail(&mut self, phase: Phase, fault: Option<Fault>, answer: FailureAnswer) {
        self.failure.get_or_insert(Failure {
            phase,
            fault,
            advice: Advice::Judge,
            answer,
        });
    }

    fn batch_failed(&mut self, phase: Phase, fault: Fault) {
        let answer = match (phase, fault.class()) {
            // The operation said Ok although the server had refused its transaction.
            (Phase::Commit | Phase::Release, FaultClass::TransactionAborted) => {
                FailureAnswer::Own(Kind::RolledBack)
            }
            (Phase::Release, FaultClass::TransactionLost) => {
                FailureAnswer::Own(Kind::TransactionLost)
            }
            _ => FailureAnswer::FirstError,
        };
        self.fail(phase, Some(fault), answer);
        if !fault.leaves_connection_usable() {
            return self.connection_gone();
        }
        let undo = self.how_to_undo();
        if undo == Undo::FailedBegin && self.batches().undo(undo).is_empty() {
            return self.decide_after_rollback(false);
        }
        self.state = State::Rollback;
    }

    /// A nested operation found that the server had dropped the transaction around it.
    fn enclosed_loss(&mut self, lost: EnclosingLoss) {
        // What the body made of that, even an Ok, does not matter; but its error stays the one
        // that is reported.
        self.fail(
            Phase::Body,
            lost.fault,
            FailureAnswer::Own(Kind::TransactionLost),
        );
        if let Some(failure) = &mut self.failure {
            if failure.answer != FailureAnswer::Panic {
                failure.fault = lost.fault.or(failure.fault);
            }
        }
        if self.is_savepoint() {
            // There is nothing to roll back, but the settings are still ours.
            self.contain(self.batches().restoration());
        } else if self.connection_broken {
            self.decide_after_rollback(true);
        } else {
            self.state = State::Rollback;
        }
    }

    /// The connection broke in the body, and the transaction with it.
    fn broke_in_body(&mut self) {
        let lost = Fault::from_class(self.dialect, FaultClass::ConnectionLost);
        self.fail(Phase::Body, Some(lost), FailureAnswer::FirstError);
        if let Some(failure) = &mut self.failure {
            let hidden = |fault: Fault| fault.leaves_connection_usable();
            if failure.fault.is_none_or(hidden) {
                // The body hid it behind an error of its own, or behind an Ok.
                failure.fault = Some(lost);
            }
        }
        self.connection_gone();
    }

    /// The body committed or rolled back what it had not begun.
    fn ended_by_body(&mut self) {
        self.fail(Phase::Body, None, FailureAnswer::Own(Kind::OutcomeUnknown));
        self.ended_by_body = true;
        if self.is_savepoint() {
            self.lose(false);
        } else {
            // For the settings: the transaction is no longer ours to undo.
            self.state = State::Rollback;
        }
    }
}

const CONNECTED: &str = "`Step::Connect` comes first";

#[cfg(test)]
mod asking_tests;
#[cfg(test)]
mod fresh_tests;
#[cfg(test)]
mod late_tests;
#[cfg(test)]
mod nested_tests;
#[cfg(test)]
mod tests;
