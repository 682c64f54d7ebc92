//! Where an operation stands, and what went wrong on the way.

use super::{Done, Pause, Phase};
use crate::old::error::Kind;
use crate::old::{Advice, Fault};

#[derive(Debug)]
pub(super) enum State {
    Connect,
    Begin,
    Body,
    ReadId,
    Commit,
    CommitAgain,
    Rollback,
    /// `gone`: there was no transaction left to roll back.
    RollbackAgain {
        gone: bool,
    },
    Ask,
    Contain,
    Verify,
    ReadStatus,
    Probe(Probe),
    /// With what the probe found.
    ProbeRollback(Probe, Result<bool, Fault>),
    Pause(Pause, AfterPause),
    Done(Option<Done>),
}

/// What is asked about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Whether it is there.
    IsThere,
    /// Whether it was completed, given that it is there.
    IsCompleted,
}

/// What comes after a pause on the same connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum AfterPause {
    Begin,
    Commit,
    Ask,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) phase: Phase,
    pub(super) fault: Option<Fault>,
    pub(super) advice: Advice,
    pub(super) answer: FailureAnswer,
}

impl Failure {
    /// The operation returned an error that the database has nothing to do with.
    pub(super) fn is_own_error(&self) -> bool {
        self.fault.is_none() && self.answer == FailureAnswer::FirstError
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureAnswer {
    /// The operation's or the batch's error, as it is.
    FirstError,
    Own(Kind),
    Panic,
}

/// What the end of an attempt left behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aftermath {
    pub(super) undone: bool,
    /// The enclosing transaction is still there.
    pub(super) enclosing_alive: bool,
}
