//! An operation costs what its batches cost when they are sent by hand: not one allocation more. What
//! Diesel and its clients allocate for a batch depends on its length and on what is in their buffers:
//! tokio-postgres makes 62 allocations for a transaction that ends in 6 or 34 characters, and 67 for
//! one that ends in 22. So a bare transaction of Diesel's is no measure here; it is one for the sync
//! adapter. They are counted on the thread that runs the operation.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use allocation_counter::measure;
use dbop_core::machine::{
    BodyEnd, Defaults, Machine, Name, RunnerConfig, SavedPragmas, Spec, Step,
};
use dbop_tests::Silent;
use tokio::runtime::Builder;

use super::cost::statements::{steps_with_dbop, with_dbop};
use super::money::set;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, backend};

/// How many it takes to do something on a connection, most of the time: now and then a channel or a
/// buffer of the client makes room, an answer comes in two parts, or is there before it is waited
/// for. Each time on a connection of its own, with the same history.
fn allocations(bed: &Bed, mut work: impl AsyncFnMut(&mut Conn)) -> u64 {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let conn = runtime.block_on(Conn::establish(bed.url()));
    let mut conn = conn.expect("the server answers");
    let mut counts = Vec::new();
    for _ in 0..101 {
        let mut once = pin!(work(&mut conn));
        // By reference: tokio would put a large future into a box, in debug builds.
        let counted = measure(|| runtime.block_on(once.as_mut()));
        counts.push(counted.count_total);
    }
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// The texts that open and close an operation at this depth.
#[derive(Clone)]
struct Texts {
    begin: String,
    commit: String,
}

impl Texts {
    /// A runner's first operation has others.
    fn of(depth: u32, defaults: Defaults) -> Self {
        let mut config = RunnerConfig::default();
        config.set_defaults(|own| *own = defaults);
        _ = Self::next(&config, depth);
        Self::next(&config, depth)
    }

    fn next(config: &RunnerConfig, depth: u32) -> Self {
        let spec = Spec::new(Name::Given("texts"));
        let mut machine = Machine::new(backend::DIALECT, config, &spec, false, Instant::now)
            .expect("valid settings");
        let text = |machine: &mut Machine<'_>| match machine.step(Instant::now) {
            Step::Batch(batch) => batch.sql.to_owned(),
            step => panic!("{step:?}"),
        };
        assert!(matches!(machine.step(Instant::now), Step::Connect { .. }));
        // No connection has this address.
        let placement = machine.place(1, depth);
        machine
            .connected(placement, SavedPragmas::default())
            .expect("valid settings");
        let begin = text(&mut machine);
        _ = machine.batch_done(Ok(()));
        assert!(matches!(machine.step(Instant::now), Step::Body));
        machine.body_done(BodyEnd::Ok, Some(depth + 1));
        let commit = text(&mut machine);
        Self { begin, commit }
    }
}

/// An update, or one in each of so many savepoints. Their texts are made each time, as Diesel makes its
/// own.
async fn by_hand(conn: &mut Conn, outer: &Texts, step: &Texts, steps: u32) {
    conn.batch_execute(&outer.begin).await.expect("begun");
    for _ in 0..steps {
        let step = step.clone();
        conn.batch_execute(&step.begin).await.expect("begun");
        set(conn, 1, 7).await.expect("done");
        conn.batch_execute(&step.commit).await.expect("released");
    }
    if steps == 0 {
        set(conn, 1, 7).await.expect("done");
    }
    let committed = conn.batch_execute(&outer.commit).await;
    committed.expect("committed");
}

#[test]
fn none_that_the_batches_do_not_make() {
    let bed = Bed::new();
    let runner = Runner::default().with_logger(Arc::new(Silent));
    for (runner, defaults) in [
        (runner.clone(), Defaults::default()),
        (runner.with_default_lock_timeout(None), Defaults::NONE),
    ] {
        let (outer, step) = (Texts::of(0, defaults), Texts::of(1, Defaults::NONE));
        let expected = allocations(&bed, async |conn| by_hand(conn, &outer, &step, 0).await);
        let actual = allocations(&bed, async |conn| with_dbop(&runner, conn).await);
        assert!(actual <= expected, "{actual}, by hand {expected}");
        let expected = allocations(&bed, async |conn| by_hand(conn, &outer, &step, 2).await);
        let actual = allocations(&bed, async |conn| steps_with_dbop(&runner, conn).await);
        assert!(actual <= expected, "steps: {actual}, by hand {expected}");
    }
}
