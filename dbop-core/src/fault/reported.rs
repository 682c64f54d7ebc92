//! An error as a client library reported it.

use super::{Code, ErrorKind, Fault, FaultClass, SqlState};
use crate::dialect::Dialect;

/// An error as a client library reported it: what [`Fault::recognize`] goes by.
///
/// ```
/// use dbop_core::{Dialect, ErrorKind, Extras, Fault, FaultClass, Reported};
///
/// let raised = Reported::new(ErrorKind::Unknown, "deadlock detected");
/// let real = raised.with_extras(Extras { details: true, ..Extras::default() });
/// let raised = raised.with_extras(Extras::default());
///
/// let class = |reported| Fault::recognize(Dialect::Postgres, reported).class();
/// assert_eq!(class(real), FaultClass::Deadlock);
/// assert_eq!(class(raised), FaultClass::Unknown);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported<'a> {
    pub(super) kind: ErrorKind,
    pub(super) message: &'a str,
    pub(super) extras: Option<Extras>,
}

/// What a database reported besides the message. The contents do not matter: an application can
/// raise an error with any text, but seldom one with everything that a server's own error has.
///
/// # Default
///
/// Nothing besides the message was reported. If that is not known, leave the extras out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// The message has details.
    pub details: bool,
    /// The error names a table, a column or a constraint.
    pub object: bool,
}

impl<'a> Reported<'a> {
    /// An error of this kind and with this text. What else the database reported is not known.
    #[must_use]
    pub const fn new(kind: ErrorKind, message: &'a str) -> Self {
        Self {
            kind,
            message,
            extras: None,
        }
    }

    /// The same error, with what the database reported besides the message.
    #[must_use]
    pub const fn with_extras(mut self, extras: Extras) -> Self {
        self.extras = Some(extras);
        self
    }

    /// Whether the error has the text of this fault, but was raised by an application.
    ///
    /// PostgreSQL's own deadlock always has details ("Process N waits for ..", measured), and none
    /// of its faults that pass names a table, a column or a constraint. A position in the statement
    /// proves nothing: a lock timeout while the statement is analysed has one (measured). Where none
    /// of this is known, the text decides.
    pub(super) fn is_imitation(&self, fault: &Fault) -> bool {
        let Some(extras) = self.extras else {
            return false;
        };
        if fault.dialect() != Dialect::Postgres || self.kind != ErrorKind::Unknown {
            return false;
        }
        let lacks_details =
            !extras.details && is_postgres_deadlock(fault) && !self.is_of_relative();
        lacks_details || (extras.object && is_never_about_an_object(fault.class()))
    }

    /// The deadlocks that Citus and YugabyteDB find across their nodes have no details.
    fn is_of_relative(&self) -> bool {
        ["distributed deadlock", "aborted due to a deadlock"]
            .iter()
            .any(|part| self.message.contains(part))
    }
}

fn is_postgres_deadlock(fault: &Fault) -> bool {
    fault.code() == Some(Code::SqlState(SqlState::DEADLOCK_DETECTED))
}

const fn is_never_about_an_object(class: FaultClass) -> bool {
    use FaultClass as C;

    matches!(
        class,
        C::Deadlock
            | C::SerializationFailure
            | C::LockTimeout
            | C::ConnectionLost
            | C::NotConnected
            | C::ServerUnavailable
            | C::ReadOnlyServer
            | C::StalePlan
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DETAILS: Extras = Extras {
        details: true,
        object: false,
    };
    const NOTHING: Extras = Extras {
        details: false,
        object: false,
    };

    fn class(text: &str, extras: Extras) -> FaultClass {
        let reported = Reported::new(ErrorKind::Unknown, text).with_extras(extras);
        Fault::recognize(Dialect::Postgres, reported).class()
    }

    #[test]
    fn a_deadlock_has_details_and_names_no_object() {
        let text = "deadlock detected";
        assert_eq!(class(text, DETAILS), FaultClass::Deadlock);
        assert_eq!(class(text, NOTHING), FaultClass::Unknown);
        let about_a_table = Extras {
            object: true,
            ..DETAILS
        };
        assert_eq!(class(text, about_a_table), FaultClass::Unknown);
    }

    #[test]
    fn without_extras_the_text_decides() {
        let reported = Reported::new(ErrorKind::Unknown, "deadlock detected");
        let fault = Fault::recognize(Dialect::Postgres, reported);
        assert_eq!(fault.class(), FaultClass::Deadlock);
    }

    #[test]
    fn other_faults_have_no_details_but_name_no_object_either() {
        for (text, expected) in [
            (
                "canceling statement due to lock timeout",
                FaultClass::LockTimeout,
            ),
            (
                "could not obtain lock on row in relation \"t\"",
                FaultClass::LockTimeout,
            ),
            (
                "Transaction 7 aborted due to a deadlock.",
                FaultClass::Deadlock,
            ),
        ] {
            assert_eq!(class(text, NOTHING), expected, "{text}");
            let about_a_column = Extras {
                object: true,
                ..NOTHING
            };
            assert_eq!(class(text, about_a_column), FaultClass::Unknown, "{text}");
        }
    }

    #[test]
    fn an_object_tells_only_of_what_passes_and_only_of_postgresql() {
        let about_an_object = Extras {
            object: true,
            ..DETAILS
        };
        let text = "canceling statement due to statement timeout";
        assert_eq!(class(text, about_an_object), FaultClass::StatementTimeout);
        let text = "Deadlock found when trying to get lock; try restarting transaction";
        let reported = Reported::new(ErrorKind::Unknown, text).with_extras(about_an_object);
        let fault = Fault::recognize(Dialect::Mysql, reported);
        assert_eq!(fault.class(), FaultClass::Deadlock);
    }

    #[test]
    fn a_kind_outranks_what_came_with_it() {
        let reported = Reported::new(
            ErrorKind::UniqueViolation,
            "duplicate key value violates unique constraint",
        )
        .with_extras(Extras {
            details: true,
            object: true,
        });
        let fault = Fault::recognize(Dialect::Postgres, reported);
        assert_eq!(fault.class(), FaultClass::Constraint);
    }

    #[test]
    fn on_mysql_nothing_ever_comes_with_it() {
        let text = "Deadlock found when trying to get lock; try restarting transaction";
        let reported = Reported::new(ErrorKind::Unknown, text).with_extras(NOTHING);
        let fault = Fault::recognize(Dialect::Mysql, reported);
        assert_eq!(fault.class(), FaultClass::Deadlock);
    }
}
