//! The loop: does what the machine says.

use std::panic::{AssertUnwindSafe, resume_unwind};

use dbop_core::{BodyEnd, Machine, SessionBefore, Start, Step};
use dbop_diesel::SupportedBackend as _;
use dbop_diesel::adapter::{Call, Failed, Summary, answer, depth, refused};
use diesel::result::Error as DieselError;
use futures_util::FutureExt as _;

use crate::connection::{Guard, clear_statement_cache, execute, status};
use crate::{Body, Clock, Connection, FailedAttempt, OperationError, Report, SupportedBackend};

/// Runs an operation. The failed attempts are kept in `story`, if there is one.
pub(crate) async fn drive<C, T, E, F>(
    call: Call<'_>,
    clock: &dyn Clock,
    conn: &mut C,
    mut operation: F,
    fallback: Option<T>,
    mut story: Option<&mut Vec<FailedAttempt<E>>>,
) -> (Result<T, E>, Summary)
where
    C: Connection,
    T: Send,
    E: OperationError + Send,
    F: for<'r> Body<&'r mut C, Result<T, E>>,
{
    let dialect = C::Backend::DIALECT;
    let Some(base) = depth(status(conn)) else {
        return refused(DieselError::BrokenTransactionManager.into());
    };
    let start = Start::join(std::ptr::from_mut(status(conn)).addr(), base, &call.policy);
    let mut guard = Guard::new(conn);
    let before = if dialect.needs_session_before(&call.settings) {
        match <C::Backend as SupportedBackend>::session_before(guard.conn).await {
            Ok(before) => before,
            Err(error) => {
                guard.disarm();
                return refused(error.into());
            }
        }
    } else {
        SessionBefore::default()
    };
    let batches = match call.batches(dialect, &start, before) {
        Ok(batches) => batches,
        Err(error) => {
            guard.disarm();
            return refused(error);
        }
    };
    let mut machine = Machine::new(start, &batches, call.policy, call.settings.read_only);

    let mut value = None;
    let mut panic = None;
    let mut failed = Failed::default();
    loop {
        match machine.step() {
            Step::Batch(batch) => {
                let purpose = batch.purpose;
                let result = execute(guard.conn, batch, base).await;
                machine.batch_done(result.map_err(|e| failed.in_batch(dialect, purpose, e)));
            }
            Step::Body => {
                // The user's code is in here: the clone, the body, and what the error says.
                let (operation, conn) = (&mut operation, &mut *guard.conn);
                let (value, failed) = (&mut value, &mut failed);
                let attempt = AssertUnwindSafe(async move {
                    let attempt = operation.clone();
                    match attempt(conn).await {
                        Ok(returned) => {
                            *value = Some(returned);
                            BodyEnd::Ok
                        }
                        Err(error) => failed.in_body(dialect, error),
                    }
                });
                let end = attempt.catch_unwind().await.unwrap_or_else(|payload| {
                    panic = Some(payload);
                    BodyEnd::Panicked
                });
                machine.body_done(end, depth(status(guard.conn)));
            }
            Step::Report(event) => call.record(dialect, &event, &failed),
            Step::Pause {
                delay,
                clear_statement_cache: clear,
            } => {
                value = None;
                failed.tell(story.as_deref_mut());
                if clear {
                    clear_statement_cache(guard.conn);
                }
                if !delay.is_zero() {
                    clock.sleep(delay).await;
                }
            }
            Step::Done(done) => {
                if done.connection_broken {
                    status(guard.conn).set_in_error();
                }
                guard.disarm();
                if let Some(payload) = panic {
                    drop(machine);
                    resume_unwind(payload);
                }
                return answer(done, value, fallback, failed, story);
            }
        }
    }
}

/// Runs an operation and tells the whole story.
pub(crate) async fn report<C, T, E, F>(
    call: Call<'_>,
    clock: &dyn Clock,
    conn: &mut C,
    operation: F,
    fallback: Option<T>,
) -> Report<T, E>
where
    C: Connection,
    T: Send,
    E: OperationError + Send,
    F: for<'r> Body<&'r mut C, Result<T, E>>,
{
    let started = clock.now();
    let mut failures = Vec::new();
    let (result, summary) =
        drive(call, clock, conn, operation, fallback, Some(&mut failures)).await;
    Report {
        result,
        failures,
        attempts: summary.attempts,
        stop: summary.stop,
        outcome: summary.outcome,
        elapsed: clock.now().saturating_duration_since(started),
    }
}
