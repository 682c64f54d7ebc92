//! Reads that see what their caller has committed.

use std::time::Duration;

use super::{Position, Split};
use crate::dialect::Dialect;
use crate::request::Request;

/// A [`Split`] whose replicas are asked whether they are far enough: from [`Split::after`].
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'a, W, R> {
    split: &'a Split<W, R>,
    position: &'a Position,
    patience: Duration,
}

impl<W, R> Split<W, R> {
    /// The same source for reads that have to see what was there at this [`Position`]: what the caller has
    /// committed, for example.
    ///
    /// A read-only operation that gets a connection of `read` first asks there how far its server is: one
    /// query, which Diesel keeps prepared. If it is not far enough, it is asked again for up to 100 ms
    /// ([`with_patience`](Fresh::with_patience)). Then the connection is given back, and the same attempt gets
    /// one of `write`. So a replica that lags costs no retry. An operation that writes is not affected.
    ///
    /// ```
    /// use dbop_core::{Position, Split};
    ///
    /// let source = Split { write: "primary", read: "replica" };
    /// let position: Position = "lsn:16/B374D848".parse()?;
    /// let fresh = source.after(&position); // for `run_on`
    /// # _ = fresh;
    /// # Ok::<(), dbop_core::ParsePositionError>(())
    /// ```
    #[must_use]
    pub const fn after<'a>(&'a self, position: &'a Position) -> Fresh<'a, W, R> {
        Fresh {
            split: self,
            position,
            patience: Duration::from_millis(100),
        }
    }
}

impl<'a, W, R> Fresh<'a, W, R> {
    /// How long the pauses between the questions to a server that is not far enough may take in all. Defaults
    /// to 100 ms, and is never longer than what is left for the connection. Zero: it is asked once.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The source.
    #[must_use]
    pub const fn split(&self) -> &'a Split<W, R> {
        self.split
    }

    /// The questions to one server.
    #[must_use]
    pub fn catching_up(&self, request: &Request<'_>) -> CatchingUp<'a> {
        CatchingUp {
            position: self.position,
            left: request
                .within
                .map_or(self.patience, |within| within.min(self.patience)),
            pause: Duration::from_millis(1),
        }
    }
}

/// The questions to one server, until it is far enough or the time is over.
///
/// The server is asked again and again. A statement that waits on a standby of PostgreSQL would have a
/// snapshot, and a snapshot can stop what the standby has to apply.
#[derive(Clone, Copy, Debug)]
pub struct CatchingUp<'a> {
    position: &'a Position,
    left: Duration,
    pause: Duration,
}

/// What an answer of the server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is far enough.
    Reached,
    /// It is asked again after this pause.
    Pause(Duration),
    /// It is not far enough, and the time is over.
    Behind,
}

impl CatchingUp<'_> {
    /// After this answer to the [query](Position::query).
    pub fn answered(&mut self, dialect: Dialect, answer: Option<&str>) -> Progress {
        let here = Position::answered(dialect, answer);
        if here.is_ok_and(|here| here.covers(self.position)) {
            return Progress::Reached;
        }
        if self.left.is_zero() {
            return Progress::Behind;
        }
        let pause = self.pause.min(self.left);
        self.left -= pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Progress::Pause(pause)
    }
}

const LONGEST_PAUSE: Duration = Duration::from_millis(16);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn pauses(patience: u64, within: Option<u64>) -> (Vec<u128>, Progress) {
        let position = "lsn:0/2".parse().expect("a position");
        let split = Split { write: 1, read: 2 };
        let within = within.map(Duration::from_millis);
        let request = Request::new(&Instant::now).with_within(within);
        let fresh = split
            .after(&position)
            .with_patience(Duration::from_millis(patience));
        let mut catching_up = fresh.catching_up(&request);
        let mut pauses = vec![];
        loop {
            match catching_up.answered(Dialect::Postgres, Some("lsn:0/1")) {
                Progress::Pause(pause) => pauses.push(pause.as_millis()),
                progress => return (pauses, progress),
            }
        }
    }

    #[test]
    fn a_server_that_is_behind_is_asked_until_the_time_is_over() {
        let behind = Progress::Behind;
        assert_eq!(pauses(60, None), (vec![1, 2, 4, 8, 16, 16, 13], behind));
        assert_eq!(pauses(60, Some(5)), (vec![1, 2, 2], behind));
        assert_eq!(pauses(3, Some(500)), (vec![1, 2], behind));
        assert_eq!(pauses(0, None), (vec![], behind));
    }

    #[test]
    fn a_server_that_is_far_enough_is_used() {
        let position = "lsn:0/2".parse().expect("a position");
        let split = Split { write: 1, read: 2 };
        let fresh = split.after(&position);
        assert_eq!(fresh.split().write, 1);
        let mut catching_up = fresh.catching_up(&Request::new(&Instant::now));
        let mut ask = |answer| catching_up.answered(Dialect::Postgres, answer);
        assert!(matches!(ask(None), Progress::Pause(_)), "no answer");
        assert!(matches!(ask(Some("?")), Progress::Pause(_)), "no position");
        assert_eq!(ask(Some("lsn:0/2")), Progress::Reached);
    }
}
