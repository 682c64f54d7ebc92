//! An operation costs what Diesel's own transaction costs: not one allocation more. Sync only:
//! they are counted on one thread. The async adapter has a test of its own for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use dbop_diesel::{BeginMode, Clock, Dialect, Jitter, RetryPolicy};
use dbop_tests::{Again, Silent, TestPool as _};
use diesel::r2d2::{ConnectionManager, Pool};

use super::cost::statements::{bare, bare_steps, steps_with_dbop, with_dbop};
use super::{Bed, Conn, Operation, Runner, backend};

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

/// On which no time passes.
#[derive(Debug)]
struct Standing(Instant);

impl Clock for Standing {
    fn now(&self) -> Instant {
        self.0
    }

    fn sleep(&self, _: Duration) {}
}

/// What an operation costs that gives its connection back after each of so many attempts.
fn cost_of(operation: &Operation<'_>, pool: &Pool<ConnectionManager<Conn>>, attempts: u32) -> u64 {
    let begun = AtomicU32::new(0);
    let info = measure(|| {
        let done = operation.run_on(pool, |_conn| {
            match begun.fetch_add(1, Ordering::Relaxed) + 1 < attempts {
                true => Err(Again),
                false => Ok(()),
            }
        });
        done.expect("the last one is done");
    });
    assert_eq!(begun.into_inner(), attempts);
    info.count_total
}

/// The SQL of an operation with settings is made once, and not for each attempt and connection.
#[test]
fn none_for_the_text_of_another_attempt() {
    let bed = Bed::new();
    let pool = Pool::of(bed.url(), 1, Duration::from_secs(5));
    let policy = RetryPolicy::new()
        .with_max_retries(9)
        .with_initial_delay(Duration::from_millis(50))
        .with_jitter(Jitter::None);
    let runner = Runner::new(policy)
        .with_clock(Arc::new(Standing(Instant::now())))
        .with_logger(Arc::new(Silent));
    let with_settings = || match backend::DIALECT {
        // Reading its pragmas takes allocations.
        Dialect::Sqlite => runner.operation("write").begin_mode(BeginMode::Exclusive),
        _ => runner
            .operation("write")
            .lock_timeout(Duration::from_secs(3))
            .statement_timeout(Duration::from_secs(4)),
    };
    let of_another = |operation: &Operation<'_>| {
        cost_of(operation, &pool, 3);
        cost_of(operation, &pool, 4) - cost_of(operation, &pool, 3)
    };
    let expected = of_another(&runner.operation("write"));
    assert_eq!(of_another(&with_settings()), expected);
}
