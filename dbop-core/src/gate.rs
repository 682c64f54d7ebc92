//! Gates: attempts that would collide wait for their turn, before they begin and without a connection.
//!
//! Under contention the best retry is the one that does not collide again. A gate lets few attempts in at
//! a time, in the order in which they came.
//!
//! - *By key* ([`Keys`]): attempts that share a key run one at a time in this process. The table of keys is
//!   one for the process, so both adapters and all runners meet in it.
//! - *By name* ([`NamedGates`]): the operations of a name run without a limit until one of them meets a
//!   deadlock or a serialization failure. Then few are let in, and more again as long as that goes well.
//!
//! Nothing here reads a clock or waits: the time is an argument, and what has to wait leaves a [`Waker`].

use std::time::{Duration, Instant};

pub use keys::Keys;
pub use named::GateStatus;

pub(crate) use named::NamedGates;
pub(crate) use turn::{Gate, Turn, Wait};

mod keyed;
mod keys;
mod named;
mod queue;
mod turn;

/// How often an operation that waits looks again without being woken: a turn that was given to a future that
/// is not polled would keep all others waiting.
pub(crate) const RECHECK: Duration = Duration::from_millis(100);

/// Whether `time` has passed since `then`.
fn has_passed(time: Duration, then: Instant, now: Instant) -> bool {
    now.saturating_duration_since(then) >= time
}

#[cfg(test)]
mod tests;
