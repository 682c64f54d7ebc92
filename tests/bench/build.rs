//! What operations cost to compile: `tests/build-cost/run.sh` measures it.

use serde::{Deserialize, Serialize};

/// CPU seconds of the build of a crate of operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Build {
    pub(crate) adapter: String,
    pub(crate) operations: u32,
    /// Of a crate that uses Diesel's transactions.
    pub(crate) bare_s: f64,
    /// Of the same one with dbop.
    pub(crate) dbop_s: f64,
}

impl Build {
    pub(crate) fn ratio(&self) -> f64 {
        self.dbop_s / self.bare_s
    }
}
