//! The protocol between this crate and its adapters: the machine, its steps and its answers.
//!
//! **Exempt from semantic versioning.** Applications do not need this module; it is public because
//! the adapters, `dbop-diesel` and `dbop-diesel-async`, are crates of their own. They depend on
//! exactly this version, and every release may change it. Its enums are exhaustive on purpose: an
//! adapter must handle every step.
//!
//! Every rule about the order of BEGIN, body, COMMIT, ROLLBACK and sleep is here, once. The machine
//! does no I/O, never sleeps and reads no clock. A driver asks for the next [`Step`], does it, and
//! says how it went; the sync and the async driver differ in `.await` only.

use std::any::Any;
use std::time::{Duration, Instant};

use crate::dialect::{CurrentTransaction, Dialect, Undo};
use crate::error::Error;
use crate::fault::{Fault, FaultClass};
use crate::gate::Turn;
use crate::ledger::Entry;
use crate::nesting::UserCode;
use crate::outcome::Phase;

pub use connecting::Placement;
pub use hooks::register_hook;
pub use step::{
    Answer, Batch, BatchPurpose, BodyEnd, ConnectionAction, DepthChange, Done, ErrorSlot, Pause,
    Step, TextQuery, Verified,
};

pub use crate::classifier::{BorrowedClassifier, Classifier};
pub use crate::config::RunnerConfig;
pub use crate::dialect::{Level, PragmasToRead, SavedPragmas};
pub use crate::event::{Event, EventKind, Logging, Name, Subject, TARGET};
pub use crate::hooks::{DueHook, DueHooks, Hook, HookFuture, Hooks};
pub use crate::key::{Answers, BodyAnswer, FoundAnswer, Key};
pub use crate::nodes::{CatchingUp, Lent, Progress, Search, Side, Sides, Try};
pub use crate::observer::{AttemptTimes, Observation, Times};
pub use crate::policy::{ClassRule, ClassRules};
pub use crate::settings::{Defaults, Setting, Settings};
pub use crate::spec::{Resolution, Spec};

use attempt::Attempt;
use connecting::Connection;
use deadline::Deadline;
use hooks::Registered;
use keying::Keyed;
use outcome::Question;
use payment::Due;
use reports::Reports;
use retrying::Retries;
use rollback::undo_unchecked;
use state::{AfterPause, State};

mod asking;
mod attempt;
mod autocommit;
mod body;
mod connecting;
mod deadline;
mod diagnosing;
mod dropped;
mod ending;
mod hooks;
mod judging;
mod keying;
mod outcome;
mod payment;
mod queueing;
mod reports;
mod retrying;
mod rollback;
mod state;
mod step;
mod testing;

/// Decides about one operation, from its first connection to its answer.
///
/// # Order of calls
///
/// [`new`](Self::new), then until [`Step::Done`]: [`step`](Self::step), and the one method that the
/// step names. A [`Step::Report`] and a [`Step::Pause`] are answered by asking for the next step.
/// Asking twice without an answer gives the same step again.
///
/// Methods that report what has happened return the [`ErrorSlot`] of the error, if there was one:
/// the machine knows which error of an attempt is the first.
///
/// # States
///
/// ```text
///             ┌──────────────────── pause ◄──────────────────────────────┐
///             ▼                                                          │ another attempt
///  new ──► Connect ──► Begin ──► Body ──► (ReadId) ──► Commit ──► Done   │
///             │          │         │          │           │  ▲           │
///             │ refused  │ failed  │ failed   │ failed    │  └─ CommitAgain (SQLite is busy)
///             │          └─────────┴────┬─────┴───────────┤              │
///             │                         ▼         refused │              │
///             │                     Rollback ◄────────────┤              │
///             │                         ▼                 │ answer lost  │
///             │                    (Diagnose)             │              │
///             │            ┌────────────┼────────────┐    │              │
///             │            ▼            ▼            ▼    │              │
///             │     RollbackAgain  CheckUndone    Contain │              │
///             │      (really gone?) (undone, or   (in the │              │
///             │            │        committed?)  caller's │              │
///             │            └────────────┼───── transaction)              │
///             │                         ▼                 │              │
///             └────────────────────► undone ─────────────────────────────┤
///                                       │ no further attempt             │
///                                       ▼                                │
///                                     Done                               │
///                                                         │              │
///             ┌── pause ── ask again ◄──┐                 ▼              │
///             └────────► Connect ──► Verify, ReadStatus, AskForToken ────┘ was not committed
///                                       │ was committed, or no answer
///                                       ▼
///                                     Done
/// ```
///
/// What is in parentheses is not always there. An operation without a transaction has no BEGIN, no COMMIT,
/// and a ROLLBACK only of what its body has left open. Where there is a gate, a `Queue` comes before each attempt. `ReadId` is for
/// [`Resolution::TransactionStatus`]. On PostgreSQL a `BeginAgain` can follow the `Begin` of a runner's first
/// operation, and of a few after it, which has asked whether the session is stricter than the runner's
/// defaults. `Diagnose` is for an error of unknown text on MySQL and MariaDB:
/// the server is asked for the number that it has kept in the batch of the ROLLBACK.
///
/// Two questions look alike and are not. *Was the vanished transaction undone?* is asked in
/// `CheckUndone`, on the same connection, when a ROLLBACK finds no transaction. *Did the COMMIT
/// happen?* is asked on a fresh connection, when its answer was lost; the operation's
/// [`Resolution`] says how. For a token of the ledger that takes a transaction: `AskForToken`, `ReadToken`,
/// `CommitAnswer`.
///
/// # Lifetimes
///
/// What the machine remembers is grouped by how long it holds, and each group is replaced as a
/// whole: the operation's (retries, deadline, history), the connection's (its place among the
/// operations there, its SQL), the attempt's (what went wrong in it), and that of the question
/// about a lost COMMIT.
///
/// # Example
///
/// ```
/// use std::time::Instant;
///
/// use dbop_core::machine::{
///     BatchPurpose, BodyEnd, Machine, Name, RunnerConfig, SavedPragmas, Spec, Step,
/// };
/// use dbop_core::{Advice, Dialect, Fault, FaultClass};
///
/// let config = RunnerConfig::default();
/// let spec = Spec::new(Name::Given("example"));
/// let now = || Instant::now(); // not called: the operation has no deadline
/// let mut machine = Machine::new(Dialect::Postgres, &config, &spec, false, now)?;
///
/// assert!(matches!(machine.step(now), Step::Connect { within: None }));
/// let placement = machine.place(0xA, 0); // no transaction is open on connection 0xA
/// machine.connected(placement, SavedPragmas::default())?;
/// assert!(matches!(machine.step(now), Step::Batch(batch) if batch.sql.contains("BEGIN")));
/// machine.batch_done(Ok(()));
/// assert!(matches!(machine.step(now), Step::Body));
/// let deadlock = Fault::from_class(Dialect::Postgres, FaultClass::Deadlock);
/// machine.body_done(BodyEnd::Failed { fault: Some(deadlock), advice: Advice::Judge }, Some(1));
/// assert!(matches!(machine.step(now), Step::Batch(b) if b.purpose == BatchPurpose::Rollback));
/// machine.batch_done(Ok(()));
/// assert!(matches!(machine.step(now), Step::Report(_)));
/// assert!(matches!(machine.step(now), Step::Pause(_))); // only now, with no locks held
/// # Ok::<(), dbop_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Machine<'a> {
    // The operation's.
    dialect: Dialect,
    config: &'a RunnerConfig,
    spec: &'a Spec<'a>,
    /// Its connections come from a source that has more of them.
    can_reconnect: bool,
    /// Its token in the ledger.
    entry: Option<Entry<'a>>,
    /// Its key, if it has one.
    keyed: Option<Box<Keyed<'a>>>,
    retries: Retries<'a>,
    deadline: Deadline,
    turn: Turn<'a>,
    history: History,
    reports: Reports,
    // The connection's.
    connection: Connection<'a>,
    registered: Registered,
    // The attempt's.
    attempt: Attempt,
    // The question's, while what became of the attempt's COMMIT is asked.
    question: Option<Question>,
    /// What the user's classifier, the function for the delays or a hook panicked with.
    user_panic: Option<Box<dyn Any + Send>>,
    state: State,
    /// The entry action of the state has been done.
    is_entered: bool,
    /// Others than the log are told of each event.
    is_watched: bool,
    // The step's.
    /// What is left until the deadline, if there is one.
    left: Option<Duration>,
    /// The pause that begins.
    passed: Option<Pause>,
}

/// What earlier connections and attempts left behind.
#[derive(Debug, Default)]
struct History {
    /// There has been a connection. From then on a useless one no longer means that nothing has
    /// happened.
    connected: bool,
    /// An attempt of unknown outcome was followed by another one.
    unsettled: bool,
    /// With what the last attempt failed, or the last question about it.
    fault: Option<Fault>,
}

impl<'a> Machine<'a> {
    /// A machine at the beginning of an operation. `can_reconnect`: its connections come from a
    /// source that has more of them. The clock is read only if there is a deadline.
    ///
    /// # Errors
    ///
    /// If a deadline or lock timeout is zero or longer than 2147483647 ms, and if the outcome of a
    /// COMMIT cannot be resolved in the way asked for on this database.
    pub fn new(
        dialect: Dialect,
        config: &'a RunnerConfig,
        spec: &'a Spec<'a>,
        can_reconnect: bool,
        now: impl FnOnce() -> Instant,
    ) -> Result<Self, Error> {
        Self::check(dialect, config, spec)?;
        Ok(Self::begin(dialect, config, spec, can_reconnect, now))
    }

    /// Whether an operation can ask for this.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn check(dialect: Dialect, config: &RunnerConfig, spec: &Spec<'_>) -> Result<(), Error> {
        Deadline::check(spec.deadline, config.defaults().deadline)?;
        spec.check(dialect, config.defaults().profile())
    }

    /// As [`new`](Self::new), for what has been [checked](Self::check): the machine is made where it stays.
    #[must_use]
    #[inline]
    pub fn begin(
        dialect: Dialect,
        config: &'a RunnerConfig,
        spec: &'a Spec<'a>,
        can_reconnect: bool,
        now: impl FnOnce() -> Instant,
    ) -> Self {
        let turn = queueing::turn(config, spec, can_reconnect);
        // On the caller's connection it is seen first whether the operation is nested.
        let first = match can_reconnect && turn.has_gate() {
            true => State::Queue,
            false => State::Connect,
        };
        Self {
            dialect,
            config,
            spec,
            can_reconnect,
            entry: match (spec.resolution, spec.key) {
                (Resolution::Ledger(ledger), None) => Some(ledger.open()),
                _ => None,
            },
            keyed: spec.key.map(|key| Keyed::new(key, spec)),
            retries: Retries::new(spec.policy.unwrap_or(config.policy()), spec.max_retries),
            deadline: Deadline::new(spec.deadline, config.defaults().deadline, now),
            turn,
            history: History::default(),
            reports: Reports::NONE,
            connection: Connection::default(),
            registered: Registered::default(),
            attempt: Attempt::default(),
            question: None,
            user_panic: None,
            state: first,
            is_entered: false,
            is_watched: true,
            left: None,
            passed: None,
        }
    }

    /// Whether others than the log are to be told of each event. If not, there is no report of a success that the
    /// log does not take. They are, by default.
    pub const fn set_watched(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// The next thing to do. `now` is called only if there is a deadline or a budget, and at a gate that a
    /// conflict closes.
    ///
    /// # Panics
    ///
    /// After [`Step::Done`], which is the last step, and if [`Step::Connect`] was not answered.
    pub fn step(&mut self, now: impl Fn() -> Instant) -> Step<'_> {
        self.advance(now);
        self.present_step()
    }

    /// Moves to the next thing to do, which is the [present step](Self::present_step) then. Returns the
    /// number of the attempt that it belongs to: 0 before the first.
    pub fn advance(&mut self, now: impl Fn() -> Instant) -> u32 {
        if self.turn.has_ended() {
            self.reports.limit = self.turn.settle(&now).or(self.reports.limit);
        }
        let is_timed = self.deadline.is_set() || self.keyed.is_some() || self.settles_with_budget();
        let time = is_timed.then(now);
        self.left = time.and_then(|time| self.left_at(time));
        self.enter_next(time);
        self.attempt.number
    }

    fn enter_next(&mut self, time: Option<Instant>) {
        while !self.is_entered {
            if time.is_some() {
                self.give_up_if_late(self.left);
                self.settle_with_budget(time);
            }
            if self.reports.are_due() {
                return;
            }
            match self.state {
                State::Pause(..) => return self.begin_pause(),
                State::AtKey(met) => {
                    self.wait_at_key(met, time);
                    continue;
                }
                State::Begin => self.take_key(time),
                _ => {}
            }
            self.is_entered = true;
            self.enter(self.left);
        }
    }

    /// Does what entering the present state takes.
    fn enter(&mut self, left: Option<Duration>) {
        match self.state {
            // Getting a connection is a part of the attempt.
            State::Connect if self.can_reconnect && self.question.is_none() => {
                self.begin_attempt(Phase::Connect);
            }
            State::Begin => {
                self.connection.begin_transaction();
                self.begin_attempt(Phase::Begin);
                if let Some(entry) = &mut self.entry {
                    entry.write_in(self.attempt.number);
                }
                match self.connection.is_autocommit() {
                    // The hook before the attempt has panicked.
                    _ if !matches!(self.state, State::Begin) => {}
                    true => self.begin_without_transaction(),
                    false => self.fit_batches(left),
                }
            }
            State::Body => self.connection.set_user_code(UserCode::Body),
            State::Verify => self.connection.set_user_code(UserCode::Look),
            State::AskForToken => {
                self.fit_batches(left);
                self.word_question();
            }
            _ => {}
        }
    }

    /// The step to be done, after [`advance`](Self::advance).
    ///
    /// # Panics
    ///
    /// As [`step`](Self::step).
    pub fn present_step(&mut self) -> Step<'_> {
        if !self.is_entered {
            if let Some(pause) = self.passed.take() {
                return Step::Pause(pause);
            }
            if let Some(event) = self.next_report() {
                return Step::Report(event);
            }
        }
        let left = self.left;
        let connection = &self.connection;
        let batches = || connection.batches();
        let question = || {
            let question = self.question.as_ref();
            let of_token = question.and_then(|question| question.of_token.as_deref());
            of_token.expect("it has been worded")
        };
        let (purpose, sql) = match &mut self.state {
            State::Queue => return Step::Queue,
            State::Connect | State::Pause(..) => return Step::Connect { within: left },
            // Left again before it is presented.
            State::AtKey(_) => return Step::Connect { within: None },
            State::Body => return Step::Body,
            State::Verify => return Step::Verify,
            State::ReadId => return Step::Read(TextQuery::constant(CurrentTransaction::QUERY)),
            State::ReadStatus(sql) | State::ReadKey(sql) => return Step::Read(TextQuery::new(sql)),
            State::Diagnose(..) => {
                return Step::Diagnose(TextQuery::new(self.dialect.kept_diagnostics()));
            }
            State::Done(done) => {
                return Step::Done(done.take().expect("`Step::Done` is the last step"));
            }
            State::Begin => (BatchPurpose::Begin, batches().begin()),
            State::BeginAgain(sql) => (BatchPurpose::BeginAgain, &**sql),
            State::BeginWithRow(sql) => (BatchPurpose::Begin, &**sql),
            State::AskForToken => (BatchPurpose::Ask, question().batches.begin()),
            State::ReadToken => return Step::Read(TextQuery::new(&question().state)),
            State::CommitAnswer(_) => (BatchPurpose::CommitAnswer, question().batches.commit()),
            State::Commit => (BatchPurpose::Commit, batches().commit()),
            State::CommitRefusal(sql) => (BatchPurpose::Commit, &**sql),
            State::CommitAgain => (BatchPurpose::CommitAgain, batches().commit_again()),
            State::Rollback(undo) => (BatchPurpose::Rollback, batches().undo(*undo)),
            State::DiagnosingRollback(_, sql) => (BatchPurpose::Rollback, &**sql),
            State::UndiagnosedRollback(undo) => {
                (BatchPurpose::RollbackAgain, batches().undo(*undo))
            }
            State::RollBackQuestion(_) => {
                let batches = &question().batches;
                let undo = batches.undo(undo_unchecked(batches));
                (BatchPurpose::Rollback, undo)
            }
            State::RollbackAgain { .. } => (
                BatchPurpose::RollbackAgain,
                batches().undo(undo_unchecked(batches())),
            ),
            State::CheckUndone => (
                BatchPurpose::CheckUndone,
                self.dialect.undone_check(self.config.defaults().profile()),
            ),
            State::Contain(sql) => (BatchPurpose::Contain, &**sql),
        };
        let opens_or_closes = matches!(purpose, BatchPurpose::Begin | BatchPurpose::Commit);
        Step::Batch(Batch {
            purpose,
            sql,
            is_compound: opens_or_closes
                && self.config.has_compound_statements()
                && batches().are_fixed(),
        })
    }

    /// How many attempts have been begun.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempt.number
    }

    /// Whose SQL it speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn go_to(&mut self, state: State) {
        self.state = state;
        self.is_entered = false;
    }

    /// It begins with getting a connection or, where that is there, with BEGIN.
    fn begin_attempt(&mut self, phase: Phase) {
        if !self.attempt.is_under_way {
            self.attempt.begin_next();
            self.announce_attempt(phase);
        }
    }

    /// The pause begins: what comes after it?
    #[cold]
    fn begin_pause(&mut self) {
        let State::Pause(pause, after) = self.state else {
            return;
        };
        self.passed = Some(pause);
        self.retries.payment.due = Due::Nothing;
        if pause.settled {
            self.attempt.is_under_way = false;
            self.discard_hooks();
        }
        let lets_go = matches!(
            pause.connection,
            ConnectionAction::GiveBack | ConnectionAction::Discard
        );
        let next = match after {
            AfterPause::Begin => {
                if lets_go {
                    self.leave_connection();
                }
                self.next_attempt()
            }
            _ if lets_go => {
                self.leave_connection();
                State::Connect
            }
            AfterPause::Commit => {
                self.attempt.failure = None;
                State::CommitAgain
            }
            AfterPause::Ask => self.first_question(),
        };
        self.go_to(next);
    }

    /// The batch of the last step was answered.
    pub fn batch_done(&mut self, result: Result<(), Fault>) -> ErrorSlot {
        let (slot, result) = match (&self.state, result) {
            // Its BEGIN had failed before it opened anything.
            (State::Rollback(Undo::IfOpened), Err(fault))
                if fault.recognized_class() == FaultClass::TransactionLost =>
            {
                (ErrorSlot::Dropped, Ok(()))
            }
            (_, result) => (self.slot(), result),
        };
        match self.state {
            State::Begin | State::BeginAgain(_) | State::BeginWithRow(_) => self.begun(result),
            State::Commit | State::CommitAgain => self.committed(result),
            State::CommitRefusal(_) => self.refusal_committed(result),
            State::Rollback(undo) | State::UndiagnosedRollback(undo) => {
                self.rolled_back(undo, result.err());
            }
            State::DiagnosingRollback(undo, _) => self.rolled_back_undiagnosed(undo, result.err()),
            State::RollbackAgain { gone } => self.rolled_back_again(gone, result.is_ok()),
            State::CheckUndone => self.undone_checked(result.err()),
            State::Contain(_) => self.contained(result.is_ok()),
            State::AskForToken => self.token_asked(result),
            State::CommitAnswer(answer) => self.answer_committed(answer, result),
            State::RollBackQuestion(fault) => self.question_rolled_back(fault, result.is_ok()),
            State::Queue
            | State::Connect
            | State::Body
            | State::ReadId
            | State::ReadStatus(_)
            | State::ReadToken
            | State::ReadKey(_)
            | State::AtKey(_)
            | State::Diagnose(..)
            | State::Verify
            | State::Pause(..)
            | State::Done(_) => debug_assert!(false, "no batch was asked for"),
        }
        match self.state {
            // It was not the ROLLBACK that failed, but what was in front of it.
            State::UndiagnosedRollback(_) => ErrorSlot::Dropped,
            _ => slot,
        }
    }

    /// Where an error that answers the present step belongs. The first error of an attempt is the
    /// one that is reported, and what is asked about an attempt does not change what went wrong in
    /// it.
    const fn slot(&self) -> ErrorSlot {
        match self.state {
            State::Rollback(_)
            | State::DiagnosingRollback(..)
            | State::UndiagnosedRollback(_)
            | State::RollbackAgain { .. }
            | State::CheckUndone
            | State::Contain(_)
            | State::RollBackQuestion(_) => ErrorSlot::Rollback,
            // The body's error is not what went wrong then.
            State::CommitRefusal(_) => ErrorSlot::First,
            _ if self.attempt.failure.is_none() => ErrorSlot::First,
            _ => ErrorSlot::Dropped,
        }
    }
}

#[cfg(test)]
mod autocommit_tests;
#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod class_policy_tests;
#[cfg(test)]
mod deadline_tests;
#[cfg(test)]
mod diagnosing_tests;
#[cfg(test)]
mod dropped_tests;
#[cfg(test)]
mod judged_facts_tests;
#[cfg(test)]
mod judged_pairs_tests;
#[cfg(test)]
mod judging_tests;
#[cfg(test)]
mod nested_tests;
#[cfg(test)]
mod outcome_tests;
#[cfg(test)]
mod queueing_tests;
#[cfg(test)]
mod reconnecting_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waiting_tests;
