//! Two sources: one for what writes, one for what only reads.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::ReportedError;
use crate::fault::Fault;
use crate::request::{Purpose, Request};
use crate::retry::Advice;

/// A source for operations that write, and one for those that are `read_only`: a primary and its replicas,
/// for example.
///
/// A read-only operation goes to `read`, and if that has no connection to `write`. After a fault its next
/// attempt goes to `write` first, so that a replica that cancels queries does not use up the attempts. Where
/// there are two to ask, the first one gets half of the time that is left. If neither has a connection, the first
/// error that is worth another attempt is reported, or else the first one. Everything else goes to `write`,
/// questions about a lost COMMIT too.
///
/// A replica lags: what the same caller has just committed on `write` may not be there yet. An operation that
/// has to see it runs on [`after`](Self::after) the position of that commit, or on `write`.
///
/// Either of them can be [`Nodes`](super::Nodes), which remember what has failed. A pool does not: as long as
/// its server is down, each read-only operation waits for it first.
///
/// ```
/// use dbop_core::{Nodes, Split};
///
/// let source = Split { write: Nodes::new(["primary"]), read: Nodes::new(["replica 1", "replica 2"]) };
/// # assert_eq!(source.read.sources().len(), 2);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Split<W, R> {
    /// For everything that can write.
    pub write: W,
    /// For what is read-only.
    pub read: R,
}

/// One of the two of a [`Split`]: what is asked of it, or what it lends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side<W, R = W> {
    /// The one for everything that can write.
    Write(W),
    /// The one for what is read-only.
    Read(R),
}

/// Which of the two of a [`Split`] to ask, one after the other.
#[derive(Debug)]
pub struct Sides<'a> {
    request: Request<'a>,
    until: Option<Instant>,
    /// Those that are not asked yet, the next one last.
    left: Vec<Side<()>>,
    reported: ReportedError,
}

impl<'a> Sides<'a> {
    /// For this request.
    #[must_use]
    pub fn new(request: &Request<'a>) -> Self {
        let (read, write) = (Side::Read(()), Side::Write(()));
        let only_reads = request.read_only && request.purpose == Purpose::Work;
        Self {
            request: *request,
            until: request
                .within
                .and_then(|within| request.now().checked_add(within)),
            left: match (only_reads, request.after) {
                (false, _) => vec![write],
                (true, None) => vec![write, read],
                (true, Some(_)) => vec![read, write],
            },
            reported: ReportedError::default(),
        }
    }

    /// The side that was asked has failed. Returns whether its error is the one to report, if the other one has
    /// no connection: the first one that is worth another attempt, or else the first one.
    pub fn failed(&mut self, fault: Fault, advice: Advice) -> bool {
        self.reported.failed(fault, advice)
    }
}

impl<'a> Iterator for Sides<'a> {
    type Item = Side<Request<'a>>;

    fn next(&mut self) -> Option<Side<Request<'a>>> {
        let side = self.left.pop()?;
        let left = |until: Instant| until.saturating_duration_since(self.request.now());
        let within = self.until.map(left);
        let is_last = self.left.is_empty();
        let request = self
            .request
            .with_within(within.map(|left| if is_last { left } else { left / 2 }))
            .with_alternative(self.request.has_alternative || !is_last);
        let place = self.request.place;
        let inner = |parity| {
            let place = place.filter(|place| place % 2 == parity);
            place.and_then(|place| (place / 2).checked_sub(1))
        };
        Some(match side {
            Side::Write(()) => Side::Write(request.with_place(inner(0))),
            Side::Read(()) => Side::Read(request.with_place(inner(1))),
        })
    }
}

impl Side<Option<usize>> {
    /// What a place of one of the two is called as a place of both.
    #[must_use]
    pub fn place(self) -> usize {
        let number = |inner: Option<usize>| 2 * inner.map_or(0, |inner| inner + 1);
        match self {
            Self::Write(inner) => number(inner),
            Self::Read(inner) => number(inner) + 1,
        }
    }
}

impl<W: Deref, R: Deref<Target = W::Target>> Deref for Side<W, R> {
    type Target = W::Target;

    fn deref(&self) -> &W::Target {
        match self {
            Self::Write(held) => held,
            Self::Read(held) => held,
        }
    }
}

impl<W: DerefMut, R: DerefMut<Target = W::Target>> DerefMut for Side<W, R> {
    fn deref_mut(&mut self) -> &mut W::Target {
        match self {
            Self::Write(held) => held,
            Self::Read(held) => held,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dialect::Dialect;
    use crate::fault::FaultClass;

    fn names(request: &Request<'_>) -> Vec<&'static str> {
        let name = |side| match side {
            Side::Write(_) => "write",
            Side::Read(_) => "read",
        };
        Sides::new(request).map(name).collect()
    }

    #[test]
    fn only_what_is_read_only_goes_to_the_side_for_reading() {
        let request = Request::new(&Instant::now);
        let reads = request.with_read_only(true);
        let fault = Fault::from_class(Dialect::Postgres, FaultClass::SerializationFailure);
        assert_eq!(names(&request), ["write"]);
        assert_eq!(names(&reads), ["read", "write"]);
        assert_eq!(names(&reads.with_after(Some(fault))), ["write", "read"]);
        assert_eq!(names(&request.with_after(Some(fault))), ["write"]);
        assert_eq!(names(&reads.with_purpose(Purpose::Question)), ["write"]);
    }

    #[test]
    fn the_first_of_two_gets_half_of_the_time_and_knows_of_the_other() {
        let start = Instant::now();
        let now = move || start;
        let request = Request::new(&now)
            .with_within(Some(Duration::from_secs(4)))
            .with_read_only(true);
        let given: Vec<_> = Sides::new(&request)
            .map(|side| match side {
                Side::Write(request) | Side::Read(request) => {
                    (request.within, request.has_alternative)
                }
            })
            .collect();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(given, [(seconds(2), true), (seconds(4), false)]);
    }

    #[test]
    fn the_error_that_is_worth_another_attempt_is_reported() {
        let request = Request::new(&Instant::now).with_read_only(true);
        let fault = |class| Fault::from_class(Dialect::Postgres, class);
        let (refused, wrong) = (FaultClass::NotConnected, FaultClass::Permanent);
        for (first, second, replaces) in [
            (refused, wrong, false),
            (wrong, refused, true),
            (refused, refused, false),
        ] {
            let mut sides = Sides::new(&request);
            let mut failed = |class| {
                assert!(sides.next().is_some());
                sides.failed(fault(class), Advice::Judge)
            };
            assert!(failed(first), "better than none");
            assert_eq!(failed(second), replaces);
        }
    }

    #[test]
    fn each_side_knows_its_own_places_again() {
        let request = Request::new(&Instant::now).with_read_only(true);
        for inner in [None, Some(0), Some(1), Some(7)] {
            assert_ne!(Side::Write(inner).place(), Side::Read(inner).place());
            for place in [Side::Write(inner).place(), Side::Read(inner).place()] {
                let is_write = place % 2 == 0;
                for side in Sides::new(&request.with_place(Some(place))) {
                    let (known, request) = match side {
                        Side::Write(request) => (is_write, request),
                        Side::Read(request) => (!is_write, request),
                    };
                    assert_eq!(request.place, inner.filter(|_| known), "{place}");
                }
            }
        }
    }
}
