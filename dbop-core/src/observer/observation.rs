//! What is observed of one operation.

use std::time::{Duration, Instant};

use super::Summary;
use crate::config::RunnerConfig;
use crate::event::{Event, EventKind, Subject};
use crate::fault::Fault;
use crate::gate::GateStatus;
use crate::machine::Step;
use crate::outcome::{Outcome, StopReason};

/// What is observed of an operation for the observers of its runner, and for its report: which times
/// there were, and what went wrong last. Only where there is an observer or a report, so that the clock
/// is not read without need.
#[derive(Debug)]
pub struct Observation<'a> {
    subject: Subject<'a>,
    config: &'a RunnerConfig,
    /// Its connections come from a source, which may have to be waited for.
    waits: bool,
    started: Instant,
    /// The number of the present attempt.
    attempt: u32,
    attempt_started: Option<Instant>,
    /// When a connection was asked for that has not come yet.
    connecting_since: Option<Instant>,
    /// When the pause began that is not over yet.
    pausing_since: Option<Instant>,
    /// When the wait for a turn began that is not over yet.
    queueing_since: Option<Instant>,
    /// How long the present attempt has waited for connections.
    attempt_connection_wait: Duration,
    connection_wait: Duration,
    paused: Duration,
    queued: Duration,
    last_fault: Option<Fault>,
    /// Of what is over.
    ended: Option<Times>,
}

/// How long an operation took, and what for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// From its start to its end.
    pub elapsed: Duration,
    /// In pauses.
    pub paused: Duration,
    /// Waiting for turns at gates.
    pub queued: Duration,
    /// Waiting for connections.
    pub connection_wait: Duration,
    /// Its last attempt.
    pub last_attempt: AttemptTimes,
}

/// How long an attempt took.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptTimes {
    /// From its start to its end.
    pub elapsed: Duration,
    /// Waiting for connections.
    pub connection_wait: Duration,
}

impl<'a> Observation<'a> {
    /// The operation begins. `None` if neither an observer nor a report wants to know. `waits`: its
    /// connections come from a source.
    pub fn begin(
        config: &'a RunnerConfig,
        subject: Subject<'a>,
        wants_report: bool,
        waits: bool,
        now: impl FnOnce() -> Instant,
    ) -> Option<Box<Self>> {
        if config.observers().is_empty() && !wants_report {
            return None;
        }
        let observation = Box::new(Self {
            subject,
            config,
            waits,
            started: now(),
            attempt: 0,
            attempt_started: None,
            connecting_since: None,
            pausing_since: None,
            queueing_since: None,
            attempt_connection_wait: Duration::ZERO,
            connection_wait: Duration::ZERO,
            paused: Duration::ZERO,
            queued: Duration::ZERO,
            last_fault: None,
            ended: None,
        });
        observation.tell(|observer| observer.on_start(&subject));
        Some(observation)
    }

    /// This is the next step, in the attempt of this number.
    pub fn step(&mut self, attempt: u32, step: &Step<'_>, now: impl Fn() -> Instant) {
        if self.pausing_since.is_some() || self.queueing_since.is_some() {
            self.waited(now());
        }
        if attempt > self.attempt {
            self.attempt = attempt;
            self.attempt_started = Some(now());
            self.attempt_connection_wait = Duration::ZERO;
            self.tell(|observer| observer.on_attempt(&self.subject, attempt));
        }
        if self.waits && matches!(step, Step::Connect { .. }) {
            self.connecting_since = Some(now());
        }
        if matches!(step, Step::Queue) {
            self.queueing_since = Some(now());
        }
    }

    /// A pause and a wait for a turn are over.
    fn waited(&mut self, now: Instant) {
        let since = |began: &mut Option<Instant>| {
            let waited = began
                .take()
                .map(|began| now.saturating_duration_since(began));
            waited.unwrap_or_default()
        };
        self.paused += since(&mut self.pausing_since);
        self.queued += since(&mut self.queueing_since);
    }

    /// There is a connection, or there is none to be waited for any longer.
    pub fn connected(&mut self, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.connecting_since.take() {
            let waited = now().saturating_duration_since(since);
            self.connection_wait += waited;
            self.attempt_connection_wait += waited;
        }
    }

    /// This has happened.
    pub fn event(&mut self, event: &Event) {
        // A COMMIT that was found out has the fault because of which it had to be.
        let is_found = event.kind() == EventKind::FoundCommitted;
        if is_found || !event.kind().is_without_failure() {
            self.last_fault = event.fault();
        }
        self.tell(|observer| observer.on_event(&self.subject, event));
    }

    /// A pause begins.
    pub fn pause(&mut self, now: impl FnOnce() -> Instant) {
        self.pausing_since = Some(now());
    }

    /// How long the present attempt has taken.
    pub fn attempt_times(&self, now: impl FnOnce() -> Instant) -> AttemptTimes {
        let elapsed = |started| now().saturating_duration_since(started);
        AttemptTimes {
            elapsed: self.attempt_started.map_or(Duration::ZERO, elapsed),
            connection_wait: self.attempt_connection_wait,
        }
    }

    /// Whether the observers know that the operation is over.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The operation is over. Tells the observers, unless they know. `gate`: that of its name.
    pub fn end(
        &mut self,
        attempts: u32,
        outcome: Outcome,
        stop: StopReason,
        gate: Option<GateStatus>,
        now: impl FnOnce() -> Instant,
    ) -> Times {
        if let Some(times) = self.ended {
            return times;
        }
        let now = now();
        // What it was waiting for when it was dropped.
        self.connected(|| now);
        self.waited(now);
        let times = Times {
            elapsed: now.saturating_duration_since(self.started),
            paused: self.paused,
            queued: self.queued,
            connection_wait: self.connection_wait,
            last_attempt: self.attempt_times(|| now),
        };
        self.ended = Some(times);
        if self.config.observers().is_empty() {
            return times;
        }
        let budget = self.config.retry_budget();
        let summary = Summary {
            attempts,
            outcome,
            stop,
            times,
            last_fault: self.last_fault,
            gate,
            retries_left: budget.map(|budget| budget.retries_left(now)),
        };
        self.tell(|observer| observer.on_end(&self.subject, &summary));
        times
    }

    fn tell(&self, what: impl Fn(&dyn super::Observer)) {
        let (observers, logging) = (self.config.observers(), self.config.logging());
        observers.tell(&self.subject, logging, what);
    }
}
