//! The loop: does what the machine says.

use std::borrow::Cow;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use dbop_core::{
    Answer, Batches, BodyEnd, Config, Done, Fault, FaultClass, Machine, Name, Outcome, Purpose,
    RetryPolicy, SessionBefore, Settings, Start, Step, StopReason, Subject,
};
use diesel::result::Error as DieselError;

use crate::connection::{clear_statement_cache, depth, execute, status};
use crate::{Clock, Connection, FailedAttempt, OperationError, SupportedBackend, fault_of};

/// Everything about a run but the connection and the operation.
pub(crate) struct Call<'a> {
    pub(crate) config: &'a Config,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) name: Name<'a>,
    pub(crate) settings: Settings,
    pub(crate) policy: RetryPolicy,
}

/// How a run ended, but for its result.
pub(crate) struct Summary {
    pub(crate) attempts: u32,
    pub(crate) stop: StopReason,
    pub(crate) outcome: Outcome,
}

/// Runs an operation. The failed attempts are kept in `story`, if there is one.
pub(crate) fn drive<C, T, E, F>(
    call: &Call<'_>,
    conn: &mut C,
    operation: F,
    fallback: Option<T>,
    mut story: Option<&mut Vec<FailedAttempt<E>>>,
) -> (Result<T, E>, Summary)
where
    C: Connection,
    E: OperationError,
    F: FnOnce(&mut C) -> Result<T, E> + Clone,
{
    let dialect = C::Backend::DIALECT;
    let Some(base) = depth(conn) else {
        return refused(DieselError::BrokenTransactionManager.into());
    };
    let key = std::ptr::from_mut(status(conn)).addr();
    let start = Start::join(key, base, &call.policy);
    let batches = match plan(call, conn, &start) {
        Ok(batches) => batches,
        Err(error) => return refused(error),
    };
    let mut machine = Machine::new(start, &batches, call.policy, call.settings.read_only);
    let subject = Subject {
        name: call.name,
        dialect,
        mode: "sync",
    };

    let mut value = None;
    let mut panic = None;
    let mut failed = Failed::default();
    loop {
        match machine.step() {
            Step::Batch(batch) => {
                let purpose = batch.purpose;
                let result = execute(conn, batch, base);
                machine.batch_done(result.map_err(|error| failed.in_batch::<C>(purpose, error)));
            }
            Step::Body => {
                let attempt = AssertUnwindSafe(|| operation.clone()(conn));
                let end = match catch_unwind(attempt) {
                    Ok(Ok(returned)) => {
                        value = Some(returned);
                        BodyEnd::Ok
                    }
                    Ok(Err(error)) => failed.in_body::<C>(error),
                    Err(payload) => {
                        panic = Some(payload);
                        BodyEnd::Panicked
                    }
                };
                machine.body_done(end, depth(conn));
            }
            Step::Report(event) => {
                call.config
                    .logging()
                    .record(&subject, &event, failed.message());
            }
            Step::Pause {
                delay,
                clear_statement_cache: clear,
            } => {
                value = None;
                failed.tell(story.as_deref_mut());
                if clear {
                    clear_statement_cache(conn);
                }
                if !delay.is_zero() {
                    call.clock.sleep(delay);
                }
            }
            Step::Done(done) => {
                if done.connection_broken {
                    status(conn).set_in_error();
                }
                if let Some(payload) = panic {
                    drop(machine);
                    resume_unwind(payload);
                }
                let summary = Summary {
                    attempts: done.attempts,
                    stop: done.stop,
                    outcome: done.outcome,
                };
                return (answer(done, value, fallback, failed, story), summary);
            }
        }
    }
}

/// The SQL of the operation on this connection.
fn plan<'a, C, E>(call: &Call<'a>, conn: &mut C, start: &Start) -> Result<Cow<'a, Batches>, E>
where
    C: Connection,
    E: OperationError,
{
    let dialect = C::Backend::DIALECT;
    let before = if dialect.needs_session_before(&call.settings) {
        C::Backend::session_before(conn)?
    } else {
        SessionBefore::default()
    };
    call.config
        .batches(dialect, start, &call.settings, before)
        .map_err(E::from_dbop)
}

/// The answer to a run that cannot even begin.
fn refused<T, E>(error: E) -> (Result<T, E>, Summary) {
    let summary = Summary {
        attempts: 0,
        stop: StopReason::NotRetryable,
        outcome: Outcome::Undone,
    };
    (Err(error), summary)
}

fn answer<T, E: OperationError>(
    done: Done,
    value: Option<T>,
    fallback: Option<T>,
    mut failed: Failed<E>,
    story: Option<&mut Vec<FailedAttempt<E>>>,
) -> Result<T, E> {
    let error = match (done.answer, value) {
        (Answer::Value, Some(value)) => return Ok(value),
        (Answer::Own(error), _) => E::from_dbop(match failed.take_batch_error() {
            Some(cause) => error.with_source(cause),
            None => error,
        }),
        _ => failed.take_error(),
    };
    let (result, replaced) = match fallback.filter(|_| done.fallback_allowed) {
        Some(fallback) => (Ok(fallback), Some(error)),
        None => (Err(error), None),
    };
    if let Some(error) = replaced {
        failed.first = Some(First::Operation(error));
    }
    failed.tell(story);
    result
}

/// What went wrong in the current attempt.
struct Failed<E> {
    first: Option<First<E>>,
    fault: Option<Fault>,
    rollback_error: Option<DieselError>,
}

/// The first error of an attempt: the one that is reported.
enum First<E> {
    Operation(E),
    Batch(DieselError),
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
    fn in_batch<C: Connection>(&mut self, purpose: Purpose, error: DieselError) -> Fault {
        let dialect = C::Backend::DIALECT;
        let fault = fault_of(dialect, &error)
            .unwrap_or_else(|| Fault::from_class(dialect, FaultClass::Unknown));
        match purpose {
            Purpose::Begin | Purpose::Commit => {
                self.fault = Some(fault);
                self.first = Some(First::Batch(error));
            }
            _ => _ = self.rollback_error.get_or_insert(error),
        }
        fault
    }

    fn in_body<C: Connection>(&mut self, error: E) -> BodyEnd {
        self.fault = error
            .diesel_error()
            .and_then(|error| fault_of(C::Backend::DIALECT, error));
        let end = BodyEnd::Failed {
            fault: self.fault,
            advice: error.advice(),
        };
        self.first = Some(First::Operation(error));
        end
    }

    /// The server's message.
    fn message(&self) -> Option<&dyn Display> {
        let error = match self.first.as_ref()? {
            First::Operation(error) => error.diesel_error()?,
            First::Batch(error) => error,
        };
        Some(error)
    }

    fn take_batch_error(&mut self) -> Option<DieselError> {
        match self.first.take()? {
            First::Batch(error) => Some(error),
            operation => {
                self.first = Some(operation);
                None
            }
        }
    }

    fn take_error(&mut self) -> E {
        match self.first.take() {
            Some(First::Operation(error)) => error,
            Some(First::Batch(error)) => error.into(),
            // The connection broke and the operation said Ok.
            None => DieselError::BrokenTransactionManager.into(),
        }
    }

    /// Ends the attempt: into the story, if there is one.
    fn tell(&mut self, story: Option<&mut Vec<FailedAttempt<E>>>) {
        let failed = std::mem::take(self);
        if let Some(story) = story {
            story.push(FailedAttempt {
                error: failed.first.map(|first| match first {
                    First::Operation(error) => error,
                    First::Batch(error) => error.into(),
                }),
                fault: failed.fault,
                rollback_error: failed.rollback_error,
            });
        }
    }
}
