//! Where an operation stands.

use std::borrow::Cow;

use super::keying::AtKey;
use super::step::{Done, Pause};
use crate::dialect::Undo;
use crate::dialect::ledger::RowState;
use crate::fault::Fault;

#[derive(Debug)]
pub(super) enum State {
    /// Others are before it at its gate.
    Queue,
    Connect,
    Begin,
    /// The same in a session that has said what it has: this batch.
    BeginAgain(String),
    /// The same with the row of the key there beforehand, as one that is vacant: this batch.
    BeginWithRow(String),
    Body,
    ReadId,
    Commit,
    /// The body is rolled back alone, and the key is committed with what its error is remembered as.
    CommitRefusal(String),
    /// SQLite was busy and has kept the transaction open.
    CommitAgain,
    Rollback(Undo),
    /// The same, and before it the server keeps the number of the error for [`Self::Diagnose`].
    DiagnosingRollback(Undo, String),
    /// The same again, without what the server may not have understood.
    UndiagnosedRollback(Undo),
    /// What was the number of the error? With what the ROLLBACK answered.
    Diagnose(Undo, Option<Fault>),
    /// `gone`: there was no transaction left to roll back.
    RollbackAgain {
        gone: bool,
    },
    /// Was the vanished transaction undone?
    CheckUndone,
    /// What is left to be done in a savepoint whose transaction is gone.
    Contain(Cow<'static, str>),
    /// The key was not taken: who has it?
    ReadKey(String),
    /// Others have the key: is it waited for?
    AtKey(AtKey),
    // Did the COMMIT happen?
    Verify,
    ReadStatus(String),
    AskForToken,
    ReadToken,
    /// The answer, which counts if this is committed.
    CommitAnswer(RowState),
    /// With what was in the way.
    RollBackQuestion(Fault),
    Pause(Pause, AfterPause),
    Done(Option<Done>),
}

/// What comes after a pause on the same connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum AfterPause {
    Begin,
    Commit,
    /// Whether the COMMIT happened.
    Ask,
}
