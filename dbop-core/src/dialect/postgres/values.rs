//! Values of PostgreSQL's settings, as expressions.

use std::fmt;

use super::ISOLATION;
use crate::dialect::applied::Timeout;
use crate::dialect::engine::Profile;
use crate::dialect::milliseconds;
use crate::dialect::plan::Plan;
use crate::settings::IsolationLevel;

/// The new value of a timeout, as an expression.
pub(super) struct NewTimeout {
    profile: Profile,
    name: &'static str,
    timeout: Timeout,
}

impl NewTimeout {
    pub(super) const fn of(plan: &Plan, name: &'static str, timeout: Timeout) -> Self {
        Self {
            profile: plan.profile,
            name,
            timeout,
        }
    }
}

/// The session's value of a timeout as an interval. What `current_setting` prints ('0', '250ms', '3s',
/// '1min') reads as one. A bare number would be seconds, and are milliseconds.
pub(super) struct Interval(pub(super) Profile, pub(super) &'static str);

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(profile, name) = self;
        if !profile.may_leave_out_units() {
            return write!(f, "current_setting('{name}')::interval");
        }
        write!(
            f,
            "(current_setting('{name}') || CASE WHEN right(current_setting('{name}'), 1) \
             IN ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9') THEN 'ms' ELSE '' END)::interval"
        )
    }
}

impl fmt::Display for NewTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.timeout {
            Timeout::Exact(duration) => write!(f, "'{}'", milliseconds(duration)),
            Timeout::AtMost(duration) => {
                let value = milliseconds(duration);
                let interval = Interval(self.profile, name);
                write!(
                    f,
                    "CASE WHEN {interval} BETWEEN '1 ms' AND '{value} ms' \
                     THEN current_setting('{name}') ELSE '{value}' END"
                )
            }
        }
    }
}

/// The new default isolation level, as an expression: this one, or that of the session if it is
/// stricter.
pub(super) struct NewIsolation(pub(super) IsolationLevel);

impl fmt::Display for NewIsolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is_stricter, level) = (IsStricter(self.0), lower_case(self.0));
        write!(
            f,
            "CASE WHEN {is_stricter} THEN current_setting('{ISOLATION}') ELSE '{level}' END"
        )
    }
}

/// Whether the session has a stricter isolation level than this one, as an expression.
pub(super) struct IsStricter(pub(super) IsolationLevel);

impl fmt::Display for IsStricter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "current_setting('{ISOLATION}') IN (")?;
        for stricter in self.0.stricter() {
            write!(f, "'{}', ", lower_case(stricter))?;
        }
        // An empty list is no list.
        f.write_str("'')")
    }
}

/// A level as the value of a setting.
const fn lower_case(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::ReadUncommitted => "read uncommitted",
        IsolationLevel::ReadCommitted => "read committed",
        IsolationLevel::RepeatableRead => "repeatable read",
        IsolationLevel::Serializable => "serializable",
    }
}
