//! Another attempt: whether, when, and on which connection.

use std::time::Duration;

use super::Machine;
use super::attempt::{Failure, FailureAnswer};
use super::ending::Enclosing;
use super::state::{AfterPause, State};
use super::step::{ConnectionAction, Pause};
use crate::dialect::Dialect;
use crate::event::EventKind;
use crate::fault::{Fault, FaultClass};
use crate::nesting::Seat;
use crate::outcome::{Phase, StopReason};
use crate::policy::{Delays, RetryPolicy};
use crate::retry::{Advice, Verdict, decide};

/// The retries of an operation.
#[derive(Debug)]
pub(super) struct Retries<'a> {
    policy: &'a RetryPolicy,
    max: u32,
    taken: u32,
    /// Those left for the operation and everything nested in it, while it is on no connection.
    pub(super) parked: u32,
    /// It was retried after a fault that is worth only one retry.
    tried_once_more: bool,
    /// How often the server closed the connection without a word while the body ran.
    silent_losses: u32,
    /// How many attempts would not wait for a lock for as long as they may.
    pub(super) hurried: u32,
    delays: Option<Delays>,
}

impl<'a> Retries<'a> {
    pub(super) const fn new(policy: &'a RetryPolicy, max: u32) -> Self {
        Self {
            policy,
            max,
            taken: 0,
            parked: max,
            tried_once_more: false,
            silent_losses: 0,
            hurried: 0,
            delays: None,
        }
    }

    /// Takes a retry, from those of the operation and from those it shares with nested ones.
    fn take(&mut self, seat: Option<&Seat>) -> bool {
        if self.taken >= self.max {
            return false;
        }
        let taken = match seat {
            Some(seat) => seat.take_retry(),
            None => {
                let taken = self.parked > 0;
                self.parked = self.parked.saturating_sub(1);
                taken
            }
        };
        self.taken += u32::from(taken);
        taken
    }

    /// `is_slow`: what is in the way takes its time.
    fn next_delay(&mut self, is_slow: bool) -> Duration {
        let policy = self.policy;
        let delays = self.delays.get_or_insert_with(|| policy.delays());
        if is_slow {
            delays.next_slow()
        } else {
            delays.next().unwrap_or_default()
        }
    }
}

impl Machine<'_> {
    /// Whether to try again, after which delay and on which connection. Takes a retry if so.
    pub(super) fn plan_retry(
        &mut self,
        failure: &Failure,
        enclosing: Enclosing,
    ) -> Result<Pause, StopReason> {
        if self.classifier_panic.is_some() {
            return Err(StopReason::NotRetryable);
        }
        let wants_no_other = failure.is_own_error() && failure.advice != Advice::Retry;
        if self.deadline.is_late && !wants_no_other {
            return Err(StopReason::DeadlineExceeded);
        }
        if self.was_hurried(failure) && !self.connection.is_broken {
            self.retries.hurried += 1;
            let connection = self.for_so_long(ConnectionAction::Keep, Duration::ZERO);
            return Ok(Pause {
                delay: Duration::ZERO,
                connection,
                settled: true,
            });
        }
        let is_savepoint = self.connection.is_savepoint();
        // An operation before this one has lost the transaction around both.
        let is_nested = is_savepoint || self.connection.is_nested();
        if failure.is_loss() && failure.fault.is_none() && is_nested {
            return Err(StopReason::EnclosingTransaction);
        }
        let Plan { once, connection } = self.plan(failure)?;
        if self.crashes_its_server(failure) {
            return Err(StopReason::RetriesExhausted);
        }
        if is_savepoint && enclosing == Enclosing::Lost {
            return Err(StopReason::EnclosingTransaction);
        }
        let connection = match self.connection.is_broken {
            true => ConnectionAction::Discard,
            false => connection,
        };
        if connection == ConnectionAction::Discard && !self.can_reconnect {
            return Err(StopReason::NeedsConnection);
        }
        if once && self.retries.tried_once_more {
            return Err(match is_savepoint {
                true => StopReason::EnclosingTransaction,
                false => StopReason::RetriesExhausted,
            });
        }
        if !self.take_retry() {
            return Err(StopReason::RetriesExhausted);
        }
        self.retries.tried_once_more |= once;
        // The transaction around a savepoint may hold locks, for which others would wait meanwhile.
        let is_at_once = once && is_savepoint;
        Ok(self.pause_before_retry(failure, connection, is_at_once))
    }

    fn pause_before_retry(
        &mut self,
        failure: &Failure,
        connection: ConnectionAction,
        is_at_once: bool,
    ) -> Pause {
        if (is_at_once || self.attempt.is_resolved) && !self.connection.is_broken {
            return Pause {
                delay: Duration::ZERO,
                connection: self.for_so_long(ConnectionAction::Keep, Duration::ZERO),
                settled: true,
            };
        }
        let delay = self.next_delay(failure.phase == Phase::Connect, failure.fault);
        Pause {
            delay,
            connection: self.for_so_long(connection, delay),
            settled: true,
        }
    }

    /// What the verdict on a failure means for another attempt, limits aside.
    fn plan(&self, failure: &Failure) -> Result<Plan, StopReason> {
        let is_worth_one = |fault: Fault| fault.is_worth_one_more_connection();
        let once_more = failure.fault.is_some_and(is_worth_one);
        let (once, connection) = match self.judge(failure) {
            Verdict::GiveUp if failure.is_own_error() => return Err(StopReason::OwnError),
            Verdict::GiveUp => return Err(StopReason::NotRetryable),
            Verdict::Escalate => return Err(StopReason::EnclosingTransaction),
            Verdict::NeedsConnection => (once_more, ConnectionAction::Discard),
            Verdict::Retry => (false, ConnectionAction::Keep),
            Verdict::RetryOnce => (true, ConnectionAction::Keep),
            Verdict::RetryReplanned => (true, ConnectionAction::ClearStatementCache),
        };
        Ok(Plan { once, connection })
    }

    /// Whether a statement of the body may be what ends the server's process, as it has done so
    /// before. A connection that another session or an administrator has terminated does not count:
    /// that is said.
    fn crashes_its_server(&mut self, failure: &Failure) -> bool {
        let silent = |fault: Fault| fault.is_silent_loss();
        let is_silent = failure.phase == Phase::Body && failure.fault.is_some_and(silent);
        self.retries.silent_losses += u32::from(is_silent);
        is_silent && self.retries.silent_losses >= self.retries.policy.max_silent_losses()
    }

    /// What there is to be done about a failure, limits aside.
    fn judge(&self, failure: &Failure) -> Verdict {
        let read_only = self.spec.settings.read_only || self.connection.is_read_only();
        let rule = |class| self.rule(class);
        decide(failure.fault, failure.advice, self.scope(), read_only, rule)
    }

    /// Whether the connection leads to where no operation can succeed.
    pub(super) fn wants_another_connection(&self, failure: &Failure) -> bool {
        let is_lost = |fault: Fault| !fault.leaves_connection_usable();
        let is_useless =
            failure.fault.is_some_and(is_lost) || self.judge(failure) == Verdict::NeedsConnection;
        is_useless && !self.attempt.is_resolved
    }

    /// What to do about the connection before a delay: others can use it if it is long, and while this
    /// operation waits for its turn.
    pub(super) fn for_so_long(
        &self,
        connection: ConnectionAction,
        delay: Duration,
    ) -> ConnectionAction {
        let is_long = delay >= LONG_PAUSE || self.turn.has_gate();
        let gives_back = self.can_reconnect && is_long;
        match connection {
            ConnectionAction::Keep if gives_back => ConnectionAction::GiveBack,
            other => other,
        }
    }

    /// There will be another attempt.
    pub(super) fn try_again(&mut self, pause: Pause) {
        self.turn.end();
        self.report_retry(pause);
        self.go_to(State::Pause(pause, AfterPause::Begin));
    }

    fn report_retry(&mut self, pause: Pause) {
        let mut event = self.make_event(EventKind::Retrying, self.attempt.failure.as_ref());
        event.delay = Some(pause.delay);
        self.report(event);
    }

    pub(super) fn take_retry(&mut self) -> bool {
        self.retries.take(self.connection.seat())
    }

    /// How many retries are left for the operation and everything nested in it.
    pub(super) fn retries_left(&self) -> u32 {
        let parked = self.retries.parked;
        self.connection.seat().map_or(parked, Seat::retries_left)
    }

    pub(super) fn next_delay(&mut self, connecting: bool, fault: Option<Fault>) -> Duration {
        let is_slow = connecting || fault.is_some_and(|fault| fault.class().is_slow());
        self.retries.next_delay(is_slow)
    }

    /// SQLite was busy: the transaction is still open, and COMMIT alone is worth another try.
    pub(super) fn commit_again(&mut self, fault: Fault) -> bool {
        let is_busy =
            self.dialect == Dialect::Sqlite && fault.recognized_class() == FaultClass::Busy;
        let rule = |class| self.rule(class);
        let verdict = decide(Some(fault), Advice::Judge, self.scope(), false, rule);
        let wants_no_other = verdict == Verdict::GiveUp || self.classifier_panic.is_some();
        if !is_busy || wants_no_other || !self.take_retry() {
            return false;
        }
        self.attempt.failure = None;
        self.attempt
            .fail(Phase::Commit, Some(fault), FailureAnswer::FirstError);
        let pause = Pause {
            delay: self.next_delay(false, Some(fault)),
            connection: ConnectionAction::Keep,
            settled: false,
        };
        self.report_retry(pause);
        self.go_to(State::Pause(pause, AfterPause::Commit));
        true
    }
}

struct Plan {
    /// Another attempt is worth it only once.
    once: bool,
    connection: ConnectionAction,
}

/// From this delay on, a connection of a pool is given back for as long as it lasts. Getting one
/// again costs most pools a round trip.
const LONG_PAUSE: Duration = Duration::from_millis(10);
