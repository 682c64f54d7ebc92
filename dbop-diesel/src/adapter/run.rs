//! A run, but for what has the caller's types.

use std::any::Any;
use std::fmt;
use std::panic::resume_unwind;
use std::task::Waker;
use std::time::{Duration, Instant};

use dbop_core::machine::{
    Answer, AttemptTimes, BodyEnd, Done, DueHooks, ErrorSlot, Event, Hooks, Logging, Machine,
    Observation, Pause, PragmasToRead, RunnerConfig, SavedPragmas, Spec, Step, Subject, Times,
    Verified,
};
use dbop_core::{Advice, Dialect, Error, Fault, FaultClass, Outcome, Request, StopReason};
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::errors::AttemptErrors;
use super::hooks::refused;
#[cfg(feature = "testing")]
use super::injection::Injection;
use super::results::{UserResults, caught};
use super::trace::Trace;
use crate::fault::{database_message, fault_of, fault_of_message};
use crate::source::ConnectError;

/// What a run has from its adapter's runner.
pub trait Host: fmt::Debug + Send + Sync {
    /// `sync` or `async`.
    fn mode(&self) -> &'static str;

    /// What time it is by the runner's clock.
    fn now(&self) -> Instant;
}

/// One run of an operation: the machine, and what went wrong so far. Dropped before its [end](Self::end), it tells
/// the observers what is known of its outcome.
///
/// It tells the machine what Diesel answered, keeps the errors where the machine says, and writes
/// the records. An adapter's loop asks it for the next step and does that.
#[derive(Debug)]
pub struct Run<'a> {
    pub(super) machine: Machine<'a>,
    pub(super) subject: Subject<'a>,
    logging: &'a Logging,
    host: &'a dyn Host,
    /// Where there is an observer or a report.
    observation: Option<Box<Observation<'a>>>,
    trace: Trace,
    hooks: &'a Hooks<'a>,
    /// How many transactions and savepoints were open on the connection when it was joined.
    pub(super) base: u32,
    errors: AttemptErrors,
    panic: Option<Panic>,
    end: Option<End>,
    #[cfg(feature = "testing")]
    pub(super) injection: Injection<'a>,
}

/// What the user's code panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

/// How it ended.
#[derive(Debug)]
pub(super) enum End {
    Done(Done),
    /// It could not even begin its work, in the attempt of this number: 0 before the first one.
    Refused(Refusal, u32),
}

#[derive(Debug)]
pub(super) enum Refusal {
    Own(Error),
    Database(DieselError),
}

impl<'a> Run<'a> {
    /// Whether a run can begin. If not, the observers and the hooks are told of it.
    ///
    /// # Errors
    ///
    /// If the operation asks for something that is not valid or not supported.
    pub fn check(
        host: &dyn Host,
        dialect: Dialect,
        config: &RunnerConfig,
        spec: &Spec<'_>,
        can_reconnect: bool,
        wants_report: bool,
    ) -> Result<(), Error> {
        let refuse = |error| {
            let now = || host.now();
            let subject = Subject::new(spec.name, dialect, host.mode());
            let mut trace = Trace::begin(&subject, spec, config.defaults().read_only);
            let observation = Observation::begin(config, subject, wants_report, can_reconnect, now);
            trace.end(0, Outcome::Undone, REFUSED);
            if let Some(mut observation) = observation {
                _ = observation.end(0, Outcome::Undone, REFUSED, None, now);
            }
            refused(error, &spec.hooks)
        };
        Machine::check(dialect, config, spec).map_err(refuse)
    }

    /// Begins a run that has been [checked](Self::check).
    #[must_use]
    pub fn new(
        host: &'a dyn Host,
        dialect: Dialect,
        config: &'a RunnerConfig,
        spec: &'a Spec<'a>,
        can_reconnect: bool,
        wants_report: bool,
    ) -> Self {
        let now = || host.now();
        let subject = Subject::new(spec.name, dialect, host.mode());
        let trace = Trace::begin(&subject, spec, config.defaults().read_only);
        let observation = Observation::begin(config, subject, wants_report, can_reconnect, now);
        let is_watched = observation.is_some() || Trace::is_seen();
        let mut run = Self {
            machine: Machine::begin(dialect, config, spec, can_reconnect, now),
            subject,
            logging: config.logging(),
            host,
            observation,
            trace,
            hooks: &spec.hooks,
            base: 0,
            errors: AttemptErrors::default(),
            panic: None,
            end: None,
            #[cfg(feature = "testing")]
            injection: Injection::default(),
        };
        run.machine.set_watched(is_watched);
        run
    }

    /// The next thing to do.
    pub fn step(&mut self, now: &dyn Fn() -> Instant) -> Step<'_> {
        #[cfg(feature = "testing")]
        if self.injection.is_on() {
            return self.watched_step(now, &mut None);
        }
        self.observed_step(now, None)
    }

    /// The next thing to do, and for how long it may [wait](Self::patience).
    pub fn limited_step(
        &mut self,
        now: &dyn Fn() -> Instant,
        patience: &mut Option<Duration>,
    ) -> Step<'_> {
        #[cfg(feature = "testing")]
        if self.injection.is_on() {
            return self.watched_step(now, patience);
        }
        self.observed_step(now, Some(patience))
    }

    pub(super) fn observed_step(
        &mut self,
        now: &dyn Fn() -> Instant,
        patience: Option<&mut Option<Duration>>,
    ) -> Step<'_> {
        let attempt = self.machine.advance(now);
        if let Some(patience) = patience {
            *patience = self.machine.patience();
        }
        self.trace.attempt(attempt);
        let Some(observation) = &mut self.observation else {
            return self.machine.present_step();
        };
        let step = self.machine.present_step();
        observation.step(attempt, &step, now);
        step
    }

    /// How long the present step may wait for the server or for the body, if that is limited.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.machine.patience()
    }

    /// The present step has waited for as long as it may: this is its answer.
    pub fn silence(&mut self) -> DieselError {
        self.machine.run_out_of_patience();
        let text = "no answer until the deadline of the operation and its grace period";
        DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection,
            Box::new(text.to_owned()),
        )
    }

    /// The source of connections has answered.
    pub fn has_waited(&mut self, now: &dyn Fn() -> Instant) {
        if let Some(observation) = &mut self.observation {
            observation.connected(now);
        }
    }

    /// Waits for the operation's turn: for how long, unless `waker` is woken before that. `None`: ask for the
    /// next step.
    pub fn queue(&mut self, waker: &Waker, now: &dyn Fn() -> Instant) -> Option<Duration> {
        self.machine.queue(waker, now)
    }

    /// How many transactions and savepoints were open when the run joined its connection.
    #[must_use]
    pub const fn base(&self) -> u32 {
        self.base
    }

    /// What has to be read from the session before [`connected`](Self::connected).
    #[must_use]
    pub fn pragmas_to_read(&self) -> PragmasToRead {
        self.machine.pragmas_to_read()
    }

    /// There is a connection with `depth` open transactions and savepoints, known by `key`.
    /// Returns whether the run continues; if not, it is refused.
    pub fn connected(
        &mut self,
        key: usize,
        depth: u32,
        pragmas: QueryResult<SavedPragmas>,
        now: &dyn Fn() -> Instant,
    ) -> bool {
        self.base = depth;
        let refusal = match pragmas {
            Err(error) => Refusal::Database(error),
            Ok(pragmas) => {
                let placement = self.machine.place(key, depth);
                self.trace.scope(self.machine.scope_name(&placement));
                match self.machine.connected(placement, pragmas) {
                    Ok(()) => return true,
                    Err(error) => Refusal::Own(error),
                }
            }
        };
        // Where it has had a connection, this one is of no use, and what became of the attempts so
        // far decides.
        if !self.machine.has_connected() {
            return self.refuse(refusal);
        }
        self.connect_failed(
            match refusal {
                Refusal::Database(error) => ConnectError::new(error),
                Refusal::Own(error) => ConnectError::new(error),
            },
            now,
        );
        true
    }

    /// The connection's transaction manager is broken. Returns whether the run continues.
    pub fn connection_is_broken(&mut self, can_reconnect: bool, now: &dyn Fn() -> Instant) -> bool {
        let error = DieselError::BrokenTransactionManager;
        if !can_reconnect {
            return self.refuse(Refusal::Database(error));
        }
        self.connect_failed(ConnectError::new(error), now);
        true
    }

    fn refuse(&mut self, refusal: Refusal) -> bool {
        self.machine.leave_gate();
        self.end = Some(End::Refused(refusal, self.machine.attempts()));
        false
    }

    /// What a source is told about the connection that the present step asks for.
    #[must_use]
    pub fn request<'n>(
        &self,
        within: Option<Duration>,
        now: &'n (dyn Fn() -> Instant + Sync),
    ) -> Request<'n> {
        self.machine.request(within, now)
    }

    /// Why its connection is discarded, if a fault of the database is why.
    #[must_use]
    pub const fn last_fault(&self) -> Option<Fault> {
        self.machine.last_fault()
    }

    /// The statement cache has been cleared, if not that of a pooler.
    pub fn cache_cleared(&mut self, pooler_keeps_statements: bool) {
        if pooler_keeps_statements {
            self.machine.pooler_keeps_statements();
        }
    }

    /// There is no connection.
    pub fn connect_failed(&mut self, error: ConnectError, now: &dyn Fn() -> Instant) {
        let (fault, advice) = error.fault(self.dialect());
        let fault = self.judged(fault, || error.message());
        let slot = self.machine.connect_failed(fault, advice, now);
        self.errors.record_connect_error(slot, fault, error);
    }

    /// The batch of the last step was answered.
    pub fn batch_done(&mut self, result: QueryResult<()>, results: &mut dyn UserResults) {
        #[cfg(feature = "testing")]
        let Some(result) = self.after_injection(result, results) else {
            return;
        };
        #[cfg(not(feature = "testing"))]
        let _ = results;
        if let Err(error) = &result {
            if self.machine.is_answer_of_session(database_message(error)) {
                return;
            }
        }
        self.answered(result, Machine::batch_done);
    }

    /// The query of the last step was answered.
    pub fn read_done(&mut self, result: QueryResult<Option<String>>) {
        self.answered(result, Machine::read_done);
    }

    /// What the server has kept about the first error of the attempt was read.
    pub fn diagnosed(&mut self, result: QueryResult<Option<String>>, results: &dyn UserResults) {
        let dialect = self.dialect();
        let result = result.map_err(|error| {
            fault_of(dialect, &error)
                .unwrap_or_else(|| Fault::from_class(dialect, FaultClass::Unknown))
        });
        let message = self.errors.server_message(|| results.diesel_error());
        self.machine.diagnosed(result, message);
    }

    fn answered<T>(
        &mut self,
        result: QueryResult<T>,
        tell: impl FnOnce(&mut Machine<'a>, Result<T, Fault>) -> ErrorSlot,
    ) {
        match result {
            // Without an error there is none to keep.
            Ok(answer) => _ = tell(&mut self.machine, Ok(answer)),
            Err(error) => {
                let dialect = self.dialect();
                let fault = fault_of(dialect, &error)
                    .unwrap_or_else(|| Fault::from_class(dialect, FaultClass::Unknown));
                let fault = self.judged(fault, || database_message(&error).to_owned());
                let slot = tell(&mut self.machine, Err(fault));
                self.errors.record_batch_error(slot, fault, error);
            }
        }
    }

    /// The fault with which the present step has failed, as the user judges it. `message` is asked
    /// for only if there is a classifier.
    fn judged(&mut self, fault: Fault, message: impl FnOnce() -> String) -> Fault {
        if !self.machine.has_classifier() {
            return self.machine.judged(fault, "");
        }
        let judged = caught(|| self.machine.judged(fault, &message()));
        judged.unwrap_or_else(|payload| {
            self.machine.user_code_panicked(payload);
            fault
        })
    }

    /// The database error behind the message that an error of the user's code has kept of it.
    pub(super) fn judged_message(
        &self,
        message: Option<&str>,
        advice: Advice,
    ) -> (Option<Fault>, Advice) {
        let fault = message.and_then(|message| fault_of_message(self.dialect(), message));
        self.machine
            .judged_error(fault, advice, message.unwrap_or_default())
    }

    /// The database error in an error of the user's code, as the user judges it, and what the error
    /// says about itself.
    pub(super) fn judged_error(
        &self,
        error: Option<&DieselError>,
        advice: Advice,
    ) -> (Option<Fault>, Advice) {
        let fault = error.and_then(|error| fault_of(self.dialect(), error));
        let message = match error {
            Some(error) if self.machine.has_classifier() => database_message(error),
            _ => "",
        };
        self.machine.judged_error(fault, advice, message)
    }

    pub(super) fn body_done(&mut self, end: Result<BodyEnd, Panic>, depth: Option<u32>) {
        #[cfg(feature = "testing")]
        if matches!(end, Ok(BodyEnd::Ok)) && self.inject_after_body(depth) {
            return;
        }
        let end = end.unwrap_or_else(|payload| {
            self.panic = Some(payload);
            BodyEnd::Panicked
        });
        if let BodyEnd::Failed { fault, .. } = end {
            self.errors.record_body_error(fault);
        }
        self.machine.body_done(end, depth);
    }

    pub(super) fn verify_done(&mut self, verified: Result<Verified, Panic>, depth: Option<u32>) {
        let verified = verified.unwrap_or_else(|payload| {
            self.panic = Some(payload);
            Verified::Panicked
        });
        self.machine.verify_done(verified, depth);
    }

    pub(super) const fn dialect(&self) -> Dialect {
        self.subject.dialect()
    }

    /// Writes the record of an event, and tells the observers.
    pub fn record(&mut self, event: &Event, results: &dyn UserResults) {
        if let Some(observation) = &mut self.observation {
            observation.event(event);
        }
        let message = self.errors.message(|| results.diesel_error());
        let (subject, logging) = (&self.subject, self.logging);
        let is_seen = self.trace.event(subject, logging, event, message);
        // A logger of the runner's own has the records in any case.
        if logging.logger.is_some() || !is_seen {
            logging.record(subject, event, message);
        }
    }

    /// The spans of the operation, to be entered while the caller's code runs.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Leaves an attempt behind before the pause that follows it, if it is over: a connection or a
    /// lock in its value must not be held while others wait for it.
    pub fn pause(
        &mut self,
        pause: &Pause,
        results: &mut dyn UserResults,
        now: &dyn Fn() -> Instant,
    ) {
        if pause.settled {
            self.put_fault_right();
            let times = self.attempt_times(now);
            results.settle(std::mem::take(&mut self.errors), pause.delay, times);
        }
        if let Some(observation) = &mut self.observation {
            observation.pause(now);
        }
    }

    /// How long the present attempt has taken, where that is observed.
    fn attempt_times(&self, now: &dyn Fn() -> Instant) -> AttemptTimes {
        let observation = self.observation.as_ref();
        observation.map_or_else(AttemptTimes::default, |observation| {
            observation.attempt_times(now)
        })
    }

    /// The report tells what the attempt's fault was found to be.
    fn put_fault_right(&mut self) {
        self.errors.fault = self.machine.reclassified().or(self.errors.fault);
    }

    /// The machine is done.
    pub fn done(&mut self, done: Done) {
        #[cfg(feature = "testing")]
        self.watched_done(&done);
        if matches!(&done.answer, Answer::Own(error) if error.is_of_key()) {
            self.errors = AttemptErrors::default();
        }
        self.put_fault_right();
        self.panic = self.panic.take().or(self.machine.take_user_panic());
        self.end = Some(End::Done(done));
    }

    /// Ends the run: what is left of it. The machine leaves the connection here, whose address another one can have after
    /// that.
    #[must_use]
    pub fn end(&mut self) -> Ended {
        let times = self.tell_end();
        self.machine.leave_connection();
        Ended {
            end: self.end.take().expect("the run has ended"),
            last_fault: self.machine.last_fault(),
            errors: std::mem::take(&mut self.errors),
            panic: self.panic.take(),
            times,
        }
    }

    /// The hooks that are due where it has ended like this. They are called before its [end](Self::end), once it
    /// is [over](Self::leave_connection).
    pub fn due_hooks(&mut self) -> DueHooks<'a> {
        match &mut self.end {
            Some(End::Done(done)) => DueHooks::after(done, self.hooks, self.errors.fault),
            _ => DueHooks::after_refusal(self.hooks, self.machine.attempts()),
        }
    }

    /// It is over but for its hooks: tells the observers, whose times are without those of the hooks, and leaves
    /// the connection, whose address another one can have after that. Returns whether it must not be used any
    /// more.
    pub fn leave_connection(&mut self) -> bool {
        _ = self.tell_end();
        self.machine.leave_connection();
        matches!(&self.end, Some(End::Done(done)) if done.connection_broken)
    }

    /// A hook was called. The first panic continues when all of them were.
    pub fn hook_called(&mut self, end: Result<(), Panic>) {
        if let Err(payload) = end {
            self.panic.get_or_insert(payload);
        }
    }

    /// Tells the observers and the spans that it is over, unless they know. The clock is the caller's code: if it
    /// panics, the observers are told when the run is dropped.
    fn tell_end(&mut self) -> Times {
        let host = self.host;
        self.end_observation(|| host.now())
    }

    fn end_observation(&mut self, now: impl FnOnce() -> Instant) -> Times {
        if self.observation.is_none() && !self.trace.is_open() {
            return Times::default();
        }
        let (attempts, outcome, stop) = self.summary();
        self.trace.end(attempts, outcome, stop);
        let Some(observation) = &mut self.observation else {
            return Times::default();
        };
        observation.end(attempts, outcome, stop, self.machine.gate_status(), now)
    }

    /// Whether someone is to be told that it is over.
    fn is_watched(&self) -> bool {
        let is_open = |observation: &Observation<'_>| !observation.has_ended();
        self.trace.is_open() || self.observation.as_deref().is_some_and(is_open)
    }

    /// How many attempts there were, what became of the work, and why there is no further attempt.
    fn summary(&self) -> (u32, Outcome, StopReason) {
        match &self.end {
            Some(End::Done(done)) => (done.attempts, done.outcome, done.stop),
            Some(End::Refused(_, attempts)) => (*attempts, Outcome::Undone, REFUSED),
            None => {
                let stop = match std::thread::panicking() {
                    true => StopReason::Panicked,
                    false => StopReason::Cancelled,
                };
                (
                    self.machine.attempts(),
                    self.machine.outcome_if_dropped(),
                    stop,
                )
            }
        }
    }
}

/// Why there is no further attempt of an operation that was refused.
pub(super) const REFUSED: StopReason = StopReason::NotRetryable;

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if self.is_watched() {
            // The observers find the gate as it is without this run.
            self.machine.leave_gate();
            // Perhaps the clock is what has panicked. Let out, a second panic would abort.
            let now = caught(|| self.host.now()).unwrap_or_else(|_| Instant::now());
            _ = caught(|| self.end_observation(|| now));
        }
    }
}

/// What is left of a run that has ended.
#[derive(Debug)]
pub struct Ended {
    end: End,
    errors: AttemptErrors,
    panic: Option<Panic>,
    times: Times,
    last_fault: Option<Fault>,
}

impl Ended {
    /// Whether the connection must not be used any more.
    #[must_use]
    pub const fn connection_is_broken(&self) -> bool {
        matches!(&self.end, End::Done(done) if done.connection_broken)
    }

    /// Why its connection is discarded, if a fault of the database is why.
    #[must_use]
    pub const fn last_fault(&self) -> Option<Fault> {
        self.last_fault
    }

    /// How it ended, unless it panicked: then the panic continues.
    #[inline]
    pub(super) fn resume_panic(self) -> (End, AttemptErrors, Times) {
        if let Some(payload) = self.panic {
            resume_unwind(payload);
        }
        (self.end, self.errors, self.times)
    }
}
