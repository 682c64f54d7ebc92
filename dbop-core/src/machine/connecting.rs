//! Connections that come and go, and an operation's place on one.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::Machine;
use super::attempt::FailureAnswer;
use super::ending::Enclosing;
use super::state::State;
use super::step::ErrorSlot;
use crate::dialect::{
    Batches, BatchesOf, Dialect, Known, Level, Needed, PragmasToRead, SavedPragmas, Skipped,
};
use crate::error::{Error, Kind};
use crate::fault::Fault;
use crate::nesting::{EnclosingLoss, Seat, UserCode};
use crate::outcome::Phase;
use crate::request::{Purpose, Request};
use crate::retry::Advice;
use crate::spec::Resolution;

/// An operation's place on its connection: alone, or nested in another operation.
#[derive(Debug)]
pub struct Placement {
    seat: Seat,
    level: Level,
}

impl Placement {
    /// Where the attempts run.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    pub(super) const fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Whether another operation runs around this one on the same connection, in a transaction or not.
    pub(super) const fn is_within_another(&self) -> bool {
        self.seat.is_within_another()
    }

    /// Whether no other operation runs around this one on the same connection. The runner's
    /// default timeouts are for outermost operations: nested ones inherit what is in force.
    #[must_use]
    pub const fn is_outermost(&self) -> bool {
        self.seat.is_outermost()
    }
}

/// What holds for one connection. Replaced as a whole when there is another one.
#[derive(Debug, Default)]
pub(super) struct Connection<'a> {
    seat: Option<Seat>,
    /// Without a seat: the SQL of the connection before, until there is another one.
    batches: Option<BatchesOf<'a>>,
    /// It must not be used any more.
    pub(super) is_broken: bool,
}

impl<'a> Connection<'a> {
    fn at(placement: Placement, batches: BatchesOf<'a>) -> Self {
        if batches.begins_immediate() {
            placement.seat.set_immediate();
        }
        Self {
            seat: Some(placement.seat),
            batches: Some(batches),
            is_broken: false,
        }
    }

    pub(super) const fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// # Panics
    ///
    /// If there has been no connection.
    pub(super) fn batches(&self) -> &Batches {
        self.batches
            .as_deref()
            .expect("`Step::Connect` comes first")
    }

    pub(super) fn level(&self) -> Level {
        self.batches().level()
    }

    pub(super) fn is_savepoint(&self) -> bool {
        self.seated()
            .is_some_and(|batches| batches.level() != Level::Transaction)
    }

    /// The server makes sure that the attempt writes nothing.
    pub(super) fn is_read_only(&self) -> bool {
        self.seated().is_some_and(Batches::is_read_only)
    }

    /// There is no transaction.
    pub(super) fn is_autocommit(&self) -> bool {
        self.seated().is_some_and(Batches::is_autocommit)
    }

    /// Another operation runs around this one on the same connection.
    pub(super) fn is_nested(&self) -> bool {
        self.seat().is_some_and(|seat| !seat.is_outermost())
    }

    /// The transaction was opened by the caller, or by Diesel on the caller's behalf.
    pub(super) fn is_in_callers_transaction(&self) -> bool {
        self.seat().is_some_and(|seat| !seat.owns_transaction())
    }

    pub(super) fn loss(&self) -> Option<EnclosingLoss> {
        self.seat()?.lost()
    }

    /// What an operation before this one lost does not concern a new transaction.
    pub(super) fn begin_transaction(&self) {
        if let Some(seat) = self.seat().filter(|seat| seat.is_outermost()) {
            seat.clear_lost();
        }
    }

    pub(super) fn set_user_code(&self, code: UserCode) {
        if let Some(seat) = self.seat() {
            seat.set_user_code(code);
        }
    }

    pub(super) fn set_batches(&mut self, batches: BatchesOf<'a>) {
        self.batches = Some(batches);
    }

    fn seated(&self) -> Option<&Batches> {
        let batches = self.batches.as_deref().map(Box::as_ref);
        batches.filter(|_| self.seat.is_some())
    }
}

impl<'a> Machine<'a> {
    /// Joins the operations on a connection. `key` identifies the connection for as long as the
    /// outermost operation runs (the address of its transaction status); `depth` is the number of
    /// transactions and savepoints that are open on it.
    #[must_use]
    pub fn place(&self, key: usize, depth: u32) -> Placement {
        Placement {
            seat: Seat::join(key, depth, self.retries_left()),
            level: Level::at_depth(depth),
        }
    }

    /// Where the attempts run there, in a word: `transaction`, `savepoint`, or `autocommit`, which is
    /// without a transaction.
    #[must_use]
    pub const fn scope_name(&self, placement: &Placement) -> &'static str {
        match placement.level {
            Level::Savepoint(_) => "savepoint",
            Level::Transaction if self.spec.settings.without_transaction => "autocommit",
            Level::Transaction => "transaction",
        }
    }

    /// Which values of the session have to be read before [`connected`](Self::connected), because
    /// the dialect's SQL cannot keep them.
    #[must_use]
    pub const fn pragmas_to_read(&self) -> PragmasToRead {
        let is_timed = self.deadline.is_set();
        let defaults = self.config.defaults();
        self.dialect
            .pragmas_to_read(&self.spec.settings, defaults, is_timed)
    }

    /// Whether there has been a connection: from then on, that another one is of no use does not
    /// mean that nothing has happened.
    #[must_use]
    pub const fn has_connected(&self) -> bool {
        self.history.connected
    }

    /// What a source is told about the connection that the present step asks for.
    #[must_use]
    pub fn request<'n>(
        &self,
        within: Option<Duration>,
        now: &'n (dyn Fn() -> Instant + Sync),
    ) -> Request<'n> {
        let read_only = self.spec.settings.read_only || self.config.defaults().read_only;
        let purpose = match self.question {
            Some(_) => Purpose::Question,
            None => Purpose::Work,
        };
        Request::new(now)
            .with_purpose(purpose)
            .with_read_only(read_only)
            .with_within(within)
            .with_after(self.history.fault)
    }

    /// With what the last attempt failed, or the last question about it: why its connection is discarded.
    #[must_use]
    pub const fn last_fault(&self) -> Option<Fault> {
        self.history.fault
    }

    /// There is a connection, and these are the values of its session.
    ///
    /// # Errors
    ///
    /// If a setting is not valid or not supported there. Then the connection is of no use.
    pub fn connected(&mut self, placement: Placement, pragmas: SavedPragmas) -> Result<(), Error> {
        self.admit_hooks(&placement)?;
        self.pass_straight_through(&placement);
        let batches = self.batches_for(&placement, pragmas)?;
        if !self.history.connected {
            self.history.connected = true;
            let mut skipped = batches.skipped();
            self.skip_keys(&mut skipped);
            self.reports.skipped = self.skipped_to_report(skipped);
        }
        self.deadline.join(&placement.seat);
        self.connection = Connection::at(placement, batches);
        // An operation before us in the same transaction has lost it and the error was swallowed.
        if self.connection.loss().is_some() {
            let lost = FailureAnswer::Own(Kind::TransactionLost);
            self.attempt.fail(Phase::Begin, None, lost);
            self.undone(Enclosing::Lost);
        } else if self.question.is_none() {
            let next = match self.can_reconnect {
                true => State::Begin,
                false => self.next_attempt(),
            };
            self.go_to(next);
        } else if self.connection.is_savepoint() {
            // Whatever it is, it is not where the commit was.
            self.finish_unknown();
        } else {
            let question = self.first_question();
            self.go_to(question);
        }
        Ok(())
    }

    /// What the runner and not the operation has asked to skip is reported once.
    fn skipped_to_report(&self, skipped: Skipped) -> Skipped {
        let is_reported = skipped.is_empty()
            || self.spec.settings.best_effort
            || self.config.skipped_in_tests().add(self.spec.name);
        if is_reported { skipped } else { Skipped::NONE }
    }

    /// There is no connection, or it is of no use. `advice` says whether to try again; by default
    /// the fault decides.
    pub fn connect_failed(
        &mut self,
        fault: Fault,
        advice: Advice,
        now: impl FnOnce() -> Instant,
    ) -> ErrorSlot {
        let slot = self.slot();
        self.connection.is_broken = true;
        // The source may have waited for as long as there was time.
        let left = self.deadline.is_set().then(now);
        let left = left.and_then(|now| self.left_at(now));
        if left.is_some_and(|left| left.is_zero()) {
            self.deadline.is_late = true;
        }
        if self.question.is_some() {
            // That a pool has waited is no reason not to ask again.
            self.question_failed(Some(fault), Advice::Judge);
            return slot;
        }
        let answer = FailureAnswer::Own(Kind::NoConnection);
        self.attempt.fail(Phase::Connect, Some(fault), answer);
        if let Some(failure) = &mut self.attempt.failure {
            failure.advice = advice;
        }
        self.undone(Enclosing::Alive);
        slot
    }

    /// Lets those in that wait for the operation: it is refused, and does not say so by a step.
    pub fn leave_gate(&mut self) {
        self.turn.leave();
    }

    /// Gives the connection up. Its SQL may do for the next one.
    pub fn leave_connection(&mut self) {
        self.retries.parked = self.retries_left();
        if self.connection.is_nested() {
            self.connection.batches = None;
        }
        self.connection.seat = None;
    }

    /// The SQL for the connection before, if it is right for the new one, too.
    pub(super) fn parked_batches(
        &mut self,
        placement: &Placement,
        pragmas: SavedPragmas,
    ) -> Option<BatchesOf<'a>> {
        let fits = |batches: &BatchesOf<'_>| {
            placement.is_outermost()
                && batches.level() == placement.level()
                && batches.before() == pragmas
        };
        self.connection.batches.take().filter(fits)
    }

    /// The SQL of the operation on a connection: made once, unless connections differ.
    fn batches_for(
        &mut self,
        placement: &Placement,
        pragmas: SavedPragmas,
    ) -> Result<BatchesOf<'a>, Error> {
        if let Some(batches) = self.parked_batches(placement, pragmas) {
            return Ok(batches);
        }
        let settings = &self.spec.settings;
        let hurry = self.hurried_lock_timeout();
        let known = self.known_of_session(placement);
        let batches =
            self.config
                .batches(self.dialect, placement, settings, pragmas, hurry, known)?;
        if let Some(keyed) = &self.keyed {
            let batches = self.with_key(batches, keyed)?;
            return Ok(match self.spec.begin_with_sql {
                Some(sql) => Cow::Owned(Box::new(batches.with_opening(sql))),
                None => batches,
            });
        }
        let proven = match (&self.entry, self.spec.resolution) {
            (Some(entry), _) => batches.with_token(entry),
            (None, Resolution::TransactionStatus) => batches.with_mark(),
            _ => None,
        };
        let batches = proven.map_or(batches, |proven| Cow::Owned(Box::new(proven)));
        Ok(match self.spec.begin_with_sql {
            Some(sql) => Cow::Owned(Box::new(batches.with_opening(sql))),
            None => batches,
        })
    }

    /// What is known of the session, where a default of the runner depends on it.
    fn known_of_session(&self, placement: &Placement) -> Known {
        let settings = &self.spec.settings;
        let can_be_known = self.dialect == Dialect::Postgres
            && placement.is_outermost()
            && placement.level == Level::Transaction
            && !settings.without_transaction;
        if !can_be_known {
            return Known::NOTHING;
        }
        let defaults = self.config.defaults();
        let has_ladder = !self.spec.lock_timeouts.is_empty();
        let needed = Needed::by(settings, defaults, has_ladder, self.deadline.is_set());
        self.config.sessions().known(defaults, needed)
    }
}
