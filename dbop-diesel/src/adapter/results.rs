//! What has the caller's types: the value and the errors of the body.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dbop_core::machine::{Answer, AttemptTimes, BodyEnd, Done, Times, Verified};
use dbop_core::{Advice, Fault, Outcome, StopReason};
use diesel::result::Error as DieselError;

use super::errors::AttemptErrors;
use super::run::{End, Ended, Panic, REFUSED, Refusal, Run};
use crate::error::OperationError;
use crate::report::{FailedAttempt, Report};

/// What the body returned in the current attempt, and the failed attempts before it where a report
/// is wanted.
#[derive(Debug)]
pub struct Results<T, E> {
    value: Option<T>,
    fallback: Option<T>,
    errors: UserErrors<E>,
}

/// The part that is the same for every type of value, compiled once for a type of error.
#[derive(Debug)]
struct UserErrors<E> {
    current: Option<E>,
    failures: Option<Vec<FailedAttempt<E>>>,
}

/// [`Results`] of any type, so that the loop is made once for each type of connection, not once for
/// each type of value.
pub trait UserResults {
    /// The Diesel error in the error that the body returned.
    fn diesel_error(&self) -> Option<&DieselError>;

    /// Leaves the attempt behind, with this delay before the next one: its value is void, and its errors
    /// are for the report.
    fn settle(&mut self, errors: AttemptErrors, delay: Duration, times: AttemptTimes);

    /// The body has failed with this Diesel error, in place of what it returned. `end` is what is told of
    /// that; without it, the error is judged like any other.
    #[cfg(feature = "testing")]
    fn fail_body(
        &mut self,
        run: &mut Run<'_>,
        error: DieselError,
        end: Option<BodyEnd>,
        depth: Option<u32>,
    );

    /// Itself, whether or not its type says that it is `Send`.
    fn as_dyn(&mut self) -> &mut dyn UserResults;
}

impl<T, E: OperationError> UserResults for Results<T, E> {
    fn diesel_error(&self) -> Option<&DieselError> {
        self.errors.current.as_ref()?.diesel_error()
    }

    fn settle(&mut self, errors: AttemptErrors, delay: Duration, times: AttemptTimes) {
        self.value = None;
        self.errors.move_into_report(errors, delay, times);
    }

    #[cfg(feature = "testing")]
    fn fail_body(
        &mut self,
        run: &mut Run<'_>,
        error: DieselError,
        end: Option<BodyEnd>,
        depth: Option<u32>,
    ) {
        self.value = None;
        let judged =
            caught(|| E::from(error)).and_then(|error| self.errors.body_failed(run, error));
        run.body_done(judged.map(|judged| end.unwrap_or(judged)), depth);
    }

    fn as_dyn(&mut self) -> &mut dyn UserResults {
        self
    }
}

impl<T, E: OperationError> Results<T, E> {
    /// Nothing yet.
    #[must_use]
    pub const fn new(fallback: Option<T>, wants_report: bool) -> Self {
        Self {
            value: None,
            fallback,
            errors: UserErrors {
                current: None,
                failures: if wants_report { Some(Vec::new()) } else { None },
            },
        }
    }

    /// The body has ended, or was cut off: `None`.
    pub fn body_done(
        &mut self,
        run: &mut Run<'_>,
        end: Result<Option<Result<T, E>>, Panic>,
        depth: Option<u32>,
    ) {
        let end = match end.and_then(|end| ended(run, end)) {
            Ok(Ok(value)) => {
                self.value = Some(value);
                Ok(BodyEnd::Ok)
            }
            Ok(Err(error)) => self.errors.body_failed(run, error),
            Err(payload) => Err(payload),
        };
        run.body_done(end, depth);
    }

    /// The report of a run that has ended.
    ///
    /// # Panics
    ///
    /// If the operation panicked: with its payload.
    pub fn report(&mut self, ended: Ended) -> Report<T, E> {
        let (end, errors, times) = ended.resume_panic();
        match end {
            End::Done(done) => {
                let (attempts, stop, outcome) = (done.attempts, done.stop, done.outcome);
                let result = self.answer(done, errors, times.last_attempt);
                self.with(result, attempts, stop, outcome, times)
            }
            End::Refused(Refusal::Own(error), attempts) => self.refused_by(error, attempts, times),
            End::Refused(Refusal::Database(error), attempts) => {
                self.refused_with(error.into(), attempts, times)
            }
        }
    }

    /// The report of a run that could not even begin.
    pub fn refused(&mut self, error: dbop_core::Error) -> Report<T, E> {
        self.refused_by(error, 0, Times::default())
    }

    fn refused_by(&mut self, error: dbop_core::Error, attempts: u32, times: Times) -> Report<T, E> {
        let error = error.after(attempts, REFUSED);
        self.refused_with(E::from_dbop(error), attempts, times)
    }

    fn refused_with(&mut self, error: E, attempts: u32, times: Times) -> Report<T, E> {
        self.with(Err(error), attempts, REFUSED, Outcome::Undone, times)
    }

    fn with(
        &mut self,
        result: Result<T, E>,
        attempts: u32,
        stop: StopReason,
        outcome: Outcome,
        times: Times,
    ) -> Report<T, E> {
        Report {
            result,
            failures: self.errors.failures.take().unwrap_or_default(),
            replayed: false,
            attempts,
            stop,
            outcome,
            elapsed: times.elapsed,
            paused: times.paused,
            queued: times.queued,
            connection_wait: times.connection_wait,
            last_elapsed: times.last_attempt.elapsed,
            last_connection_wait: times.last_attempt.connection_wait,
        }
    }

    fn answer(&mut self, done: Done, errors: AttemptErrors, times: AttemptTimes) -> Result<T, E> {
        if let (Answer::Value, Some(value)) = (&done.answer, self.value.take()) {
            // What was survived within the attempt is for the report.
            if !errors.is_empty() {
                self.errors.move_into_report(errors, Duration::ZERO, times);
            }
            return Ok(value);
        }
        match self.fallback.take().filter(|_| done.fallback_allowed) {
            Some(fallback) => {
                self.errors.replace(done.answer, errors, times);
                Ok(fallback)
            }
            None => Err(self.errors.take(done.answer, errors, times)),
        }
    }
}

impl<E: OperationError> UserErrors<E> {
    fn body_failed(&mut self, run: &Run<'_>, error: E) -> Result<BodyEnd, Panic> {
        // The caller's code, too.
        let end = caught(|| {
            let (fault, advice) = judged(run, &error);
            BodyEnd::Failed { fault, advice }
        })?;
        self.current = Some(error);
        Ok(end)
    }

    fn move_into_report(
        &mut self,
        mut errors: AttemptErrors,
        delay: Duration,
        times: AttemptTimes,
    ) {
        let error = match &mut self.failures {
            Some(_) => errors.take_first(&mut self.current),
            None => None,
        };
        self.current = None;
        if let Some(failures) = &mut self.failures {
            failures.push(FailedAttempt {
                error,
                fault: errors.fault,
                rollback_error: errors.rollback_error,
                elapsed: times.elapsed,
                connection_wait: times.connection_wait,
                delay,
            });
        }
    }

    /// The error of the run.
    fn take(&mut self, answer: Answer, mut errors: AttemptErrors, times: AttemptTimes) -> E {
        let error = self.last(answer, &mut errors);
        self.move_into_report(errors, Duration::ZERO, times);
        error
    }

    /// A fallback value takes the place of the error, which is for the report.
    fn replace(&mut self, answer: Answer, mut errors: AttemptErrors, times: AttemptTimes) {
        let error = self.last(answer, &mut errors);
        self.current = Some(error);
        errors.record_final_error();
        self.move_into_report(errors, Duration::ZERO, times);
    }

    fn last(&mut self, answer: Answer, errors: &mut AttemptErrors) -> E {
        match answer {
            Answer::Own(error) => E::from_dbop(errors.explain(error, self.current.as_ref())),
            _ => errors
                .take_first(&mut self.current)
                // The connection broke and the body returned Ok.
                .unwrap_or_else(|| DieselError::BrokenTransactionManager.into()),
        }
    }
}

/// The caller has looked for the work of the attempt, or was cut off: `None`.
pub fn verify_done<E: OperationError>(
    run: &mut Run<'_>,
    found: Result<Option<Result<bool, E>>, Panic>,
    depth: Option<u32>,
) {
    let found = found.and_then(|found| ended(run, found));
    let verified = found.and_then(|found| match found {
        Ok(committed) => Ok(Verified::Committed(committed)),
        Err(error) => caught(|| {
            let (fault, advice) = judged(run, &error);
            Verified::Failed { fault, advice }
        }),
    });
    run.verify_done(verified, depth);
}

/// What the user's code has returned. Where it was cut off, that is an error of the database.
fn ended<T, E: OperationError>(
    run: &mut Run<'_>,
    end: Option<Result<T, E>>,
) -> Result<Result<T, E>, Panic> {
    match end {
        Some(end) => Ok(end),
        None => {
            let error = run.silence();
            caught(|| Err(E::from(error)))
        }
    }
}

/// The database error in an error of the user's code, and what the error says about itself.
fn judged<E: OperationError>(run: &Run<'_>, error: &E) -> (Option<Fault>, Advice) {
    // What is inside an error of dbop's happened to another operation.
    if error.dbop_error().is_some() {
        return run.judged_error(None, error.advice());
    }
    if let Some(database_error) = error.diesel_error() {
        return run.judged_error(Some(database_error), error.advice());
    }
    run.judged_message(error.database_message().as_deref(), error.advice())
}

pub(super) fn caught<R>(code: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(code))
}
