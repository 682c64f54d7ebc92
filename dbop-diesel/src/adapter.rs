//! What the sync and the async adapter share. For dbop-diesel-async, not for applications: it can
//! change in every release.

use std::borrow::Cow;
use std::fmt::Display;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use dbop_core::{
    Advice, Answer, Batches, BodyEnd, Config, Dialect, Done, Entry, Event, Fault, FaultClass,
    Ledger, Machine, Name, Outcome, Purpose, Resolution, RetryPolicy, SavedPragmas, Settings,
    Start, StopReason, Subject, Terms, Verified,
};
use diesel::QueryResult;
use diesel::connection::{InstrumentationEvent, TransactionDepthChange, TransactionManagerStatus};
use diesel::result::Error as DieselError;

use crate::{ConnectError, FailedAttempt, OperationError, fault_of};

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// Everything about a run but the connection, the operation and the clock.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The runner's configuration.
    pub config: &'a Config,
    /// What the operation is called.
    pub name: Name<'a>,
    /// What it asks for.
    pub settings: Settings,
    /// How often it may be tried.
    pub policy: RetryPolicy,
    /// Whether its work done twice is the same as done once.
    pub idempotent: bool,
    /// How to find out what became of a commit whose answer was lost.
    pub resolution: Resolution,
    /// Where its token is, if it has one.
    pub ledger: Option<&'a Ledger>,
    /// How long it may take, all attempts together.
    pub deadline: Option<Duration>,
    /// The lock timeout of each attempt, if they differ.
    pub lock_timeouts: &'a [Duration],
    /// `sync` or `async`.
    pub mode: &'static str,
}

impl<'a> Call<'a> {
    /// What the machine has to know about it. It begins now; the clock is not read without need.
    ///
    /// # Errors
    ///
    /// If it asks for something that is not valid or not supported.
    pub fn terms<E: OperationError>(
        &self,
        dialect: Dialect,
        fresh_connections: bool,
        now: impl FnOnce() -> Instant,
    ) -> Result<Terms<'a>, E> {
        let default = self.config.defaults().deadline;
        let default = default.filter(|_| self.deadline.is_none());
        let at = match self.deadline.or(default) {
            Some(deadline) => {
                dbop_core::check_deadline(deadline).map_err(E::from_dbop)?;
                now().checked_add(deadline)
            }
            None => None,
        };
        let terms = Terms {
            read_only: self.settings.read_only,
            idempotent: self.idempotent,
            fresh_connections,
            resolution: self.resolution,
            deadline: at.filter(|_| default.is_none()),
            default_deadline: at.filter(|_| default.is_some()),
            lock_timeouts: self.lock_timeouts,
        };
        terms.check(dialect).map_err(E::from_dbop)?;
        Ok(terms)
    }

    /// Begins on a connection, with what was read from its session.
    ///
    /// # Errors
    ///
    /// If that could not be read, or a setting is not valid or not supported. Not where the operation
    /// has had a connection before: then this one is of no use, and what became of the attempts so
    /// far decides.
    pub fn begin<E: OperationError>(
        &self,
        machine: &mut Machine<'a>,
        failed: &mut Failed<E>,
        start: Start,
        before: QueryResult<SavedPragmas>,
        entry: Option<&Entry<'_>>,
    ) -> Result<(), E> {
        let dialect = machine.dialect();
        let before = match before {
            Ok(before) => before,
            Err(error) if machine.has_begun() => {
                failed.in_start(machine, error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let batches = match machine.spare_batches(&start, before) {
            Some(batches) => Ok(batches),
            None => self.batches(dialect, &start, before, entry),
        };
        match batches {
            Ok(batches) => machine.connected(start, batches),
            Err(error) if machine.has_begun() => failed.in_start(machine, error),
            Err(error) => return Err(E::from_dbop(error)),
        }
        Ok(())
    }

    /// The SQL of the operation on a connection.
    fn batches(
        &self,
        dialect: Dialect,
        start: &Start,
        before: SavedPragmas,
        entry: Option<&Entry<'_>>,
    ) -> Result<Cow<'a, Batches>, dbop_core::Error> {
        let batches = self
            .config
            .batches(dialect, start, &self.settings, before)?;
        Ok(match (entry, self.resolution) {
            (Some(entry), _) => Cow::Owned(batches.into_owned().with_token(entry)),
            (None, Resolution::TransactionStatus) => Cow::Owned(batches.into_owned().with_mark()),
            _ => batches,
        })
    }

    /// Writes the record of an event.
    pub fn record<E: OperationError>(&self, dialect: Dialect, event: &Event, failed: &Failed<E>) {
        let subject = Subject {
            name: self.name,
            dialect,
            mode: self.mode,
        };
        self.config
            .logging()
            .record(&subject, event, failed.message());
    }
}

/// How a run ended, but for its result.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// How many attempts were begun.
    pub attempts: u32,
    /// Why there was no further one.
    pub stop: StopReason,
    /// What became of the work.
    pub outcome: Outcome,
}

/// The answer to a run that cannot even begin.
pub fn refused<T, E>(error: E) -> (Result<T, E>, Summary) {
    let summary = Summary {
        attempts: 0,
        stop: StopReason::NotRetryable,
        outcome: Outcome::Undone,
    };
    (Err(error), summary)
}

/// The answer to a run that is done, unless it panicked.
pub fn answer<T, E: OperationError>(
    done: Done,
    value: Option<T>,
    fallback: Option<T>,
    mut failed: Failed<E>,
    story: Option<&mut Vec<FailedAttempt<E>>>,
) -> (Result<T, E>, Summary) {
    let summary = Summary {
        attempts: done.attempts,
        stop: done.stop,
        outcome: done.outcome,
    };
    let error = match (done.answer, value) {
        (Answer::Value, Some(value)) => {
            // What was survived within the attempt is a part of the story.
            if failed.first.is_some() {
                failed.tell(story);
            }
            return (Ok(value), summary);
        }
        (Answer::Own(error), _) => E::from_dbop(failed.explain(error)),
        _ => failed.take_error(),
    };
    let result = match fallback.filter(|_| done.fallback_allowed) {
        Some(fallback) => {
            failed.first = Some(First::Operation(error));
            Ok(fallback)
        }
        None => Err(error),
    };
    failed.tell(story);
    (result, summary)
}

/// What went wrong in the current attempt.
#[derive(Debug)]
pub struct Failed<E> {
    first: Option<First<E>>,
    fault: Option<Fault>,
    rollback_error: Option<DieselError>,
}

/// The first error of an attempt: the one that is reported.
#[derive(Debug)]
enum First<E> {
    Operation(E),
    Batch(DieselError),
    Connect(ConnectError),
}

impl<E> Default for Failed<E> {
    fn default() -> Self {
        Self {
            first: None,
            fault: None,
            rollback_error: None,
        }
    }
}

impl<E: OperationError> Failed<E> {
    /// Keeps the error of a batch, unless it only follows from an earlier one.
    pub fn in_batch(&mut self, dialect: Dialect, purpose: Purpose, error: DieselError) -> Fault {
        let fault = fault_of(dialect, &error)
            .unwrap_or_else(|| Fault::from_class(dialect, FaultClass::Unknown));
        match purpose {
            Purpose::Begin => self.keep(fault, First::Batch(error)),
            Purpose::Commit | Purpose::CommitAgain => {
                self.fault = Some(fault);
                self.first = Some(First::Batch(error));
            }
            _ => _ = self.rollback_error.get_or_insert(error),
        }
        fault
    }

    /// Keeps the error of a query.
    pub fn in_query(&mut self, dialect: Dialect, error: DieselError) -> Fault {
        self.in_batch(dialect, Purpose::Begin, error)
    }

    /// Keeps the error of connecting.
    pub fn in_connect(&mut self, dialect: Dialect, error: ConnectError) -> (Fault, Advice) {
        let (fault, advice) = error.fault(dialect);
        self.keep(fault, First::Connect(error));
        (fault, advice)
    }

    /// The connection that there is is of no use.
    pub fn in_start(
        &mut self,
        machine: &mut Machine<'_>,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) {
        let (fault, advice) = self.in_connect(machine.dialect(), ConnectError::new(error));
        machine.connect_failed(fault, advice);
    }

    /// What is asked about an attempt can fail too, but does not change what went wrong in it.
    fn keep(&mut self, fault: Fault, first: First<E>) {
        if self.first.is_none() {
            self.fault = Some(fault);
            self.first = Some(first);
        }
    }

    /// Keeps the error of the operation.
    pub fn in_body(&mut self, dialect: Dialect, error: E) -> BodyEnd {
        self.fault = error
            .diesel_error()
            .and_then(|error| fault_of(dialect, error));
        let end = BodyEnd::Failed {
            fault: self.fault,
            advice: error.advice(),
        };
        self.first = Some(First::Operation(error));
        end
    }

    /// Ends the attempt: into the story, if there is one.
    pub fn tell(&mut self, story: Option<&mut Vec<FailedAttempt<E>>>) {
        let failed = std::mem::take(self);
        if let Some(story) = story {
            story.push(FailedAttempt {
                error: failed.first.map(First::into_error),
                fault: failed.fault,
                rollback_error: failed.rollback_error,
            });
        }
    }

    /// The server's message.
    fn message(&self) -> Option<&dyn Display> {
        let error = match self.first.as_ref()? {
            First::Operation(error) => error.diesel_error()?,
            First::Batch(error) => error,
            First::Connect(error) => return Some(error),
        };
        Some(error)
    }

    /// Attaches the first error: the batch's, or the text of the operation's, which may not be
    /// taken out of it.
    fn explain(&mut self, error: dbop_core::Error) -> dbop_core::Error {
        match self.first.take() {
            Some(First::Batch(cause)) => error.with_source(cause),
            Some(First::Connect(cause)) => error.with_source(cause.into_source()),
            Some(First::Operation(cause)) => {
                let text = cause.diesel_error().map(ToString::to_string);
                self.first = Some(First::Operation(cause));
                match text {
                    Some(text) => error.with_source(text),
                    None => error,
                }
            }
            None => error,
        }
    }

    fn take_error(&mut self) -> E {
        match self.first.take() {
            Some(first) => first.into_error(),
            // The connection broke and the operation said Ok.
            None => DieselError::BrokenTransactionManager.into(),
        }
    }
}

impl<E: OperationError> First<E> {
    fn into_error(self) -> E {
        match self {
            Self::Operation(error) => error,
            Self::Batch(error) => error.into(),
            Self::Connect(error) => {
                E::from_dbop(dbop_core::Error::no_connection(error.into_source()))
            }
        }
    }
}

/// What the caller's look for the work of an attempt has found.
pub fn verified<E: OperationError>(dialect: Dialect, result: Result<bool, E>) -> Verified {
    match result {
        Ok(committed) => Verified::Committed(committed),
        Err(error) => Verified::Failed {
            fault: error
                .diesel_error()
                .and_then(|error| fault_of(dialect, error)),
            advice: error.advice(),
        },
    }
}

/// How many transactions and savepoints are open; `None` if the transaction manager is broken.
pub fn depth(status: &TransactionManagerStatus) -> Option<u32> {
    let depth = status.transaction_depth().ok()?;
    Some(depth.map_or(0, NonZeroU32::get))
}

/// What Diesel's instrumentation is told about a batch of an operation that began at `base` open
/// transactions and savepoints: what it would be told about Diesel's own.
#[must_use]
pub fn instrumentation_event(purpose: Purpose, base: u32) -> Option<InstrumentationEvent<'static>> {
    let level = NonZeroU32::MIN.saturating_add(base);
    match purpose {
        Purpose::Begin => Some(InstrumentationEvent::begin_transaction(level)),
        Purpose::Commit => Some(InstrumentationEvent::commit_transaction(level)),
        Purpose::Rollback => Some(InstrumentationEvent::rollback_transaction(level)),
        Purpose::CommitAgain | Purpose::RollbackAgain | Purpose::Ask | Purpose::Contain => None,
    }
}

/// Puts the status of the transaction manager back after a batch, and changes its depth.
///
/// While a batch is under way, the status is `InError` in its place, so that a connection on which
/// the answer was never awaited refuses every further transaction, and pools throw it away.
///
/// # Errors
///
/// The error of the batch.
pub fn settle(
    status: &mut TransactionManagerStatus,
    saved: TransactionManagerStatus,
    dialect: Dialect,
    purpose: Purpose,
    base: u32,
    result: QueryResult<()>,
) -> QueryResult<()> {
    // Whatever the connection made of the batch by itself: what counts is what we know.
    *status = saved;
    let TransactionManagerStatus::Valid(valid) = status else {
        return result;
    };
    match (purpose, &result) {
        (Purpose::Begin, Ok(())) => {
            valid.change_transaction_depth(TransactionDepthChange::IncreaseDepth)?;
            // When the server drops the whole transaction, the ROLLBACK TO of a nested transaction
            // of Diesel's own fails. With this, Diesel hands on the error that led to it.
            if dialect == Dialect::Mysql {
                status.set_requires_rollback_maybe_up_to_top_level(true);
            }
        }
        // Whatever the body left open goes with it; and a failed ROLLBACK leaves nothing that a
        // second one could roll back better.
        (Purpose::Commit | Purpose::CommitAgain, Ok(())) | (Purpose::Rollback, _) => {
            while valid.transaction_depth().map_or(0, NonZeroU32::get) > base {
                valid.change_transaction_depth(TransactionDepthChange::DecreaseDepth)?;
            }
            // A statement that failed in there is undone, so Diesel need not fear for the rest.
            if result.is_ok() && dialect != Dialect::Mysql {
                status.set_requires_rollback_maybe_up_to_top_level(false);
            }
        }
        _ => {}
    }
    result
}
