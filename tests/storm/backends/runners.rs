//! The runner of a policy.

use super::Runner;
use crate::storm::policies::Way;

pub(super) fn runner(way: Way) -> Runner {
    match way {
        Way::Dbop(run) => Runner::new(run.policy).with_gates(run.has_gates()),
        Way::ByHand(_) => Runner::default(),
    }
}
