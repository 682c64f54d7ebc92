//! The loop: does what the machine says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use dbop_core::Error;
use dbop_core::machine::{ConnectionAction, Spec, Step};

use crate::adapter::{Ended, Host, Results, Run, UserResults, verify_done};
use crate::backend::SupportedBackend;
use crate::connection::{clear_statement_cache, execute, status};
use crate::error::OperationError;
use crate::fallback::Fallback;
use crate::operation::Operation;
use crate::report::Report;
use crate::runner::Runner;
use crate::slot::{BackendOf, Slot};
use crate::verify::Verify;

/// Runs an operation. Compiled for each body, so what the bodies share is in functions that are not.
pub(crate) fn drive<S, T, E, F, R, B>(
    operation: Operation<'_, F, R>,
    mut slot: S,
    body: B,
    wants_report: bool,
) -> Report<T, E>
where
    S: Slot,
    E: OperationError,
    F: Fallback<T>,
    R: Verify<S::Conn, E>,
    B: FnOnce(&mut S::Conn) -> Result<T, E> + Clone,
{
    let Operation {
        runner,
        spec,
        fallback,
        resolution: look,
    } = operation;
    let mut results = Results::new(fallback.into_value(), wants_report);
    if let Err(error) = check::<S>(runner, &spec, wants_report) {
        return results.refused(error);
    }
    let mut run = begin::<S>(runner, &spec, wants_report);
    while until_body::<S, E, R>(&mut run, &mut slot, runner, &look, &mut results) {
        let end = {
            let _entered = run.trace().enter();
            catch_unwind(AssertUnwindSafe(|| body.clone()(slot.conn())))
        };
        results.body_done(&mut run, end.map(Some), slot.depth());
    }
    finish(&mut run, &mut slot, &mut results)
}

/// Does what the machine says, until it is the body's turn: `true`. Has the user's code look for the work
/// where the machine wants that.
fn until_body<S: Slot, E: OperationError, R: Verify<S::Conn, E>>(
    run: &mut Run<'_>,
    slot: &mut S,
    runner: &Runner,
    look: &R,
    results: &mut dyn UserResults,
) -> bool {
    loop {
        match until_user(run, slot, runner, results) {
            Next::Body => return true,
            Next::Done => return false,
            Next::Verify => {
                let found = {
                    let _entered = run.trace().enter();
                    catch_unwind(AssertUnwindSafe(|| look.verify(slot.conn())))
                };
                verify_done(run, found.map(Some), slot.depth());
            }
        }
    }
}

/// What only the code that knows the user's types can do.
enum Next {
    Body,
    Verify,
    Done,
}

fn check<S: Slot>(runner: &Runner, spec: &Spec<'_>, wants_report: bool) -> Result<(), Error> {
    let dialect = BackendOf::<S>::DIALECT;
    let (config, can_reconnect) = (&runner.config, S::CAN_RECONNECT);
    Run::check(runner, dialect, config, spec, can_reconnect, wants_report)
}

/// Begins what has been checked: the run is large, and would be moved out of a `Result`.
fn begin<'a, S: Slot>(runner: &'a Runner, spec: &'a Spec<'a>, wants_report: bool) -> Run<'a> {
    let dialect = BackendOf::<S>::DIALECT;
    let (config, can_reconnect) = (&runner.config, S::CAN_RECONNECT);
    let mut run = Run::new(runner, dialect, config, spec, can_reconnect, wants_report);
    run.watch(&runner.faults, can_reconnect);
    run
}

/// Does what the machine says, until it is the user's turn.
fn until_user<S: Slot>(
    run: &mut Run<'_>,
    slot: &mut S,
    runner: &Runner,
    results: &mut dyn UserResults,
) -> Next {
    let now = time(runner);
    loop {
        let base = run.base();
        match run.step(&now) {
            Step::Queue => queue(run, &now),
            Step::Connect { within } => {
                if !connect(run, slot, within, &now) {
                    return Next::Done;
                }
            }
            Step::Batch(batch) => {
                let result = execute(slot.conn(), batch, base);
                run.batch_done(result, results);
            }
            Step::Read(query) => {
                let result = BackendOf::<S>::read(slot.conn(), query);
                run.read_done(result);
            }
            Step::Diagnose(query) => {
                let result = BackendOf::<S>::read(slot.conn(), query);
                run.diagnosed(result, results);
            }
            Step::Report(event) => run.record(&event, results),
            Step::Pause(pause) => {
                run.pause(&pause, results, &now);
                match pause.connection {
                    ConnectionAction::ClearStatementCache => {
                        run.cache_cleared(clear_statement_cache(slot.conn()));
                    }
                    action => slot.apply(action, run.last_fault()),
                }
                if pause.settled {
                    slot.note_place();
                }
                if !pause.delay.is_zero() {
                    runner.clock.sleep(pause.delay);
                }
            }
            Step::Body => return Next::Body,
            Step::Verify => return Next::Verify,
            Step::Done(done) => {
                run.done(done);
                return Next::Done;
            }
        }
    }
}

/// Waits for the operation's turn.
fn queue(run: &mut Run<'_>, now: &dyn Fn() -> Instant) {
    thread_local! {
        static WAKER: Waker = Waker::from(Arc::new(Unparks(thread::current())));
    }
    WAKER.with(|waker| {
        while let Some(within) = run.queue(waker, now) {
            thread::park_timeout(within);
        }
    });
}

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Gets a connection and joins the operations on it. Returns whether the run continues.
fn connect<S: Slot>(
    run: &mut Run<'_>,
    slot: &mut S,
    within: Option<Duration>,
    now: &(dyn Fn() -> Instant + Sync),
) -> bool {
    let connected = match run.refused_connection() {
        Some(error) => Err(error),
        None => slot.connect(run.request(within, now)),
    };
    run.has_waited(now);
    if let Err(error) = connected {
        run.connect_failed(error, now);
        return true;
    }
    let Some(depth) = slot.depth() else {
        if S::CAN_RECONNECT {
            slot.apply(ConnectionAction::Discard, None);
        }
        return run.connection_is_broken(S::CAN_RECONNECT, now);
    };
    let key = std::ptr::from_mut(status(slot.conn())).addr();
    let pragmas = BackendOf::<S>::read_pragmas(slot.conn(), run.pragmas_to_read());
    run.connected(key, depth, pragmas, now)
}

/// Ends a run.
fn finish<S: Slot, T, E: OperationError>(
    run: &mut Run<'_>,
    slot: &mut S,
    results: &mut Results<T, E>,
) -> Report<T, E> {
    let ended = leave(run, slot);
    results.report(ended)
}

/// Calls the hooks. Leaves the machine then, which knows the connection by its address, and the connection.
fn leave<S: Slot>(run: &mut Run<'_>, slot: &mut S) -> Ended {
    call_due_hooks(run, slot);
    let ended = run.end();
    if ended.connection_is_broken() {
        slot.apply(ConnectionAction::Discard, ended.last_fault());
    }
    ended
}

/// Calls the hooks that are due: leaves the connection first, which they can have then.
fn call_due_hooks<S: Slot>(run: &mut Run<'_>, slot: &mut S) {
    let due = run.due_hooks();
    if due.is_empty() {
        return;
    }
    if run.leave_connection() {
        slot.apply(ConnectionAction::Discard, run.last_fault());
    }
    slot.release();
    run.call_hooks(due);
}

fn time(runner: &Runner) -> impl Fn() -> Instant + Sync {
    || runner.clock.now()
}

impl Host for Runner {
    fn mode(&self) -> &'static str {
        "sync"
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }
}
