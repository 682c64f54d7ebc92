//! What a source of connections is told about the one that is asked of it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::fault::Fault;

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// An attempt of the operation.
    Work,
    /// The question what became of a COMMIT whose answer was lost. It is best asked where the COMMIT was
    /// sent: see [`place`](Request::place).
    Question,
}

/// What a source of connections is told about the one that is asked of it.
///
/// A source reads the fields that it can use; most need none of them. [`new`](Self::new) and the `with_*`
/// methods are for sources that ask another source, and for tests.
///
/// ```
/// use std::time::{Duration, Instant};
/// use dbop_core::{Purpose, Request};
///
/// let now = Instant::now;
/// let request = Request::new(&now).with_within(Some(Duration::from_secs(2)));
/// assert_eq!(request.purpose, Purpose::Work);
/// assert_eq!(request.within, Some(Duration::from_secs(2)));
/// assert!(!request.read_only && request.after.is_none());
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Request<'a> {
    /// What the connection is for.
    pub purpose: Purpose,
    /// Whether the operation is read-only, by its own setting or the runner's default.
    pub read_only: bool,
    /// How long it may take: what is left until the operation's deadline. `None`: it has no deadline.
    pub within: Option<Duration>,
    /// What went wrong before: the fault of the attempt or of the question before this one. `None` for the
    /// first connection, after an error in which there is no fault of the database, and after a question that
    /// was answered.
    pub after: Option<Fault>,
    /// Where the operation had its connection before: what the source called the place of that. For a
    /// [question](Purpose::Question), it is the place of the COMMIT.
    pub place: Option<usize>,
    /// Whether who asks has another source to ask: then a source that expects to fail should do so at
    /// once.
    pub has_alternative: bool,
    now: &'a (dyn Fn() -> Instant + Sync),
}

impl<'a> Request<'a> {
    /// A request for work that may write, without a deadline. `now` is the clock.
    #[must_use]
    pub const fn new(now: &'a (dyn Fn() -> Instant + Sync)) -> Self {
        Self {
            purpose: Purpose::Work,
            read_only: false,
            within: None,
            after: None,
            place: None,
            has_alternative: false,
            now,
        }
    }

    /// The same for this [purpose](Self::purpose).
    #[must_use]
    pub const fn with_purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// The same for an operation that is [read-only](Self::read_only), or not.
    #[must_use]
    pub const fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The same [within](Self::within) this time.
    #[must_use]
    pub const fn with_within(mut self, within: Option<Duration>) -> Self {
        self.within = within;
        self
    }

    /// The same [after](Self::after) this fault.
    #[must_use]
    pub const fn with_after(mut self, after: Option<Fault>) -> Self {
        self.after = after;
        self
    }

    /// The same of an operation that worked at this [place](Self::place).
    #[must_use]
    pub const fn with_place(mut self, place: Option<usize>) -> Self {
        self.place = place;
        self
    }

    /// The same of one who [has an alternative](Self::has_alternative), or not.
    #[must_use]
    pub const fn with_alternative(mut self, has_alternative: bool) -> Self {
        self.has_alternative = has_alternative;
        self
    }

    /// What time it is, by the clock of the runner.
    #[must_use]
    pub fn now(&self) -> Instant {
        (self.now)()
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("purpose", &self.purpose)
            .field("read_only", &self.read_only)
            .field("within", &self.within)
            .field("after", &self.after)
            .field("place", &self.place)
            .field("has_alternative", &self.has_alternative)
            .finish_non_exhaustive()
    }
}
