//! Several sources of connections as one: which is asked next, and how long one that failed rests.
//!
//! No I/O, and no clock but that of the [`Request`]: the adapters ask a [`Search`] for the next node, and tell
//! it how that went.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backoff::{Backoff, Jitter};
use crate::fault::{Fault, FaultClass};
use crate::retry::Advice;

pub use fresh::{CatchingUp, Fresh, Progress};
pub use position::{ParsePositionError, Position};
pub use roster::NodeStatus;
pub use search::{Search, Try};
pub use split::{Side, Sides, Split};

use roster::Roster;

mod fresh;
mod position;
mod roster;
#[cfg(test)]
mod roster_tests;
mod search;
#[cfg(test)]
mod search_tests;
mod split;

/// Which node is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// The node that is in use, until it fails: for servers of which one takes the writes, and for clusters
    /// whose nodes conflict with each other. The first one is the first node. The default.
    #[default]
    Sticky,
    /// Each node in turn.
    RoundRobin,
}

/// What a node has to be for its connections to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fit {
    /// It answers. The default.
    #[default]
    Any,
    /// It takes writes. It is asked before its first connection is used, and again after a fault: one query
    /// each time. A standby, a server that is `read_only`, a Galera node without a quorum and a member of
    /// a MySQL group without a majority do not take writes. SQLite is not asked.
    TakesWrites,
}

/// Several sources of connections as one: pools, closures, or sources of your own, each for one node of a
/// cluster.
///
/// A node that fails, or that is not [fit](Self::with_fit), rests: it is left alone for a while, the longer
/// the more often it fails. When the rest is over one caller tries the node, and the others go on without it
/// until that has worked. If all nodes rest, the one that has rested the longest is tried.
///
/// - **Fails** means: no connection comes, or the server says that it is not available, takes no writes, or
///   does not know what became of a COMMIT. So does a node that had the time of its first rest and has not
///   answered when the caller stops waiting. A connection that is lost is no reason to rest: whether the
///   node is still there shows the next connection. Where each node has its turn, one caller asks for that, and the
///   others do without the node until they know.
/// - **Time.** Each node gets its share of the time that is left until the operation's deadline, and at most
///   the [connect timeout](Self::with_connect_timeout). A sync closure cannot be interrupted: give its URL a
///   timeout.
/// - **A question about a lost COMMIT** goes to the node of the COMMIT first, even if that rests.
/// - **Health**: [`status`](Self::status).
///
/// Clones share what they know of the nodes. Use one for all operations, and for as long as the process runs.
///
/// # Default
///
/// - `order`: [`Order::Sticky`]
/// - `fit`: [`Fit::Any`]
/// - `back_off`: 200 ms after the first failure, up to 10 s; half of it at least, and the rest at random
/// - `connect_timeout`: 5 s
///
/// ```
/// use std::time::Duration;
///
/// use dbop_core::{Fit, Nodes, Order};
///
/// let nodes = Nodes::new(["a", "b", "c"]) // pools, for example
///     .with_order(Order::RoundRobin)
///     .with_fit(Fit::TakesWrites)
///     .with_back_off(Duration::from_millis(200), Duration::from_secs(10))
///     .with_connect_timeout(Some(Duration::from_secs(2)));
/// assert!(nodes.status().iter().all(|node| node.failures == 0));
/// ```
#[derive(Clone, Debug)]
pub struct Nodes<S> {
    sources: Vec<S>,
    rules: Rules,
    roster: SharedRoster,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    order: Order,
    fit: Fit,
    back_off: Backoff,
    connect_timeout: Option<Duration>,
}

impl<S> Nodes<S> {
    /// These sources as one. The order counts: see [`Order::Sticky`].
    ///
    /// # Panics
    ///
    /// If there is none, or more than 64.
    #[must_use]
    pub fn new(sources: impl IntoIterator<Item = S>) -> Self {
        let sources: Vec<S> = sources.into_iter().collect();
        assert!(
            (1..=64).contains(&sources.len()),
            "there are from 1 to 64 nodes"
        );
        let roster = Roster::new(sources.len());
        Self {
            sources,
            rules: Rules {
                order: Order::Sticky,
                fit: Fit::Any,
                back_off: back_off(Duration::from_millis(200), Duration::from_secs(10)),
                connect_timeout: Some(Duration::from_secs(5)),
            },
            roster: SharedRoster(Arc::new(Mutex::new(roster))),
        }
    }

    /// Which node is asked first. Defaults to [`Order::Sticky`].
    #[must_use]
    pub const fn with_order(mut self, order: Order) -> Self {
        self.rules.order = order;
        self
    }

    /// What a node has to be for its connections to be used. Defaults to [`Fit::Any`].
    #[must_use]
    pub const fn with_fit(mut self, fit: Fit) -> Self {
        self.rules.fit = fit;
        self
    }

    /// How long a node rests after its first failure, and how long at most. It doubles with each failure
    /// after that; half of it is certain, and the rest is drawn at random, so that processes do not return in
    /// step. Defaults to 200 ms and 10 s.
    #[must_use]
    pub const fn with_back_off(mut self, first: Duration, longest: Duration) -> Self {
        self.rules.back_off = back_off(first, longest);
        self
    }

    /// How long a node may take to give a connection. Defaults to 5 s. `None`: as long as the source
    /// waits, or until the deadline.
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.rules.connect_timeout = timeout;
        self
    }

    /// How the nodes stand at the moment, in their order: for a health check, or for metrics.
    #[must_use]
    pub fn status(&self) -> Vec<NodeStatus> {
        self.health().status()
    }

    /// What tells how the nodes stand, without the sources: for those who only look.
    ///
    /// ```
    /// use dbop_core::Nodes;
    ///
    /// let nodes = Nodes::new(["a", "b", "c"]);
    /// let health = nodes.health();
    /// assert_eq!(health.status(), nodes.status());
    /// ```
    #[must_use]
    pub fn health(&self) -> NodesHealth {
        NodesHealth {
            roster: self.roster.clone(),
            order: self.rules.order,
        }
    }

    /// The sources, in their order.
    #[must_use]
    pub fn sources(&self) -> &[S] {
        &self.sources
    }

    /// The node of a place, and the place there.
    pub(crate) fn node_of(&self, place: usize) -> (usize, Option<usize>) {
        let count = self.sources.len();
        (place % count, (place / count).checked_sub(1))
    }

    /// What a place of one of the sources is called as a place of all.
    #[must_use]
    pub fn place_in_all<H>(&self, lent: &Lent<H>, inner: Option<usize>) -> usize {
        lent.lease.node + self.sources.len() * inner.map_or(0, |inner| inner + 1)
    }
}

/// How [`Nodes`] stand, whatever their sources are: from [`Nodes::health`].
#[derive(Clone, Debug)]
pub struct NodesHealth {
    roster: SharedRoster,
    order: Order,
}

impl NodesHealth {
    /// How they stand at the moment, in their order.
    #[must_use]
    pub fn status(&self) -> Vec<NodeStatus> {
        self.roster.lock().status(self.order)
    }
}

/// At least half of a ceiling that doubles.
const fn back_off(first: Duration, longest: Duration) -> Backoff {
    Backoff::new(first, longest, Jitter::Equal)
}

#[derive(Clone, Debug)]
pub(crate) struct SharedRoster(Arc<Mutex<Roster>>);

impl SharedRoster {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Roster> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of one of several [`Nodes`]. Given back, it shows that its node is well.
#[derive(Debug)]
pub struct Lent<H> {
    held: H,
    lease: Lease,
}

impl<H> Lent<H> {
    pub(crate) fn new(held: H, roster: SharedRoster, node: usize) -> Self {
        let incident = roster.lock().lend(node);
        Self {
            held,
            lease: Lease {
                roster,
                node,
                incident,
                why_discarded: None,
            },
        }
    }

    /// Where its node stands among the nodes.
    #[must_use]
    pub const fn node(&self) -> usize {
        self.lease.node
    }

    /// What its source lends.
    #[must_use]
    pub const fn held(&self) -> &H {
        &self.held
    }

    /// What its source has lent, which is to be discarded.
    #[must_use]
    pub fn discarded(mut self, why: Option<Fault>) -> H {
        self.lease.why_discarded = Some(why);
        self.held
    }
}

impl<H: Deref> Deref for Lent<H> {
    type Target = H::Target;

    fn deref(&self) -> &H::Target {
        &self.held
    }
}

impl<H: DerefMut> DerefMut for Lent<H> {
    fn deref_mut(&mut self) -> &mut H::Target {
        &mut self.held
    }
}

#[derive(Debug)]
struct Lease {
    roster: SharedRoster,
    node: usize,
    /// Of the node's incidents, how many there were when it was lent.
    incident: u32,
    why_discarded: Option<Option<Fault>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut roster = self.roster.lock();
        match self.why_discarded {
            Some(why) => roster.discarded(self.node, why),
            None => roster.given_back(self.node, self.incident),
        }
    }
}

/// Which of several failures is reported, if none of those who are asked has a connection: the first one that is
/// worth another attempt, or else the first one.
#[derive(Clone, Copy, Debug, Default)]
struct ReportedError {
    /// Whether the one so far is worth another attempt.
    has_hope: Option<bool>,
}

impl ReportedError {
    /// Whether it is this one, so far.
    fn failed(&mut self, fault: Fault, advice: Advice) -> bool {
        let has_hope = advice != Advice::Never && fault.class().is_transient();
        let is_reported = match self.has_hope {
            None => true,
            Some(before) => has_hope && !before,
        };
        if is_reported {
            self.has_hope = Some(has_hope);
        }
        is_reported
    }
}

/// Whether a node rests because of what one of its connections was discarded for.
fn is_of_node(fault: Fault) -> bool {
    let class = fault.class();
    class.is_slow() || class == FaultClass::OutcomeUnknown
}
