use std::sync::Arc;
use std::time::Duration;

use super::dialog::{Action, Request};
use super::shared::Shared;

/// Which message of a client a cut is for. What came before the cut was planned does not count.
#[derive(Clone, Debug)]
pub struct When {
    what: What,
    nth: u32,
    times: u32,
}

#[derive(Clone, Debug)]
enum What {
    Executed(String),
    Prepared(String),
    Commit,
    Message(String),
    Anything,
}

impl When {
    /// SQL with these words is executed: as a query, alone or with others, or as a prepared
    /// statement. Case does not matter; `COMMIT` is not a word of `autocommit`.
    #[must_use]
    pub fn statement(words: &str) -> Self {
        Self::of(What::Executed(words.into()))
    }

    /// SQL with these words is prepared.
    #[must_use]
    pub fn prepared(words: &str) -> Self {
        Self::of(What::Prepared(words.into()))
    }

    /// A transaction is committed: COMMIT, or `SET autocommit=1`, is the last thing said about
    /// transactions. So `COMMIT; SELECT 1` is one, `COMMIT; BEGIN` and `RELEASE SAVEPOINT s` are not.
    #[must_use]
    pub const fn commit() -> Self {
        Self::of(What::Commit)
    }

    /// A message that the protocol calls so: `Sync`, `COM_PING`.
    #[must_use]
    pub fn message(name: &str) -> Self {
        Self::of(What::Message(name.into()))
    }

    /// Any message after the login.
    #[must_use]
    pub const fn anything() -> Self {
        Self::of(What::Anything)
    }

    /// Not the first one of these: the nth, from 1.
    #[must_use]
    pub const fn nth(mut self, nth: u32) -> Self {
        self.nth = nth;
        self
    }

    /// Not once: so many times in a row.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    const fn of(what: What) -> Self {
        Self {
            what,
            nth: 1,
            times: 1,
        }
    }

    pub(super) fn is(&self, request: &Request) -> bool {
        let sql = request.sql.as_deref().unwrap_or_default();
        match &self.what {
            What::Executed(words) => request.action == Action::Executes && has_words(sql, words),
            What::Prepared(words) => request.action == Action::Prepares && has_words(sql, words),
            What::Commit => request.action == Action::Executes && commits(sql),
            What::Message(name) => request.name == name,
            What::Anything => true,
        }
    }

    /// Whether the cut is for the message that is the nth of its kind.
    pub(super) fn is_turn(&self, nth: u32) -> bool {
        nth >= self.nth && nth - self.nth < self.times
    }
}

/// What happens to a message, and to the connection it came on.
///
/// A closed connection is one that its other end sees closed at once: the client by an EOF (see
/// [`reset_connections`](super::Proxy::reset_connections)), the server like that of a client that
/// has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never gets it: both connections are closed instead.
    BeforeSent,
    /// The server has executed it and has answered to the end when the client's connection is
    /// closed. Nothing of the answer gets there. The server's connection is closed, too.
    AnswerLost,
    /// The client's connection is closed. The server gets the message later, and its connection is
    /// closed when it has answered to the end.
    Late(Until),
    /// The server gets it. Then, before it has answered, both connections are closed: while it
    /// executes it, if the test has seen to it that this takes long enough. A server that had
    /// [answered](super::Proxy#exactness) too soon is a failure.
    MidStatement(Until),
    /// The server gets it, and goes on getting what the client sends. The client gets nothing any
    /// more: its connection is closed in this direction.
    HalfClose,
    /// From this message on, which the server does not get, nothing moves any more in either
    /// direction, but everything stays open until [`resume`](super::Proxy::resume). What has been
    /// held up goes on then, unharmed.
    Stall,
    /// The server gets it, but from there on nothing moves, as with [`Stall`](Self::Stall).
    StallAnswer,
}

/// How long something is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until the test [says so](Planned::release).
    Released,
    /// So long.
    Passed(Duration),
}

/// A cut that has been planned.
#[derive(Clone, Debug)]
pub struct Planned {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
}

impl Planned {
    /// Lets go what is held up [until then](Until::Released): the message that comes
    /// [late](Cut::Late), the cut in the [middle](Cut::MidStatement).
    pub fn release(&self) {
        self.shared.release(self.number);
    }

    /// How often it has come to the cut: the client loses its connection, or waits for an answer
    /// that does not come. In the [middle](Cut::MidStatement) of a statement: the server has got
    /// the statement.
    #[must_use]
    pub fn reached(&self) -> u32 {
        self.shared.progress(self.number).reached
    }

    /// How often a cut is over: everything is closed, what was [late](Cut::Late) has been
    /// answered, what was [stalled](Cut::Stall) goes on.
    #[must_use]
    pub fn finished(&self) -> u32 {
        self.shared.progress(self.number).finished
    }

    /// Waits until it has come to the cut. Not for a test on a single thread that the
    /// client needs.
    ///
    /// # Panics
    ///
    /// If that takes more than ten seconds.
    pub fn wait_until_reached(&self) {
        self.shared.wait("the cut is reached", |state| {
            state.progress(self.number).reached > 0
        });
    }

    /// Waits until the cut is over. Not for a test on a single thread that the
    /// client needs.
    ///
    /// # Panics
    ///
    /// If that takes more than ten seconds.
    pub fn wait_until_finished(&self) {
        self.shared.wait("the cut is over", |state| {
            state.progress(self.number).finished > 0
        });
    }
}

/// How far a planned cut has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// How many messages it could have been for.
    pub(super) seen: u32,
    pub(super) reached: u32,
    pub(super) finished: u32,
    pub(super) released: bool,
}

/// Whether these words are in the text as whole words.
fn has_words(text: &str, words: &str) -> bool {
    let (text, words) = (text.to_lowercase(), words.to_lowercase());
    let goes_on = |left: Option<char>, right: Option<char>| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        left.is_some_and(is_part) && right.is_some_and(is_part)
    };
    text.match_indices(&words).any(|(start, _)| {
        let (before, after) = (&text[..start], &text[start + words.len()..]);
        !goes_on(before.chars().next_back(), words.chars().next())
            && !goes_on(words.chars().next_back(), after.chars().next())
    })
}

fn commits(sql: &str) -> bool {
    let statements = sql.split(';').map(|statement| {
        let statement = statement.trim().to_uppercase();
        let is = |word: &str| has_words(&statement, word) && statement.starts_with(word);
        if is("COMMIT") || (is("SET") && has_words(&statement, "autocommit=1")) {
            Some(true)
        } else if is("BEGIN") || is("START TRANSACTION") || is("ROLLBACK") {
            Some(false)
        } else {
            None
        }
    });
    statements.flatten().last() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::{commits, has_words};

    #[test]
    fn words_are_whole_words() {
        for (text, words, expected) in [
            ("COMMIT", "commit", true),
            (
                "SET @dbop_autocommit=@@autocommit, autocommit=0",
                "COMMIT",
                false,
            ),
            (
                "RELEASE SAVEPOINT a; COMMIT; SET autocommit=1",
                "COMMIT",
                true,
            ),
            ("autocommit commit", "COMMIT", true),
            ("UPDATE `accounts` SET x", "update `accounts`", true),
            ("SELECT 'ä'COMMITÄ", "COMMIT", false),
        ] {
            assert_eq!(has_words(text, words), expected, "{words} in {text}");
        }
    }

    #[test]
    fn a_commit_is_the_last_thing_said_about_transactions() {
        for (sql, expected) in [
            ("COMMIT", true),
            ("commit;", true),
            ("SET CONSTRAINTS ALL IMMEDIATE; COMMIT", true),
            ("RELEASE SAVEPOINT s; COMMIT; SET autocommit=@a", true),
            ("SET a=@b, autocommit=1, autocommit=@c", true),
            ("SET @a=@@autocommit, autocommit=0; SAVEPOINT s", false),
            ("SET autocommit=1; START TRANSACTION", false),
            ("BEGIN; SELECT 1; COMMIT; BEGIN READ ONLY", false),
            ("COMMIT; START TRANSACTION", false),
            ("BEGIN", false),
            ("RELEASE SAVEPOINT s", false),
            ("ROLLBACK TO SAVEPOINT s; RELEASE SAVEPOINT s", false),
            ("UPDATE accounts SET balance = 1", false),
        ] {
            assert_eq!(commits(sql), expected, "{sql}");
        }
    }
}
