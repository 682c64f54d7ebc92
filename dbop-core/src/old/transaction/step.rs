//! What the machine and its driver tell each other.

pub use crate::dialect::TransactionId;
pub use crate::outcome::{Outcome, Phase, StopReason};
use std::time::Duration;

use crate::old::event::Event;
use crate::old::{Advice, Error, Fault};

/// What PostgreSQL says about the transaction in front of its COMMIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CurrentTransaction {
    /// It has the mark of [`Batches::with_mark`](crate::old::Batches::with_mark): it is the one that was
    /// opened. Otherwise the operation may have ended that by itself, and the id is of no use.
    pub is_ours: bool,
    /// Its id. It has none as long as it has written nothing.
    pub id: Option<TransactionId>,
}

/// What the driver has to do next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Get a connection, then call [`Machine::connected`](crate::old::Machine::connected) or
    /// [`Machine::connect_failed`](crate::old::Machine::connect_failed).
    Connect,
    /// Send this batch, then call [`Machine::batch_done`](crate::old::Machine::batch_done).
    Batch(Batch<'a>),
    /// Run the operation, then call [`Machine::body_done`](crate::old::Machine::body_done).
    Body,
    /// Read what PostgreSQL says about the current transaction, then call
    /// [`Machine::id_done`](crate::old::Machine::id_done).
    ReadId,
    /// Send this query and read its one value, then call
    /// [`Machine::read_done`](crate::old::Machine::read_done).
    Read(&'a str),
    /// Ask the caller whether the work was committed, then call
    /// [`Machine::verify_done`](crate::old::Machine::verify_done).
    Verify,
    /// Tell the world, then ask for the next step.
    Report(Event),
    /// Do something about the connection, sleep, then ask for the next step.
    Pause(Pause),
    /// It is over.
    Done(Done),
}

/// What is done between two attempts, and between two questions about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// How long to sleep. Can be zero.
    pub delay: Duration,
    /// What to do about the connection first.
    pub connection: Handling,
    /// The attempt is over: its errors are the past, and its value is void. Otherwise nobody knows
    /// yet what became of it.
    pub settled: bool,
}

/// What to do about the connection between two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Keep it.
    Keep,
    /// Keep it, with its statement cache cleared.
    ClearStatementCache,
    /// Give it back to where it came from: somebody else can use it meanwhile.
    GiveBack,
    /// Throw it away: it is broken, or leads to the wrong server.
    Discard,
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
    /// A further try to close the level, after SQLite was busy.
    CommitAgain,
    /// Undoes the level: one up, whether it succeeds or not.
    Rollback,
    /// A second try to undo the level after the first one failed. The depth was changed already.
    RollbackAgain,
    /// Asks whether a transaction that is gone was undone: it was if this succeeds.
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
