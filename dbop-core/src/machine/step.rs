//! What the machine and its driver tell each other.

use std::time::Duration;

use crate::error::Error;
use crate::event::Event;
use crate::fault::Fault;
use crate::hooks::Hook;
use crate::outcome::{Outcome, StopReason};
use crate::retry::Advice;

/// What the driver has to do next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Wait until it is the operation's turn: call [`queue`](super::Machine::queue) until it returns `None`,
    /// each time that it has woken the driver or that the time it returned is over.
    Queue,
    /// Get a connection, then call [`connected`](super::Machine::connected) or
    /// [`connect_failed`](super::Machine::connect_failed).
    Connect {
        /// What is left until the deadline, if there is one.
        within: Option<Duration>,
    },
    /// Send this batch, then call [`batch_done`](super::Machine::batch_done).
    Batch(Batch<'a>),
    /// Run the body, then call [`body_done`](super::Machine::body_done).
    Body,
    /// Send this query and read its one value, then call
    /// [`read_done`](super::Machine::read_done).
    Read(TextQuery<'a>),
    /// Send this query for what the server has kept about the first error of the attempt, read its
    /// one value, then call [`diagnosed`](super::Machine::diagnosed).
    Diagnose(TextQuery<'a>),
    /// Ask the caller whether the work was committed, then call
    /// [`verify_done`](super::Machine::verify_done).
    Verify,
    /// Write the record of this event, then ask for the next step.
    Report(Event),
    /// Do something about the connection, sleep, then ask for the next step.
    Pause(Pause),
    /// The operation is over. There is no further step.
    Done(Done),
}

/// A query for one row with one text, or NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextQuery<'a> {
    /// The query.
    pub sql: &'a str,
    /// Whether it is the same each time, so that the connection may keep it prepared: it takes one round trip
    /// then, from its second time on.
    pub is_constant: bool,
}

impl<'a> TextQuery<'a> {
    /// A query that is not sent again.
    #[must_use]
    pub const fn new(sql: &'a str) -> Self {
        Self {
            sql,
            is_constant: false,
        }
    }
}

impl TextQuery<'static> {
    /// A query that is always the same.
    #[must_use]
    pub const fn constant(sql: &'static str) -> Self {
        Self {
            sql,
            is_constant: true,
        }
    }
}

/// SQL to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// What it is for.
    pub purpose: BatchPurpose,
    /// The statements.
    pub sql: &'a str,
    /// Whether to send them as one compound statement that the connection prepares once, where the adapter
    /// can: see [`RunnerConfig::set_compound_statements`](super::RunnerConfig::set_compound_statements).
    pub is_compound: bool,
}

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchPurpose {
    /// Opens a level.
    Begin,
    /// Opens the level in a session that has answered, by an error of the first batch for it, what that
    /// batch has asked.
    BeginAgain,
    /// Closes the level.
    Commit,
    /// Tries again to close the level, after SQLite was busy.
    CommitAgain,
    /// Undoes the level.
    Rollback,
    /// Tries again to undo the level, after the first batch for it failed.
    RollbackAgain,
    /// Asks whether a transaction that has vanished was undone: it was if this succeeds.
    CheckUndone,
    /// Makes sure that nothing sticks that is written after the enclosing transaction was lost.
    Contain,
    /// Opens a transaction, and asks in it what became of a COMMIT.
    Ask,
    /// Commits that question, with which its answer counts.
    CommitAnswer,
}

impl BatchPurpose {
    /// What a batch does to the number of open transactions and savepoints, given whether it
    /// succeeded.
    #[must_use]
    pub const fn depth_change(self, succeeded: bool) -> DepthChange {
        match self {
            Self::Begin | Self::BeginAgain | Self::Ask if succeeded => DepthChange::Open,
            Self::Commit | Self::CommitAgain | Self::CommitAnswer if succeeded => {
                DepthChange::Close
            }
            // A failed ROLLBACK leaves nothing that a second one could roll back better.
            Self::Rollback => DepthChange::Close,
            Self::Begin
            | Self::BeginAgain
            | Self::Ask
            | Self::Commit
            | Self::CommitAgain
            | Self::CommitAnswer
            | Self::RollbackAgain
            | Self::CheckUndone
            | Self::Contain => DepthChange::None,
        }
    }
}

/// What a batch does to the number of open transactions and savepoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthChange {
    /// One more is open.
    Open,
    /// Whatever was opened since the operation began is closed.
    Close,
    /// As many are open as before.
    None,
}

/// Which error of the present attempt the one just reported is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the driver has to keep the error in its slot"]
pub enum ErrorSlot {
    /// The first, which is the one that is reported: it replaces what is there.
    First,
    /// That of the ROLLBACK and of what follows it. The first of these is kept.
    Rollback,
    /// None that is kept: it only follows from an earlier one, or answers a question about it.
    Dropped,
}

/// How the body ended.
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

/// What the caller says about an attempt of unknown outcome.
#[derive(Clone, Copy, Debug)]
pub enum Verified {
    /// Its work is there, or not.
    Committed(bool),
    /// That could not be found out.
    Failed {
        /// The database error in the way, if there is one.
        fault: Option<Fault>,
        /// What the error says about itself.
        advice: Advice,
    },
    /// The caller's code panicked.
    Panicked,
}

/// What is done between two attempts, and between two questions about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// How long to sleep. Can be zero.
    pub delay: Duration,
    /// What to do about the connection first.
    pub connection: ConnectionAction,
    /// The attempt is over: its errors go to the report and its value is dropped. Otherwise it is
    /// not known yet what became of it.
    pub settled: bool,
}

/// What to do about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionAction {
    /// Keep it.
    Keep,
    /// Keep it, with its statement cache cleared.
    ClearStatementCache,
    /// Give it back to its pool, for others to use meanwhile.
    GiveBack,
    /// Discard it: it is broken, or leads to the wrong server.
    Discard,
}

/// How an operation ended.
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
    /// What bodies have registered, to be run now, in this order.
    pub hooks: Vec<Hook>,
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
    /// Let the panic continue.
    Panic,
}
