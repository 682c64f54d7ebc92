//! What becomes of an operation, in the words that reports and records use.

use std::fmt;

/// The part of an attempt in which something happened. A ROLLBACK is no phase: it belongs to the phase
/// that failed before it.
///
/// ```
/// use dbop_core::Phase;
///
/// assert_eq!(Phase::Commit.to_string(), "commit");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Getting a connection, for an operation that takes its connections from a source.
    Connect,
    /// Opening the transaction or savepoint, with its settings.
    Begin,
    /// The operation itself.
    Body,
    /// Releasing the savepoint, after the operation has returned `Ok`.
    Release,
    /// Committing the transaction, after the operation has returned `Ok`.
    Commit,
}

impl Phase {
    /// The name used in log records, under the key `phase`: for example `commit`.
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
///
/// ```
/// use dbop_core::Outcome;
///
/// fn may_be_repeated(outcome: Outcome) -> bool {
///     outcome == Outcome::Undone
/// }
/// # assert!(!may_be_repeated(Outcome::Unknown));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Certainly committed; in a savepoint: a part of the enclosing transaction.
    Committed,
    /// Certainly rolled back, or never begun: as if it had never run.
    Undone,
    /// Not known: the answer to COMMIT was lost or proves nothing, or the operation has ended its own
    /// transaction. Without a transaction: its body failed, and what its statements did before stays.
    /// Running the operation again may do its work twice.
    Unknown,
}

impl Outcome {
    /// The name used in spans and metrics: `committed`, `undone` or `unknown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Undone => "undone",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no further attempt.
///
/// ```
/// use dbop_core::StopReason;
///
/// /// What to tell the operator about an operation that failed.
/// fn hint(stop: StopReason) -> &'static str {
///     match stop {
///         StopReason::RetriesExhausted | StopReason::DeadlineExceeded => "contention, or an outage",
///         StopReason::BudgetExhausted => "an outage",
///         StopReason::NeedsConnection => "use run_on, which takes another connection",
///         StopReason::OutcomeUnknown => "look for the work before it is done again",
///         _ => "see the error",
///     }
/// }
/// # assert_eq!(hint(StopReason::OwnError), "see the error");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// It succeeded.
    Succeeded,
    /// Another call with the operation's idempotency key has done its work.
    AlreadyDone,
    /// The operation returned its own error, `NotFound` or `RollbackTransaction`.
    OwnError,
    /// Another attempt would fail the same way, the class of the error is excluded, or the operation
    /// was refused before it began.
    NotRetryable,
    /// The policy or the operation allows no more retries: there are none left, the fault is worth one
    /// retry and had it, its class has [had its own](crate::ClassPolicy::with_max_retries), or the server has closed the connection without a word
    /// [too often](crate::RetryPolicy::with_max_silent_losses).
    RetriesExhausted,
    /// The [budget](crate::RetryBudget) that the operation shares with others had no retry left.
    BudgetExhausted,
    /// Another attempt could not have begun before the deadline.
    DeadlineExceeded,
    /// Only a whole new transaction can succeed, and the transaction belongs to an enclosing
    /// operation or to the caller.
    EnclosingTransaction,
    /// Only a new connection can succeed, and the operation runs on one that the caller has given it.
    NeedsConnection,
    /// It is not known whether the work was committed, so doing it again is not safe.
    OutcomeUnknown,
    /// The operation's [`before_retry`](crate::RetryHook) hook wanted no further attempt.
    Vetoed,
    /// The operation, the look for its work, a hook or a method of its error panicked.
    Panicked,
    /// The run was dropped before its end, such as a future that is cancelled. Only an
    /// [`Observer`](crate::Observer) is told.
    Cancelled,
}

impl StopReason {
    /// The name used in spans and metrics: for example `retries_exhausted`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::AlreadyDone => "already_done",
            Self::OwnError => "own_error",
            Self::NotRetryable => "not_retryable",
            Self::RetriesExhausted => "retries_exhausted",
            Self::BudgetExhausted => "budget_exhausted",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::EnclosingTransaction => "enclosing_transaction",
            Self::NeedsConnection => "needs_connection",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Panicked => "panicked",
            Self::Vetoed => "vetoed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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
