//! What is known of each node, and the arithmetic of its rests.

use std::time::Instant;

use super::{Order, Rules, is_of_node};
use crate::fault::{Fault, FaultClass};

/// How a node stands at the moment: see [`Nodes::status`](super::Nodes::status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// How often it has failed in a row, since a connection of it was last given back in order. 0: it is
    /// well, as far as is known.
    pub failures: u32,
    /// Until when it rests, by the clock of the runner. It can have passed: then the node is tried with the
    /// next connection that is its turn.
    pub rests_until: Option<Instant>,
    /// With what it has failed last.
    pub fault: Option<Fault>,
    /// Whether it is the node that is asked first. With [`Order::RoundRobin`] that is none.
    pub is_current: bool,
    /// How many of its connections are lent.
    pub lent: usize,
    /// How often it was asked for a connection.
    pub asked: u64,
}

#[derive(Debug, Default)]
struct Node {
    failures: u32,
    rests_until: Option<Instant>,
    fault: Option<Fault>,
    /// A connection of it was lost, and none was given back in order since.
    is_suspect: bool,
    /// One caller asks it whether it is well. The others do without it until it has answered.
    is_on_trial: bool,
    /// What a connection was discarded for since the clock was last read.
    told: Option<Fault>,
    /// It need not be asked whether it is fit.
    is_proven: bool,
    /// How often it has begun to rest.
    incidents: u32,
    lent: usize,
    asked: u64,
}

impl Node {
    fn rests(&self, now: Instant) -> bool {
        self.is_on_trial || self.rests_until.is_some_and(|until| now < until)
    }
}

#[derive(Debug)]
pub(crate) struct Roster {
    nodes: Vec<Node>,
    /// The one in use.
    current: usize,
    /// Whose turn it is.
    turn: usize,
    random: fastrand::Rng,
}

impl Roster {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            current: 0,
            turn: 0,
            random: fastrand::Rng::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn seed(&mut self, seed: u64) {
        self.random = fastrand::Rng::with_seed(seed);
    }

    pub(crate) fn status(&self, order: Order) -> Vec<NodeStatus> {
        let status = |(at, node): (usize, &Node)| NodeStatus {
            failures: node.failures,
            rests_until: node.rests_until,
            fault: node.told.or(node.fault),
            is_current: order == Order::Sticky && at == self.current,
            lent: node.lent,
            asked: node.asked,
        };
        self.nodes.iter().enumerate().map(status).collect()
    }

    /// The node with which a search begins.
    pub(crate) fn first(&mut self, order: Order) -> usize {
        match order {
            Order::Sticky => self.current,
            Order::RoundRobin => {
                let first = self.turn;
                self.turn = (first + 1) % self.nodes.len();
                first
            }
        }
    }

    /// Settles what was told without the time.
    pub(crate) fn settle(&mut self, rules: &Rules, now: Instant) {
        for at in 0..self.nodes.len() {
            if let Some(fault) = self.nodes[at].told.take() {
                self.failed(at, Some(fault), rules, now);
            }
        }
    }

    /// Those which do not rest and are not among `tried`, beginning with `first`.
    pub(crate) fn well(
        &self,
        first: usize,
        tried: u64,
        now: Instant,
    ) -> impl Iterator<Item = usize> + '_ {
        let count = self.nodes.len();
        (first..first + count)
            .map(move |at| at % count)
            .filter(move |&at| tried & (1 << at) == 0 && !self.nodes[at].rests(now))
    }

    /// The one that has rested the longest, or has to rest no longer than the others.
    pub(crate) fn least_unwell(&self, tried: u64) -> Option<usize> {
        let untried = (0..self.nodes.len()).filter(|at| tried & (1 << at) == 0);
        untried.min_by_key(|&at| self.nodes[at].rests_until)
    }

    /// It is asked for a connection. If it has failed before, this is a trial: the others let it rest
    /// meanwhile. So they do after a connection was lost, where each node has its turn. The one in use is not left
    /// for that alone.
    pub(crate) fn ask(&mut self, at: usize, rules: &Rules, now: Instant) {
        let random = self.random.u64(..);
        let node = &mut self.nodes[at];
        node.asked += 1;
        if node.failures > 0 {
            node.is_on_trial = true;
            node.rests_until = now.checked_add(rules.back_off.delay(node.failures - 1, random));
        } else if node.is_suspect && rules.order == Order::RoundRobin {
            node.is_on_trial = true;
        }
    }

    /// It was not waited for.
    pub(crate) fn left(&mut self, at: usize) {
        self.nodes[at].is_on_trial = false;
    }

    /// Whether it has to be asked if it is fit.
    pub(crate) fn is_proven(&self, at: usize) -> bool {
        self.nodes[at].is_proven
    }

    /// It has failed. If it rests already, the others have told, and this is old news.
    pub(crate) fn failed(&mut self, at: usize, fault: Option<Fault>, rules: &Rules, now: Instant) {
        let random = self.random.u64(..);
        let node = &mut self.nodes[at];
        node.is_proven = false;
        if node.rests(now) && !node.is_on_trial {
            return;
        }
        node.is_suspect = false;
        node.failures = node.failures.saturating_add(1);
        node.incidents = node.incidents.wrapping_add(1);
        node.is_on_trial = false;
        node.fault = fault;
        node.rests_until = now.checked_add(rules.back_off.delay(node.failures - 1, random));
    }

    /// It has given a connection that is fit. From now on it is the one in use, if that one has failed.
    /// `was_asked`: whether it is fit. If it was not asked, another caller may have found since that it is not.
    pub(crate) fn found(&mut self, at: usize, was_asked: bool) {
        self.nodes[at].is_proven |= was_asked;
        self.nodes[at].is_on_trial = false;
        if self.nodes[self.current].failures > 0 {
            self.current = at;
        }
    }

    /// Returns how many incidents it has had.
    pub(crate) fn lend(&mut self, at: usize) -> u32 {
        self.nodes[at].lent += 1;
        self.nodes[at].incidents
    }

    /// A connection was given back in order: its node is well, unless it has failed since it was lent.
    pub(crate) fn given_back(&mut self, at: usize, incident: u32) {
        let node = &mut self.nodes[at];
        node.lent = node.lent.saturating_sub(1);
        if node.incidents == incident && node.told.is_none() {
            node.failures = 0;
            node.rests_until = None;
            node.fault = None;
            node.is_on_trial = false;
            node.is_suspect = false;
        }
    }

    /// A connection was discarded. Whether the node is well is seen with the next one, unless the fault tells.
    pub(crate) fn discarded(&mut self, at: usize, why: Option<Fault>) {
        let node = &mut self.nodes[at];
        node.lent = node.lent.saturating_sub(1);
        node.is_proven = false;
        node.told = why.filter(|fault| is_of_node(*fault)).or(node.told);
        node.is_suspect |= why.is_some_and(|fault| fault.class() == FaultClass::ConnectionLost);
    }
}
