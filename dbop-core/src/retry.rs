//! After this fault, in this scope: what now?
//!
//! The answer comes from the class of the fault and from whether the failed attempt was a
//! transaction or only a savepoint in one, never from a bare "transient" flag. It is reached
//! before any sleep. Limits (how many retries are left) are applied afterwards, by the
//! [machine](crate::machine).

use crate::fault::{Fault, FaultClass};
use crate::policy::{ClassRule, RetryPolicy};

/// What the operation itself says about its error: the adapters ask `OperationError::advice` for it.
///
/// ```
/// use dbop_core::{Advice, FaultClass};
///
/// enum BookingError {
///     /// Another session has taken the seat meanwhile.
///     SeatTaken,
///     /// There are no seats.
///     SoldOut,
/// }
///
/// impl BookingError {
///     fn advice(&self) -> Advice {
///         match self {
///             Self::SeatTaken => Advice::As(FaultClass::SerializationFailure),
///             Self::SoldOut => Advice::Never,
///         }
///     }
/// }
/// # assert_ne!(BookingError::SeatTaken.advice(), BookingError::SoldOut.advice());
/// assert_eq!(Advice::default(), Advice::Judge);
/// ```
///
/// # Default
///
/// [`Judge`](Self::Judge).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing: the class of the database fault inside decides. An error without one is not retried.
    #[default]
    Judge,
    /// Retry, even where the class alone would not be retried, and even an error without a database
    /// fault. It never makes dbop retry what cannot succeed in its scope, what has an unknown outcome,
    /// or a class that is excluded.
    Retry,
    /// Do not retry, whatever the class.
    Never,
    /// Treat the error as a database error of this class, before any classifier is asked. That
    /// decides whether and when to retry, and not what has happened: what is not certainly undone,
    /// and what cannot succeed in its scope, is still not retried.
    As(FaultClass),
}

/// Where the failed attempt ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It was a transaction.
    Transaction,
    /// It was a savepoint.
    Savepoint {
        /// dbop began the transaction around it, with SQLite's BEGIN IMMEDIATE.
        immediate: bool,
    },
}

/// What to do about a failed attempt that is certainly undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Retry after a delay, as often as the policy allows.
    Retry,
    /// Retry, but only once: after a delay or, in a savepoint, at once, since the transaction around it may
    /// hold locks.
    RetryOnce,
    /// Retry after a delay, but only once, with the statement cache cleared. The cache stays on or off,
    /// as the caller has set it.
    RetryReplanned,
    /// Not here: only a whole new transaction can succeed. The fault is escalated to the outermost
    /// operation, which is retried as a whole. In a transaction of the caller's it is returned.
    Escalate,
    /// Only a new connection can succeed: a retry, where connections come from a source.
    NeedsConnection,
    /// Another attempt would fail the same way.
    GiveUp,
}

/// The verdict on an attempt that failed with this fault, or with the operation's own error
/// (`None`), and is certainly undone.
///
/// The class is the one that [`Advice::As`] names, or that of the fault:
///
/// | class | in a transaction | in a savepoint |
/// |---|---|---|
/// | [`Deadlock`](FaultClass::Deadlock) | [`Retry`](Verdict::Retry) | [`Escalate`](Verdict::Escalate) |
/// | [`SerializationFailure`](FaultClass::SerializationFailure) | `Retry` | `Escalate` |
/// | [`LockTimeout`](FaultClass::LockTimeout) | `Retry` | [`RetryOnce`](Verdict::RetryOnce) |
/// | [`Busy`](FaultClass::Busy) | `Retry` | `Retry` if dbop began the transaction with BEGIN IMMEDIATE; otherwise `Escalate` |
/// | [`StalePlan`](FaultClass::StalePlan) | [`RetryReplanned`](Verdict::RetryReplanned); MySQL's 1412: `RetryOnce` | `Escalate` |
/// | [`ConnectionLost`](FaultClass::ConnectionLost), [`NotConnected`](FaultClass::NotConnected), [`ServerUnavailable`](FaultClass::ServerUnavailable) | [`NeedsConnection`](Verdict::NeedsConnection) | `Escalate` |
/// | [`ReadOnlyServer`](FaultClass::ReadOnlyServer) | `NeedsConnection`; if the operation is read-only: [`GiveUp`](Verdict::GiveUp) | `Escalate`; if the operation is read-only: `GiveUp` |
/// | every other class, and the operation's own error | `GiveUp` | `GiveUp` |
///
/// Then, in this order:
///
/// 1. [`Advice::Never`] and a class that the policy [excludes](RetryPolicy::without_retry_on) make it
///    `GiveUp`.
/// 2. [`Advice::Retry`] and a class that the policy [opts in](RetryPolicy::with_retry_on) make a `Retry`
///    of a `GiveUp`.
/// 3. If the class is not the [recognized one](Fault::recognized_class) and it is not `GiveUp`, what the
///    database has left decides. It is `Escalate` where the recognized class is escalated, and
///    `NeedsConnection` where the connection is not usable any more.
///
/// ```
/// use dbop_core::{Advice, Dialect, Fault, FaultClass, RetryPolicy, Scope, Verdict, verdict};
///
/// let deadlock = Fault::from_class(Dialect::Mysql, FaultClass::Deadlock);
/// let judge = |scope| verdict(Some(deadlock), Advice::Judge, scope, false, &RetryPolicy::new());
/// assert_eq!(judge(Scope::Transaction), Verdict::Retry);
/// assert_eq!(judge(Scope::Savepoint { immediate: false }), Verdict::Escalate);
/// ```
#[must_use]
pub fn verdict(
    fault: Option<Fault>,
    advice: Advice,
    scope: Scope,
    read_only: bool,
    policy: &RetryPolicy,
) -> Verdict {
    decide(fault, advice, scope, read_only, |class| policy.rule(class))
}

/// [`verdict`], with what the operation and the policy say about a class.
pub(crate) fn decide(
    fault: Option<Fault>,
    advice: Advice,
    scope: Scope,
    read_only: bool,
    rule: impl Fn(FaultClass) -> Option<ClassRule>,
) -> Verdict {
    let class = match advice {
        Advice::As(class) => Some(class),
        _ => fault.map(|fault| fault.class()),
    };
    let rule = class.and_then(rule);
    if advice == Advice::Never || rule == Some(ClassRule::Never) {
        return Verdict::GiveUp;
    }
    let by = |class| by_class(class, fault, scope, read_only);
    let verdict = match class.map_or(Verdict::GiveUp, by) {
        Verdict::GiveUp if advice == Advice::Retry || rule == Some(ClassRule::Also) => {
            Verdict::Retry
        }
        verdict => verdict,
    };
    let recognized = fault.map(|fault| (by(fault.recognized_class()), fault));
    match (verdict, recognized) {
        // Whatever the class is said to be, that is what the database has left.
        (Verdict::GiveUp, _) => Verdict::GiveUp,
        (_, Some((Verdict::Escalate, _))) => Verdict::Escalate,
        (_, Some((Verdict::NeedsConnection, fault))) if !fault.leaves_connection_usable() => {
            Verdict::NeedsConnection
        }
        _ => verdict,
    }
}

/// `fault` is what is known about an error of this class.
fn by_class(class: FaultClass, fault: Option<Fault>, scope: Scope, read_only: bool) -> Verdict {
    use FaultClass as C;

    // An operation that asked for read-only is told that it may not write: that is no failover.
    if class == C::ReadOnlyServer && read_only {
        return Verdict::GiveUp;
    }
    // MySQL's "table definition has changed" is about the snapshot, not about a cached plan.
    let is_worth_one_more = fault.is_some_and(|fault| fault.is_worth_one_more());
    match (class, scope) {
        (C::SerializationFailure | C::StalePlan, Scope::Transaction) if is_worth_one_more => {
            Verdict::RetryOnce
        }
        (C::Deadlock | C::SerializationFailure | C::LockTimeout | C::Busy, Scope::Transaction) => {
            Verdict::Retry
        }
        (C::StalePlan, Scope::Transaction) => Verdict::RetryReplanned,
        (
            C::ConnectionLost | C::NotConnected | C::ServerUnavailable | C::ReadOnlyServer,
            Scope::Transaction,
        ) => Verdict::NeedsConnection,

        (C::LockTimeout, Scope::Savepoint { .. }) => Verdict::RetryOnce,
        // In a deferred transaction "locked" can mean that our snapshot is stale, which no retry
        // inside it can cure, and Diesel shows one text for both.
        (C::Busy, Scope::Savepoint { immediate: true }) => Verdict::Retry,
        // MySQL and MariaDB have rolled back the whole transaction at a deadlock. On PostgreSQL it is
        // alive, and its locks are in the cycle: a second try in place stops everyone (measured: 7
        // transactions a second against 28 to 47). The snapshot, the connection and the plan belong to
        // the transaction, too.
        (
            C::Deadlock
            | C::Busy
            | C::SerializationFailure
            | C::StalePlan
            | C::ConnectionLost
            | C::NotConnected
            | C::ServerUnavailable
            | C::ReadOnlyServer,
            Scope::Savepoint { .. },
        ) => Verdict::Escalate,

        (
            C::StatementTimeout
            | C::Canceled
            | C::ResourceExhausted
            | C::TransactionAborted
            | C::TransactionLost
            | C::OutcomeUnknown
            | C::Constraint
            | C::Permanent
            | C::Unknown,
            _,
        ) => Verdict::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::fault::{Code, SqlState};

    const TOP: Scope = Scope::Transaction;
    const SAVEPOINT: Scope = Scope::Savepoint { immediate: false };
    const IN_IMMEDIATE: Scope = Scope::Savepoint { immediate: true };

    fn judge(dialect: Dialect, class: FaultClass, scope: Scope) -> Verdict {
        let fault = Fault::from_class(dialect, class);
        verdict(
            Some(fault),
            Advice::Judge,
            scope,
            false,
            &RetryPolicy::new(),
        )
    }

    #[test]
    fn the_table_of_classes_and_scopes() {
        use Dialect::{Mysql, Postgres, Sqlite};
        use FaultClass as C;
        use Verdict as V;

        for (dialect, class, top, savepoint) in [
            (Postgres, C::Deadlock, V::Retry, V::Escalate),
            (Mysql, C::Deadlock, V::Retry, V::Escalate),
            (Postgres, C::SerializationFailure, V::Retry, V::Escalate),
            (Mysql, C::SerializationFailure, V::Retry, V::Escalate),
            (Postgres, C::LockTimeout, V::Retry, V::RetryOnce),
            (Mysql, C::LockTimeout, V::Retry, V::RetryOnce),
            (Sqlite, C::Busy, V::Retry, V::Escalate),
            (Postgres, C::ConnectionLost, V::NeedsConnection, V::Escalate),
            (Postgres, C::NotConnected, V::NeedsConnection, V::Escalate),
            (
                Postgres,
                C::ServerUnavailable,
                V::NeedsConnection,
                V::Escalate,
            ),
            (Postgres, C::ReadOnlyServer, V::NeedsConnection, V::Escalate),
            (Postgres, C::StalePlan, V::RetryReplanned, V::Escalate),
            (Postgres, C::StatementTimeout, V::GiveUp, V::GiveUp),
            (Mysql, C::Canceled, V::GiveUp, V::GiveUp),
            (Sqlite, C::ResourceExhausted, V::GiveUp, V::GiveUp),
            (Postgres, C::TransactionAborted, V::GiveUp, V::GiveUp),
            (Mysql, C::TransactionLost, V::GiveUp, V::GiveUp),
            (Mysql, C::OutcomeUnknown, V::GiveUp, V::GiveUp),
            (Postgres, C::Constraint, V::GiveUp, V::GiveUp),
            (Postgres, C::Permanent, V::GiveUp, V::GiveUp),
            (Postgres, C::Unknown, V::GiveUp, V::GiveUp),
        ] {
            assert_eq!(
                judge(dialect, class, TOP),
                top,
                "{dialect} {class} at top level"
            );
            assert_eq!(
                judge(dialect, class, SAVEPOINT),
                savepoint,
                "{dialect} {class} in a savepoint"
            );
        }
        assert_eq!(judge(Sqlite, C::Busy, IN_IMMEDIATE), V::Retry);
    }

    #[test]
    fn a_changed_table_definition_is_retried_once() {
        let fault = Fault::from_code(Dialect::Mysql, Code::Errno(1412));
        let verdict = verdict(Some(fault), Advice::Judge, TOP, false, &RetryPolicy::new());
        assert_eq!(verdict, Verdict::RetryOnce);
    }

    #[test]
    fn what_another_session_created_at_the_same_time_is_retried_once() {
        let judge = |fault, scope| {
            let advice = Advice::Judge;
            verdict(Some(fault), advice, scope, false, &RetryPolicy::new())
        };
        let of_code = |state| Fault::from_code(Dialect::Postgres, Code::SqlState(state));
        for state in [
            SqlState::DUPLICATE_OBJECT,
            SqlState::DUPLICATE_SCHEMA,
            SqlState::DUPLICATE_TABLE,
        ] {
            assert_eq!(judge(of_code(state), TOP), Verdict::RetryOnce);
            assert_eq!(judge(of_code(state), SAVEPOINT), Verdict::Escalate);
        }
        let conflict = of_code(SqlState::SERIALIZATION_FAILURE);
        assert_eq!(judge(conflict, TOP), Verdict::Retry);
        // A constraint of the application's is none of this.
        let taken = of_code(SqlState::UNIQUE_VIOLATION);
        assert_eq!(judge(taken, TOP), Verdict::GiveUp);
        let judged = taken.judged_as(FaultClass::SerializationFailure);
        assert_eq!(judge(judged, TOP), Verdict::Retry);
    }

    #[test]
    fn a_write_in_a_read_only_operation_is_no_failover() {
        let fault = Fault::from_class(Dialect::Postgres, FaultClass::ReadOnlyServer);
        let verdict = verdict(Some(fault), Advice::Judge, TOP, true, &RetryPolicy::new());
        assert_eq!(verdict, Verdict::GiveUp);
    }

    #[test]
    fn opting_in_lifts_what_is_given_up_and_nothing_else() {
        let policy = RetryPolicy::new()
            .with_retry_on(FaultClass::StatementTimeout)
            .with_retry_on(FaultClass::SerializationFailure);
        let judge = |class, scope| {
            let fault = Fault::from_class(Dialect::Postgres, class);
            verdict(Some(fault), Advice::Judge, scope, false, &policy)
        };
        assert_eq!(judge(FaultClass::StatementTimeout, TOP), Verdict::Retry);
        assert_eq!(
            judge(FaultClass::StatementTimeout, SAVEPOINT),
            Verdict::Retry
        );
        assert_eq!(judge(FaultClass::Canceled, TOP), Verdict::GiveUp);
        assert_eq!(
            judge(FaultClass::SerializationFailure, SAVEPOINT),
            Verdict::Escalate
        );
    }

    #[test]
    fn the_operations_advice_counts_where_it_can_help() {
        let policy = RetryPolicy::new();
        let fault = |class| Some(Fault::from_class(Dialect::Mysql, class));
        let judge = |fault, advice, scope| verdict(fault, advice, scope, false, &policy);
        assert_eq!(judge(None, Advice::Judge, TOP), Verdict::GiveUp);
        assert_eq!(judge(None, Advice::Retry, TOP), Verdict::Retry);
        let deadlock = fault(FaultClass::Deadlock);
        assert_eq!(judge(deadlock, Advice::Never, TOP), Verdict::GiveUp);
        assert_eq!(judge(deadlock, Advice::Retry, SAVEPOINT), Verdict::Escalate);
        let lost = fault(FaultClass::ConnectionLost);
        assert_eq!(judge(lost, Advice::Retry, TOP), Verdict::NeedsConnection);
    }

    #[test]
    fn an_excluded_class_is_given_up_everywhere() {
        let policy = RetryPolicy::new().without_retry_on(FaultClass::Deadlock);
        for scope in [TOP, SAVEPOINT, IN_IMMEDIATE] {
            for advice in [
                Advice::Judge,
                Advice::Retry,
                Advice::As(FaultClass::Deadlock),
            ] {
                let fault = Fault::from_class(Dialect::Mysql, FaultClass::Deadlock);
                let verdict = verdict(Some(fault), advice, scope, false, &policy);
                assert_eq!(verdict, Verdict::GiveUp, "{advice:?} {scope:?}");
            }
        }
    }

    #[test]
    fn an_error_without_a_fault_is_of_the_class_that_it_names() {
        let policy = RetryPolicy::new();
        let judge = |class, scope| verdict(None, Advice::As(class), scope, false, &policy);
        assert_eq!(judge(FaultClass::Deadlock, TOP), Verdict::Retry);
        assert_eq!(judge(FaultClass::Deadlock, SAVEPOINT), Verdict::Escalate);
        assert_eq!(
            judge(FaultClass::LockTimeout, SAVEPOINT),
            Verdict::RetryOnce
        );
        assert_eq!(judge(FaultClass::StalePlan, TOP), Verdict::RetryReplanned);
        assert_eq!(judge(FaultClass::Permanent, TOP), Verdict::GiveUp);
    }

    #[test]
    fn a_judged_class_decides_unless_only_the_recognized_one_can() {
        use FaultClass as C;
        use Verdict as V;

        let policy = RetryPolicy::new().with_retry_on(C::Constraint);
        for (dialect, recognized, judged, top, savepoint) in [
            (
                Dialect::Postgres,
                C::Unknown,
                C::Deadlock,
                V::Retry,
                V::Escalate,
            ),
            (
                Dialect::Postgres,
                C::Deadlock,
                C::Permanent,
                V::GiveUp,
                V::GiveUp,
            ),
            (
                Dialect::Postgres,
                C::Unknown,
                C::ConnectionLost,
                V::NeedsConnection,
                V::Escalate,
            ),
            // The snapshot is the enclosing transaction's, and the whole transaction is gone.
            (
                Dialect::Postgres,
                C::SerializationFailure,
                C::LockTimeout,
                V::Retry,
                V::Escalate,
            ),
            (
                Dialect::Postgres,
                C::SerializationFailure,
                C::Constraint,
                V::Retry,
                V::Escalate,
            ),
            (
                Dialect::Mysql,
                C::Deadlock,
                C::LockTimeout,
                V::Retry,
                V::Escalate,
            ),
            // The connection is gone.
            (
                Dialect::Postgres,
                C::ConnectionLost,
                C::Deadlock,
                V::NeedsConnection,
                V::Escalate,
            ),
            (
                Dialect::Postgres,
                C::ConnectionLost,
                C::Constraint,
                V::NeedsConnection,
                V::Escalate,
            ),
            (
                Dialect::Postgres,
                C::ConnectionLost,
                C::Permanent,
                V::GiveUp,
                V::GiveUp,
            ),
            // It is not.
            (
                Dialect::Postgres,
                C::ReadOnlyServer,
                C::Deadlock,
                V::Retry,
                V::Escalate,
            ),
            (
                Dialect::Sqlite,
                C::ConnectionLost,
                C::Deadlock,
                V::Retry,
                V::Escalate,
            ),
        ] {
            let fault = Fault::from_class(dialect, recognized).judged_as(judged);
            let judge = |scope| verdict(Some(fault), Advice::Judge, scope, false, &policy);
            assert_eq!(judge(TOP), top, "{dialect} {recognized} as {judged}");
            assert_eq!(
                judge(SAVEPOINT),
                savepoint,
                "{dialect} {recognized} as {judged}"
            );
        }
    }
}
