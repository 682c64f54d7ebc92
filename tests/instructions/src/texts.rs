//! What dbop sends, for sending it by hand.

use std::time::Instant;

use dbop_core::Dialect;
use dbop_core::machine::{
    BodyEnd, Defaults, Machine, Name, RunnerConfig, SavedPragmas, Spec, Step,
};

/// The texts that open and close an operation.
#[derive(Clone, Debug)]
pub(crate) struct Texts {
    pub(crate) begin: String,
    pub(crate) commit: String,
}

impl Texts {
    /// Those of an operation that asks for nothing, at this depth.
    pub(crate) fn of(dialect: Dialect, depth: u32) -> Self {
        let mut config = RunnerConfig::default();
        if depth > 0 {
            // What is nested has those of the operation around it.
            config.set_defaults(|defaults| *defaults = Defaults::NONE);
        }
        let spec = Spec::new(Name::Given("texts"));
        let machine = Machine::new(dialect, &config, &spec, false, Instant::now);
        let mut machine = machine.expect("valid settings");
        let text = |machine: &mut Machine<'_>| match machine.step(Instant::now) {
            Step::Batch(batch) => batch.sql.to_owned(),
            step => panic!("{step:?}"),
        };
        assert!(matches!(machine.step(Instant::now), Step::Connect { .. }));
        // No connection has this address.
        let placement = machine.place(1, depth);
        let connected = machine.connected(placement, SavedPragmas::default());
        connected.expect("valid settings");
        let begin = text(&mut machine);
        _ = machine.batch_done(Ok(()));
        assert!(matches!(machine.step(Instant::now), Step::Body));
        machine.body_done(BodyEnd::Ok, Some(depth + 1));
        let commit = text(&mut machine);
        Self { begin, commit }
    }
}
