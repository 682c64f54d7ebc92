//! The runner of a policy.

use super::Runner;
use crate::storm::policies::Way;

pub(super) fn runner(way: Way) -> Runner {
    match way {
        Way::Dbop(run) => {
            let runner = Runner::new(run.policy).with_gates(run.has_gates());
            match run.budget {
                Some(budget) => runner.with_retry_budget(budget()),
                None => runner,
            }
        }
        Way::ByHand(_) => Runner::default(),
    }
}
