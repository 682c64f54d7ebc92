//! The loop: does what the machine says.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use dbop_core::{BodyEnd, Entry, Handling, Ledger, Machine, Start, Step, Verified};
use diesel::connection::Connection as DieselConnection;
use diesel::result::Error as DieselError;

use crate::adapter::{Call, Failed, Summary, answer, depth, refused, verified};
use crate::connection::{clear_statement_cache, execute, status};
use crate::hold::Hold;
use crate::operation::Verify;
use crate::{Clock, FailedAttempt, OperationError, Report, SupportedBackend};

type BackendOf<H> = <<H as Hold>::Conn as DieselConnection>::Backend;

/// Runs an operation. The failed attempts are kept in `story`, if there is one.
pub(crate) fn drive<H, T, E, F, V>(
    call: &Call<'_>,
    clock: &dyn Clock,
    mut hold: H,
    operation: F,
    verify: &V,
    fallback: Option<T>,
    mut story: Option<&mut Vec<FailedAttempt<E>>>,
) -> (Result<T, E>, Summary)
where
    H: Hold,
    E: OperationError,
    F: FnOnce(&mut H::Conn) -> Result<T, E> + Clone,
    V: Verify<H::Conn, E>,
{
    let dialect = <BackendOf<H> as SupportedBackend>::DIALECT;
    let now = || clock.now();
    let terms = match call.terms(dialect, H::IS_FRESH, now) {
        Ok(terms) => terms,
        Err(error) => return refused(error),
    };
    let entry = call.ledger.map(Ledger::open);
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
            Step::Connect => match hold.connect(machine.time_left()) {
                Ok(()) => match start(call, &mut machine, &mut hold, entry.as_ref(), &mut failed) {
                    Ok(depth) => base = depth,
                    Err(error) => {
                        return refused(error);
                    }
                },
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
                let result = execute(hold.conn(), batch, base);
                machine.batch_done(result.map_err(|e| failed.in_batch(dialect, purpose, e)));
            }
            Step::Body => {
                let conn = hold.conn();
                // The user's code is in here: the clone, the body, and what the error says.
                let attempt = || match operation.clone()(conn) {
                    Ok(returned) => {
                        value = Some(returned);
                        BodyEnd::Ok
                    }
                    Err(error) => failed.in_body(dialect, error),
                };
                let end = caught(attempt, &mut panic).unwrap_or(BodyEnd::Panicked);
                machine.body_done(end, depth(status(hold.conn())));
            }
            Step::ReadId => {
                let result = BackendOf::<H>::current_transaction(hold.conn());
                machine.id_done(result.map_err(|error| failed.in_query(dialect, error)));
            }
            Step::Read(sql) => {
                let result = BackendOf::<H>::read_text(hold.conn(), sql);
                machine.read_done(result.map_err(|error| failed.in_query(dialect, error)));
            }
            Step::Verify => {
                let conn = hold.conn();
                let look = || verified(dialect, verify.verify(conn));
                let found = caught(look, &mut panic).unwrap_or(Verified::Panicked);
                machine.verify_done(found, depth(status(hold.conn())));
            }
            Step::Report(event) => call.record(dialect, &event, &failed),
            Step::Pause(pause) => {
                if pause.settled {
                    value = None;
                    failed.tell(story.as_deref_mut());
                }
                match pause.connection {
                    Handling::ClearStatementCache => clear_statement_cache(hold.conn()),
                    handling => hold.let_go(handling),
                }
                if !pause.delay.is_zero() {
                    clock.sleep(pause.delay);
                }
            }
            Step::Done(done) => {
                drop(machine);
                if done.connection_broken {
                    hold.let_go(Handling::Discard);
                }
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
fn start<'a, H: Hold, E: OperationError>(
    call: &Call<'a>,
    machine: &mut Machine<'a>,
    hold: &mut H,
    entry: Option<&Entry<'_>>,
    failed: &mut Failed<E>,
) -> Result<u32, E> {
    let dialect = <BackendOf<H> as SupportedBackend>::DIALECT;
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
    let before = BackendOf::<H>::session_before(conn, needs);
    call.begin(machine, failed, start, before, entry)?;
    Ok(base)
}

/// Runs the user's code. What it panics with is kept.
fn caught<R>(code: impl FnOnce() -> R, panic: &mut Option<Box<dyn Any + Send>>) -> Option<R> {
    catch_unwind(AssertUnwindSafe(code))
        .map_err(|payload| *panic = Some(payload))
        .ok()
}

/// Runs an operation and tells the whole story.
pub(crate) fn report<H, T, E, F, V>(
    call: &Call<'_>,
    clock: &dyn Clock,
    hold: H,
    operation: F,
    verify: &V,
    fallback: Option<T>,
) -> Report<T, E>
where
    H: Hold,
    E: OperationError,
    F: FnOnce(&mut H::Conn) -> Result<T, E> + Clone,
    V: Verify<H::Conn, E>,
{
    let started = clock.now();
    let mut failures = Vec::new();
    let story = Some(&mut failures);
    let (result, summary) = drive(call, clock, hold, operation, verify, fallback, story);
    Report {
        result,
        failures,
        attempts: summary.attempts,
        stop: summary.stop,
        outcome: summary.outcome,
        elapsed: clock.now().saturating_duration_since(started),
    }
}
