//! Waiting for a turn at a gate, before an attempt begins.

use std::task::Waker;
use std::time::{Duration, Instant};

use super::Machine;
use super::attempt::Failure;
use super::connecting::Placement;
use super::state::State;
use crate::config::RunnerConfig;
use crate::dialect::{Dialect, Level, Skipped, Timeout};
use crate::event::EventKind;
use crate::fault::{Fault, FaultClass};
use crate::gate::{Gate, GateStatus, Keys, Turn, Wait};
use crate::settings::Setting;
use crate::spec::Spec;

/// How long an attempt of contended operations waits for a lock. PostgreSQL looks for a deadlock only after
/// `deadlock_timeout`, a second by default, and until then everyone waits for those who are in it.
pub(super) const HURRIED: Duration = Duration::from_millis(100);

/// How long one waits for a key where there is no lock timeout.
const PATIENCE: Duration = Duration::from_secs(10);

/// The turn of an operation at its gate. Without a source, it holds the caller's connection while it
/// waits, which has to be asked for.
pub(super) fn turn<'a>(
    config: &'a RunnerConfig,
    spec: &'a Spec<'a>,
    can_reconnect: bool,
) -> Turn<'a> {
    let keys = spec.exclusive_by.filter(|keys| !keys.is_empty());
    Turn::at(match (keys, config.gates()) {
        _ if !can_reconnect && !spec.queues_with_connection => Gate::None,
        (Some(keys), _) => Gate::Keys(keys.hashes()),
        (None, Some(gates)) if !spec.ungated => Gate::Named(gates.of(spec.name)),
        (None, _) => Gate::None,
    })
}

impl Machine<'_> {
    /// Waits for the turn of the next attempt. Returns for how long, unless it is woken before that, or
    /// `None` once it is its turn, or too late.
    ///
    /// The clock is read only if there is a deadline or others are before it.
    pub fn queue(&mut self, waker: &Waker, now: &dyn Fn() -> Instant) -> Option<Duration> {
        let patience = self.lock_timeout().unwrap_or(PATIENCE);
        match self.turn.wait(patience, waker, now) {
            Wait::For(time) => {
                let time = self.deadline.left(now).map_or(time, |left| left.min(time));
                if !time.is_zero() {
                    return Some(time);
                }
                self.turn.leave();
            }
            Wait::Over(None) => {}
            Wait::Over(waited) => {
                let mut event = self.make_event(EventKind::Queued, None);
                event.delay = waited;
                self.report(event);
            }
        }
        self.go_to(self.after_queue());
        None
    }

    /// How the gate of the operation's name stands, if it has one.
    #[must_use]
    pub fn gate_status(&self) -> Option<GateStatus> {
        self.turn.status()
    }

    /// Where the next attempt begins.
    pub(super) const fn next_attempt(&self) -> State {
        match self.turn.has_gate() {
            true => State::Queue,
            false => self.after_queue(),
        }
    }

    const fn after_queue(&self) -> State {
        match self.connection.seat() {
            Some(_) => State::Begin,
            None => State::Connect,
        }
    }

    /// An operation that is nested in another one does not queue: the other one holds what those before
    /// it may be waiting for.
    pub(super) fn pass_straight_through(&mut self, placement: &Placement) {
        let is_nested = placement.is_within_another() || placement.level() != Level::Transaction;
        if is_nested && !self.can_reconnect {
            self.turn.give_up_gate();
        }
    }

    /// Keys without a gate are reported.
    pub(super) fn skip_keys(&self, skipped: &mut Skipped) {
        let has_keys = self
            .spec
            .exclusive_by
            .is_some_and(|keys: &Keys| !keys.is_empty());
        if has_keys && !self.turn.has_gate() {
            skipped.add(Setting::ExclusiveBy);
        }
    }

    /// The attempt has met what the gate is for.
    pub(super) fn tell_gate(&mut self, failure: &Failure) {
        let is_conflict = |fault: Fault| {
            let class = fault.class();
            matches!(
                class,
                FaultClass::Deadlock | FaultClass::SerializationFailure
            )
        };
        if failure.fault.is_some_and(is_conflict) || self.was_hurried(failure) {
            self.turn.meet_conflict();
        }
    }

    /// The attempt would not wait for a lock for as long as the operation may wait. That it may is nothing
    /// that the operation has failed at.
    pub(super) fn was_hurried(&self, failure: &Failure) -> bool {
        let is_lock_timeout = |fault: Fault| fault.recognized_class() == FaultClass::LockTimeout;
        self.attempt.is_hurried && failure.fault.is_some_and(is_lock_timeout)
    }

    /// The lock timeout of an attempt at a gate, if it differs from the one before.
    pub(super) fn hurry(&mut self) -> Option<Timeout> {
        let hurried = self.hurried_lock_timeout()?;
        let whole = self.lock_timeout()?;
        let so_far = HURRIED.saturating_mul(self.retries.hurried);
        // What asks for a token waits for the transaction that may hold it.
        self.attempt.is_hurried = self.question.is_none() && so_far < whole;
        Some(Timeout::AtMost(match self.attempt.is_hurried {
            true => hurried,
            false => whole,
        }))
    }

    /// The lock timeout of an operation at a gate, unless it has one of its own or a shorter one.
    pub(super) fn hurried_lock_timeout(&self) -> Option<Duration> {
        let is_default = self.spec.settings.lock_timeout.is_none();
        let is_hurried = self.dialect == Dialect::Postgres
            && is_default
            && self.turn.is_contended()
            && self.retries.are_allowed()
            && self.lock_timeout().is_some_and(|whole| whole > HURRIED);
        is_hurried.then_some(HURRIED)
    }

    pub(super) fn lock_timeout(&self) -> Option<Duration> {
        let own = self.spec.settings.lock_timeout;
        own.or(self.config.defaults().lock_timeout)
    }
}
