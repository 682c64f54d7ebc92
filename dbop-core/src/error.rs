//! dbop's own errors: what the runner itself has to say about an operation.

use std::error::Error as StdError;
use std::fmt;
use std::time::SystemTime;

use crate::dialect::Unsupported;
use crate::key::InvalidKey;
use crate::outcome::StopReason;
use crate::settings::Setting;

/// An error of the runner itself. Errors of the operation and of the database are not of this type;
/// they are returned unchanged.
///
/// The predicates are not exhaustive: later versions can add kinds that match none of today's
/// predicates, so treat "none of them" as a failure too. Each kind has one predicate, and
/// [`is_budget_exhausted`](Self::is_budget_exhausted) is true of any kind.
///
/// The [source](StdError::source) is the error that led to it, if there was one: the database's, or that
/// of the source of connections.
///
/// ```
/// use dbop_core::Error;
///
/// fn status(error: &Error) -> u16 {
///     if error.is_outcome_unknown() {
///         202 // perhaps done
///     } else if error.is_no_connection() || error.is_deadline_exceeded() {
///         503 // not done; worth another try later
///     } else {
///         500
///     }
/// }
/// # assert_eq!(status(&Error::no_connection("full".into())), 503);
/// ```
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    budget_exhausted: bool,
    attempts: u32,
    stop: Option<StopReason>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kind {
    #[error("the operation swallowed a failed statement: the transaction was rolled back")]
    RolledBack,
    #[error("the enclosing transaction was lost on the server, rolled back as a whole")]
    TransactionLost,
    #[error("it is unknown whether the transaction was committed")]
    OutcomeUnknown,
    #[error("the deadline was exceeded before the operation could be tried")]
    DeadlineExceeded,
    #[error("no connection available")]
    NoConnection,
    #[error("the operation left a transaction or savepoint open; everything was rolled back")]
    Unbalanced,
    #[error("the operation left a transaction open, which was rolled back; it had none of its own")]
    LeftOpen,
    #[error("after_commit: {0}")]
    HookRefused(HookRefusal),
    #[error("{0}")]
    UnsupportedSetting(Unsupported),
    #[error("deferrable needs read_only and the isolation level Serializable")]
    DeferrableAlone,
    #[error("{0}")]
    InvalidKey(InvalidKey),
    #[error("the work of this idempotency key is already done")]
    AlreadyDone(SystemTime),
    #[error("another call with this idempotency key is under way")]
    KeyUnderWay,
    #[error("this idempotency key stands for another request")]
    OtherRequest,
    #[error("this idempotency key is taken by the transaction that the operation is a part of")]
    NestedKey,
    #[error("the answer has {bytes} bytes, more than {limit}")]
    AnswerTooLarge { bytes: usize, limit: usize },
    #[error("the answer cannot be serialized")]
    AnswerNotWritten,
    #[error("the answer in the ledger is not one of this operation's")]
    AnswerNotRead,
    #[error("{setting} must be between 1 ns and 2147483647 ms")]
    InvalidSetting { setting: Setting },
}

/// Why a hook cannot wait for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HookRefusal {
    #[error("no operation runs on this connection")]
    OutsideOperation,
    #[error("the transaction is the caller's, so dbop does not see its commit")]
    CallersTransaction,
    #[error("the operation has no transaction, and so no commit")]
    WithoutTransaction,
    #[error("a nested operation ends before the commit: register the hook in its body")]
    Nested,
    #[error("a sync run cannot await an async hook")]
    Async,
}

impl Error {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            budget_exhausted: false,
            attempts: 0,
            stop: None,
            source: None,
        }
    }

    /// There would have been another attempt if the budget had allowed it.
    pub(crate) const fn with_budget_exhausted(mut self, budget_exhausted: bool) -> Self {
        self.budget_exhausted = budget_exhausted;
        self
    }

    /// The source of connections gave none, for this reason.
    #[doc(hidden)]
    #[must_use]
    pub fn no_connection(source: Box<dyn StdError + Send + Sync>) -> Self {
        Self::new(Kind::NoConnection).with_source(source)
    }

    /// Attaches the error that led to this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// It ended an operation after so many attempts, for this reason.
    #[doc(hidden)]
    #[must_use]
    pub const fn after(mut self, attempts: u32, stop: StopReason) -> Self {
        self.attempts = attempts;
        self.stop = Some(stop);
        self
    }

    /// How many attempts the operation had that ended with this error. 0 if it was refused before its
    /// first one, and in a report for the error of an attempt that another one followed.
    ///
    /// ```
    /// use dbop_core::Error;
    ///
    /// /// For the log of the service.
    /// fn describe(error: &Error) -> String {
    ///     match error.stop() {
    ///         Some(stop) => format!("{error} ({} attempts, {stop})", error.attempts()),
    ///         None => error.to_string(),
    ///     }
    /// }
    /// # assert_eq!(describe(&Error::no_connection("full".into())), "no connection available");
    /// ```
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Why the operation that ended with this error had no further attempt. `None` in a report, for the
    /// error of an attempt that another one followed.
    #[must_use]
    pub const fn stop(&self) -> Option<StopReason> {
        self.stop
    }

    /// Whether the operation ended because it had no retries left: another attempt later can succeed. See
    /// [`StopReason::RetriesExhausted`]. For a budget's, see
    /// [`is_budget_exhausted`](Self::is_budget_exhausted).
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        matches!(self.stop, Some(StopReason::RetriesExhausted))
    }

    /// The operation returned `Ok` although a statement in it had failed, so the database had
    /// already refused the transaction: nothing was committed.
    ///
    /// PostgreSQL answers a bare `COMMIT` of such a transaction with success (measured).
    #[must_use]
    pub const fn is_rolled_back(&self) -> bool {
        matches!(self.kind, Kind::RolledBack)
    }

    /// The server ended the transaction that this operation was a part of: nothing of the operation
    /// is or will be committed, and the whole transaction has to start again. Earlier work in that
    /// transaction may already be committed, by DDL; the operation that ran the DDL reports an
    /// unknown outcome.
    #[must_use]
    pub const fn is_transaction_lost(&self) -> bool {
        matches!(self.kind, Kind::TransactionLost)
    }

    /// It is not known whether the transaction was committed: the connection broke while the COMMIT
    /// was in flight, or the operation ended its own transaction. Running the operation again may
    /// do its work twice.
    #[must_use]
    pub const fn is_outcome_unknown(&self) -> bool {
        matches!(self.kind, Kind::OutcomeUnknown)
    }

    /// The source of connections gave none. Nothing was run; the cause is the source's error.
    #[must_use]
    pub const fn is_no_connection(&self) -> bool {
        matches!(self.kind, Kind::NoConnection)
    }

    /// The deadline had passed before an attempt could begin. Nothing of the operation is done.
    #[must_use]
    pub const fn is_deadline_exceeded(&self) -> bool {
        matches!(self.kind, Kind::DeadlineExceeded)
    }

    /// There was no further attempt because the runner's [budget](crate::RetryBudget) had no retry left.
    /// It says why dbop gave up, besides what has failed: this error is of one of the other kinds as well.
    ///
    /// An error of the database is returned as it is, also when the budget is spent. Then the report has
    /// [`StopReason::BudgetExhausted`](crate::StopReason::BudgetExhausted), and so says the log.
    #[must_use]
    pub const fn is_budget_exhausted(&self) -> bool {
        self.budget_exhausted
    }

    /// The operation returned while a transaction or savepoint that it had begun was still open.
    /// Everything was rolled back; of an operation without a transaction, only what was open.
    #[must_use]
    pub const fn is_unbalanced(&self) -> bool {
        matches!(self.kind, Kind::Unbalanced | Kind::LeftOpen)
    }

    /// The operation asked for a setting that this database does not support, or not inside a
    /// transaction that is already open. The text names the reason. Nothing was run.
    #[must_use]
    pub const fn is_unsupported_setting(&self) -> bool {
        matches!(self.kind, Kind::UnsupportedSetting(_))
    }

    /// A hook for after the commit was refused, because dbop would not see the commit that it has to
    /// wait for, or could not run the hook then. The text says which. The hook does not run.
    #[must_use]
    pub const fn is_hook_refused(&self) -> bool {
        matches!(self.kind, Kind::HookRefused(_))
    }

    /// The work of the operation's idempotency key is already done, by another call with the key, and there
    /// is no answer of it that could be returned. Nothing was run. [`done_at`](Self::done_at) says when.
    #[must_use]
    pub const fn is_already_done(&self) -> bool {
        matches!(self.kind, Kind::AlreadyDone(_))
    }

    /// When the work of the idempotency key was done, by the server's clock, if it
    /// [is already done](Self::is_already_done).
    #[must_use]
    pub const fn done_at(&self) -> Option<SystemTime> {
        match self.kind {
            Kind::AlreadyDone(at) => Some(at),
            _ => None,
        }
    }

    /// Another call with the operation's idempotency key is under way, and was waited for until the
    /// deadline or, without one, for as long as the lock timeout. Nothing was run. A call later finds the
    /// work done, or does it.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        matches!(self.kind, Kind::KeyUnderWay)
    }

    /// The operation's idempotency key was used for another request, or for one that is not known. Nothing
    /// was run.
    #[must_use]
    pub const fn is_other_request(&self) -> bool {
        matches!(self.kind, Kind::OtherRequest)
    }

    /// The operation is a part of the transaction that has taken its idempotency key and has not completed
    /// it, or the work of the key was committed in part, by DDL. Nothing was run.
    #[must_use]
    pub const fn is_nested_key(&self) -> bool {
        matches!(self.kind, Kind::NestedKey)
    }

    /// The answer of an operation with an idempotency key is too large or cannot be serialized, and
    /// everything was rolled back; or the one that is in the ledger is not of the operation's type, and
    /// nothing was run.
    #[must_use]
    pub const fn is_answer_unusable(&self) -> bool {
        matches!(
            self.kind,
            Kind::AnswerTooLarge { .. } | Kind::AnswerNotWritten | Kind::AnswerNotRead
        )
    }

    /// The answer has so many bytes, and may have no more than the limit.
    #[doc(hidden)]
    #[must_use]
    pub const fn answer_too_large(bytes: usize, limit: usize) -> Self {
        Self::new(Kind::AnswerTooLarge { bytes, limit })
    }

    /// The answer cannot be serialized.
    #[doc(hidden)]
    #[must_use]
    pub const fn answer_not_written() -> Self {
        Self::new(Kind::AnswerNotWritten)
    }

    /// The stored answer is of another type.
    #[doc(hidden)]
    #[must_use]
    pub const fn answer_not_read() -> Self {
        Self::new(Kind::AnswerNotRead)
    }

    /// Whether it is about what was found at the idempotency key: what the database said on the way is not
    /// its cause.
    #[doc(hidden)]
    #[must_use]
    pub const fn is_of_key(&self) -> bool {
        self.is_already_done() || self.is_other_request() || self.is_nested_key()
    }

    /// The operation asked for a setting with a senseless value, such as a timeout of zero, or for
    /// one that needs another setting beside it. Nothing was run.
    #[must_use]
    pub const fn is_invalid_setting(&self) -> bool {
        matches!(
            self.kind,
            Kind::InvalidSetting { .. } | Kind::DeferrableAlone | Kind::InvalidKey(_)
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;

    #[test]
    fn each_kind_has_one_predicate() {
        let setting = Setting::Deadline;
        let unsupported = Unsupported::only_on(Dialect::Postgres, setting, Dialect::Mysql);
        let kinds = [
            (Kind::RolledBack, 0),
            (Kind::TransactionLost, 1),
            (Kind::OutcomeUnknown, 2),
            (Kind::NoConnection, 3),
            (Kind::DeadlineExceeded, 4),
            (Kind::Unbalanced, 5),
            (Kind::LeftOpen, 5),
            (Kind::UnsupportedSetting(unsupported), 6),
            (Kind::InvalidSetting { setting }, 7),
            (Kind::DeferrableAlone, 7),
            (Kind::HookRefused(HookRefusal::Nested), 8),
            (Kind::InvalidKey(InvalidKey::Empty), 7),
            (Kind::AlreadyDone(SystemTime::UNIX_EPOCH), 9),
            (Kind::KeyUnderWay, 10),
            (Kind::OtherRequest, 11),
            (Kind::NestedKey, 12),
            (Kind::AnswerTooLarge { bytes: 2, limit: 1 }, 13),
            (Kind::AnswerNotWritten, 13),
            (Kind::AnswerNotRead, 13),
        ];
        for (kind, expected) in kinds {
            let error = Error::new(kind);
            let answers = [
                error.is_rolled_back(),
                error.is_transaction_lost(),
                error.is_outcome_unknown(),
                error.is_no_connection(),
                error.is_deadline_exceeded(),
                error.is_unbalanced(),
                error.is_unsupported_setting(),
                error.is_invalid_setting(),
                error.is_hook_refused(),
                error.is_already_done(),
                error.is_under_way(),
                error.is_other_request(),
                error.is_nested_key(),
                error.is_answer_unusable(),
            ];
            let mut wanted = [false; 14];
            wanted[expected] = true;
            assert_eq!(answers, wanted, "{kind:?}");
            assert_eq!(error.done_at().is_some(), error.is_already_done());
            assert!(error.source().is_none());
            assert!(!error.is_budget_exhausted());
            let given_up = error.with_budget_exhausted(true);
            assert!(given_up.is_budget_exhausted());
        }
    }

    #[test]
    fn it_tells_how_the_operation_ended_once_it_has() {
        let error = Error::new(Kind::NoConnection);
        assert_eq!((error.attempts(), error.stop()), (0, None));
        assert!(!error.is_exhausted());
        let error = error.after(6, StopReason::RetriesExhausted);
        assert_eq!(error.attempts(), 6);
        assert_eq!(error.stop(), Some(StopReason::RetriesExhausted));
        assert!(error.is_exhausted());
        let late = Error::new(Kind::NoConnection).after(2, StopReason::DeadlineExceeded);
        assert!(!late.is_exhausted());
    }

    #[test]
    fn what_led_to_it_is_its_source() {
        let error = Error::no_connection("the pool is empty".into());
        assert!(error.is_no_connection());
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("the pool is empty"));
    }
}
