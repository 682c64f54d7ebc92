//! Log records with fixed keys, one for each event of an operation.
//!
//! A record's text and keys are dbop's own. The server's message can quote values (MySQL's
//! duplicate entry, PostgreSQL's invalid input), so it is in a record only if asked for; no URL,
//! password or bound value ever is.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use log::kv::{Error as KvError, Key, Source, Value, VisitSource};
use log::{Level, Log, Metadata, Record};

use crate::dialect::Dialect;
use crate::error::Kind;
use crate::fault::{Code, Fault, FaultClass};
use crate::outcome::Phase;
use crate::settings::Setting;

/// The target of every record.
pub const TARGET: &str = "dbop";

/// The name of an operation in records: the given one, or the place of the call. It is displayed as
/// records show it.
///
/// ```
/// use dbop_core::Name;
///
/// assert_eq!(Name::Given("transfer").to_string(), "transfer");
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// From `operation("name")`.
    Given(&'a str),
    /// The file and line of the call to `run`.
    Call(&'static Location<'static>),
}

impl Name<'_> {
    /// Whether this is what it is in records.
    pub(crate) fn is(&self, shown: &str) -> bool {
        match self {
            Self::Given(name) => *name == shown,
            Self::Call(location) => shown
                .strip_prefix(location.file())
                .and_then(|rest| rest.strip_prefix(':')?.parse().ok())
                .is_some_and(|line: u32| line == location.line()),
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(name) => f.write_str(name),
            Self::Call(location) => write!(f, "{}:{}", location.file(), location.line()),
        }
    }
}

/// Something that happened to an operation. Each event has a log record, and
/// [observers](crate::Observer) are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub(crate) kind: EventKind,
    pub(crate) attempt: u32,
    pub(crate) fault: Option<Fault>,
    pub(crate) own: Option<Kind>,
    pub(crate) phase: Phase,
    /// Before the next attempt or question; or the wait for its turn, which is over.
    pub(crate) delay: Option<Duration>,
    pub(crate) rollback_fault: Option<Fault>,
    /// The attempt had no transaction.
    pub(crate) is_autocommit: bool,
}

/// What kind of event, and so which level and text of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// It is done.
    Succeeded,
    /// An attempt failed and will be retried.
    Retrying,
    /// The operation returned its own error: a normal answer, rolled back.
    Returned,
    /// The same, and PostgreSQL shows that a statement of the operation had failed before, although no
    /// database error is in what it returned. Reported once for each name of an operation.
    HidFailure,
    /// A database error that this nested operation escalates: the enclosing operation decides.
    Escalated,
    /// A database error, or an error of dbop's, that ends the operation.
    Failed,
    /// The same, because the retry budget had nothing left: it would have been retried.
    BudgetExhausted,
    /// The operation, or a method of its error, panicked. The panic continues after the rollback.
    Panicked,
    /// The answer to the commit was lost; dbop will ask the database for the outcome.
    Asking,
    /// The answer to the commit was lost, and the commit was confirmed.
    FoundCommitted,
    /// It is not known whether the work was committed.
    OutcomeUnknown,
    /// It has waited at its gate for its turn.
    Queued,
    /// It met a conflict, and its gate lets in so many at a time from now on.
    Limited(u32),
    /// A setting asked for with best effort is not supported here.
    SettingSkipped(Setting),
}

impl EventKind {
    /// The name used in spans: for example `retry`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "done",
            Self::Retrying => "retry",
            Self::Returned => "returned",
            Self::HidFailure => "hid_failure",
            Self::Escalated => "escalated",
            Self::Failed => "failed",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Panicked => "panicked",
            Self::Asking => "asking",
            Self::FoundCommitted => "found_committed",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Queued => "queued",
            Self::Limited(_) => "limited",
            Self::SettingSkipped(_) => "setting_skipped",
        }
    }

    /// Whether it says nothing of a failure: it is done, it has waited for its turn, its gate has closed, or
    /// a setting was skipped.
    ///
    /// ```
    /// use dbop_core::EventKind;
    ///
    /// assert!(EventKind::Queued.is_without_failure());
    /// assert!(!EventKind::Retrying.is_without_failure());
    /// ```
    #[must_use]
    pub const fn is_without_failure(self) -> bool {
        matches!(
            self,
            Self::Succeeded
                | Self::FoundCommitted
                | Self::Queued
                | Self::Limited(_)
                | Self::SettingSkipped(_)
        )
    }
}

impl Event {
    /// What kind of event this is.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        self.kind
    }

    /// The number of the attempt, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The database error behind it, if there is one.
    #[must_use]
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The delay before the next attempt or question. `None` for every other event; how long an operation has
    /// waited for its turn is [`waited`](Self::waited).
    #[must_use]
    pub const fn delay(&self) -> Option<Duration> {
        match self.kind {
            EventKind::Queued => None,
            _ => self.delay,
        }
    }

    /// How long the operation has waited at its gate for its turn, if that is what happened
    /// ([`EventKind::Queued`]).
    #[must_use]
    pub const fn waited(&self) -> Option<Duration> {
        match self.kind {
            EventKind::Queued => self.delay,
            _ => None,
        }
    }

    /// Whether the attempt had no transaction, as `without_transaction` asks for.
    #[must_use]
    pub const fn is_without_transaction(&self) -> bool {
        self.is_autocommit
    }

    /// The part of the attempt in which it happened. [`Phase::Body`] where no part failed.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The database error of the ROLLBACK that followed, if the ROLLBACK failed too.
    #[must_use]
    pub const fn rollback_fault(&self) -> Option<Fault> {
        self.rollback_fault
    }

    /// Whether the operation returned its own error, with which the database has nothing to do.
    #[must_use]
    pub const fn is_own_error(&self) -> bool {
        let is_error = !self.kind.is_without_failure() && !self.is_panic();
        is_error && self.fault.is_none() && self.own.is_none()
    }

    /// Whether it is an error of dbop's: one that says more than the database error behind it, such as
    /// that there is no connection.
    #[must_use]
    pub const fn is_dbop_error(&self) -> bool {
        self.own.is_some()
    }

    /// Whether a panic of the caller's code ends the operation.
    #[must_use]
    pub const fn is_panic(&self) -> bool {
        matches!(self.kind, EventKind::Panicked)
    }

    /// The setting that was skipped, if one was.
    #[must_use]
    pub const fn setting(&self) -> Option<Setting> {
        match self.kind {
            EventKind::SettingSkipped(setting) => Some(setting),
            _ => None,
        }
    }

    /// Whether it is an answer that callers expect: an error of the operation's own, or a constraint that is
    /// violated at the first attempt.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        match self.kind {
            EventKind::Returned | EventKind::HidFailure => true,
            EventKind::Failed => self.is_violated_constraint(),
            _ => false,
        }
    }

    /// Whether a constraint refused what was asked for. That was not the answer if it was tried again.
    const fn is_violated_constraint(&self) -> bool {
        matches!(self.fault, Some(fault) if matches!(fault.class(), FaultClass::Constraint))
            && self.own.is_none()
            && self.rollback_fault.is_none()
            && self.attempt == 1
    }

    fn is_transient(&self) -> bool {
        self.fault.is_some_and(|fault| fault.class().is_transient())
    }
}

/// The level of each kind of record.
///
/// ```
/// use dbop_core::LogLevels;
/// use log::Level;
///
/// const LEVELS: LogLevels = LogLevels::DEFAULT.with_retry(Level::Info);
/// assert_eq!(LEVELS.retry, Level::Info);
/// assert_eq!(LEVELS.failure, Level::Error);
/// ```
///
/// # Default
///
/// [`LogLevels::DEFAULT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLevels {
    /// Success at the first attempt. Also that the operation has waited at its gate for its turn.
    pub success: Level,
    /// Success after retries, and a COMMIT that was confirmed after its answer was lost.
    pub success_after_retries: Level,
    /// A failed attempt that is retried. Also a nested operation's error that is escalated, a question
    /// about a COMMIT whose answer was lost, a setting that was skipped, an error that hides a failed
    /// statement, a gate that lets in fewer at a time after a conflict, and an observer that panicked.
    pub retry: Level,
    /// Answers that callers expect: the operation's own errors, `RollbackTransaction`, `NotFound`, and
    /// constraints that are violated at the first attempt. A user name that is taken is no reason to wake
    /// anyone.
    pub own_error: Level,
    /// An error of the database or of dbop that ends the operation, an unknown outcome, and a panic.
    pub failure: Level,
}

impl LogLevels {
    /// DEBUG for success and for answers that callers expect, such as a violated constraint, INFO for
    /// success after retries, WARN for a retry and what else has its level, ERROR for giving up.
    pub const DEFAULT: Self = Self {
        success: Level::Debug,
        success_after_retries: Level::Info,
        retry: Level::Warn,
        own_error: Level::Debug,
        failure: Level::Error,
    };

    /// INFO for every success, WARN for a retry and what else has its level, ERROR for every other
    /// error.
    pub const DONE_IS_INFO: Self = Self {
        success: Level::Info,
        success_after_retries: Level::Info,
        retry: Level::Warn,
        own_error: Level::Error,
        failure: Level::Error,
    };

    /// Sets the level of success at the first attempt, and of a wait at a gate. Defaults to DEBUG.
    #[must_use]
    pub const fn with_success(mut self, level: Level) -> Self {
        self.success = level;
        self
    }

    /// Sets the level of success after retries, and of a COMMIT that was confirmed after its answer was
    /// lost. Defaults to INFO.
    #[must_use]
    pub const fn with_success_after_retries(mut self, level: Level) -> Self {
        self.success_after_retries = level;
        self
    }

    /// Sets the level of a failed attempt that is followed by another one, of an error that is
    /// escalated, of a question about a lost COMMIT, of a skipped setting, of an error that hides a failed
    /// statement, of a gate that lets in fewer at a time, and of an observer that panicked. Defaults to WARN.
    #[must_use]
    pub const fn with_retry(mut self, level: Level) -> Self {
        self.retry = level;
        self
    }

    /// Sets the level of the operation's own errors, `RollbackTransaction`, `NotFound`, and constraints
    /// that are violated at the first attempt. Defaults to DEBUG.
    #[must_use]
    pub const fn with_own_error(mut self, level: Level) -> Self {
        self.own_error = level;
        self
    }

    /// Sets the level of an error of the database or of dbop that ends the operation, of an unknown
    /// outcome, and of a panic. Defaults to ERROR.
    #[must_use]
    pub const fn with_failure(mut self, level: Level) -> Self {
        self.failure = level;
        self
    }
}

impl Default for LogLevels {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Where records go and what they contain.
///
/// # Default
///
/// The global logger of the `log` crate, [`LogLevels::DEFAULT`], no server messages.
#[derive(Clone, Default)]
pub struct Logging {
    /// Instead of the global logger.
    pub logger: Option<Arc<dyn Log>>,
    /// The level of each kind of record.
    pub levels: LogLevels,
    /// Adds the server's message, which can quote values, under the key `error`.
    pub server_messages: bool,
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging")
            .field("logger", &self.logger.as_ref().map_or("global", |_| "own"))
            .field("levels", &self.levels)
            .field("server_messages", &self.server_messages)
            .finish()
    }
}

/// Which operation something is said about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub(crate) name: Name<'a>,
    pub(crate) dialect: Dialect,
    pub(crate) mode: &'static str,
}

impl<'a> Subject<'a> {
    /// `mode` is `sync` or `async`.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: Name<'a>, dialect: Dialect, mode: &'static str) -> Self {
        Self {
            name,
            dialect,
            mode,
        }
    }

    /// The operation's name.
    #[must_use]
    pub const fn name(&self) -> Name<'a> {
        self.name
    }

    /// The database.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The adapter: `sync` or `async`.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        self.mode
    }
}

impl Logging {
    /// Writes the record of an event. `message` is the server's, and is used only if
    /// [`server_messages`](Self::server_messages) is set.
    pub fn record(&self, subject: &Subject<'_>, event: &Event, message: Option<&dyn fmt::Display>) {
        let keys = Keys {
            subject,
            event,
            message: message.filter(|_| self.server_messages),
        };
        let text = format_args!("{}: {}", subject.name, Text(event));
        self.write(self.level(event), text, &keys);
    }

    /// Whether the log may take the record of a success at this attempt.
    pub(crate) fn takes_success(&self, attempt: u32) -> bool {
        self.logger.is_some() || self.level_of_success(attempt) <= log::max_level()
    }

    const fn level_of_success(&self, attempt: u32) -> Level {
        match attempt {
            1 => self.levels.success,
            _ => self.levels.success_after_retries,
        }
    }

    /// Writes that an observer has panicked.
    pub(crate) fn record_observers_panic(&self, subject: &Subject<'_>) {
        let text = format_args!(
            "{}: an observer panicked; that and its further panics are ignored",
            subject.name
        );
        self.write(self.levels.retry, text, &SubjectKeys(subject));
    }

    fn write(&self, level: Level, text: fmt::Arguments<'_>, keys: &dyn Source) {
        let logger: &dyn Log = match &self.logger {
            Some(logger) => logger.as_ref(),
            None if level > log::max_level() => return,
            None => log::logger(),
        };
        let metadata = Metadata::builder().level(level).target(TARGET).build();
        if !logger.enabled(&metadata) {
            return;
        }
        logger.log(
            &Record::builder()
                .metadata(metadata)
                .args(text)
                .module_path_static(Some(module_path!()))
                .key_values(&keys)
                .build(),
        );
    }

    /// The level of an event's record.
    #[must_use]
    pub const fn level(&self, event: &Event) -> Level {
        match event.kind {
            EventKind::Succeeded => self.level_of_success(event.attempt),
            EventKind::FoundCommitted => self.levels.success_after_retries,
            EventKind::Asking
            | EventKind::Retrying
            | EventKind::Escalated
            | EventKind::HidFailure
            | EventKind::Limited(_)
            | EventKind::SettingSkipped(_) => self.levels.retry,
            EventKind::Queued => self.levels.success,
            EventKind::Returned => self.levels.own_error,
            EventKind::Failed if event.is_violated_constraint() => self.levels.own_error,
            EventKind::Failed
            | EventKind::BudgetExhausted
            | EventKind::Panicked
            | EventKind::OutcomeUnknown => self.levels.failure,
        }
    }
}

/// The text of a record, without the operation's name.
struct Text<'a>(&'a Event);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        if let EventKind::SettingSkipped(setting) = event.kind {
            return write!(f, "{setting} is not supported here; skipped");
        }
        match (event.kind, event.attempt) {
            (EventKind::Succeeded, 1) => return f.write_str("done"),
            (EventKind::Succeeded, attempt) => return write!(f, "done in attempt {attempt}"),
            (EventKind::FoundCommitted, attempt) => {
                return write!(
                    f,
                    "attempt {attempt}: commit confirmed after its answer was lost"
                );
            }
            (EventKind::Limited(limit), _) => {
                return write!(f, "conflicts: from now on {limit} at a time");
            }
            (EventKind::Queued, _) => {
                let waited = event.waited().unwrap_or_default().as_millis();
                return write!(f, "waited {waited} ms for its turn");
            }
            (_, attempt) => write!(f, "attempt {attempt}: ")?,
        }
        match event.fault {
            None => match (event.kind, event.own) {
                (EventKind::Panicked, _) => f.write_str("the operation panicked")?,
                (_, Some(own)) => fmt::Display::fmt(&own, f)?,
                (_, None) => f.write_str("the operation returned an error")?,
            },
            Some(fault) => {
                f.write_str(fault.class().as_str())?;
                if let Some(code) = fault.code() {
                    write!(f, " ({code})")?;
                }
                write!(f, " in {}", event.phase)?;
            }
        }
        match (event.kind, event.delay) {
            (EventKind::Retrying, Some(delay)) => {
                write!(f, ", retrying in {} ms", delay.as_millis())
            }
            (EventKind::Asking, Some(delay)) => write!(
                f,
                ", unknown whether it was committed, asking in {} ms",
                delay.as_millis()
            ),
            (EventKind::OutcomeUnknown, _) => {
                f.write_str(", unknown whether it was committed, giving up")
            }
            (EventKind::Returned, _) if event.is_autocommit => {
                f.write_str(", with no transaction to roll back")
            }
            (EventKind::Returned, _) => f.write_str(", rolled back"),
            (EventKind::HidFailure, _) => f.write_str(
                ", rolled back; a statement had failed, which the error does not show, so that no \
                 fault of the database can be retried (see OperationError)",
            ),
            (EventKind::Escalated, _) => f.write_str(", escalated to the enclosing operation"),
            (EventKind::Panicked, _) => Ok(()),
            (EventKind::BudgetExhausted, _) => {
                f.write_str(", giving up: the retry budget is spent")
            }
            _ => f.write_str(", giving up"),
        }
    }
}

/// The keys of a record. `operation`, `backend`, `mode` and `attempt` are always there, `phase` and
/// `transient` where there is a failure.
struct Keys<'a> {
    subject: &'a Subject<'a>,
    event: &'a Event,
    message: Option<&'a dyn fmt::Display>,
}

impl Source for Keys<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), KvError> {
        let event = self.event;
        visit_subject(self.subject, visitor)?;
        let mut pair =
            |key: &'static str, value: Value<'kvs>| visitor.visit_pair(Key::from_str(key), value);
        pair("attempt", event.attempt.into())?;
        if let Some(fault) = &event.fault {
            pair("class", fault.class().as_str().into())?;
            if fault.recognized_class() != fault.class() {
                pair("recognized", fault.recognized_class().as_str().into())?;
            }
            if let Some(code) = fault.code_ref() {
                pair("code", code_value(code))?;
            }
        }
        if !event.kind.is_without_failure() {
            pair("phase", event.phase.as_str().into())?;
            pair("transient", event.is_transient().into())?;
        }
        for (key, time) in [("delay_ms", event.delay()), ("waited_ms", event.waited())] {
            if let Some(time) = time {
                pair(
                    key,
                    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into(),
                )?;
            }
        }
        if event.is_autocommit {
            pair("scope", "autocommit".into())?;
        }
        if let Some(fault) = &event.rollback_fault {
            pair("rollback", fault.class().as_str().into())?;
        }
        if let EventKind::Limited(limit) = event.kind {
            pair("limit", limit.into())?;
        }
        if let EventKind::SettingSkipped(setting) = event.kind {
            pair("setting", setting.as_str().into())?;
        }
        if let Some(message) = &self.message {
            pair("error", Value::from_dyn_display(message))?;
        }
        Ok(())
    }
}

/// The keys of a record that is not about an event.
struct SubjectKeys<'a>(&'a Subject<'a>);

impl Source for SubjectKeys<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), KvError> {
        visit_subject(self.0, visitor)
    }
}

/// The keys that are always there.
fn visit_subject<'kvs>(
    subject: &'kvs Subject<'kvs>,
    visitor: &mut dyn VisitSource<'kvs>,
) -> Result<(), KvError> {
    let mut pair =
        |key: &'static str, value: Value<'kvs>| visitor.visit_pair(Key::from_str(key), value);
    pair("operation", Value::from_display(&subject.name))?;
    pair("backend", subject.dialect.as_str().into())?;
    pair("mode", subject.mode.into())
}

/// A code as a value: numbers as numbers.
fn code_value(code: &Code) -> Value<'_> {
    match code {
        Code::SqlState(state) => state.as_str().into(),
        Code::Errno(errno) => (*errno).into(),
        Code::Sqlite(code) => (*code).into(),
    }
}

#[cfg(test)]
mod tests;
