//! Connections that come and go, and what became of a commit whose answer was lost with one.

use std::borrow::Cow;

use super::{
    Advice, AfterPause, Aftermath, Answer, CurrentTransaction, Failure, FailureAnswer, Handling,
    Machine, Outcome, Pause, Phase, Probe, Resolution, Start, State, Step, StopReason,
    TransactionId, Verified,
};
use crate::error::Kind;
use crate::event::EventKind;
use crate::nesting::UserCode;
use crate::retry::{Scope, Verdict, verdict};
use crate::{Batches, Dialect, Fault, FaultClass, Level, SessionBefore};

impl<'a> Machine<'a> {
    /// The batches for the connection before, if they are right for the new one, too: their text is
    /// made once, not for each attempt.
    pub fn spare_batches(
        &mut self,
        start: &Start,
        before: SessionBefore,
    ) -> Option<Cow<'a, Batches>> {
        let are_right = |batches: &Cow<'_, Batches>| {
            start.is_outermost() && batches.level() == start.level() && batches.before() == before
        };
        self.spare_batches.take().filter(are_right)
    }

    /// Whose SQL it speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether it has had a connection: from then on, that another one is of no use does not mean
    /// that nothing has happened.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// There is a connection. `batches` are for where the operation stands on it.
    pub fn connected(&mut self, start: Start, batches: Cow<'a, Batches>) {
        if batches.begins_immediate() {
            start.membership.set_immediate();
        }
        if !self.begun {
            self.begun = true;
            self.skipped = batches.skipped();
        }
        let own = match start.is_outermost() {
            true => self.deadline,
            false => self.terms.deadline,
        };
        self.deadline = start.membership.join_deadline(own);
        self.membership = Some(start.membership);
        self.batches = Some(batches);
        self.connection_broken = false;
        // An operation before us in the same transaction has lost it and the error was swallowed.
        if self.lost().is_some() {
            let lost = FailureAnswer::Own(Kind::TransactionLost);
            self.fail(Phase::Begin, None, lost);
            return self.decide(Aftermath {
                undone: true,
                enclosing_alive: false,
            });
        }
        match self.asking {
            // Whatever it is, it is not where the commit was.
            true if self.is_savepoint() => self.finish_unknown(),
            true => self.state = self.question(),
            false => self.state = State::Begin,
        }
    }

    /// There is no connection. `advice` says whether to try again; by default the fault decides.
    pub fn connect_failed(&mut self, fault: Fault, advice: Advice) {
        self.connection_broken = true;
        // The source may have waited for as long as there was time.
        self.late |= self.time_left().is_some_and(|left| left.is_zero());
        if self.asking {
            // That a pool has waited is no reason not to ask again.
            return self.asking_failed(Some(fault), Advice::Judge);
        }
        let answer = FailureAnswer::Own(Kind::NoConnection);
        self.fail(Phase::Connect, Some(fault), answer);
        if let Some(failure) = &mut self.failure {
            failure.advice = advice;
        }
        self.decide(Aftermath {
            undone: true,
            enclosing_alive: true,
        });
    }

    /// The id of the transaction was read.
    pub fn id_done(&mut self, result: Result<CurrentTransaction, Fault>) {
        debug_assert!(matches!(self.state, State::ReadId), "no id was asked for");
        match result {
            Ok(CurrentTransaction { is_ours, id }) => {
                // Another one's id says nothing. COMMIT tells what the operation has done.
                self.transaction_id = is_ours.then_some(id);
                self.state = State::Commit;
            }
            Err(fault) => self.batch_failed(
                match fault.class() {
                    // As the COMMIT would have told.
                    FaultClass::TransactionAborted => Phase::Commit,
                    _ => Phase::Body,
                },
                fault,
            ),
        }
    }

    /// The query of the last step was answered.
    pub fn read_done(&mut self, result: Result<Option<String>, Fault>) {
        match (&self.state, result) {
            (State::ReadStatus, Ok(status)) => match status.as_deref() {
                Some("committed") => self.found(true),
                Some("aborted") => self.found(false),
                // It can still end either way.
                Some("in progress") => self.ask_again(Handling::Keep, None),
                _ => self.finish_unknown(),
            },
            (State::ReadStatus, Err(fault)) => self.asking_failed(Some(fault), Advice::Judge),
            _ => debug_assert!(false, "no query was asked for"),
        }
    }

    /// The caller has looked. `depth` is the number of transactions and savepoints now open on the
    /// connection, `None` if its transaction manager is in an error state.
    pub fn verify_done(&mut self, verified: Verified, depth: Option<u32>) {
        let base = match self.batches().level() {
            Level::Transaction => 0,
            Level::Savepoint(depth) => depth.get(),
        };
        self.set_user_code(UserCode::Nothing);
        self.connection_broken |= depth != Some(base);
        match verified {
            Verified::Committed(committed) => self.found(committed),
            Verified::Failed { fault, advice } => self.asking_failed(fault, advice),
            Verified::Panicked => {
                self.event = Some(self.event(EventKind::Panicked, self.failure.as_ref()));
                let stop = StopReason::Panicked;
                self.finish(Answer::Panic, Outcome::Unknown, stop, false);
            }
        }
    }

    pub(super) fn begin_attempt(&mut self) {
        if !self.in_attempt {
            self.in_attempt = true;
            self.attempt = self.attempt.saturating_add(1);
            self.failure = None;
            self.rollback_fault = None;
            self.transaction_id = None;
        }
        self.waited = false;
    }

    pub(super) fn pause(&mut self, pause: Pause, after: AfterPause) -> Step<'_> {
        self.in_attempt &= !pause.settled;
        self.state = match (pause.connection, after) {
            (Handling::GiveBack | Handling::Discard, _) => {
                self.spare = self.retries_left();
                let batches = self.batches.take();
                self.spare_batches = batches.filter(|_| !self.is_nested());
                self.membership = None;
                State::Connect
            }
            (_, AfterPause::Begin) => State::Begin,
            (_, AfterPause::Commit) => State::CommitAgain,
            (_, AfterPause::Ask) => self.question(),
        };
        Step::Pause(pause)
    }

    pub(super) fn needs_transaction_id(&self) -> bool {
        self.terms.resolution == Resolution::TransactionStatus
            && self.dialect == Dialect::Postgres
            && !self.is_savepoint()
            && !self.batches().is_read_only()
    }

    /// The answer to the COMMIT is lost, or says nothing about it.
    pub(super) fn commit_unknown(&mut self) {
        let Some(failure) = self.failure else {
            return debug_assert!(false, "a lost commit without a failure");
        };
        let never_sent = |fault: Fault| fault.class() == FaultClass::NotConnected;
        if failure.fault.is_some_and(never_sent)
            || self.is_read_only()
            || self.transaction_id == Some(None)
        {
            return self.decide(Aftermath {
                undone: true,
                enclosing_alive: true,
            });
        }
        let failure = worth_another_try(failure);
        // With a ledger the next attempt would stumble over the token of this one.
        if self.terms.idempotent && self.terms.resolution != Resolution::Ledger {
            let undone = Aftermath {
                undone: true,
                enclosing_alive: true,
            };
            if let Ok(pause) = self.verdict(&failure, undone) {
                self.unsettled = true;
                return self.try_again(pause);
            }
        } else if self.can_ask() {
            self.asking = true;
            let connection = if self.connection_broken {
                Handling::Discard
            } else {
                Handling::Keep
            };
            return self.ask(connection, failure.fault);
        }
        self.finish_unknown();
    }

    fn can_ask(&self) -> bool {
        self.terms.fresh_connections
            && match self.terms.resolution {
                Resolution::Nothing => false,
                Resolution::TransactionStatus => self.transaction_id.is_some(),
                Resolution::Verify | Resolution::Ledger => true,
            }
    }

    /// Asks, after a delay. `fault`: the last one that was in the way.
    fn ask(&mut self, connection: Handling, fault: Option<Fault>) {
        let delay = self.next_delay(false, fault);
        let connection = self.for_so_long(connection, delay);
        let mut event = self.event(EventKind::Asking, self.failure.as_ref());
        event.fault = fault.or(event.fault);
        event.delay = Some(delay);
        self.event = Some(event);
        let pause = Pause {
            delay,
            connection,
            settled: false,
        };
        self.state = State::Pause(pause, AfterPause::Ask);
    }

    /// A deadline says how long to wait for an answer of the server's. Without one, and for a look of
    /// the caller's, the retries do.
    fn ask_again(&mut self, connection: Handling, fault: Option<Fault>) {
        let waits = self.deadline.is_some() && self.terms.resolution != Resolution::Verify;
        if !self.late && (self.take_retry() || waits) {
            self.ask(connection, fault);
        } else {
            self.finish_unknown();
        }
    }

    fn asking_failed(&mut self, fault: Option<Fault>, advice: Advice) {
        let class = fault.map(|fault| fault.class());
        let verdict = verdict(fault, advice, Scope::Transaction, false, &self.policy);
        let is_gone = fault.is_some_and(|fault| !fault.leaves_connection_usable());
        // A server that takes no writes is the wrong one to ask, even for a look. Whether or not it
        // is asked again, nobody can use such a connection.
        self.connection_broken |= is_gone || verdict == Verdict::NeedsConnection;
        let connection = match verdict {
            _ if advice == Advice::Never => return self.finish_unknown(),
            _ if self.connection_broken => Handling::Discard,
            // Whoever holds the token up may be done with it next time.
            _ if class == Some(FaultClass::StatementTimeout) => Handling::Keep,
            Verdict::GiveUp | Verdict::Escalate => return self.finish_unknown(),
            Verdict::RetryReplanned => Handling::ClearStatementCache,
            Verdict::Retry | Verdict::RetryOnce | Verdict::NeedsConnection => Handling::Keep,
        };
        self.ask_again(connection, fault);
    }

    fn question(&self) -> State {
        match self.terms.resolution {
            Resolution::TransactionStatus => State::ReadStatus,
            Resolution::Ledger => State::Probe(Probe::IsThere),
            Resolution::Nothing | Resolution::Verify => State::Verify,
        }
    }

    pub(super) fn status_query(&self) -> Cow<'static, str> {
        let TransactionId {
            id,
            statistics_since,
        } = self.transaction_id.flatten().unwrap_or_default();
        // After a crash the id can be that of another transaction. That one being committed says
        // nothing about this one.
        Cow::Owned(format!(
            "SELECT CASE WHEN status <> 'committed' OR {STATISTICS_SINCE} = {statistics_since} \
             THEN status END AS s FROM pg_xact_status('{id}'::xid8) AS status"
        ))
    }

    /// The token was inserted again: that fails if it is there, or there and completed.
    pub(super) fn probed(&mut self, probe: Probe, result: Result<(), Fault>) {
        let found = match result {
            Ok(()) => Ok(false),
            Err(fault) if fault.class() == FaultClass::Constraint => Ok(true),
            Err(fault) if !fault.leaves_connection_usable() => {
                self.connection_broken = true;
                return self.asking_failed(Some(fault), Advice::Judge);
            }
            Err(fault) => Err(fault),
        };
        self.state = State::ProbeRollback(probe, found);
    }

    pub(super) fn probe_rolled_back(
        &mut self,
        probe: Probe,
        found: Result<bool, Fault>,
        rolled_back: bool,
    ) {
        self.connection_broken |= !rolled_back;
        match (probe, found) {
            (_, Err(fault)) => self.asking_failed(Some(fault), Advice::Judge),
            (Probe::IsThere, Ok(false)) => self.found(false),
            (Probe::IsThere, Ok(true)) if rolled_back => {
                self.state = State::Probe(Probe::IsCompleted);
            }
            // From the beginning, on another connection.
            (Probe::IsThere, Ok(true)) => self.ask_again(Handling::Discard, None),
            (Probe::IsCompleted, Ok(true)) => self.found(true),
            // The part in front of a commit that was not ours.
            (Probe::IsCompleted, Ok(false)) => self.finish_unknown(),
        }
    }

    /// The token of this operation was there before it was inserted: an attempt that seemed to be
    /// undone was committed, as far as it had come, by DDL or by itself.
    pub(super) fn found_token(&self, phase: Phase, fault: Fault) -> bool {
        self.terms.resolution == Resolution::Ledger
            && phase == Phase::Begin
            && fault.class() == FaultClass::Constraint
    }

    /// Whether the work is there is known.
    fn found(&mut self, committed: bool) {
        self.asking = false;
        if committed {
            self.event = Some(self.event(EventKind::FoundCommitted, self.failure.as_ref()));
            let stop = StopReason::Succeeded;
            self.finish(Answer::Value, Outcome::Committed, stop, false);
        } else {
            // Whether a COMMIT that is held up can still arrive, a look cannot tell.
            self.unsettled |= self.terms.resolution == Resolution::Verify;
            self.failure = self.failure.map(worth_another_try);
            self.waited = true;
            self.decide(Aftermath {
                undone: true,
                enclosing_alive: true,
            });
        }
    }
}

/// As in [`TransactionId::statistics_since`].
const STATISTICS_SINCE: &str = "coalesce((extract(epoch FROM \
    pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::bigint - 946684800000000, 0)";

/// Where the outcome is settled, that it was unknown is no reason to give up.
fn worth_another_try(mut failure: Failure) -> Failure {
    let unknown = |fault: Fault| fault.class() == FaultClass::OutcomeUnknown;
    if failure.advice == Advice::Judge && failure.fault.is_some_and(unknown) {
        failure.advice = Advice::Retry;
    }
    failure
}
