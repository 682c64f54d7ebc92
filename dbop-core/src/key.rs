//! The key of an operation, and what it and its adapter tell each other about answers.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Kind};
use crate::event::Name;

/// What makes an operation be done once for all callers.
///
/// # Default
///
/// [`new`](Self::new): in the scope of the operation's name, without a request and an answer.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// What the caller has chosen.
    pub id: &'a [u8],
    /// Keys of one scope differ. `None`: the operation's name.
    pub scope: Option<&'a [u8]>,
    /// The SHA-256 of the request that the key stands for.
    pub request: Option<[u8; 32]>,
    /// Where the body leaves its answer, and the run the one that it has found.
    pub answers: Option<&'a Answers>,
}

impl<'a> Key<'a> {
    /// A key in the scope of the operation's name.
    #[must_use]
    pub const fn new(id: &'a [u8]) -> Self {
        Self {
            id,
            scope: None,
            request: None,
            answers: None,
        }
    }

    /// The scope of the key in an operation of this name.
    pub(crate) fn scope_in(&self, name: Name<'a>) -> Cow<'a, [u8]> {
        match (self.scope, name) {
            (Some(scope), _) => Cow::Borrowed(scope),
            (None, Name::Given(name)) => Cow::Borrowed(name.as_bytes()),
            (None, Name::Call(_)) => Cow::Owned(name.to_string().into_bytes()),
        }
    }

    /// Nothing of it is ever cut.
    pub(crate) fn check(&self, name: Name<'a>) -> Result<(), Error> {
        let scope = self.scope_in(name);
        let problem = if self.scope.is_none() && matches!(name, Name::Call(_)) {
            InvalidKey::NoScope
        } else if self.id.is_empty() {
            InvalidKey::Empty
        } else if self.id.len() > LONGEST {
            InvalidKey::TooLong(self.id.len())
        } else if scope.is_empty() {
            InvalidKey::EmptyScope
        } else if scope.len() > LONGEST_SCOPE {
            InvalidKey::LongScope(scope.len())
        } else if *scope == *OWN_SCOPE {
            InvalidKey::OwnScope
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::InvalidKey(problem)))
    }
}

/// As the columns of the ledger.
const LONGEST: usize = 255;
const LONGEST_SCOPE: usize = 64;

/// That of the tokens.
pub(crate) const OWN_SCOPE: &[u8] = b"dbop";

/// Why a key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKey {
    /// A file and a line are others in the next version of the program.
    #[error("an operation without a name needs a scope for its idempotency key")]
    NoScope,
    #[error("the idempotency key is empty")]
    Empty,
    #[error("the idempotency key has {0} bytes, more than {LONGEST}")]
    TooLong(usize),
    #[error("the scope of the idempotency key is empty")]
    EmptyScope,
    #[error("the scope of the idempotency key has {0} bytes, more than {LONGEST_SCOPE}")]
    LongScope(usize),
    #[error("the scope `dbop` is for dbop's own tokens, not for idempotency keys")]
    OwnScope,
    #[error("an operation that is read-only has no use for an idempotency key")]
    ReadOnly,
}

/// What passes between an operation with a key and its adapter, which knows the caller's types: the
/// answers, as bytes.
#[derive(Debug, Default)]
pub struct Answers(Mutex<Exchange>);

#[derive(Debug, Default)]
struct Exchange {
    of_body: Option<BodyAnswer>,
    end: Option<FoundAnswer>,
}

/// The answer that a body has ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyAnswer {
    /// What it has returned.
    Value(Vec<u8>),
    /// What its error is remembered as: it is undone, and this is committed.
    Refusal(Vec<u8>),
}

/// The answer that is committed with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundAnswer {
    /// As it is in the ledger.
    pub bytes: Vec<u8>,
    /// Another call has given it.
    pub is_replayed: bool,
}

impl Answers {
    /// The body has ended with this. Without one, what it had ended with before is forgotten.
    pub fn body_ended(&self, answer: Option<BodyAnswer>) {
        self.exchange(|exchange| exchange.of_body = answer);
    }

    /// What the run has to return instead of its result.
    #[must_use]
    pub fn take_found(&self) -> Option<FoundAnswer> {
        self.exchange(|exchange| exchange.end.take())
    }

    pub(crate) fn take_of_body(&self) -> Option<BodyAnswer> {
        self.exchange(|exchange| exchange.of_body.take())
    }

    pub(crate) fn found(&self, bytes: Vec<u8>, is_replayed: bool) {
        let found = FoundAnswer { bytes, is_replayed };
        self.exchange(|exchange| exchange.end = Some(found));
    }

    fn exchange<R>(&self, with: impl FnOnce(&mut Exchange) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(key: &[u8], scope: Option<&[u8]>, name: &str) -> Option<String> {
        let key = Key {
            scope,
            ..Key::new(key)
        };
        let error = key.check(Name::Given(name)).err()?;
        assert!(error.is_invalid_setting());
        Some(error.to_string())
    }

    #[test]
    fn what_is_too_long_or_not_the_callers_is_refused_and_never_cut() {
        assert_eq!(refused(&[0; 255], Some(&[0; 64]), ""), None);
        assert_eq!(refused(b"k", None, "dbop "), None);
        assert_eq!(refused(b"k", None, "Dbop"), None);
        for (key, scope, name, why) in [
            (&[][..], None, "pay", "is empty"),
            (&[0; 256], None, "pay", "256 bytes, more than 255"),
            (b"k", None, "", "scope of the idempotency key is empty"),
            (b"k", Some(&[7; 65][..]), "pay", "65 bytes, more than 64"),
            (b"k", Some(b"dbop"), "pay", "`dbop`"),
            (b"k", None, "dbop", "`dbop`"),
        ] {
            let text = refused(key, scope, name).expect("refused");
            assert!(text.contains(why), "{text}");
        }
        let long = "x".repeat(65);
        assert!(refused(b"k", None, &long).is_some());
        assert!(refused(b"k", Some(b"pay"), &long).is_none());
    }

    #[test]
    fn a_file_and_a_line_are_no_scope() {
        let name = Name::Call(std::panic::Location::caller());
        let error = Key::new(b"k").check(name).expect_err("it moves");
        assert!(error.is_invalid_setting() && error.to_string().contains("scope"));
        let scope = Some(&b"pay"[..]);
        let key = Key {
            scope,
            ..Key::new(b"k")
        };
        key.check(name).expect("a scope of its own");
    }

    #[test]
    fn an_answer_is_handed_over_once() {
        let answers = Answers::default();
        answers.body_ended(Some(BodyAnswer::Value(vec![1])));
        answers.body_ended(None);
        assert_eq!(answers.take_of_body(), None);
        answers.body_ended(Some(BodyAnswer::Refusal(vec![2])));
        assert_eq!(answers.take_of_body(), Some(BodyAnswer::Refusal(vec![2])));
        assert_eq!(answers.take_of_body(), None);
        answers.found(vec![3], true);
        let found = answers.take_found().expect("an answer");
        assert_eq!((found.bytes, found.is_replayed), (vec![3], true));
        assert_eq!(answers.take_found(), None);
    }
}
