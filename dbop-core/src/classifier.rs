//! The user's classifier: a function that sees a database error and may name its class.

use std::fmt;
use std::sync::Arc;

use crate::dialect::Dialect;
use crate::fault::{Code, Fault, FaultClass};
use crate::outcome::Phase;
use crate::retry::Scope;

/// A function that judges database errors: it returns the class of an error, and `None` where it leaves
/// the class as it is. [`Seen`] has an example.
pub type Classifier<'a> = dyn Fn(&Seen<'_>) -> Option<FaultClass> + Send + Sync + 'a;

/// What a classifier sees of a database error: the first one of an attempt.
///
/// The classifier is given with `with_classifier` on a runner or with `classify` on an operation.
/// The class that it names decides whether and when the operation is retried, and is the one in
/// records and reports. It is no statement about what has happened: whether the attempt is undone,
/// and whether the connection can be used, follows from the error that the database reported. An
/// attempt that is not certainly undone is never retried because of a classifier, a lost connection
/// is never used again, and what can only succeed in a new transaction is not retried in a
/// savepoint.
///
/// An operation's classifier is asked first, then the runner's. Neither is asked about the operation's
/// own errors, nor where the error names its class itself ([`Advice::As`](crate::Advice::As)). A
/// classifier must not use the connection. It can be asked twice about one attempt, if dbop finds out
/// more about the error than its text told. What it panics with continues after everything is cleaned up.
///
/// ```
/// use dbop_core::{FaultClass, Seen};
///
/// fn is_ours(seen: &Seen<'_>) -> Option<FaultClass> {
///     let is_conflict = seen.message().starts_with("write conflict:");
///     is_conflict.then_some(FaultClass::SerializationFailure)
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub(crate) fault: Fault,
    pub(crate) phase: Phase,
    pub(crate) scope: Scope,
    pub(crate) message: &'a str,
}

impl Seen<'_> {
    /// The database that reported the error.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.fault.dialect()
    }

    /// The error code, if it is known. Diesel 2.3 hides the codes, so an error whose text dbop does
    /// not know has none.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        self.fault.code()
    }

    /// The class so far: that of [`RetryPolicy::with_class_of`](crate::RetryPolicy::with_class_of)
    /// for its code, or the one that dbop has recognized.
    #[must_use]
    pub const fn class(&self) -> FaultClass {
        self.fault.class()
    }

    /// The part of the attempt that failed. In [`Phase::Commit`] it may not be known yet whether the
    /// attempt is undone.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Where the attempt ran: in a transaction of its own or in a savepoint. While connecting: a
    /// transaction.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The text of the server or of the client library; while connecting, without what pools and clients
    /// put around it. Where an error keeps nothing but a text, that text. Empty if there is none, as for
    /// a lost connection that dbop itself has noticed.
    ///
    /// It can quote values of your rows. That a classifier sees it does not put it in a record.
    #[must_use]
    pub const fn message(&self) -> &str {
        self.message
    }
}

// Without the message, which can quote values.
impl fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("fault", &self.fault)
            .field("phase", &self.phase)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// The classifier of an operation, which borrows it.
#[derive(Clone, Copy)]
pub struct BorrowedClassifier<'a>(pub &'a Classifier<'a>);

/// The classifier of a runner, shared by its clones.
#[derive(Clone)]
pub(crate) struct SharedClassifier(pub(crate) Arc<Classifier<'static>>);

impl fmt::Debug for BorrowedClassifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("own")
    }
}

impl fmt::Debug for SharedClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("own")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// All of them.
    pub(crate) const CLASSES: [FaultClass; FaultClass::COUNT] = [
        FaultClass::Deadlock,
        FaultClass::SerializationFailure,
        FaultClass::LockTimeout,
        FaultClass::Busy,
        FaultClass::ConnectionLost,
        FaultClass::NotConnected,
        FaultClass::ServerUnavailable,
        FaultClass::ReadOnlyServer,
        FaultClass::StalePlan,
        FaultClass::StatementTimeout,
        FaultClass::Canceled,
        FaultClass::ResourceExhausted,
        FaultClass::TransactionAborted,
        FaultClass::TransactionLost,
        FaultClass::OutcomeUnknown,
        FaultClass::Constraint,
        FaultClass::Permanent,
        FaultClass::Unknown,
    ];

    #[test]
    fn the_message_is_seen_and_not_shown() {
        let seen = Seen {
            fault: Fault::from_code(Dialect::Mysql, Code::Errno(1213)),
            phase: Phase::Body,
            scope: Scope::Transaction,
            message: "secret",
        };
        assert_eq!(seen.message(), "secret");
        assert_eq!(seen.dialect(), Dialect::Mysql);
        assert_eq!(seen.code(), Some(Code::Errno(1213)));
        assert_eq!(seen.class(), FaultClass::Deadlock);
        assert_eq!(
            (seen.phase(), seen.scope()),
            (Phase::Body, Scope::Transaction)
        );
        let shown = format!("{seen:?}");
        assert!(
            shown.contains("1213") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
