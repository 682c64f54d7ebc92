//! The policies: one row each.

use std::iter;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use dbop_diesel::{Jitter, RetryBudget, RetryPolicy};

/// A way to run an operation until it succeeds or is given up.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) way: Way,
}

/// Who retries.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is a constant, and copied no more than once for an operation"
)]
pub(crate) enum Way {
    /// dbop does.
    Dbop(Run),
    /// A loop around Diesel's `transaction` does.
    ByHand(Loop),
}

/// A loop as it is written by hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loop {
    /// What it pauses before each further attempt. After these it gives up.
    pub(crate) delays: fn() -> Delays,
    /// Whether each statement is a transaction of its own, nested in the one that is retried.
    pub(crate) in_steps: bool,
}

/// How dbop runs the operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) policy: RetryPolicy,
    /// Whether each statement is an operation of its own, nested in one around them.
    pub(crate) in_steps: bool,
    pub(crate) gate: Gate,
    /// What bounds the retries of all clients of a process together.
    pub(crate) budget: Option<fn() -> RetryBudget>,
}

/// What an operation passes before each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    None,
    /// That of all transfers, once they collide.
    Name,
    /// Those of the accounts that it is going to change.
    Keys,
}

impl Run {
    pub(crate) const fn has_gates(self) -> bool {
        matches!(self.gate, Gate::Name)
    }
}

pub(crate) type Delays = Box<dyn Iterator<Item = Duration> + Send>;

/// The policy that is measured with one client only: what there would be without any contention.
pub(crate) const ALONE: &str = "one alone";

/// The same, by dbop.
pub(crate) const ALONE_BY_DBOP: &str = "one alone, by dbop";

const DEFAULT: RetryPolicy = RetryPolicy::new();

/// All classes alike: 5 retries from 100 ms on.
const FIVE: RetryPolicy = DEFAULT.with_max_retries(5).with_initial_delay(ms(100));

const TWENTY: RetryPolicy = FIVE.with_max_retries(20);

const PLAIN: Run = Run {
    policy: DEFAULT,
    in_steps: false,
    gate: Gate::None,
    budget: None,
};

/// Every policy.
pub(crate) const POLICIES: &[Policy] = &[
    by_hand(ALONE, "one client, without retries", never),
    by_dbop(ALONE_BY_DBOP, "one client, the default", DEFAULT),
    by_hand(
        "loop",
        "by hand: 10 attempts, full jitter, 10 ms to 1 s",
        ten_attempts,
    ),
    Policy {
        name: "loop, in steps",
        about: "the loop by hand; each statement is in a nested transaction of Diesel's",
        way: Way::ByHand(Loop {
            in_steps: true,
            delays: ten_attempts,
        }),
    },
    by_hand(
        "loop without end",
        "the same, but it never gives up",
        || Box::new(full_jitter()),
    ),
    by_hand(
        "backon",
        "the crate's defaults: 4 attempts, 1 s to 60 s, no jitter",
        || Box::new(ExponentialBuilder::default().build()),
    ),
    by_dbop(
        "loop, by dbop",
        "9 retries, 10 ms to 1 s, full jitter",
        FIVE.with_max_retries(9).with_initial_delay(ms(10)),
    ),
    by_dbop(
        "no backoff",
        "5 retries, at once",
        FIVE.with_initial_delay(Duration::ZERO),
    ),
    by_dbop(
        "fixed",
        "5 retries, 100 ms before each",
        FIVE.with_jitter(Jitter::None).with_max_delay(ms(100)),
    ),
    by_dbop(
        "exponential",
        "5 retries, 100 ms to 1 s, no jitter",
        FIVE.with_jitter(Jitter::None),
    ),
    by_dbop(
        "equal",
        "5 retries, 100 ms to 1 s, equal jitter: half of the delay at least",
        FIVE.with_jitter(Jitter::Equal),
    ),
    by_dbop(
        "decorrelated",
        "5 retries, 100 ms to 1 s, decorrelated jitter: up to three times the delay before",
        FIVE.with_jitter(Jitter::Decorrelated),
    ),
    by_dbop("5 retries", "5 retries, 100 ms to 1 s, full jitter", FIVE),
    by_dbop(
        "default",
        "20 retries after these conflicts, full jitter up to 20 ms, 160 ms and then 1 s",
        DEFAULT,
    ),
    by_dbop(
        "20 retries",
        "20 retries, 100 ms to 1 s, full jitter",
        TWENTY,
    ),
    by_dbop(
        "20 retries, 10 ms",
        "20 retries, 10 ms to 1 s, full jitter",
        TWENTY.with_initial_delay(ms(10)),
    ),
    by_dbop(
        "20 retries, 1 s to 5 s",
        "20 retries, 1 s to 5 s, full jitter",
        TWENTY.with_initial_delay(ms(1000)).with_max_delay(ms(5000)),
    ),
    Policy {
        name: "default, in steps",
        about: "the default; each statement is nested as an operation of its own",
        way: Way::Dbop(Run {
            in_steps: true,
            ..PLAIN
        }),
    },
    budgeted(
        "default, budget",
        "the default, and a budget of 10 retries a second and 20 % of the successes",
        DEFAULT,
        RetryBudget::default,
    ),
    budgeted(
        "20 retries, budget",
        "20 retries, 100 ms to 1 s, and the same budget",
        TWENTY,
        RetryBudget::default,
    ),
    budgeted(
        "20 retries, tokens",
        "20 retries, 100 ms to 1 s, and a bucket of 500 tokens",
        TWENTY,
        || RetryBudget::token_bucket(500),
    ),
    Policy {
        name: "gate by key, in steps",
        about: "the default, in steps, and a gate for each account",
        way: Way::Dbop(Run {
            in_steps: true,
            gate: Gate::Keys,
            ..PLAIN
        }),
    },
    gated(
        "gate by name",
        "the default, and a gate for all transfers once they collide",
        Gate::Name,
    ),
    gated(
        "gate by key",
        "the default, and a gate for each account",
        Gate::Keys,
    ),
];

const fn by_hand(name: &'static str, about: &'static str, delays: fn() -> Delays) -> Policy {
    Policy {
        name,
        about,
        way: Way::ByHand(Loop {
            delays,
            in_steps: false,
        }),
    }
}

const fn by_dbop(name: &'static str, about: &'static str, policy: RetryPolicy) -> Policy {
    Policy {
        name,
        about,
        way: Way::Dbop(Run { policy, ..PLAIN }),
    }
}

const fn gated(name: &'static str, about: &'static str, gate: Gate) -> Policy {
    Policy {
        name,
        about,
        way: Way::Dbop(Run { gate, ..PLAIN }),
    }
}

const fn budgeted(
    name: &'static str,
    about: &'static str,
    policy: RetryPolicy,
    budget: fn() -> RetryBudget,
) -> Policy {
    Policy {
        name,
        about,
        way: Way::Dbop(Run {
            policy,
            budget: Some(budget),
            ..PLAIN
        }),
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn never() -> Delays {
    Box::new(iter::empty())
}

fn ten_attempts() -> Delays {
    Box::new(full_jitter().take(9))
}

/// As it is written in most loops: uniform below a ceiling that doubles.
fn full_jitter() -> impl Iterator<Item = Duration> + Send {
    (0_u32..).map(|retry| {
        let ceiling = (10 << retry.min(10)).min(1000);
        Duration::from_micros(fastrand::u64(0..=1000 * ceiling))
    })
}
