//! The key of an operation: taken in the batch that begins an attempt, completed in the one that ends it.
//!
//! What fails at the key is no failure of the attempt. Others have it, and are waited for, or have done the
//! work. Waiting takes no attempt, and is bounded: by the deadline, or else by one lock timeout.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::Machine;
use super::attempt::{Failure, FailureAnswer};
use super::ending::Enclosing;
use super::state::State;
use super::step::{Answer, BodyEnd, ErrorSlot};
use crate::dialect::ledger::RowState;
use crate::dialect::ledger::key::{IS_TAKEN, KeyRow, KeySql, WAS_WAITED_FOR};
use crate::dialect::ledger::table::Table;
use crate::dialect::{Batches, BatchesOf, Dialect};
use crate::error::{Error, Kind};
use crate::event::EventKind;
use crate::fault::{Fault, FaultClass};
use crate::key::{BodyAnswer, InvalidKey, Key};
use crate::ledger::token::Token;
use crate::outcome::{Outcome, Phase, StopReason};
use crate::retry::Verdict;
use crate::spec::Spec;

/// The key of one operation.
#[derive(Debug)]
pub(super) struct Keyed<'a> {
    key: &'a Key<'a>,
    table: Table,
    scope: Cow<'a, [u8]>,
    /// Of the attempts, until one of them is found to be never committed.
    token: Token,
    /// Since when it is taken or waited for.
    since: Option<Instant>,
    /// It is waited for.
    waits: bool,
    /// The vacant row was written for those who wait.
    is_vacated: bool,
    /// How often the row was gone when it was read.
    vanished: u32,
    /// What the error of the body is remembered as.
    refusal: Option<Vec<u8>>,
}

impl<'a> Keyed<'a> {
    pub(super) fn new(key: &'a Key<'a>, spec: &Spec<'a>) -> Box<Self> {
        Box::new(Self {
            key,
            table: spec.resolution.table(),
            scope: key.scope_in(spec.name),
            token: Token::new(),
            since: None,
            waits: false,
            is_vacated: false,
            vanished: 0,
            refusal: None,
        })
    }

    fn sql(&self, dialect: Dialect) -> KeySql {
        let request = self.key.request.as_ref().map(<[u8; 32]>::as_slice);
        KeySql::new(
            dialect,
            self.table,
            &self.scope,
            self.key.id,
            self.token,
            request,
        )
    }
}

/// What the batch that takes the key has met there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AtKey {
    /// Nothing, or it was not the key that failed.
    #[default]
    Nothing,
    /// It is taken or, where the server does not say so, perhaps.
    Taken,
    /// Another transaction has it, for longer than a lock timeout.
    Held,
    /// It was waited for, and this transaction has seen nothing of what has happened meanwhile.
    Missed,
    /// Its row has vanished, and another one who waited has it now.
    Overtaken,
}

impl<'a> Machine<'a> {
    pub(super) fn with_key(
        &self,
        batches: BatchesOf<'a>,
        keyed: &Keyed<'_>,
    ) -> Result<BatchesOf<'a>, Error> {
        if batches.is_read_only() {
            return Err(Error::new(Kind::InvalidKey(InvalidKey::ReadOnly)));
        }
        let batches = batches.with_key(keyed.sql(self.dialect));
        Ok(Cow::Owned(Box::new(batches)))
    }

    /// The key is taken, and nothing was waited for in vain.
    pub(super) fn key_is_taken(&mut self) {
        if let Some(keyed) = &mut self.keyed {
            keyed.since = None;
            keyed.waits = false;
        }
    }

    /// An attempt begins to take it.
    pub(super) fn take_key(&mut self, time: Option<Instant>) {
        if let Some(keyed) = &mut self.keyed {
            keyed.since = keyed.since.or(time);
        }
    }

    /// PostgreSQL says by words of dbop's what it has met at the key. `message` is the database's text.
    pub(super) fn listen_at_key(&mut self, message: &str) {
        if self.keyed.is_none() {
            return;
        }
        if message.contains(IS_TAKEN) {
            self.attempt.at_key = AtKey::Taken;
        } else if message.contains(WAS_WAITED_FOR) {
            self.attempt.at_key = AtKey::Missed;
        }
    }

    /// What this fault of the batch that takes the key says about it.
    pub(super) fn note_at_key(&mut self, phase: Phase, fault: &Fault) {
        if self.keyed.is_some() && phase == Phase::Begin && self.attempt.at_key == AtKey::Nothing {
            self.attempt.at_key = self.what_was_met(fault.recognized_class());
        }
    }

    fn what_was_met(&self, class: FaultClass) -> AtKey {
        // SQL of the operation's own can have met the lock or the conflict.
        let is_at_key = self.spec.begin_with_sql.is_none() && self.dialect != Dialect::Sqlite;
        let is_top = !self.connection.is_savepoint();
        match (class, self.dialect) {
            (FaultClass::LockTimeout | FaultClass::StatementTimeout, _) if is_at_key => AtKey::Held,
            (FaultClass::SerializationFailure, _) if is_at_key && is_top => AtKey::Missed,
            // A transaction that has only this lock is in no cycle, elsewhere.
            (FaultClass::Deadlock, Dialect::Mysql) if is_at_key && is_top => AtKey::Overtaken,
            // That it is taken, they say in their own words.
            (
                FaultClass::Constraint | FaultClass::Permanent | FaultClass::Unknown,
                Dialect::Mysql | Dialect::Sqlite,
            ) => AtKey::Taken,
            _ => AtKey::Nothing,
        }
    }

    /// Whether what has failed is the key's, and what follows from it, once the attempt is rolled back.
    pub(super) fn settle_at_key(&mut self, enclosing: Enclosing) -> bool {
        let met = std::mem::take(&mut self.attempt.at_key);
        if self.connection.is_broken || enclosing == Enclosing::Lost {
            return false;
        }
        match met {
            AtKey::Nothing => {
                // What is waited for from now on is waited for anew.
                self.key_is_taken();
                return false;
            }
            AtKey::Taken => {
                let Some(query) = self.connection.batches().key_query() else {
                    return false;
                };
                self.go_to(State::ReadKey(query));
            }
            met => self.go_to(State::AtKey(met)),
        }
        true
    }

    /// It is waited for again, or it was waited for long enough.
    pub(super) fn wait_at_key(&mut self, met: AtKey, time: Option<Instant>) {
        let (is_timed, is_late) = (self.deadline.is_set(), self.deadline.is_late);
        // In a hurry, a lock timeout is less than the operation may wait.
        let is_hurried = self.attempt.is_hurried;
        let longest = match is_hurried {
            true => self.lock_timeout(),
            false => self.connection.batches().lock_timeout(),
        };
        let Some(keyed) = &mut self.keyed else {
            return debug_assert!(false, "no key to wait for");
        };
        let waited = time.zip(keyed.since);
        let waited = waited.map_or(Duration::ZERO, |(now, since)| {
            now.saturating_duration_since(since)
        });
        let is_over = match (is_timed, met) {
            (true, _) => is_late,
            (false, AtKey::Held) if !is_hurried => true,
            (false, _) => waited >= longest.unwrap_or(LONGEST_WAIT),
        };
        if is_over {
            return self.finish_under_way();
        }
        keyed.waits = true;
        let vacates = met == AtKey::Overtaken && !std::mem::replace(&mut keyed.is_vacated, true);
        self.begin_anew(vacates);
    }

    /// The same attempt, in another transaction.
    fn begin_anew(&mut self, vacates: bool) {
        self.attempt.begin_anew();
        let with_vacant_row = match vacates {
            true => {
                self.fit_batches(self.left);
                self.connection.batches().begin_with_vacant_key()
            }
            false => None,
        };
        self.go_to(match with_vacant_row {
            Some(begin) => State::BeginWithRow(begin),
            None => State::Begin,
        });
    }

    /// Whether the time is over in which the key is waited for.
    pub(super) fn gives_up_key(&self) -> bool {
        self.keyed.as_ref().is_some_and(|keyed| keyed.waits)
    }

    pub(super) fn finish_under_way(&mut self) {
        let stop = match self.deadline.is_set() {
            true => StopReason::DeadlineExceeded,
            false => StopReason::RetriesExhausted,
        };
        let fault = self.attempt.fault();
        self.finish_at_key(Kind::KeyUnderWay, fault, EventKind::Failed, stop);
    }

    fn finish_at_key(
        &mut self,
        kind: Kind,
        fault: Option<Fault>,
        event: EventKind,
        stop: StopReason,
    ) {
        // An attempt before this one is perhaps committed.
        if self.history.unsettled {
            return self.finish_unknown();
        }
        let failure = Failure::of(Phase::Begin, fault, FailureAnswer::Own(kind));
        self.attempt.failure = Some(failure);
        self.report(self.make_event(event, Some(&failure)));
        let outcome = match kind {
            Kind::AlreadyDone(_) => Outcome::Committed,
            _ => Outcome::Undone,
        };
        self.finish(Answer::Own(Error::new(kind)), outcome, stop, false);
    }

    /// The row of the key was read, outside of the transaction that could not take it.
    pub(super) fn key_read(&mut self, result: Result<Option<String>, Fault>) -> ErrorSlot {
        match result {
            Ok(row) => {
                self.row_read(KeyRow::from_answer(row.as_deref()));
                ErrorSlot::Dropped
            }
            // Who has it is asked in another attempt.
            Err(fault)
                if fault.recognized_class().is_transient() && !self.row_query_aborts(&fault) =>
            {
                self.attempt.begin_anew();
                self.attempt
                    .fail(Phase::Begin, Some(fault), FailureAnswer::FirstError);
                match fault.leaves_connection_usable() {
                    true => self.undone(Enclosing::Alive),
                    false => self.connection_gone(),
                }
                ErrorSlot::First
            }
            // Then it was not the key that failed, but the statement that takes it.
            Err(_) if self.connection.is_savepoint() && self.dialect == Dialect::Postgres => {
                self.lose(true);
                ErrorSlot::Dropped
            }
            Err(_) => {
                self.undone(Enclosing::Alive);
                ErrorSlot::Dropped
            }
        }
    }

    /// Whether a query for the row that fails so leaves the transaction around it aborted.
    fn row_query_aborts(&self, fault: &Fault) -> bool {
        self.connection.is_savepoint()
            && self.dialect == Dialect::Postgres
            && fault.leaves_connection_usable()
    }

    fn row_read(&mut self, row: Option<KeyRow>) {
        let row = row.filter(|row| row.state != RowState::Never);
        let Some(row) = row else {
            return self.row_vanished();
        };
        let is_savepoint = self.connection.is_savepoint();
        let request = self.keyed.as_ref().and_then(|keyed| keyed.key.request);
        let is_other = |request: [u8; 32]| row.request.as_deref() != Some(&request[..]);
        let (normal, gone) = (EventKind::Returned, StopReason::NotRetryable);
        match row.state {
            _ if request.is_some_and(is_other) => {
                self.finish_at_key(Kind::OtherRequest, None, normal, gone);
            }
            RowState::Done => self.finish_replayed(row),
            // Only the transaction that has taken it sees it so.
            _ if is_savepoint => self.finish_at_key(Kind::NestedKey, None, EventKind::Failed, gone),
            // It was committed by something else than the end of the operation.
            _ => self.finish_unknown(),
        }
    }

    fn finish_replayed(&mut self, row: KeyRow) {
        let answers = self.keyed.as_ref().and_then(|keyed| keyed.key.answers);
        if let (Some(answers), Some(answer)) = (answers, row.answer) {
            answers.found(answer, true);
        }
        // Whatever became of the attempts before: the work is done.
        self.history.unsettled = false;
        let kind = Kind::AlreadyDone(row.changed_at);
        self.finish_at_key(kind, None, EventKind::Returned, StopReason::AlreadyDone);
    }

    /// There is no row that could have been in the way.
    fn row_vanished(&mut self) {
        let is_savepoint = self.connection.is_savepoint();
        // The snapshot of the transaction around it is older than the row, unless it was SQL of the operation's
        // own that has failed.
        let has_own_sql = self.spec.begin_with_sql.is_some();
        if is_savepoint && self.dialect == Dialect::Mysql && !has_own_sql {
            let class = FaultClass::SerializationFailure;
            if let Some(failure) = &mut self.attempt.failure {
                failure.fault = Some(Fault::from_class(self.dialect, class));
                failure.answer = FailureAnswer::Own(Kind::TransactionLost);
            }
            return self.lose(true);
        }
        let Some(keyed) = &mut self.keyed else {
            return debug_assert!(false, "no key was read");
        };
        keyed.vanished += 1;
        match keyed.vanished <= MOST_VANISHED && !has_own_sql {
            true => self.begin_anew(false),
            false => self.undone(Enclosing::Alive),
        }
    }

    /// The body has ended: what it leaves as its answer travels with the COMMIT. Returns whether its error
    /// is one that is remembered.
    pub(super) fn take_answer(&mut self, end: &BodyEnd, depth: Option<u32>) -> bool {
        let Some(answers) = self.keyed.as_ref().and_then(|keyed| keyed.key.answers) else {
            return false;
        };
        let answer = answers.take_of_body();
        let is_refused = match (&answer, end) {
            (Some(BodyAnswer::Refusal(_)), BodyEnd::Failed { .. }) => self.may_be_remembered(depth),
            _ => false,
        };
        let answer = match (answer, end) {
            (Some(BodyAnswer::Value(answer)), BodyEnd::Ok) => Some(answer),
            (Some(BodyAnswer::Refusal(answer)), _) if is_refused => Some(answer),
            _ => None,
        };
        if let Some(batches) = self.connection.batches().with_answer(answer.as_deref()) {
            self.connection.set_batches(Cow::Owned(Box::new(batches)));
        }
        if let Some(keyed) = &mut self.keyed {
            keyed.refusal = answer.filter(|_| is_refused);
        }
        is_refused
    }

    /// The error ends the operation, and the transaction in which the key was taken is there.
    fn may_be_remembered(&self, depth: Option<u32>) -> bool {
        let Some(failure) = self.attempt.failure else {
            return false;
        };
        depth == Some(self.connection.level().inside())
            && self.connection.loss().is_none()
            && !self.attempt.may_have_ended_transaction()
            && failure.answer == FailureAnswer::FirstError
            && self.judge(&failure) == Verdict::GiveUp
    }

    pub(super) fn commit_refusal(&mut self) {
        let sql = self.connection.batches().commit_refusal();
        self.go_to(State::CommitRefusal(sql));
    }

    pub(super) fn refusal_committed(&mut self, result: Result<(), Fault>) {
        match result {
            Ok(()) => {
                let failure = self.attempt.failure;
                self.report(self.make_event(EventKind::Returned, failure.as_ref()));
                self.finish_committed();
            }
            Err(fault) => {
                // It is about the COMMIT now.
                self.attempt.failure = None;
                self.batch_failed(fault);
            }
        }
    }

    /// The work is committed, or what its refusal is remembered as.
    pub(super) fn hand_over_refusal(&mut self) -> bool {
        let Some(keyed) = &mut self.keyed else {
            return false;
        };
        match (keyed.refusal.take(), keyed.key.answers) {
            (Some(refusal), Some(answers)) => {
                answers.found(refusal, false);
                // Of the body, which is undone.
                self.discard_hooks();
                true
            }
            _ => false,
        }
    }

    /// The attempts from the next one on have another token: with this one nothing is ever committed.
    pub(super) fn take_new_token_of_key(&mut self) -> Option<Batches> {
        let keyed = self.keyed.as_mut()?;
        keyed.token = Token::new();
        let sql = keyed.sql(self.dialect);
        Some(self.connection.batches().with_key(sql))
    }
}

/// Where there is neither a deadline nor a lock timeout: as long as InnoDB waits by default.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// So often the row can be gone when it is read. Then it is not what was in the way.
const MOST_VANISHED: u32 = 3;

#[cfg(test)]
#[path = "keying_tests.rs"]
mod tests;
