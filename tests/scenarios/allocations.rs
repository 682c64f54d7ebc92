//! An operation costs what Diesel's own transaction costs: not one allocation more. Sync only:
//! they are counted on one thread. The async adapter has a test of its own for that.

use std::sync::Arc;

use allocation_counter::measure;
use dbop_tests::Silent;

use super::cost::{bare, bare_steps, steps_with_dbop, with_dbop};
use super::{Bed, Runner};

#[test]
fn none_that_diesel_does_not_make() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_logger(Arc::new(Silent));
    // Statement caches and tables of dbop grow at first.
    for _ in 0..3 {
        bare_steps(&mut conn);
        steps_with_dbop(&runner, &mut conn);
    }
    let expected = measure(|| bare(&mut conn)).count_total;
    let actual = measure(|| with_dbop(&runner, &mut conn)).count_total;
    assert!(actual <= expected, "{actual}, Diesel {expected}");
    let expected = measure(|| bare_steps(&mut conn)).count_total;
    let actual = measure(|| steps_with_dbop(&runner, &mut conn)).count_total;
    assert!(
        actual <= expected,
        "with steps: {actual}, Diesel {expected}"
    );
}
