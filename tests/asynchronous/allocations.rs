//! An operation costs what Diesel's own transaction costs: not one allocation more. Everything is
//! done on one thread, because they are counted there.

use std::sync::Arc;

use allocation_counter::measure;
use dbop_tests::Silent;
use tokio::runtime::{Builder, Runtime};

use super::cost::{bare, bare_steps, steps_with_dbop, with_dbop};
use super::{Bed, Conn, Connection as _, Runner};

const TIMES: u64 = 64;

/// How many it takes to do something so many times. Now and then a channel makes room, so the
/// lowest count is taken.
fn allocations(runtime: &Runtime, mut work: impl AsyncFnMut()) -> u64 {
    let mut counts = Vec::new();
    for _ in 0..20 {
        let all = async {
            for _ in 0..TIMES {
                work().await;
            }
        };
        counts.push(measure(|| runtime.block_on(all)).count_total);
    }
    counts.into_iter().min().expect("a count")
}

#[test]
fn none_that_diesel_does_not_make() {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let bed = Bed::new();
    let conn = runtime.block_on(Conn::establish(bed.url()));
    let mut conn = conn.expect("the server answers");
    let runner = Runner::default().with_logger(Arc::new(Silent));
    // A whole one for each operation would be twice as many.
    let room = TIMES / 2;
    let expected = allocations(&runtime, async || bare(&mut conn).await);
    let actual = allocations(&runtime, async || with_dbop(&runner, &mut conn).await);
    assert!(actual < expected + room, "{actual}, Diesel {expected}");
    let expected = allocations(&runtime, async || bare_steps(&mut conn).await);
    let actual = allocations(&runtime, async || steps_with_dbop(&runner, &mut conn).await);
    assert!(
        actual < expected + room,
        "with steps: {actual}, Diesel {expected}"
    );
}
