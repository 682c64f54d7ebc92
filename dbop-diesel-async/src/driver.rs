//! The loop: does what the machine says.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use dbop_core::{BodyEnd, Entry, Handling, Ledger, Machine, Start, Step, Verified};
use dbop_diesel::SupportedBackend as _;
use dbop_diesel::adapter::{Call, Failed, Summary, answer, depth, refused, verified};
use diesel::result::Error as DieselError;
use diesel_async::AsyncConnectionCore;
use futures_util::FutureExt as _;

use crate::connection::{clear_statement_cache, execute, status};
use crate::hold::{Guard, Hold};
use crate::operation::Verify;
use crate::{Body, Clock, FailedAttempt, OperationError, Report, SupportedBackend};

type BackendOf<H> = <<H as Hold>::Conn as AsyncConnectionCore>::Backend;

/// Runs an operation. The failed attempts are kept in `story`, if there is one.
pub(crate) async fn drive<H, T, E, F, V>(
    call: Call<'_>,
    clock: &dyn Clock,
    hold: H,
    mut operation: F,
    mut verify: V,
    fallback: Option<T>,
    mut story: Option<&mut Vec<FailedAttempt<E>>>,
) -> (Result<T, E>, Summary)
where
    H: Hold,
    T: Send,
    E: OperationError + Send,
    F: for<'r> Body<&'r mut H::Conn, Result<T, E>>,
    V: Verify<H::Conn, E>,
{
    let dialect = BackendOf::<H>::DIALECT;
    let now = || clock.now().into_std();
    let terms = match call.terms(dialect, H::IS_FRESH, now) {
        Ok(terms) => terms,
        Err(error) => return refused(error),
    };
    let entry = call.ledger.map(Ledger::open);
    let mut guard = Guard::new(hold);
    // Dropped before the connection, whose address another one can have after that.
    let mut machine = Machine::new(dialect, call.policy, terms);

    let mut base = 0;
    let mut value = None;
    let mut panic = None;
    let mut failed = Failed::default();
    loop {
        if machine.is_timed() {
            machine.tell_time(now());
        }
        match machine.step() {
            Step::Connect => match guard.hold.connect(machine.time_left()).await {
                Ok(()) => {
                    let hold = &mut guard.hold;
                    match start(&call, &mut machine, hold, entry.as_ref(), &mut failed).await {
                        Ok(depth) => base = depth,
                        Err(error) => {
                            guard.disarm();
                            return refused(error);
                        }
                    }
                }
                Err(error) => {
                    let (fault, advice) = failed.in_connect(dialect, error);
                    if machine.is_timed() {
                        machine.tell_time(now());
                    }
                    machine.connect_failed(fault, advice);
                }
            },
            Step::Batch(batch) => {
                let purpose = batch.purpose;
                let result = execute(guard.hold.conn(), batch, base).await;
                machine.batch_done(result.map_err(|e| failed.in_batch(dialect, purpose, e)));
            }
            Step::Body => {
                // The user's code is in here: the clone, the body, and what the error says.
                let (operation, conn) = (&mut operation, guard.hold.conn());
                let (value, failed) = (&mut value, &mut failed);
                let attempt = async move {
                    let attempt = operation.clone();
                    match attempt(conn).await {
                        Ok(returned) => {
                            *value = Some(returned);
                            BodyEnd::Ok
                        }
                        Err(error) => failed.in_body(dialect, error),
                    }
                };
                let end = caught(attempt, &mut panic).await;
                let end = end.unwrap_or(BodyEnd::Panicked);
                machine.body_done(end, depth(status(guard.hold.conn())));
            }
            Step::ReadId => {
                let conn = guard.hold.conn();
                let result = <BackendOf<H> as SupportedBackend>::current_transaction(conn).await;
                machine.id_done(result.map_err(|error| failed.in_query(dialect, error)));
            }
            Step::Read(sql) => {
                let conn = guard.hold.conn();
                let result = <BackendOf<H> as SupportedBackend>::read_text(conn, sql).await;
                machine.read_done(result.map_err(|error| failed.in_query(dialect, error)));
            }
            Step::Verify => {
                let (verify, conn) = (&mut verify, guard.hold.conn());
                let look = async move { verified(dialect, verify.verify(conn).await) };
                let found = caught(look, &mut panic).await;
                let found = found.unwrap_or(Verified::Panicked);
                machine.verify_done(found, depth(status(guard.hold.conn())));
            }
            Step::Report(event) => call.record(dialect, &event, &failed),
            Step::Pause(pause) => {
                if pause.settled {
                    value = None;
                    failed.tell(story.as_deref_mut());
                }
                match pause.connection {
                    Handling::ClearStatementCache => clear_statement_cache(guard.hold.conn()),
                    handling => guard.hold.let_go(handling),
                }
                if !pause.delay.is_zero() {
                    clock.sleep(pause.delay).await;
                }
            }
            Step::Done(done) => {
                drop(machine);
                if done.connection_broken {
                    guard.hold.let_go(Handling::Discard);
                }
                guard.disarm();
                if let Some(entry) = entry {
                    entry.close(done.outcome);
                }
                if let Some(payload) = panic {
                    resume_unwind(payload);
                }
                return answer(done, value, fallback, failed, story);
            }
        }
    }
}

/// Begins on a connection: how many transactions and savepoints are open on it?
async fn start<'a, H: Hold, E: OperationError>(
    call: &Call<'a>,
    machine: &mut Machine<'a>,
    hold: &mut H,
    entry: Option<&Entry<'_>>,
    failed: &mut Failed<E>,
) -> Result<u32, E> {
    let dialect = BackendOf::<H>::DIALECT;
    let conn = hold.conn();
    let Some(base) = depth(status(conn)) else {
        if !H::IS_FRESH {
            return Err(DieselError::BrokenTransactionManager.into());
        }
        hold.let_go(Handling::Discard);
        failed.in_start(machine, DieselError::BrokenTransactionManager);
        return Ok(0);
    };
    let key = std::ptr::from_mut(status(conn)).addr();
    let start = Start::join(key, base, machine.retries_left());
    let needs = dialect.pragmas_to_read(&call.settings, call.config.defaults(), machine.is_timed());
    let before = <BackendOf<H> as SupportedBackend>::session_before(conn, needs).await;
    call.begin(machine, failed, start, before, entry)?;
    Ok(base)
}

/// Runs the user's code. What it panics with is kept.
async fn caught<R>(
    code: impl Future<Output = R> + Send,
    panic: &mut Option<Box<dyn Any + Send>>,
) -> Option<R> {
    let result = AssertUnwindSafe(code).catch_unwind().await;
    result.map_err(|payload| *panic = Some(payload)).ok()
}

/// Runs an operation and tells the whole story.
pub(crate) async fn report<H, T, E, F, V>(
    call: Call<'_>,
    clock: &dyn Clock,
    hold: H,
    operation: F,
    verify: V,
    fallback: Option<T>,
) -> Report<T, E>
where
    H: Hold,
    T: Send,
    E: OperationError + Send,
    F: for<'r> Body<&'r mut H::Conn, Result<T, E>>,
    V: Verify<H::Conn, E>,
{
    let started = clock.now();
    let mut failures = Vec::new();
    let story = Some(&mut failures);
    let (result, summary) = drive(call, clock, hold, operation, verify, fallback, story).await;
    Report {
        result,
        failures,
        attempts: summary.attempts,
        stop: summary.stop,
        outcome: summary.outcome,
        elapsed: clock.now().saturating_duration_since(started),
    }
}
