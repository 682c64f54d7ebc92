//! What the machine and its driver tell each other.

use std::fmt;
use std::time::Duration;

use crate::event::Event;
use crate::{Advice, Error, Fault};

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
    /// Send this batch, then call [`Machine::batch_done`](crate::Machine::batch_done).
    Batch(Batch<'a>),
    /// Run the operation, then call [`Machine::body_done`](crate::Machine::body_done).
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
