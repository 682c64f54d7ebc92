//! Another attempt: whether, when, and on which connection.

use std::time::Duration;

use super::{
    AfterPause, Aftermath, Failure, FailureAnswer, Handling, Machine, Pause, Phase, State,
    StopReason,
};
use crate::old::error::Kind;
use crate::old::event::EventKind;
use crate::old::retry::{Scope, Verdict, verdict};
use crate::old::{Advice, Dialect, Fault, FaultClass};

impl Machine<'_> {
    /// Whether to try again, after which delay and on which connection.
    pub(super) fn verdict(
        &mut self,
        failure: &Failure,
        aftermath: Aftermath,
    ) -> Result<Pause, StopReason> {
        let wants_no_other = failure.is_own_error() && failure.advice != Advice::Retry;
        if self.late && !wants_no_other {
            return Err(StopReason::DeadlineExceeded);
        }
        // An operation before this one has lost the transaction around both.
        let is_lost = failure.answer == FailureAnswer::Own(Kind::TransactionLost);
        if is_lost && failure.fault.is_none() && (self.is_savepoint() || self.is_nested()) {
            return Err(StopReason::EnclosingTransaction);
        }
        let mut once = false;
        let mut connection = Handling::Keep;
        match self.judge(failure) {
            Verdict::GiveUp if failure.is_own_error() => return Err(StopReason::OwnError),
            Verdict::GiveUp => return Err(StopReason::NotRetryable),
            Verdict::Escalate => return Err(StopReason::EnclosingTransaction),
            Verdict::NeedsConnection => connection = Handling::Discard,
            Verdict::Retry => {}
            Verdict::RetryOnce => once = true,
            Verdict::RetryReplanned => {
                once = true;
                connection = Handling::ClearStatementCache;
            }
        }
        if self.is_savepoint() && !aftermath.enclosing_alive {
            return Err(StopReason::EnclosingTransaction);
        }
        if self.connection_broken {
            connection = Handling::Discard;
        }
        if connection == Handling::Discard && !self.terms.fresh_connections {
            return Err(StopReason::NeedsConnection);
        }
        if once && self.tried_once_more {
            return Err(if self.is_savepoint() {
                StopReason::EnclosingTransaction
            } else {
                StopReason::RetriesExhausted
            });
        }
        if !self.take_retry() {
            return Err(StopReason::RetriesExhausted);
        }
        self.tried_once_more |= once;
        if self.waited && !self.connection_broken {
            // The question what became of the attempt has cost time enough.
            return Ok(Pause {
                delay: Duration::ZERO,
                connection: Handling::Keep,
                settled: true,
            });
        }
        let delay = self.next_delay(failure.phase == Phase::Connect, failure.fault);
        Ok(Pause {
            delay,
            connection: self.for_so_long(connection, delay),
            settled: true,
        })
    }

    /// What to do about the connection before a delay: others can use it if it is long.
    pub(super) fn for_so_long(&self, connection: Handling, delay: Duration) -> Handling {
        let gives_back = self.terms.fresh_connections && delay >= LONG_PAUSE;
        match connection {
            Handling::Keep if gives_back => Handling::GiveBack,
            other => other,
        }
    }

    /// What there is to be done about it, limits aside.
    fn judge(&self, failure: &Failure) -> Verdict {
        let scope = if self.is_savepoint() {
            let immediate = self.membership.as_ref().is_some_and(|m| m.is_immediate());
            Scope::Savepoint { immediate }
        } else {
            Scope::Transaction
        };
        verdict(
            failure.fault,
            failure.advice,
            scope,
            self.terms.read_only || self.is_read_only(),
            &self.policy,
        )
    }

    /// The connection is not the one to go on with, for anybody.
    pub(super) fn wants_another_connection(&self, failure: &Failure) -> bool {
        self.judge(failure) == Verdict::NeedsConnection && !self.waited
    }

    /// There will be another attempt.
    pub(super) fn try_again(&mut self, pause: Pause) {
        let mut event = self.event(EventKind::Retrying, self.failure.as_ref());
        event.delay = Some(pause.delay);
        self.event = Some(event);
        self.state = State::Pause(pause, AfterPause::Begin);
    }

    /// Takes a retry, from those of the operation and from those it shares with nested ones.
    pub(super) fn take_retry(&mut self) -> bool {
        if self.retries >= self.policy.max_retries() {
            return false;
        }
        let taken = match &self.membership {
            Some(membership) => membership.take_retry(),
            None => {
                let taken = self.spare > 0;
                self.spare = self.spare.saturating_sub(1);
                taken
            }
        };
        self.retries += u32::from(taken);
        taken
    }

    /// How many retries are left for the operation and everything nested in it.
    #[must_use]
    pub fn retries_left(&self) -> u32 {
        self.membership
            .as_ref()
            .map_or(self.spare, |membership| membership.retries_left())
    }

    pub(super) fn next_delay(&mut self, connecting: bool, fault: Option<Fault>) -> Duration {
        let policy = self.policy;
        let delays = self.delays.get_or_insert_with(|| policy.delays());
        if connecting || fault.is_some_and(|fault| fault.class().is_slow()) {
            delays.next_slow()
        } else {
            delays.next().unwrap_or_default()
        }
    }

    /// SQLite was busy: the transaction is still open, and COMMIT alone is worth another try.
    pub(super) fn commit_again(&mut self, fault: Fault) -> bool {
        let is_busy = self.dialect == Dialect::Sqlite && fault.class() == FaultClass::Busy;
        if !is_busy || !self.take_retry() {
            return false;
        }
        self.failure = None;
        self.fail(Phase::Commit, Some(fault), FailureAnswer::FirstError);
        let delay = self.next_delay(false, Some(fault));
        let pause = Pause {
            delay,
            connection: Handling::Keep,
            settled: false,
        };
        self.try_again(pause);
        self.state = State::Pause(pause, AfterPause::Commit);
        true
    }
}

/// From this delay on, a connection of a pool is given back for as long as it lasts. Getting one
/// again costs most pools a round trip.
const LONG_PAUSE: Duration = Duration::from_millis(10);
