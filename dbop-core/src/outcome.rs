//! What becomes of an operation, in the words that reports and records use.

use std::fmt;

/// The part of an attempt in which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Getting a connection, for an operation that takes its connections from a source.
    Connect,
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
            Self::Connect => "connect",
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

/// Whether the work of an operation is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Certainly committed; in a savepoint: a part of the enclosing transaction.
    Committed,
    /// Certainly rolled back, as if it had never run.
    Undone,
    /// Not known. Running the operation again may do its work twice.
    Unknown,
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// It succeeded.
    Succeeded,
    /// The operation returned its own error.
    OwnError,
    /// Another attempt would fail the same way.
    NotRetryable,
    /// The policy allows no more retries.
    RetriesExhausted,
    /// Another attempt could not have begun before the deadline.
    DeadlineExceeded,
    /// Only a whole new transaction can succeed, and the transaction belongs to an enclosing
    /// operation or to the caller.
    EnclosingTransaction,
    /// Only a new connection can succeed.
    NeedsConnection,
    /// It is not known whether the work was committed, so doing it again is not safe.
    OutcomeUnknown,
    /// The operation panicked.
    Panicked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_shown_by_its_name() {
        for (phase, name) in [
            (Phase::Connect, "connect"),
            (Phase::Begin, "begin"),
            (Phase::Body, "body"),
            (Phase::Release, "release"),
            (Phase::Commit, "commit"),
        ] {
            assert_eq!(phase.as_str(), name);
            assert_eq!(phase.to_string(), name);
        }
    }
}
