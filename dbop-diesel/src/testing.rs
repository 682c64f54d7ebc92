//! Faults on demand, for tests of your own: attempts that fail at a chosen place, operations that run
//! twice, and a clock that does not wait. With the feature `testing`.
//!
//! Turn the feature on for tests only, in `[dev-dependencies]`. On its own it changes nothing: a fault
//! is injected only into the operations of a runner that was given [`Faults`].
//!
//! ```
//! use dbop_diesel::testing::{Faults, Point};
//! use dbop_diesel::{FaultClass, Runner};
//! use diesel::prelude::*;
//!
//! # let mut conn = SqliteConnection::establish(":memory:")?;
//! # diesel::sql_query("CREATE TABLE payments (id INTEGER)").execute(&mut conn)?;
//! let faults = Faults::new();
//! faults.operation("pay").fail(Point::Commit, FaultClass::Busy);
//! let runner = Runner::default().with_faults(&faults);
//!
//! let paid = runner.operation("pay").run(&mut conn, |conn| {
//!     diesel::sql_query("INSERT INTO payments VALUES (7)").execute(conn)
//! })?;
//! assert_eq!(paid, 1);
//! assert!(faults.unmet().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [The guide](crate::guide::testing#faults-on-demand) shows a test of a small service.
//!
//! # How real it is
//!
//! An injected error takes the way of a real one: it is a Diesel error with the text that the database has
//! for it, the classifier judges it, the log and the report show it, and retries and escalation follow.
//! The database is left as the real error would leave it, as far as SQL can do that:
//!
//! - A statement fails there. On PostgreSQL, that aborts the transaction. On MySQL and MariaDB it is a
//!   SIGNAL with the number and the text of the error, so the server confirms them.
//! - What ends the whole transaction does so: a lost connection everywhere; on MySQL and MariaDB a deadlock
//!   and a serialization failure; on SQLite a full disk and the like; at COMMIT, on PostgreSQL, all errors.
//!   dbop sends a ROLLBACK for it.
//! - A connection that is said to be lost is discarded like one that is: `run_on` takes another one, and that
//!   of `run` refuses further transactions. The session on the server ends when it is closed.
//! - At [`Point::Begin`], PostgreSQL, MySQL and MariaDB do begin, then the statement fails. SQLite is not told
//!   to begin.
//!
//! What differs: no other session is involved, so nothing is waited for and no lock is in the way. After a
//! real deadlock on MySQL or MariaDB, a body that swallows the error can continue; an injected one comes
//! before the body or after it.
//!
//! SQLite has no connection that could be lost and no COMMIT whose answer could be: test that on a server.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dbop_core::{Code, FaultClass, Outcome};

pub use clock::ManualClock;

pub(crate) use errors::{InjectedError, injected_error, twice_error};

mod clock;
mod errors;

/// Where an attempt fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// While a connection is taken from a source. An attempt that has one already does not get there,
    /// and neither does `run`.
    Connect,
    /// At BEGIN, or at the SAVEPOINT of a nested operation.
    Begin,
    /// In place of the body, which does not run.
    BeforeBody,
    /// After the body has returned `Ok`.
    AfterBody,
    /// In place of the COMMIT, which is not sent, or of the RELEASE of a nested operation. A connection
    /// that is lost here leaves the outcome unknown to dbop. The work is undone.
    Commit,
    /// After the COMMIT was done. The answer is lost with the connection, so the outcome is unknown to dbop.
    /// The work is committed, except in a savepoint, where it is lost with the transaction.
    CommitAnswer,
}

/// What an attempt fails with: a class or a code. From either, by `into`.
///
/// ```
/// use dbop_diesel::testing::Failure;
/// use dbop_diesel::{Code, FaultClass};
///
/// assert_eq!(Failure::from(FaultClass::Deadlock), Failure::Class(FaultClass::Deadlock));
/// assert_eq!(Failure::from(Code::Errno(1213)), Failure::Code(Code::Errno(1213)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The error that the database most often has of this class.
    Class(FaultClass),
    /// The error with this code.
    Code(Code),
}

impl From<FaultClass> for Failure {
    fn from(class: FaultClass) -> Self {
        Self::Class(class)
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "class {class}"),
            Self::Code(code) => write!(f, "code {code}"),
        }
    }
}

/// One run of an operation, as [`Faults::runs`] lists it.
///
/// ```
/// use dbop_diesel::testing::Faults;
/// use dbop_diesel::{Outcome, Runner};
/// use diesel::prelude::*;
///
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// let faults = Faults::new();
/// let runner = Runner::default().with_faults(&faults);
/// runner.operation("pay").run(&mut conn, |_| QueryResult::Ok(()))?;
/// let runs = faults.runs();
/// assert_eq!((runs[0].name.as_str(), runs[0].attempts), ("pay", 1));
/// assert_eq!(runs[0].outcome, Some(Outcome::Committed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ran {
    /// What the operation is called in records.
    pub name: String,
    /// How many attempts were begun.
    pub attempts: u32,
    /// What became of the work. `None` while it runs, and if it was dropped or could not begin.
    pub outcome: Option<Outcome>,
}

/// The faults that a test wants, and what was run meanwhile. Give it to a runner with `with_faults`.
///
/// Clones share everything. Attempts are counted by the name of the operation, over all runs of all runners
/// that have these faults.
///
/// ```
/// use dbop_diesel::testing::{Faults, Point};
/// use dbop_diesel::{FaultClass, Runner};
/// use diesel::prelude::*;
///
/// # let mut conn = SqliteConnection::establish(":memory:")?;
/// let faults = Faults::new();
/// faults.operation("pay").attempt(1).fail(Point::BeforeBody, FaultClass::Busy);
/// faults.operation("pay").attempt(2).fail(Point::AfterBody, FaultClass::Constraint);
///
/// let runner = Runner::default().with_faults(&faults);
/// let result = runner.operation("pay").run(&mut conn, |_| QueryResult::Ok(()));
/// assert!(result.is_err()); // a constraint is not retried
/// assert_eq!(faults.attempts("pay"), 2);
/// # Ok::<(), ConnectionError>(())
/// ```
///
/// # Default
///
/// No faults: what is run is only listed.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    twice: bool,
    runs: Vec<Ran>,
    attempts: HashMap<String, u32>,
}

#[derive(Debug)]
struct Rule {
    /// `None`: every operation.
    name: Option<String>,
    attempts: (Bound<u32>, Bound<u32>),
    point: Point,
    failure: Failure,
    is_met: bool,
}

impl Rule {
    fn is_for(&self, name: &str, attempt: u32, point: Point) -> bool {
        self.point == point
            && self.name.as_deref().is_none_or(|named| named == name)
            && self.attempts.contains(&attempt)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("every operation");
        let (point, failure) = (self.point, self.failure);
        match self.attempts {
            (Bound::Included(first), Bound::Included(last)) if first == last => {
                write!(f, "{name}, attempt {first}, {point:?}: {failure}")
            }
            (first, last) => {
                write!(
                    f,
                    "{name}, attempts {first:?} to {last:?}, {point:?}: {failure}"
                )
            }
        }
    }
}

impl Faults {
    /// No faults yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A fault for the operations of this name. Of one without a name, that is file and line of the call, as
    /// in the log.
    pub fn operation(&self, name: impl Into<String>) -> Injection<'_> {
        Injection::new(self, Some(name.into()))
    }

    /// A fault for every operation. The attempts are still counted by name: attempt 1 is the first one of each
    /// name.
    pub fn every_operation(&self) -> Injection<'_> {
        Injection::new(self, None)
    }

    /// Runs every operation at least twice. The first attempt of each run is undone after its body has returned
    /// `Ok` and before the COMMIT, as by a serialization failure. So a test sees what a body does twice that it
    /// should do once.
    ///
    /// It leaves out what would not be retried in production either: an operation without retries, or whose
    /// budget is spent. It leaves out operations without a transaction, which could not be undone. A nested
    /// operation runs again with the outermost one. In a transaction of the caller's, such as
    /// a test transaction, the savepoint is undone, and the operation is tried again in place. On
    /// SQLite the error is "database is locked", on MySQL and MariaDB a deadlock.
    ///
    /// ```
    /// use std::sync::Mutex;
    ///
    /// use dbop_diesel::Runner;
    /// use dbop_diesel::testing::Faults;
    /// use diesel::prelude::*;
    ///
    /// # let mut conn = SqliteConnection::establish(":memory:")?;
    /// let faults = Faults::new();
    /// faults.every_operation_twice();
    /// let runner = Runner::default().with_faults(&faults);
    ///
    /// let sent = Mutex::new(Vec::new());
    /// runner.operation("register").run(&mut conn, |_conn| {
    ///     sent.lock().expect("no panic").push("Welcome!"); // should be done after the run
    ///     QueryResult::Ok(())
    /// })?;
    /// assert_eq!(sent.into_inner()?.len(), 2); // the mistake is found
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn every_operation_twice(&self) -> &Self {
        self.state().twice = true;
        self
    }

    /// How many attempts the operations of this name have begun, all runs together.
    #[must_use]
    pub fn attempts(&self, name: &str) -> u32 {
        self.state().attempts.get(name).copied().unwrap_or_default()
    }

    /// What was run, in the order in which it began. Nested operations are listed as well.
    #[must_use]
    pub fn runs(&self) -> Vec<Ran> {
        self.state().runs.clone()
    }

    /// The faults that no attempt has met, in words. A test that ends with
    /// `assert!(faults.unmet().is_empty())` cannot pass because the fault never came.
    ///
    /// ```
    /// use dbop_diesel::FaultClass;
    /// use dbop_diesel::testing::{Faults, Point};
    ///
    /// let faults = Faults::new();
    /// faults.operation("pay").attempt(2).fail(Point::Commit, FaultClass::Deadlock);
    /// assert_eq!(faults.unmet(), ["pay, attempt 2, Commit: class deadlock"]);
    /// ```
    #[must_use]
    pub fn unmet(&self) -> Vec<String> {
        let state = self.state();
        let unmet = state.rules.iter().filter(|rule| !rule.is_met);
        unmet.map(ToString::to_string).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins. Returns its place in the list.
    pub(crate) fn begin(&self, name: &str) -> usize {
        let runs = &mut self.state().runs;
        runs.push(Ran {
            name: name.to_owned(),
            attempts: 0,
            outcome: None,
        });
        runs.len() - 1
    }

    /// An attempt begins. Returns its number among those of the same name.
    pub(crate) fn begin_attempt(&self, run: usize, name: &str, attempts: u32) -> u32 {
        let mut state = self.state();
        if let Some(ran) = state.runs.get_mut(run) {
            ran.attempts = attempts;
        }
        let number = state.attempts.entry(name.to_owned()).or_default();
        *number += 1;
        *number
    }

    pub(crate) fn end(&self, run: usize, outcome: Outcome) {
        if let Some(ran) = self.state().runs.get_mut(run) {
            ran.outcome = Some(outcome);
        }
    }

    /// What this attempt fails with at this point.
    pub(crate) fn find(&self, name: &str, attempt: u32, point: Point) -> Option<Failure> {
        let mut state = self.state();
        let mut rules = state.rules.iter_mut();
        let rule = rules.find(|rule| rule.is_for(name, attempt, point))?;
        rule.is_met = true;
        Some(rule.failure)
    }

    pub(crate) fn runs_twice(&self) -> bool {
        self.state().twice
    }
}

/// A fault that is being described: in which attempt, where, and what. From [`Faults::operation`] or
/// [`Faults::every_operation`].
///
/// # Default
///
/// In the first attempt.
#[derive(Debug)]
#[must_use = "it is injected once `fail` says where and what"]
pub struct Injection<'f> {
    faults: &'f Faults,
    name: Option<String>,
    attempts: (Bound<u32>, Bound<u32>),
}

impl<'f> Injection<'f> {
    fn new(faults: &'f Faults, name: Option<String>) -> Self {
        let first = Bound::Included(1);
        Self {
            faults,
            name,
            attempts: (first, first),
        }
    }

    /// In this attempt, counted from 1. The attempts of all runs of that name count.
    pub fn attempt(self, number: u32) -> Self {
        self.attempts(number..=number)
    }

    /// In these attempts: `1..=3` is the first three, `..` is all.
    ///
    /// ```
    /// use dbop_diesel::testing::{Faults, Point};
    /// use dbop_diesel::{FaultClass, RetryPolicy, Runner};
    /// use diesel::prelude::*;
    ///
    /// # let mut conn = SqliteConnection::establish(":memory:")?;
    /// let faults = Faults::new();
    /// faults.every_operation().attempts(..).fail(Point::Begin, FaultClass::Busy);
    /// let policy = RetryPolicy::new().with_initial_delay(std::time::Duration::ZERO);
    /// let runner = Runner::new(policy).with_faults(&faults);
    /// let result = runner.operation("pay").run(&mut conn, |_| QueryResult::Ok(()));
    /// assert!(result.is_err());
    /// assert_eq!(faults.attempts("pay"), 21); // busy is retried 20 times
    /// # Ok::<(), ConnectionError>(())
    /// ```
    pub fn attempts(mut self, numbers: impl RangeBounds<u32>) -> Self {
        self.attempts = (numbers.start_bound().cloned(), numbers.end_bound().cloned());
        self
    }

    /// Fails there, with this class or code. At [`Point::CommitAnswer`] it is to be a class or code of a lost
    /// connection; see [`lose_commit_answer`](Self::lose_commit_answer).
    ///
    /// A database that has no error of this class fails the operation with an error that says so, and that
    /// is not retried.
    pub fn fail(self, point: Point, failure: impl Into<Failure>) {
        self.faults.state().rules.push(Rule {
            name: self.name,
            attempts: self.attempts,
            point,
            failure: failure.into(),
            is_met: false,
        });
    }

    /// Does the COMMIT and loses its answer, with the connection.
    pub fn lose_commit_answer(self) {
        self.fail(Point::CommitAnswer, FaultClass::ConnectionLost);
    }
}
