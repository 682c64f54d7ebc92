//! What a runner learns of its sessions when an attempt begins: whether they are stricter than its
//! defaults. See [`Sessions`](crate::dialect::Sessions).

use std::borrow::Cow;

use super::Machine;
use super::state::State;

impl Machine<'_> {
    /// Whether this error is the session's answer to what the batch of the present step has asked, and
    /// not a failure of the attempt: then the attempt begins again. `message` is the database's text.
    ///
    /// Call it before [`batch_done`](Self::batch_done). If it is true, there is nothing else to report.
    pub fn is_answer_of_session(&mut self, message: &str) -> bool {
        let begins = matches!(
            self.state,
            State::Begin | State::BeginAgain(_) | State::BeginWithRow(_)
        );
        if !begins {
            return false;
        }
        self.listen_at_key(message);
        let batches = self.connection.batches();
        let Some(setting) = batches.stricter_setting(message) else {
            return false;
        };
        self.config.sessions().found_stricter(setting);
        let batches = batches.in_stricter_session(setting);
        // The question has failed in a transaction, which is open.
        let begin = format!("ROLLBACK; {}", batches.begin());
        self.connection.set_batches(Cow::Owned(Box::new(batches)));
        self.go_to(State::BeginAgain(begin));
        true
    }

    /// The attempt has begun: the session has not said that it is stricter.
    pub(super) fn learn_of_laxer_session(&mut self) {
        let batches = self.connection.batches();
        if batches.asks() {
            self.config.sessions().found_laxer(batches.asked());
        }
        if batches.asks() && batches.remembers_answers() {
            let batches = batches.in_laxer_session();
            self.connection.set_batches(Cow::Owned(Box::new(batches)));
        }
    }
}

#[cfg(test)]
#[path = "asking_tests.rs"]
mod tests;
