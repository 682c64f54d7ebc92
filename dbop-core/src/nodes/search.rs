//! One search for a connection among nodes.

use std::time::{Duration, Instant};

use super::{Fit, Lent, Nodes, ReportedError};
use crate::dialect::Dialect;
use crate::fault::Fault;
use crate::request::{Purpose, Request};
use crate::retry::Advice;

/// One search for a connection among [`Nodes`]: until there is one, or [`next_node`](Self::next_node) knows no
/// further node.
#[derive(Debug)]
pub struct Search<'n, S> {
    nodes: &'n Nodes<S>,
    request: Request<'n>,
    /// When the time of the request is over.
    until: Option<Instant>,
    /// With which node it begins, once that is known.
    first: Option<usize>,
    /// A bit for each node.
    tried: u64,
    /// The node that was asked last.
    at: usize,
    /// Since when it has not answered.
    asked_at: Option<Instant>,
    /// It is asked whether it is fit.
    proves: bool,
    /// A node was asked because it was its turn.
    has_asked: bool,
    reported: ReportedError,
}

/// A node to ask.
#[derive(Debug)]
pub struct Try<'n, S> {
    /// Its source.
    pub source: &'n S,
    /// What to tell the source.
    pub request: Request<'n>,
    proof: Fit,
}

impl<S> Try<'_, S> {
    /// What to ask on the new connection first, if it is not known whether its node is fit: it is if the
    /// answer is a text.
    #[must_use]
    pub const fn proof(&self, dialect: Dialect) -> Option<&'static str> {
        match self.proof {
            Fit::Any => None,
            Fit::TakesWrites => takes_writes(dialect),
        }
    }
}

/// A text if it takes writes. PostgreSQL says of a standby that its transactions are read-only. A Galera node
/// without a quorum is not ready.
///
/// A member of a MySQL group agrees with the others on something once in each period of the flow control, even if
/// there is nothing to do. Without a majority it does not, and takes statements all the same. What the membership
/// table says of it needs a privilege that few accounts have. Where Group Replication was stopped, an administrator
/// has made the server writable, and not the group's own session.
const fn takes_writes(dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::Postgres => Some(
            "SELECT CASE current_setting('transaction_read_only') WHEN 'off' THEN 'yes' END AS s",
        ),
        Dialect::Mysql => Some(
            "SELECT CASE WHEN @@GLOBAL.read_only IN ('0', 'OFF') /*M!100100 AND NOT EXISTS(\
             SELECT 1 FROM information_schema.GLOBAL_VARIABLES v, information_schema.GLOBAL_STATUS s \
             WHERE v.VARIABLE_NAME = 'WSREP_ON' AND v.VARIABLE_VALUE = 'ON' \
             AND s.VARIABLE_NAME = 'WSREP_READY' AND s.VARIABLE_VALUE <> 'ON')*//*!80000 AND NOT EXISTS(\
             SELECT 1 FROM performance_schema.global_status s, performance_schema.global_variables v, \
             performance_schema.variables_info i WHERE s.VARIABLE_NAME = 'Gr_last_consensus_end_timestamp' \
             AND v.VARIABLE_NAME = 'group_replication_flow_control_period' \
             AND s.VARIABLE_VALUE < UTC_TIMESTAMP(6) - INTERVAL 5 + v.VARIABLE_VALUE SECOND \
             AND i.VARIABLE_NAME = 'read_only' AND i.SET_USER = 'mysql.session')*/ THEN 'yes' END AS s",
        ),
        Dialect::Sqlite => None,
    }
}

impl<'n, S> Search<'n, S> {
    /// At its beginning.
    #[must_use]
    pub fn new(nodes: &'n Nodes<S>, request: &Request<'n>) -> Self {
        Self {
            nodes,
            request: *request,
            until: request
                .within
                .and_then(|within| request.now().checked_add(within)),
            first: None,
            tried: 0,
            at: 0,
            asked_at: None,
            proves: false,
            has_asked: false,
            reported: ReportedError::default(),
        }
    }

    /// The node to ask next, if there is another one worth asking.
    pub fn next_node(&mut self) -> Option<Try<'n, S>> {
        let now = self.request.now();
        let left = self.until.map(|until| until.saturating_duration_since(now));
        if self.tried != 0 && left.is_some_and(|left| left.is_zero()) {
            return None;
        }
        let Nodes { rules, roster, .. } = self.nodes;
        let mut roster = roster.lock();
        roster.settle(rules, now);
        let place = self.request.place.map(|place| self.nodes.node_of(place));
        let of_commit =
            place.filter(|_| self.request.purpose == Purpose::Question && self.tried == 0);
        let first = *self.first.get_or_insert_with(|| roster.first(rules.order));
        let well = roster.well(first, self.tried, now).count();
        let at = match of_commit {
            Some((node, _)) => node,
            None => {
                let well = roster.well(first, self.tried, now).next();
                let may_be_unwell = !self.has_asked && !self.request.has_alternative;
                self.has_asked = true;
                well.or_else(|| roster.least_unwell(self.tried).filter(|_| may_be_unwell))?
            }
        };
        let is_well = roster.well(at, self.tried, now).next() == Some(at);
        roster.ask(at, rules, now);
        self.tried |= 1 << at;
        self.at = at;
        self.asked_at = Some(now);
        self.proves = !roster.is_proven(at);
        // With this one, if it is not among those that are well.
        let candidates = well + usize::from(!is_well);
        let alone = candidates == 1;
        Some(Try {
            source: &self.nodes.sources[at],
            request: self
                .request
                .with_within(share(left, candidates, rules.connect_timeout))
                .with_alternative(self.request.has_alternative || !alone)
                .with_place(
                    place
                        .filter(|(node, _)| *node == at)
                        .and_then(|(_, inner)| inner),
                ),
            proof: match self.proves {
                true => rules.fit,
                false => Fit::Any,
            },
        })
    }

    /// The node has failed, or is not fit. Returns whether its error is the one to report, if no other node
    /// has a connection: the first one that is worth another attempt, or else the first one.
    pub fn failed(&mut self, fault: Fault, advice: Advice) -> bool {
        let Nodes { rules, roster, .. } = self.nodes;
        let now = self.request.now();
        roster.lock().failed(self.at, Some(fault), rules, now);
        self.asked_at = None;
        self.reported.failed(fault, advice)
    }

    /// The node has given a connection that is fit.
    #[must_use]
    pub fn found<H>(&mut self, held: H) -> Lent<H> {
        let Nodes { roster, .. } = self.nodes;
        self.asked_at = None;
        match self.request.purpose {
            Purpose::Work => roster.lock().found(self.at, self.proves),
            _ => roster.lock().left(self.at),
        }
        Lent::new(held, roster.clone(), self.at)
    }
}

/// It is dropped before its node has answered, as when the caller waits no longer. A node that had the time of a
/// rest for its answer has failed.
impl<S> Drop for Search<'_, S> {
    fn drop(&mut self) {
        let Some(asked_at) = self.asked_at else {
            return;
        };
        let Nodes { rules, roster, .. } = self.nodes;
        let now = self.request.now();
        let waited = now.saturating_duration_since(asked_at);
        let mut roster = roster.lock();
        if waited > rules.back_off.initial_delay() {
            roster.failed(self.at, None, rules, now);
        } else {
            roster.left(self.at);
        }
    }
}

/// The time of one of so many nodes.
fn share(
    left: Option<Duration>,
    candidates: usize,
    connect_timeout: Option<Duration>,
) -> Option<Duration> {
    let candidates = u32::try_from(candidates.max(1)).unwrap_or(u32::MAX);
    let share = left.map(|left| left / candidates);
    match (share, connect_timeout) {
        (Some(share), Some(most)) => Some(share.min(most)),
        (share, most) => share.or(most),
    }
}
