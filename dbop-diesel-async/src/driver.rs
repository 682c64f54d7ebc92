//! The loop: does what the machine says.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use dbop_core::Error;
use dbop_core::machine::{ConnectionAction, Spec, Step};
use dbop_diesel::SupportedBackend as _;
use dbop_diesel::adapter::{Host, Results, Run, UserResults, verify_done};
use dbop_diesel::{Fallback, OperationError, Report};

use crate::backend::SupportedBackend;
use crate::body::Work;
use crate::caught::{Caught, caught};
use crate::connection::{clear_statement_cache, execute, status};
use crate::hooks::call_hooks;
use crate::operation::Operation;
use crate::patience::in_time;
use crate::runner::Runner;
use crate::slot::{BackendOf, Guard, Slot};
use crate::verify::Verify;

/// A function that runs an operation. Compiled for each body, so what the bodies share is in functions
/// that are not. The arguments stay where the future has them: `async fn` would move them, and have them
/// twice.
///
/// Made for futures that can be sent to another thread, and again for those that cannot.
macro_rules! driver {
    (
        $name:ident, $until_body:ident,
        [$($send:tt)*], $results:ty, $body:ident: [$($work:tt)+], $start:expr
    ) => {
        pub(crate) fn $name<S, T, E, F, R, B, O>(
            operation: Operation<'_, F, R>,
            slot: S,
            mut $body: B,
            wants_report: bool,
            output: fn(Report<T, E>) -> O,
        ) -> impl Future<Output = O> $($send)*
        where
            S: Slot,
            T: Sized $($send)*,
            E: OperationError $($send)*,
            F: Fallback<T>,
            R: Verify<S::Conn, E>,
            B: $($work)+,
        {
            let Operation {
                runner,
                spec,
                fallback,
                resolution: mut look,
            } = operation;
            let mut results = Results::new(fallback.into_value(), wants_report);
            let mut guard = Guard::new(slot);
            async move {
                if let Err(error) = check::<S>(runner, &spec, wants_report) {
                    return output(results.refused(error));
                }
                let mut run = begin(runner, &spec, &mut guard, wants_report);
                loop {
                    let user: &mut $results = &mut results;
                    if !$until_body::<S, E, R>(&mut run, &mut guard, runner, &mut look, user).await {
                        return output(finish(&mut run, &mut guard, &mut results));
                    }
                    let end = {
                        let ($body, conn) = (&mut $body, guard.slot.conn());
                        let (trace, limit) = (run.trace(), run.patience());
                        let mut future = pin!(None);
                        caught(trace, limit, future.as_mut(), move || {
                            $start($body.clone(), conn)
                        })
                        .await
                    };
                    body_done(&mut run, &mut guard, &mut results, end);
                }
            }
        }

        /// Does what the machine says, until it is the body's turn: `true`. Has the user's code look for the work
        /// where the machine wants that.
        async fn $until_body<S, E, R>(
            run: &mut Run<'_>,
            guard: &mut Guard<S>,
            runner: &Runner,
            look: &mut R,
            results: &mut $results,
        ) -> bool
        where
            S: Slot,
            E: OperationError $($send)*,
            R: Verify<S::Conn, E>,
        {
            loop {
                match until_user(run, guard, runner, results).await {
                    Next::Body => return true,
                    Next::Done => return false,
                    Next::Verify => {
                        let found = {
                            let (trace, limit) = (run.trace(), run.patience());
                            let mut future = pin!(None);
                            caught(trace, limit, future.as_mut(), || {
                                look.verify(guard.slot.conn())
                            })
                            .await
                        };
                        let depth = guard.depth_after(matches!(found, Ok(None)));
                        verify_done(run, found, depth);
                    }
                }
            }
        }
    };
}

driver!(
    drive,
    until_body,
    [+ Send],
    (dyn UserResults + Send),
    body: [Work<S::Conn, T, E>],
    B::start
);
driver!(
    drive_local,
    until_body_locally,
    [],
    dyn UserResults,
    body: [AsyncFnOnce(&mut S::Conn) -> Result<T, E> + Clone],
    |body: B, conn| body(conn)
);

/// The body has ended, has panicked, or was cut off.
fn body_done<S: Slot, T, E: OperationError>(
    run: &mut Run<'_>,
    guard: &mut Guard<S>,
    results: &mut Results<T, E>,
    end: Caught<Option<Result<T, E>>>,
) {
    let depth = guard.depth_after(matches!(end, Ok(None)));
    results.body_done(run, end, depth);
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
fn begin<'a, S: Slot>(
    runner: &'a Runner,
    spec: &'a Spec<'a>,
    guard: &mut Guard<S>,
    wants_report: bool,
) -> Run<'a> {
    let dialect = BackendOf::<S>::DIALECT;
    let (config, can_reconnect) = (&runner.config, S::CAN_RECONNECT);
    let mut run = Run::new(runner, dialect, config, spec, can_reconnect, wants_report);
    run.watch(&runner.faults, can_reconnect);
    guard.arm();
    run
}

/// Does what the machine says, until it is the user's turn. The hooks at the end are not compiled for each
/// body, so they are here.
async fn until_user<S: Slot, U: UserResults + ?Sized>(
    run: &mut Run<'_>,
    guard: &mut Guard<S>,
    runner: &Runner,
    results: &mut U,
) -> Next {
    let next = take_steps(run, &mut guard.slot, runner, results).await;
    if matches!(next, Next::Done) {
        call_due_hooks(run, guard).await;
    }
    next
}

async fn take_steps<S: Slot, U: UserResults + ?Sized>(
    run: &mut Run<'_>,
    slot: &mut S,
    runner: &Runner,
    results: &mut U,
) -> Next {
    let now = time(runner);
    loop {
        let base = run.base();
        let mut limit = None;
        match run.limited_step(&now, &mut limit) {
            Step::Queue => queue(run, &now).await,
            Step::Connect { within } => {
                if !connect(run, slot, within, &now).await {
                    return Next::Done;
                }
            }
            Step::Batch(batch) => {
                let result = in_time(limit, pin!(execute(slot.conn(), batch, base))).await;
                let result = result.unwrap_or_else(|| Err(run.silence()));
                run.batch_done(result, results.as_dyn());
            }
            Step::Read(query) => {
                let read = <BackendOf<S> as SupportedBackend>::read(slot.conn(), query);
                let result = in_time(limit, pin!(read)).await;
                let result = result.unwrap_or_else(|| Err(run.silence()));
                run.read_done(result);
            }
            Step::Diagnose(query) => {
                let read = <BackendOf<S> as SupportedBackend>::read(slot.conn(), query);
                let result = in_time(limit, pin!(read)).await;
                let result = result.unwrap_or_else(|| Err(run.silence()));
                run.diagnosed(result, results.as_dyn());
            }
            Step::Report(event) => run.record(&event, results.as_dyn()),
            Step::Pause(pause) => {
                run.pause(&pause, results.as_dyn(), &now);
                match pause.connection {
                    ConnectionAction::ClearStatementCache => {
                        let limit = run.patience();
                        let cleared =
                            in_time(limit, pin!(clear_statement_cache(slot.conn()))).await;
                        match cleared {
                            Some(kept) => run.cache_cleared(kept),
                            // The next batch finds it broken.
                            None => status(slot.conn()).set_in_error(),
                        }
                    }
                    action => slot.apply(action, run.last_fault()),
                }
                if pause.settled {
                    slot.note_place();
                }
                if !pause.delay.is_zero() {
                    runner.clock.sleep(pause.delay).await;
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
async fn queue(run: &mut Run<'_>, now: &(dyn Fn() -> Instant + Sync)) {
    let mut ask = async || poll_fn(|context| Poll::Ready(run.queue(context.waker(), now))).await;
    while let Some(within) = ask().await {
        let mut is_woken = false;
        let woken = poll_fn(|_| match std::mem::replace(&mut is_woken, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        // Woken or not, it has to ask again.
        _ = tokio::time::timeout(within, woken).await;
    }
}

/// Gets a connection and joins the operations on it. Returns whether the run continues.
async fn connect<S: Slot>(
    run: &mut Run<'_>,
    slot: &mut S,
    within: Option<Duration>,
    now: &(dyn Fn() -> Instant + Sync),
) -> bool {
    let connected = match run.refused_connection() {
        Some(error) => Err(error),
        None => slot.connect(run.request(within, now)).await,
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
    let pragmas =
        <BackendOf<S> as SupportedBackend>::read_pragmas(slot.conn(), run.pragmas_to_read()).await;
    run.connected(key, depth, pragmas, now)
}

/// Calls the hooks that are due: leaves the connection first, which they can have then.
async fn call_due_hooks<S: Slot>(run: &mut Run<'_>, guard: &mut Guard<S>) {
    let due = run.due_hooks();
    if due.is_empty() {
        return;
    }
    if run.leave_connection() {
        guard
            .slot
            .apply(ConnectionAction::Discard, run.last_fault());
    }
    guard.disarm();
    guard.slot.release();
    call_hooks(run, due).await;
}

/// Ends a run: first the machine, which knows the connection by its address, then the connection.
fn finish<S: Slot, T, E: OperationError>(
    run: &mut Run<'_>,
    guard: &mut Guard<S>,
    results: &mut Results<T, E>,
) -> Report<T, E> {
    let ended = run.end();
    if ended.connection_is_broken() {
        guard
            .slot
            .apply(ConnectionAction::Discard, ended.last_fault());
    }
    guard.disarm();
    results.report(ended)
}

fn time(runner: &Runner) -> impl Fn() -> Instant + Sync {
    || runner.clock.now().into_std()
}

impl Host for Runner {
    fn mode(&self) -> &'static str {
        "async"
    }

    fn now(&self) -> Instant {
        self.clock.now().into_std()
    }
}
