//! The machine: every rule about the order of BEGIN, body, COMMIT, ROLLBACK and sleep, once.
//!
//! It does no I/O, never sleeps and reads no clock. A driver asks for the next [`Step`], does it,
//! and says how it went; the sync and the async driver differ in `.await` only.
//!
//! ```
//! use dbop_core::{
//!     Advice, Batches, BodyEnd, DefaultTimeouts, Dialect, Fault, FaultClass, Level, Machine,
//!     Purpose, RetryPolicy, SessionBefore, Settings, Start, Step,
//! };
//!
//! let settings = Settings::default();
//! let none = DefaultTimeouts::NONE;
//! let before = SessionBefore::default();
//! let batches = Batches::new(Dialect::Postgres, Level::Transaction, &settings, &none, before)?;
//! let start = Start::join(0xA, 0, &RetryPolicy::new());
//! let mut machine = Machine::new(start, &batches, RetryPolicy::new(), false);
//!
//! assert!(matches!(machine.step(), Step::Batch(batch) if batch.sql == "BEGIN"));
//! machine.batch_done(Ok(()));
//! assert!(matches!(machine.step(), Step::Body));
//! let deadlock = Fault::from_class(Dialect::Postgres, FaultClass::Deadlock);
//! let end = BodyEnd::Failed { fault: Some(deadlock), advice: Advice::Judge };
//! machine.body_done(end, Some(1));
//! assert!(matches!(machine.step(), Step::Batch(batch) if batch.purpose == Purpose::Rollback));
//! machine.batch_done(Ok(()));
//! assert!(matches!(machine.step(), Step::Report(_)));
//! assert!(matches!(machine.step(), Step::Pause { .. })); // only now, with no locks held
//! # Ok::<(), dbop_core::Error>(())
//! ```

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::error::Kind;
use crate::event::{Event, EventKind};
use crate::policy::Delays;
use crate::retry::{Advice, Scope, Verdict, verdict};
use crate::scope::{Lost, Membership};
use crate::{Batches, Error, Fault, FaultClass, Level, RetryPolicy};

/// The part of an attempt in which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Opening the transaction or savepoint, with its settings.
    Begin,
    /// The operation itself.
    Body,
    /// Releasing the savepoint.
    Release,
    /// Committing the transaction.
    Commit,
}

impl Phase {
    /// The name used in log records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Body => "body",
            Self::Release => "release",
            Self::Commit => "commit",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the driver has to do next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Send this batch, then call [`Machine::batch_done`].
    Batch(Batch<'a>),
    /// Run the operation, then call [`Machine::body_done`].
    Body,
    /// Tell the world, then ask for the next step.
    Report(Event),
    /// Sleep, then ask for the next step, which begins another attempt.
    Pause {
        /// How long. Can be zero.
        delay: Duration,
        /// Clear the statement cache of the connection first.
        clear_statement_cache: bool,
    },
    /// It is over.
    Done(Done),
}

/// SQL to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// The statements.
    pub sql: &'a str,
}

/// What a batch is for, and so what it does to the depth of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Opens a level: one deeper if it succeeds.
    Begin,
    /// Closes the level: one up if it succeeds.
    Commit,
    /// Undoes the level: one up, whether it succeeds or not.
    Rollback,
    /// A second try to undo the level after the first one failed. The depth was changed already.
    RollbackAgain,
    /// Asks whether a lock timeout ends the whole transaction on this server: it does if this
    /// succeeds.
    Ask,
    /// Makes sure that nothing written after the loss of the enclosing transaction sticks.
    Contain,
}

/// How the operation ended.
#[derive(Clone, Copy, Debug)]
pub enum BodyEnd {
    /// It returned `Ok`.
    Ok,
    /// It returned an error.
    Failed {
        /// The database error in it, if there is one.
        fault: Option<Fault>,
        /// What the error says about itself.
        advice: Advice,
    },
    /// It panicked.
    Panicked,
}

/// How it all ended.
#[derive(Debug)]
pub struct Done {
    /// What to return.
    pub answer: Answer,
    /// Whether the work is done.
    pub outcome: Outcome,
    /// Why there is no further attempt.
    pub stop: StopReason,
    /// How many attempts were begun.
    pub attempts: u32,
    /// The connection must not be used any more.
    pub connection_broken: bool,
    /// A fallback value may replace the error.
    pub fallback_allowed: bool,
}

/// What the driver returns.
#[derive(Debug)]
pub enum Answer {
    /// The value of the last attempt.
    Value,
    /// The first error of the last attempt, unchanged.
    FirstError,
    /// An error of dbop's own, with the first error of the last attempt as its source if there
    /// was one.
    Own(Error),
    /// Go on with the panic.
    Panic,
}

/// Whether the work of an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Certainly committed; in a savepoint: a part of the enclosing transaction.
    Committed,
    /// Certainly undone, as if it had never run.
    Undone,
    /// Nobody knows.
    Unknown,
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// It succeeded.
    Succeeded,
    /// The operation returned an error of its own.
    OwnError,
    /// Another attempt would fail the same way.
    NotRetryable,
    /// The policy allows no more retries.
    RetriesExhausted,
    /// Only a whole new transaction can succeed, and the transaction belongs to an enclosing
    /// operation or to the caller.
    EnclosingTransaction,
    /// Only a new connection can succeed.
    NeedsConnection,
    /// Nobody knows whether the work was committed, so doing it again is not safe.
    OutcomeUnknown,
    /// The operation panicked.
    Panicked,
}

/// An operation's place on its connection: alone, or nested in another operation.
#[derive(Debug)]
pub struct Start {
    membership: Membership,
    level: Level,
}

impl Start {
    /// Joins the operations on a connection. `key` identifies the connection for as long as the
    /// outermost operation runs (the address of its transaction status); `depth` is the number of
    /// transactions and savepoints open on it.
    #[must_use]
    pub fn join(key: usize, depth: u32, policy: &RetryPolicy) -> Self {
        Self {
            membership: Membership::join(key, depth, policy.max_retries()),
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

/// What decides about one operation, from its first BEGIN to its answer.
#[derive(Debug)]
pub struct Machine<'a> {
    membership: Membership,
    batches: &'a Batches,
    policy: RetryPolicy,
    read_only: bool,
    delays: Option<Delays>,
    retries: u32,
    attempt: u32,
    state: State,
    event: Option<Event>,
    rollback_sql: Cow<'static, str>,
    /// The first thing that went wrong in the current attempt.
    failure: Option<Failure>,
    /// What the ROLLBACK answered, if that was an error.
    rollback_fault: Option<Fault>,
    /// The body committed or rolled back a transaction that it had not begun.
    ended_by_body: bool,
    connection_broken: bool,
}

#[derive(Debug)]
enum State {
    Begin,
    Body,
    Commit,
    Rollback,
    RollbackAgain,
    Ask,
    Contain,
    Pause(Duration, bool),
    Done(Option<Done>),
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    phase: Phase,
    fault: Option<Fault>,
    advice: Advice,
    answer: FailureAnswer,
}

impl Failure {
    /// The operation returned an error that the database has nothing to do with.
    fn is_own_error(&self) -> bool {
        self.fault.is_none() && self.answer == FailureAnswer::FirstError
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureAnswer {
    /// The operation's or the batch's error, as it is.
    FirstError,
    Own(Kind),
    Panic,
}

/// What the end of an attempt left behind.
#[derive(Clone, Copy, Debug)]
struct Aftermath {
    undone: bool,
    /// The enclosing transaction is still there.
    enclosing_alive: bool,
}

impl<'a> Machine<'a> {
    /// A machine at the beginning of an operation. `read_only` says that the operation asked for
    /// it.
    #[must_use]
    pub fn new(start: Start, batches: &'a Batches, policy: RetryPolicy, read_only: bool) -> Self {
        let mut machine = Self {
            membership: start.membership,
            batches,
            policy,
            read_only,
            delays: None,
            retries: 0,
            attempt: 0,
            state: State::Begin,
            event: None,
            rollback_sql: Cow::Borrowed(""),
            failure: None,
            rollback_fault: None,
            ended_by_body: false,
            connection_broken: false,
        };
        if batches.begins_immediate() {
            machine.membership.set_immediate();
        }
        if let Some(setting) = batches.skipped() {
            machine.event = Some(machine.event(EventKind::SettingSkipped(setting), None));
        }
        // An operation before us in the same transaction has lost it and the error was swallowed.
        if machine.membership.lost().is_some() {
            machine.fail(
                Phase::Begin,
                None,
                FailureAnswer::Own(Kind::TransactionLost),
            );
            machine.decide(Aftermath {
                undone: true,
                enclosing_alive: false,
            });
        }
        machine
    }

    /// The next thing to do.
    ///
    /// # Panics
    ///
    /// After [`Step::Done`], which is the last step.
    pub fn step(&mut self) -> Step<'_> {
        if let Some(event) = self.event.take() {
            return Step::Report(event);
        }
        if let State::Pause(delay, clear_statement_cache) = self.state {
            self.state = State::Begin;
            return Step::Pause {
                delay,
                clear_statement_cache,
            };
        }
        let batches = self.batches;
        let (purpose, sql) = match &mut self.state {
            State::Body => return Step::Body,
            State::Done(done) => {
                return Step::Done(done.take().expect("`Step::Done` is the last step"));
            }
            State::Begin | State::Pause(..) => {
                if self.membership.is_outermost() {
                    self.membership.clear_lost();
                }
                self.attempt = self.attempt.saturating_add(1);
                self.failure = None;
                self.rollback_fault = None;
                (Purpose::Begin, batches.begin())
            }
            State::Commit => (Purpose::Commit, batches.commit()),
            State::Rollback => {
                let in_begin = self.failure.is_some_and(|f| f.phase == Phase::Begin);
                let undo_failed_begin = batches.undo_failed_begin().filter(|_| in_begin);
                let blind = batches.blind_rollback().filter(|_| self.need_not_check());
                self.rollback_sql = undo_failed_begin
                    .or(blind)
                    .unwrap_or_else(|| batches.rollback());
                (Purpose::Rollback, &*self.rollback_sql)
            }
            State::RollbackAgain => {
                self.rollback_sql = batches
                    .blind_rollback()
                    .unwrap_or(Cow::Borrowed("ROLLBACK"));
                (Purpose::RollbackAgain, &*self.rollback_sql)
            }
            State::Ask => (
                Purpose::Ask,
                batches.dialect().asks_whether_timeouts_end_transactions(),
            ),
            State::Contain => (
                Purpose::Contain,
                batches.dialect().containment().unwrap_or_default(),
            ),
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
            State::Commit => match result {
                Ok(()) => self.succeed(),
                Err(fault) if self.is_savepoint() => self.batch_failed(Phase::Release, fault),
                Err(fault) => self.batch_failed(Phase::Commit, fault),
            },
            State::Rollback => self.rolled_back(result.err()),
            State::RollbackAgain => {
                self.connection_broken |= result.is_err();
                self.decide_after_rollback(true);
            }
            State::Ask => self.asked(result.err()),
            State::Contain => {
                self.connection_broken |= result.is_err();
                self.decide_lost();
            }
            State::Body | State::Pause(..) | State::Done(_) => {
                debug_assert!(false, "no batch was asked for");
            }
        }
    }

    /// The operation has ended. `depth` is the number of transactions and savepoints now open on
    /// the connection, `None` if its transaction manager is in an error state.
    pub fn body_done(&mut self, end: BodyEnd, depth: Option<u32>) {
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
        if let Some(lost) = self.membership.lost() {
            self.connection_broken |= depth.is_none();
            return self.enclosed_loss(lost);
        }
        let inside = match self.batches.level() {
            Level::Transaction => 1,
            Level::Savepoint(depth) => depth.get() + 1,
        };
        match depth {
            None => self.broke_in_body(),
            // Diesel has noticed that SQLite dropped the transaction.
            Some(depth) if depth < inside && self.may_have_ended_transaction() => {
                self.state = State::Rollback;
            }
            Some(depth) if depth < inside => self.ended_by_body(),
            Some(depth) if depth > inside && self.failure.is_none() => {
                self.fail(Phase::Body, None, FailureAnswer::Own(Kind::Unbalanced));
                self.state = State::Rollback;
            }
            Some(_) if self.failure.is_some() => self.state = State::Rollback,
            Some(_) => self.state = State::Commit,
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
        self.state = match (phase, self.batches.undo_failed_begin()) {
            (Phase::Begin, Some(restoration)) if restoration.is_empty() => {
                return self.decide_after_rollback(false);
            }
            _ => State::Rollback,
        };
    }

    /// A nested operation found that the server had dropped the transaction around it.
    fn enclosed_loss(&mut self, lost: Lost) {
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
            self.decide_lost();
        } else if self.connection_broken {
            self.decide_after_rollback(true);
        } else {
            self.state = State::Rollback;
        }
    }

    /// The connection broke in the body, and the transaction with it.
    fn broke_in_body(&mut self) {
        let lost = Fault::from_class(self.batches.dialect(), FaultClass::ConnectionLost);
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

    /// Nothing more can be sent. The server rolls back what was not committed.
    fn connection_gone(&mut self) {
        self.connection_broken = true;
        if self.is_savepoint() {
            self.lose(true);
        } else if self.ended_by_body
            || self
                .failure
                .is_some_and(|failure| failure.phase == Phase::Commit)
        {
            self.finish_unknown();
        } else {
            self.decide(Aftermath {
                undone: true,
                enclosing_alive: false,
            });
        }
    }

    fn rolled_back(&mut self, fault: Option<Fault>) {
        self.rollback_fault = fault;
        let Some(fault) = fault else {
            return self.decide_after_rollback(false);
        };
        if self.is_savepoint() {
            return self.savepoint_gone(fault);
        }
        if !fault.leaves_connection_usable() {
            return self.connection_gone();
        }
        match (fault.class(), self.batches.blind_rollback()) {
            (FaultClass::TransactionLost, Some(_)) => self.state = State::RollbackAgain,
            (FaultClass::TransactionLost, None) => self.decide_after_rollback(true),
            // The transaction may still be open: only throwing the connection away ends it.
            _ => self.connection_gone(),
        }
    }

    /// The savepoint could not be rolled back. Whatever the error, it cannot be relied on: the
    /// transaction is gone, or on PostgreSQL was aborted before the savepoint could be opened.
    fn savepoint_gone(&mut self, fault: Fault) {
        let Some(failure) = self.failure else {
            return debug_assert!(false, "a rollback without a failure");
        };
        let aborted = failure
            .fault
            .is_some_and(|fault| fault.class() == FaultClass::TransactionAborted);
        if failure.phase == Phase::Begin && aborted {
            return self.decide(Aftermath {
                undone: true,
                enclosing_alive: false,
            });
        }
        if !fault.leaves_connection_usable() {
            self.connection_broken = true;
            return self.lose(true);
        }
        let asks = |fault: Fault| fault.may_end_transaction_if_configured();
        if failure.fault.is_some_and(asks) {
            self.state = State::Ask;
        } else {
            self.lose(self.may_have_ended_transaction() || fault.may_end_transaction());
        }
    }

    /// `no`: the error by which the server said that a lock timeout leaves the transaction alone.
    fn asked(&mut self, no: Option<Fault>) {
        let undone = no.is_none();
        self.connection_broken |= no.is_some_and(|fault| !fault.leaves_connection_usable());
        if self.is_savepoint() {
            self.lose(undone);
        } else if undone {
            self.decide(Aftermath {
                undone,
                enclosing_alive: true,
            });
        } else {
            self.finish_unknown();
        }
    }

    /// The fault of this attempt can have ended the whole transaction on the server.
    fn may_have_ended_transaction(&self) -> bool {
        let ends = |fault: Fault| fault.may_end_transaction();
        self.failure
            .and_then(|failure| failure.fault)
            .is_some_and(ends)
    }

    /// A ROLLBACK that checks whether the transaction is still there would fail, or could not
    /// change anything: after a COMMIT batch that got as far as the RELEASE, when nothing was
    /// opened, after a loss, and after a fault that ends the transaction for certain.
    fn need_not_check(&self) -> bool {
        let certain = |fault: Fault| {
            let class = fault.class();
            matches!(
                class,
                FaultClass::Deadlock | FaultClass::SerializationFailure
            ) && fault.may_end_transaction()
        };
        self.membership.lost().is_some()
            || self.failure.is_some_and(|failure| {
                failure.phase != Phase::Body || failure.fault.is_some_and(certain)
            })
    }

    /// The transaction around this savepoint is gone.
    fn lose(&mut self, undone: bool) {
        let fault = self.failure.and_then(|failure| failure.fault);
        self.membership.set_lost(Lost { fault, undone });
        if self.connection_broken || self.batches.dialect().containment().is_none() {
            self.decide_lost();
        } else {
            self.state = State::Contain;
        }
    }

    fn decide_lost(&mut self) {
        // In a transaction that an operation opened, that operation cleans up. In the caller's,
        // only a connection that refuses to commit keeps an Ok from the caller.
        if !self.membership.owns_transaction() {
            self.connection_broken = true;
        }
        let undone = self.membership.lost().is_none_or(|lost| lost.undone);
        self.decide(Aftermath {
            undone,
            enclosing_alive: false,
        });
    }

    /// `gone`: there was no transaction left to roll back.
    fn decide_after_rollback(&mut self, gone: bool) {
        let Some(failure) = self.failure else {
            return debug_assert!(false, "a rollback without a failure");
        };
        if self.is_savepoint() {
            return self.decide(Aftermath {
                undone: true,
                enclosing_alive: true,
            });
        }
        let asks = |fault: Fault| fault.may_end_transaction_if_configured();
        let undone = match (failure.phase, failure.fault, self.membership.lost()) {
            _ if self.ended_by_body => false,
            (_, _, Some(lost)) => lost.undone,
            (Phase::Begin, ..) => true,
            // What is gone was rolled back by the server or, if something follows the COMMIT in
            // its batch, committed.
            (Phase::Commit, Some(fault), _) => {
                self.batches.dialect().commit_error_is_definite(&fault)
                    && (!gone || self.batches.commit_is_last())
            }
            _ if !gone => true,
            (_, Some(fault), _) if asks(fault) && !self.connection_broken => {
                self.state = State::Ask;
                return;
            }
            // Rolled back by the server, or committed by DDL in the body.
            _ => self.may_have_ended_transaction(),
        };
        if undone {
            self.decide(Aftermath {
                undone,
                enclosing_alive: true,
            });
        } else {
            self.finish_unknown();
        }
    }

    /// The attempt has failed and everything that can be cleaned up is. What now?
    fn decide(&mut self, aftermath: Aftermath) {
        let Some(failure) = self.failure else {
            return debug_assert!(false, "a decision without a failure");
        };
        if failure.answer == FailureAnswer::Panic {
            let outcome = if aftermath.undone {
                Outcome::Undone
            } else {
                Outcome::Unknown
            };
            self.event = Some(self.event(EventKind::Panicked, Some(&failure)));
            return self.finish(Answer::Panic, outcome, StopReason::Panicked, false);
        }
        if !aftermath.undone {
            return self.finish_unknown();
        }
        let stop = match self.verdict(&failure, aftermath) {
            Ok((delay, clear_statement_cache)) => {
                let mut event = self.event(EventKind::Retrying, Some(&failure));
                event.delay = Some(delay);
                self.event = Some(event);
                self.state = State::Pause(delay, clear_statement_cache);
                return;
            }
            Err(stop) => stop,
        };
        let kind = match stop {
            _ if failure.is_own_error() => EventKind::Returned,
            StopReason::EnclosingTransaction if !self.membership.is_outermost() => {
                EventKind::Escalated
            }
            _ => EventKind::Failed,
        };
        self.event = Some(self.event(kind, Some(&failure)));
        let answer = match failure.answer {
            FailureAnswer::Own(kind) => Answer::Own(Error::new(kind)),
            _ => Answer::FirstError,
        };
        let fallback_allowed = !self.connection_broken && aftermath.enclosing_alive;
        self.finish(answer, Outcome::Undone, stop, fallback_allowed);
    }

    /// Whether to try again, and after which delay.
    fn verdict(
        &mut self,
        failure: &Failure,
        aftermath: Aftermath,
    ) -> Result<(Duration, bool), StopReason> {
        let scope = match self.batches.level() {
            Level::Transaction => Scope::Transaction,
            Level::Savepoint(_) => Scope::Savepoint {
                immediate: self.membership.is_immediate(),
            },
        };
        let (once, clear_statement_cache) = match verdict(
            failure.fault,
            failure.advice,
            scope,
            self.read_only,
            &self.policy,
        ) {
            Verdict::GiveUp if failure.is_own_error() => return Err(StopReason::OwnError),
            Verdict::GiveUp => return Err(StopReason::NotRetryable),
            Verdict::Escalate => return Err(StopReason::EnclosingTransaction),
            Verdict::NeedsConnection => return Err(StopReason::NeedsConnection),
            Verdict::Retry => (false, false),
            Verdict::RetryOnce => (true, false),
            Verdict::RetryReplanned => (true, true),
        };
        if self.is_savepoint() && !aftermath.enclosing_alive {
            return Err(StopReason::EnclosingTransaction);
        }
        if self.connection_broken {
            return Err(StopReason::NeedsConnection);
        }
        if once && self.retries >= 1 {
            return Err(if self.is_savepoint() {
                StopReason::EnclosingTransaction
            } else {
                StopReason::RetriesExhausted
            });
        }
        if self.retries >= self.policy.max_retries() || !self.membership.take_retry() {
            return Err(StopReason::RetriesExhausted);
        }
        self.retries += 1;
        let policy = self.policy;
        let delays = self.delays.get_or_insert_with(|| policy.delays());
        Ok((delays.next().unwrap_or_default(), clear_statement_cache))
    }

    fn succeed(&mut self) {
        self.event = Some(self.event(EventKind::Succeeded, None));
        self.finish(
            Answer::Value,
            Outcome::Committed,
            StopReason::Succeeded,
            false,
        );
    }

    fn finish_unknown(&mut self) {
        let failure = self.failure;
        if failure.is_some_and(|failure| failure.answer == FailureAnswer::Panic) {
            self.event = Some(self.event(EventKind::Panicked, failure.as_ref()));
            return self.finish(Answer::Panic, Outcome::Unknown, StopReason::Panicked, false);
        }
        self.event = Some(self.event(EventKind::OutcomeUnknown, failure.as_ref()));
        self.finish(
            Answer::Own(Error::new(Kind::OutcomeUnknown)),
            Outcome::Unknown,
            StopReason::OutcomeUnknown,
            false,
        );
    }

    fn finish(
        &mut self,
        answer: Answer,
        outcome: Outcome,
        stop: StopReason,
        fallback_allowed: bool,
    ) {
        self.state = State::Done(Some(Done {
            answer,
            outcome,
            stop,
            attempts: self.attempt,
            connection_broken: self.connection_broken,
            fallback_allowed,
        }));
    }

    fn event(&self, kind: EventKind, failure: Option<&Failure>) -> Event {
        Event {
            kind,
            attempt: self.attempt.max(1),
            fault: failure.and_then(|failure| failure.fault),
            own: failure.and_then(|failure| match failure.answer {
                FailureAnswer::Own(kind) => Some(kind),
                _ => None,
            }),
            phase: failure.map_or(Phase::Body, |failure| failure.phase),
            delay: None,
            rollback_fault: self.rollback_fault,
        }
    }

    const fn is_savepoint(&self) -> bool {
        matches!(self.batches.level(), Level::Savepoint(_))
    }
}

#[cfg(test)]
mod tests;
