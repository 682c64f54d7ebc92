//! The machine alone, against a driver that answers everything at once.

use std::task::Waker;
use std::time::Instant;

use dbop_core::machine::{BodyEnd, Machine, Name, RunnerConfig, SavedPragmas, Spec, Step};
use dbop_core::{Dialect, Outcome};

/// A connection, by its address, and the runner that all operations on it have.
pub(crate) struct Connection {
    pub(crate) config: RunnerConfig,
}

impl Connection {
    pub(crate) fn new() -> Self {
        Self {
            config: RunnerConfig::default(),
        }
    }

    /// Runs an operation at a depth, and so many others in its body.
    pub(crate) fn run(&self, spec: &Spec<'_>, depth: u32, nested: u32) {
        let key = std::ptr::from_ref(self).addr();
        let machine = Machine::new(Dialect::Postgres, &self.config, spec, false, no_clock);
        let mut machine = machine.expect("nothing that is refused is asked for");
        loop {
            match machine.step(no_clock) {
                Step::Queue => {
                    let wait = machine.queue(Waker::noop(), &no_clock);
                    assert_eq!(wait, None, "no other operation is there");
                }
                Step::Connect { .. } => {
                    let placement = machine.place(key, depth);
                    let connected = machine.connected(placement, SavedPragmas::default());
                    connected.expect("nothing that is refused is asked for");
                }
                Step::Batch(_) => _ = machine.batch_done(Ok(())),
                Step::Body => {
                    for _ in 0..nested {
                        self.run(&plain(), depth + 1, 0);
                    }
                    machine.body_done(BodyEnd::Ok, Some(depth + 1));
                }
                Step::Report(_) => {}
                Step::Done(done) => break assert_eq!(done.outcome, Outcome::Committed),
                step => unreachable!("{step:?} in an operation without trouble"),
            }
        }
    }
}

/// An operation that asks for nothing.
pub(crate) const fn plain() -> Spec<'static> {
    Spec::new(Name::Given("operation"))
}

fn no_clock() -> Instant {
    unreachable!("there is no deadline")
}
