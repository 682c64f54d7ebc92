//! A COMMIT whose answer was lost: did it happen?
//!
//! The question is asked on a fresh connection, in the way that the operation's [`Resolution`]
//! names, until it is answered or there is no time left.

use super::Machine;
use super::attempt::Failure;
use super::ending::Enclosing;
use super::state::{AfterPause, State, TokenQuestion};
use super::step::{ConnectionAction, ErrorSlot, Pause, Verified};
use crate::dialect::TransactionStatus;
use crate::event::EventKind;
use crate::fault::{Fault, FaultClass};
use crate::nesting::UserCode;
use crate::outcome::Outcome;
use crate::policy::ClassRule;
use crate::retry::{Advice, Scope, Verdict, decide};
use crate::spec::Resolution;

/// What holds while it is asked what became of one COMMIT.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// The delay before it was cut short, so that it is asked in time.
    pub(super) hurried: bool,
}

impl Machine<'_> {
    /// The answer to the COMMIT is lost, or says nothing about it.
    pub(super) fn commit_unknown(&mut self) {
        let Some(failure) = self.attempt.failure else {
            return debug_assert!(false, "a lost commit without a failure");
        };
        // A server that does not know what has become of the commit is not to be relied on.
        let unknown = |fault: Fault| fault.recognized_class() == FaultClass::OutcomeUnknown;
        self.connection.is_broken |= failure.fault.is_some_and(unknown);
        let never_sent = |fault: Fault| fault.recognized_class() == FaultClass::NotConnected;
        if failure.fault.is_some_and(never_sent) || self.cannot_have_written() {
            return self.undone(Enclosing::Alive);
        }
        // With a ledger the next attempt would stumble over the token of this one.
        if self.spec.idempotent && !matches!(self.spec.resolution, Resolution::Ledger(_)) {
            let failure = worth_a_retry(failure);
            let planned = self.plan_retry(&failure, Enclosing::Alive);
            if let Ok(pause) = planned.and_then(|pause| self.ask_before_retry(&failure, pause)) {
                self.history.unsettled = true;
                return self.try_again(pause);
            }
        } else if self.can_ask() {
            self.question = Some(Question::default());
            self.park_hooks();
            let connection = match self.connection.is_broken {
                true => ConnectionAction::Discard,
                false => ConnectionAction::Keep,
            };
            return self.ask(connection, failure.fault);
        }
        self.finish_unknown();
    }

    fn can_ask(&self) -> bool {
        self.can_reconnect
            && match self.spec.resolution {
                Resolution::Nothing => false,
                Resolution::TransactionStatus => self.attempt.transaction_id.is_some(),
                Resolution::Verify | Resolution::Ledger(_) => true,
            }
    }

    /// Asks, after a delay. `fault`: the last one that was in the way.
    fn ask(&mut self, connection: ConnectionAction, fault: Option<Fault>) {
        let delay = self.delay_of_question(fault);
        let pause = Pause {
            delay,
            connection: self.for_so_long(connection, delay),
            settled: false,
        };
        let mut event = self.make_event(EventKind::Asking, self.attempt.failure.as_ref());
        event.fault = fault.or(event.fault);
        event.delay = Some(delay);
        self.report(event);
        self.go_to(State::Pause(pause, AfterPause::Ask));
    }

    /// A deadline says how long to wait for an answer of the server's. Without one, and for a look
    /// of the caller's, the retries do.
    fn ask_again(&mut self, connection: ConnectionAction, fault: Option<Fault>) {
        let waits = self.deadline.is_set() && !matches!(self.spec.resolution, Resolution::Verify);
        if !self.deadline.is_late && (self.take_retry(None) || waits) {
            self.ask(connection, fault);
        } else {
            self.finish_unknown();
        }
    }

    pub(super) fn question_failed(&mut self, fault: Option<Fault>, advice: Advice) {
        let class = fault.map(|fault| fault.class());
        // That the operation is not to be retried is no reason not to know what became of it.
        let also = |class| self.rule(class).filter(|rule| *rule == ClassRule::Also);
        let verdict = decide(fault, advice, Scope::Transaction, false, also);
        let is_gone = fault.is_some_and(|fault| !fault.leaves_connection_usable());
        // A server that takes no writes is the wrong one to ask, even for a look. Whether or not it
        // is asked again, the connection is of no use to anyone.
        self.connection.is_broken |= is_gone || verdict == Verdict::NeedsConnection;
        let connection = match verdict {
            _ if advice == Advice::Never => return self.finish_unknown(),
            _ if self.connection.is_broken => ConnectionAction::Discard,
            // The session that holds the token may be done with it next time.
            _ if class == Some(FaultClass::StatementTimeout) => ConnectionAction::Keep,
            Verdict::GiveUp | Verdict::Escalate => return self.finish_unknown(),
            Verdict::RetryReplanned => ConnectionAction::ClearStatementCache,
            Verdict::Retry | Verdict::RetryOnce | Verdict::NeedsConnection => {
                ConnectionAction::Keep
            }
        };
        self.ask_again(connection, fault);
    }

    /// Where asking begins.
    pub(super) fn first_question(&self) -> State {
        match self.spec.resolution {
            Resolution::TransactionStatus => {
                let id = self.attempt.transaction_id.flatten().unwrap_or_default();
                State::ReadStatus(id.status_query())
            }
            Resolution::Ledger(_) => State::ReadToken(TokenQuestion::IsThere),
            Resolution::Nothing | Resolution::Verify => State::Verify,
        }
    }

    /// The query of the last step was answered.
    pub fn read_done(&mut self, result: Result<Option<String>, Fault>) -> ErrorSlot {
        let is_asked = matches!(self.state, State::ReadStatus(_));
        debug_assert!(is_asked, "no query was asked for");
        let slot = self.slot();
        match result.map(|answer| TransactionStatus::from_answer(answer.as_deref())) {
            Ok(TransactionStatus::Committed) => self.found(true),
            Ok(TransactionStatus::Aborted) => self.found(false),
            // It can still end either way.
            Ok(TransactionStatus::InProgress) => self.ask_again(ConnectionAction::Keep, None),
            Ok(TransactionStatus::Unknown) => self.finish_unknown(),
            Err(fault) => self.question_failed(Some(fault), Advice::Judge),
        }
        slot
    }

    /// The caller has looked. `depth` is the number of transactions and savepoints now open on the
    /// connection, `None` if its transaction manager is in an error state.
    pub fn verify_done(&mut self, verified: Verified, depth: Option<u32>) {
        debug_assert!(matches!(self.state, State::Verify), "no look was asked for");
        self.connection.set_user_code(UserCode::Nothing);
        self.connection.is_broken |= depth != Some(self.connection.level().outside());
        match verified {
            Verified::Committed(committed) => self.found(committed),
            Verified::Failed { fault, advice } => self.question_failed(fault, advice),
            Verified::Panicked => self.finish_panicked(Outcome::Unknown),
        }
    }

    /// The token was inserted again: that fails if it is there, or there and completed.
    pub(super) fn token_read(&mut self, question: TokenQuestion, result: Result<(), Fault>) {
        let found = match result {
            Ok(()) => Ok(false),
            Err(fault) if fault.recognized_class() == FaultClass::Constraint => Ok(true),
            Err(fault) if !fault.leaves_connection_usable() => {
                self.connection.is_broken = true;
                return self.question_failed(Some(fault), Advice::Judge);
            }
            Err(fault) => Err(fault),
        };
        self.go_to(State::ReadTokenRollback(question, found));
    }

    pub(super) fn token_rolled_back(
        &mut self,
        question: TokenQuestion,
        found: Result<bool, Fault>,
        rolled_back: bool,
    ) {
        self.connection.is_broken |= !rolled_back;
        match (question, found) {
            (_, Err(fault)) => self.question_failed(Some(fault), Advice::Judge),
            (TokenQuestion::IsThere, Ok(false)) => self.found(false),
            (TokenQuestion::IsThere, Ok(true)) if rolled_back => {
                self.go_to(State::ReadToken(TokenQuestion::IsCompleted));
            }
            // From the beginning, on another connection.
            (TokenQuestion::IsThere, Ok(true)) => {
                self.ask_again(ConnectionAction::Discard, None);
            }
            (TokenQuestion::IsCompleted, Ok(true)) => self.found(true),
            // Only the part before a COMMIT that was not ours.
            (TokenQuestion::IsCompleted, Ok(false)) => self.finish_unknown(),
        }
    }

    /// The token of this operation was there before it was inserted: an attempt that seemed to be
    /// undone was committed, as far as it had come, by DDL or by its own COMMIT.
    pub(super) fn found_token(&self, fault: &Fault) -> bool {
        matches!(self.spec.resolution, Resolution::Ledger(_))
            && !self.is_of_opening_sql()
            && fault.recognized_class() == FaultClass::Constraint
    }

    /// The constraint is one of the operation's own: before the second attempt there is no token.
    fn is_of_opening_sql(&self) -> bool {
        self.spec.begin_with_sql.is_some() && self.attempt.number == 1
    }

    /// It is known whether the work is there.
    fn found(&mut self, committed: bool) {
        self.question = None;
        if committed {
            let failure = self.attempt.failure;
            self.report(self.make_event(EventKind::FoundCommitted, failure.as_ref()));
            return self.finish_committed();
        }
        // Whether a COMMIT that is held up can still arrive, a look cannot tell.
        self.history.unsettled |= matches!(self.spec.resolution, Resolution::Verify);
        self.attempt.failure = self.attempt.failure.map(worth_a_retry);
        self.attempt.is_resolved = true;
        self.undone(Enclosing::Alive);
    }
}

/// Where the outcome is settled, that it was unknown is no reason to give up.
fn worth_a_retry(mut failure: Failure) -> Failure {
    let unknown = |fault: Fault| fault.class() == FaultClass::OutcomeUnknown;
    if failure.advice == Advice::Judge && failure.fault.is_some_and(unknown) {
        failure.advice = Advice::Retry;
    }
    failure
}
