//! Another attempt: whether, when, and on which connection.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Machine;
use super::attempt::{Failure, FailureAnswer};
use super::ending::Enclosing;
use super::payment::{Due, Payment};
use super::queueing::HURRIED;
use super::state::{AfterPause, State};
use super::step::{ConnectionAction, Pause};
use crate::dialect::Dialect;
use crate::event::EventKind;
use crate::fault::{Fault, FaultClass};
use crate::nesting::Seat;
use crate::outcome::{Phase, StopReason};
use crate::policy::{Draws, RetryContext, RetryPolicy};
use crate::retry::{Advice, Verdict, decide};

/// The retries of an operation.
#[derive(Debug)]
pub(super) struct Retries<'a> {
    policy: &'a RetryPolicy,
    max: u32,
    /// The policy of a class may allow more than `max`.
    can_be_lifted: bool,
    taken: u32,
    /// How many were taken beyond `max`.
    lifted: u32,
    /// Those left for the operation and everything nested in it, while it is on no connection.
    pub(super) parked: u32,
    by_class: [u16; FaultClass::COUNT],
    /// It was retried after a fault that is worth only one retry.
    tried_once_more: bool,
    /// How often the server closed the connection without a word while the body ran.
    silent_losses: u32,
    /// How many attempts would not wait for a lock for as long as they may.
    pub(super) hurried: u32,
    draws: Option<Draws>,
    pub(super) payment: Payment,
}

impl<'a> Retries<'a> {
    /// `own_max`: what the operation itself asked for.
    pub(super) fn new(policy: &'a RetryPolicy, own_max: Option<u32>) -> Self {
        let max = own_max.unwrap_or(policy.max_retries());
        Self {
            policy,
            max,
            can_be_lifted: own_max.is_none(),
            taken: 0,
            lifted: 0,
            parked: max,
            by_class: [0; FaultClass::COUNT],
            tried_once_more: false,
            silent_losses: 0,
            hurried: 0,
            draws: None,
            payment: Payment::default(),
        }
    }

    /// The operation's policy, or else the runner's.
    pub(super) const fn policy(&self) -> &'a RetryPolicy {
        self.policy
    }

    /// The budget has refused a retry.
    pub(super) const fn is_refused(&self) -> bool {
        self.payment.is_refused
    }

    /// Takes a retry, from those of the operation and its class and from those it shares with nested
    /// ones.
    fn take(&mut self, class: Option<FaultClass>, seat: Option<&Seat>) -> bool {
        let most = match class.and_then(|class| self.limit_of(class)) {
            Some(_) if !self.allows(class) => return false,
            Some(limit) if self.can_be_lifted => limit.max(self.max),
            _ => self.max,
        };
        if self.taken >= most {
            return false;
        }
        let taken = self.take_shared(seat) || self.take_beyond(most, seat);
        self.taken += u32::from(taken);
        if let Some(class) = class.filter(|_| taken) {
            let count = &mut self.by_class[class as usize];
            *count = count.saturating_add(1);
        }
        taken
    }

    /// Whether its class allows another one.
    pub(super) fn allows(&self, class: Option<FaultClass>) -> bool {
        let limit = class.and_then(|class| self.limit_of(class));
        limit.is_none_or(|limit| self.retries_after(class) < limit)
    }

    /// Counts a retry for its class alone, if the class allows another one. One that would follow at once
    /// does not wait for anything.
    fn wait(&mut self, class: FaultClass) -> bool {
        let backoff = self.policy.backoff_of(Some(class), true);
        let waits = self.max > 0 && !backoff.ceiling(0).is_zero() && self.allows(Some(class));
        if waits {
            let count = &mut self.by_class[class as usize];
            *count = count.saturating_add(1);
        }
        waits
    }

    /// The last one that was counted for its class alone is not.
    fn wait_no_more(&mut self, class: FaultClass) {
        let count = &mut self.by_class[class as usize];
        *count = count.saturating_sub(1);
    }

    fn take_shared(&mut self, seat: Option<&Seat>) -> bool {
        match seat {
            Some(seat) => seat.take_retry(),
            None => {
                let taken = self.parked > 0;
                self.parked = self.parked.saturating_sub(1);
                taken
            }
        }
    }

    /// Those for all classes are used up. Its class may allow the outermost operation more; what is
    /// nested in it has no more than it had for all classes.
    fn take_beyond(&mut self, most: u32, seat: Option<&Seat>) -> bool {
        let is_nested = seat.is_some_and(Seat::is_within_another);
        let is_allowed = !is_nested && self.max.saturating_add(self.lifted) < most;
        self.lifted += u32::from(is_allowed);
        is_allowed
    }

    /// Gives back the last one, which is not made.
    fn give_back(&mut self, class: Option<FaultClass>, seat: Option<&Seat>) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(class) = class {
            let count = &mut self.by_class[class as usize];
            *count = count.saturating_sub(1);
        }
        match seat {
            _ if self.lifted > 0 => self.lifted -= 1,
            Some(seat) => seat.give_back_retry(),
            None => self.parked = self.parked.saturating_add(1),
        }
    }

    /// What the operation asked for itself takes the place of the default of a class.
    fn limit_of(&self, class: FaultClass) -> Option<u32> {
        match self.can_be_lifted {
            true => self.policy.limit_of(class),
            false => self.policy.own_limit_of(class),
        }
    }

    /// How often it was retried after this class.
    fn retries_after(&self, class: Option<FaultClass>) -> u32 {
        class.map_or(0, |class| u32::from(self.by_class[class as usize]))
    }

    /// The next delay by the policy's arithmetic. `is_slow`: what is in the way takes its time.
    fn draw(&mut self, class: Option<FaultClass>, is_slow: bool) -> Duration {
        let policy = self.policy;
        let own = class.filter(|class| policy.about(*class).is_some());
        // The retry that this is about is taken already.
        let of_class = own.map(|_| self.retries_after(class).saturating_sub(1));
        let draws = self.draws.get_or_insert_with(|| policy.draws());
        draws.draw(policy.backoff_of(class, is_slow), of_class)
    }

    /// Whether there is any retry, by the policy or the operation.
    pub(super) const fn are_allowed(&self) -> bool {
        self.max > 0
    }

    fn previous_delay(&self) -> Option<Duration> {
        self.draws.as_ref()?.previous
    }

    /// The delay is this, whatever was drawn.
    pub(super) fn set_delay(&mut self, delay: Duration) {
        let policy = self.policy;
        let draws = self.draws.get_or_insert_with(|| policy.draws());
        draws.previous = Some(delay);
    }
}

impl Machine<'_> {
    /// Whether to try again, after which delay and on which connection. Takes a retry if so.
    pub(super) fn plan_retry(
        &mut self,
        failure: &Failure,
        enclosing: Enclosing,
    ) -> Result<Pause, StopReason> {
        let wants_no_other = failure.is_own_error() && failure.advice != Advice::Retry;
        if self.deadline.is_late && !wants_no_other {
            return Err(StopReason::DeadlineExceeded);
        }
        if self.retries.is_refused() && !wants_no_other {
            return Err(StopReason::BudgetExhausted);
        }
        let is_usable = !self.connection.is_broken && self.user_panic.is_none();
        if self.was_hurried(failure) && is_usable && self.judge(failure) == Verdict::Retry {
            return Ok(self.pause_after_hurry());
        }
        let is_savepoint = self.connection.is_savepoint();
        // An operation before this one has lost the transaction around both.
        let is_nested = is_savepoint || self.connection.is_nested();
        if failure.is_loss() && failure.fault.is_none() && is_nested {
            return Err(StopReason::EnclosingTransaction);
        }
        let Plan { once, connection } = self.plan(failure)?;
        if self.may_be_done(failure) && !self.spec.idempotent {
            return Err(StopReason::OutcomeUnknown);
        }
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
        if !self.waits_for_server(failure) && !self.take_retry(failure.class()) {
            return Err(StopReason::RetriesExhausted);
        }
        self.retries.tried_once_more |= once;
        // The transaction around a savepoint may hold locks, for which others would wait meanwhile.
        let is_at_once = once && is_savepoint;
        let pause = self.pause_before_retry(failure, connection, is_at_once);
        let may_follow = self.may_follow(failure, pause.delay);
        // Of the classifier, or just now of the function for the delays.
        match self.user_panic {
            Some(_) => Err(StopReason::NotRetryable),
            None if !may_follow => Err(StopReason::RetriesExhausted),
            None => {
                self.retries.payment.due = Due::Retry;
                Ok(pause)
            }
        }
    }

    fn pause_before_retry(
        &mut self,
        failure: &Failure,
        connection: ConnectionAction,
        is_at_once: bool,
    ) -> Pause {
        if (is_at_once || self.attempt.is_resolved) && !self.connection.is_broken {
            self.retries.set_delay(Duration::ZERO);
            return Pause {
                delay: Duration::ZERO,
                connection: self.for_so_long(ConnectionAction::Keep, Duration::ZERO),
                settled: true,
            };
        }
        let delay = self.delay_after(failure);
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

    /// A deadline says how long to wait for a server: then waiting takes no retry.
    fn waits_for_server(&mut self, failure: &Failure) -> bool {
        let needs_one = |class: &FaultClass| match class {
            FaultClass::ConnectionLost => failure.phase != Phase::Commit,
            class => class.is_slow(),
        };
        let class = failure.class().filter(needs_one);
        self.attempt.waits =
            self.deadline.is_set() && class.is_some_and(|class| self.retries.wait(class));
        self.attempt.waits
    }

    /// Whether the retry that is planned may follow after this delay. Waiting for a server takes no retry, but
    /// what does not wait takes one: else it would try as fast as it can, until the deadline.
    pub(super) fn may_follow(&mut self, failure: &Failure, delay: Duration) -> bool {
        if !delay.is_zero() || !std::mem::take(&mut self.attempt.waits) {
            return true;
        }
        let class = failure.class();
        if let Some(class) = class {
            self.retries.wait_no_more(class);
        }
        self.take_retry(class)
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
    pub(super) fn judge(&self, failure: &Failure) -> Verdict {
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

    /// The pause after a lock that was not waited for. A statement that waits for none at all (NOWAIT) must not
    /// be repeated without a pause.
    fn pause_after_hurry(&mut self) -> Pause {
        self.retries.hurried += 1;
        let policy = self.retries.policy;
        let draws = self.retries.draws.get_or_insert_with(|| policy.draws());
        let delay = draws.up_to(HURRIED);
        Pause {
            delay,
            connection: self.for_so_long(ConnectionAction::Keep, delay),
            settled: true,
        }
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
            // Who waits for its turn has no connection, and the cache goes with it.
            ConnectionAction::ClearStatementCache if gives_back && self.turn.has_gate() => {
                ConnectionAction::Discard
            }
            other => other,
        }
    }

    /// A pooler keeps the prepared statements of its server connections for all of its clients, by their texts.
    /// What has become stale there is prepared anew only once it is forgotten there, so the next attempt begins
    /// with that.
    ///
    /// Call it at the [`Pause`](super::Step::Pause) that clears the statement cache.
    pub fn pooler_keeps_statements(&mut self) {
        let batches = self.connection.batches().forgetting();
        self.connection.set_batches(Cow::Owned(Box::new(batches)));
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

    pub(super) fn take_retry(&mut self, class: Option<FaultClass>) -> bool {
        let taken = self.retries.take(class, self.connection.seat());
        self.attempt.has_taken_retry = taken;
        taken
    }

    /// Gives back the retry after this failure, which is not made. Not every retry is taken from those that
    /// are left.
    pub(super) fn give_back_retry(&mut self, failure: &Failure) {
        self.retries.payment.due = Due::Nothing;
        self.return_retry(failure);
    }

    /// The retry that was taken is not made, whatever was paid for it.
    pub(super) fn return_retry(&mut self, failure: &Failure) {
        if std::mem::take(&mut self.attempt.has_taken_retry) {
            self.retries
                .give_back(failure.class(), self.connection.seat());
        }
    }

    /// How many retries are left for the operation and everything nested in it.
    pub(super) fn retries_left(&self) -> u32 {
        let parked = self.retries.parked;
        self.connection.seat().map_or(parked, Seat::retries_left)
    }

    /// The delay before the retry after this failure. The user's function has the last word.
    fn delay_after(&mut self, failure: &Failure) -> Duration {
        let class = failure.class();
        let is_slow = failure.phase == Phase::Connect || class.is_some_and(FaultClass::is_slow);
        let previous_delay = self.retries.previous_delay();
        let delay = self.retries.draw(class, is_slow);
        let Some(own) = self.retries.policy.backoff_fn() else {
            return delay;
        };
        let context = RetryContext {
            class,
            phase: failure.phase,
            attempt: self.attempt.number,
            class_retries: self.retries.retries_after(class).saturating_sub(1),
            delay,
            previous_delay,
        };
        match catch_unwind(AssertUnwindSafe(|| (own.0)(&context))) {
            Ok(delay) => {
                self.retries.set_delay(delay);
                delay
            }
            Err(payload) => {
                self.user_code_panicked(payload);
                delay
            }
        }
    }

    /// The delay before a question about a lost COMMIT. It is no retry, so no class has a policy for it.
    pub(super) fn delay_of_question(&mut self, fault: Option<Fault>) -> Duration {
        let is_slow = fault.is_some_and(|fault| fault.class().is_slow());
        self.retries.draw(None, is_slow)
    }

    /// SQLite was busy: the transaction is still open, and COMMIT alone is worth another try.
    pub(super) fn commit_again(&mut self, fault: Fault) -> bool {
        let is_busy =
            self.dialect == Dialect::Sqlite && fault.recognized_class() == FaultClass::Busy;
        let rule = |class| self.rule(class);
        let verdict = decide(Some(fault), Advice::Judge, self.scope(), false, rule);
        if !is_busy || verdict == Verdict::GiveUp || !self.take_retry(Some(fault.class())) {
            return false;
        }
        let failure = Failure::of(Phase::Commit, Some(fault), FailureAnswer::FirstError);
        let delay = self.delay_after(&failure);
        if self.user_panic.is_some() {
            return false;
        }
        self.attempt.failure = Some(failure);
        // No one else can write meanwhile.
        let delay = match self.retries.policy.backoff_fn() {
            Some(_) => delay,
            None => delay.min(LONGEST_WITH_LOCK),
        };
        let pause = Pause {
            delay,
            connection: ConnectionAction::Keep,
            settled: false,
        };
        let Ok(pause) = self.ask_before_retry(&failure, pause) else {
            return false;
        };
        self.report_retry(pause);
        self.retries.payment.due = Due::Retry;
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

/// The longest pause before a COMMIT of SQLite's is sent again.
const LONGEST_WITH_LOCK: Duration = Duration::from_millis(100);
