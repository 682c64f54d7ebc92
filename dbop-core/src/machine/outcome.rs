//! A COMMIT whose answer was lost: did it happen?
//!
//! The question is asked on a fresh connection, in the way that the operation's [`Resolution`]
//! names, until it is answered or there is no time left.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::Machine;
use super::attempt::Failure;
use super::ending::Enclosing;
use super::state::{AfterPause, State};
use super::step::{ConnectionAction, ErrorSlot, Pause, Verified};
use crate::dialect::ledger::RowState;
use crate::dialect::{TokenQuestion, TransactionStatus};
use crate::event::EventKind;
use crate::fault::{Fault, FaultClass};
use crate::ledger::Entry;
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
    /// Until when it is asked, if there is a deadline.
    pub(super) until: Option<Instant>,
    /// What is sent to ask for the token of the ledger.
    pub(super) of_token: Option<Box<TokenQuestion>>,
}

impl Machine<'_> {
    /// The answer to the COMMIT is lost, or says nothing about it.
    pub(super) fn commit_unknown(&mut self) {
        let Some(failure) = self.attempt.failure else {
            return debug_assert!(false, "a lost commit without a failure");
        };
        self.history.fault = failure.fault;
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
                Resolution::Verify => true,
                Resolution::Ledger(_) => self.connection.batches().has_token(),
            }
    }

    /// Asks, after a delay. `fault`: the last one that was in the way.
    fn ask(&mut self, connection: ConnectionAction, fault: Option<Fault>) {
        let delay = self.delay_of_question(fault);
        self.ask_after(delay, connection, fault);
    }

    fn ask_after(&mut self, delay: Duration, connection: ConnectionAction, fault: Option<Fault>) {
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

    /// A deadline says how long to wait for an answer of the server's, or for a server. Without one, for a look
    /// of the caller's that a server has answered, and where there is no delay, the retries do.
    fn ask_again(&mut self, connection: ConnectionAction, fault: Option<Fault>) {
        let has_answered =
            |fault: Fault| !fault.class().is_slow() && fault.leaves_connection_usable();
        let is_there = fault.is_none_or(has_answered);
        let is_look = matches!(self.spec.resolution, Resolution::Verify) && is_there;
        let delay = self.delay_of_question(fault);
        let waits = self.deadline.is_set() && !is_look && !delay.is_zero();
        if !self.deadline.is_late && (waits || self.take_retry(None)) {
            self.ask_after(delay, connection, fault);
        } else {
            self.finish_unknown();
        }
    }

    pub(super) fn question_failed(&mut self, fault: Option<Fault>, advice: Advice) {
        self.history.fault = fault;
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

    /// An answer says that its connection is well, whatever has happened to the one of the COMMIT.
    fn learn_from<T>(&mut self, answer: &Result<T, Fault>) {
        if answer.is_ok() {
            self.history.fault = None;
        }
    }

    /// Where asking begins.
    pub(super) fn first_question(&self) -> State {
        match self.spec.resolution {
            Resolution::TransactionStatus => {
                let id = self.attempt.transaction_id.flatten().unwrap_or_default();
                State::ReadStatus(id.status_query())
            }
            Resolution::Ledger(_) => State::AskForToken,
            Resolution::Nothing | Resolution::Verify => State::Verify,
        }
    }

    /// The query of the last step was answered.
    pub fn read_done(&mut self, result: Result<Option<String>, Fault>) -> ErrorSlot {
        let slot = self.slot();
        match self.state {
            State::ReadId => self.id_read(result),
            State::ReadStatus(_) => self.status_read(result),
            State::ReadToken => match result {
                Ok(answer) => {
                    let answer = RowState::from_answer(answer.as_deref());
                    self.go_to(State::CommitAnswer(answer));
                }
                Err(fault) => self.question_in_the_way(fault),
            },
            State::ReadKey(_) => return self.key_read(result),
            _ => debug_assert!(false, "no query was asked for"),
        }
        slot
    }

    fn status_read(&mut self, result: Result<Option<String>, Fault>) {
        self.learn_from(&result);
        match result.map(|answer| TransactionStatus::from_answer(answer.as_deref())) {
            Ok(TransactionStatus::Committed) => self.found(true),
            Ok(TransactionStatus::Aborted) => self.found(false),
            // It can still end either way.
            Ok(TransactionStatus::InProgress) => self.ask_again(ConnectionAction::Keep, None),
            Ok(TransactionStatus::Unknown) => self.finish_unknown(),
            Err(fault) => self.question_failed(Some(fault), Advice::Judge),
        }
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

    /// Makes the batches of the question, with the time that is left for it.
    pub(super) fn word_question(&mut self) {
        let of_token = self.connection.batches().question().map(Box::new);
        if let Some(question) = &mut self.question {
            question.of_token = of_token;
        }
    }

    /// The token is written as one that is never committed, unless it was there.
    pub(super) fn token_asked(&mut self, result: Result<(), Fault>) {
        match result {
            Ok(()) => self.go_to(State::ReadToken),
            Err(fault) => self.question_in_the_way(fault),
        }
    }

    /// Before that, the answer could still change: on another server, or because a crash or a failover
    /// takes it back.
    pub(super) fn answer_committed(&mut self, answer: RowState, result: Result<(), Fault>) {
        self.learn_from(&result);
        match (result, answer) {
            (Err(fault), _) => self.question_in_the_way(fault),
            (Ok(()), RowState::Never) => {
                self.take_new_token();
                self.found(false);
            }
            (Ok(()), RowState::Done) => self.found(true),
            (Ok(()), RowState::NotCompleted | RowState::Other) => self.finish_unknown(),
        }
    }

    fn question_in_the_way(&mut self, fault: Fault) {
        if fault.leaves_connection_usable() {
            self.go_to(State::RollBackQuestion(fault));
        } else {
            self.connection.is_broken = true;
            self.question_failed(Some(fault), Advice::Judge);
        }
    }

    pub(super) fn question_rolled_back(&mut self, fault: Fault, rolled_back: bool) {
        self.connection.is_broken |= !rolled_back;
        match fault.recognized_class() {
            // Of the question itself, which was perhaps not committed.
            FaultClass::OutcomeUnknown | FaultClass::TransactionLost => {
                self.connection.is_broken = true;
                self.history.fault = Some(fault);
                self.ask_again(ConnectionAction::Discard, Some(fault));
            }
            _ => self.question_failed(Some(fault), Advice::Judge),
        }
    }

    /// The attempts from the next one on write another token: this one is never committed.
    fn take_new_token(&mut self) {
        let of_key = self.take_new_token_of_key();
        let batches = of_key.or_else(|| {
            let entry = self.entry.as_mut()?;
            entry.take_new_token();
            self.connection.batches().with_token(entry)
        });
        if let Some(batches) = batches {
            self.connection.set_batches(Cow::Owned(Box::new(batches)));
        }
    }

    /// The token of this operation was there before it was inserted: an attempt that seemed to be
    /// undone was committed, as far as it had come, by DDL or by its own COMMIT.
    pub(super) fn found_token(&self, fault: &Fault) -> bool {
        self.entry.is_some()
            && !self.is_of_opening_sql()
            && fault.recognized_class() == FaultClass::Constraint
    }

    /// The constraint is one of the operation's own: no attempt before this one has written the token.
    fn is_of_opening_sql(&self) -> bool {
        let number = self.attempt.number;
        let is_new = |entry: &Entry<'_>| !entry.is_of_earlier_attempt(number);
        self.spec.begin_with_sql.is_some() && self.entry.as_ref().is_some_and(is_new)
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
