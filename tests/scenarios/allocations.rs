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
use super::money::set;
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
    let expected = least(|| bare(&mut conn));
    let actual = least(|| with_dbop(&runner, &mut conn));
    assert!(actual <= expected, "{actual}, Diesel {expected}");
    let expected = least(|| bare_steps(&mut conn));
    let actual = least(|| steps_with_dbop(&runner, &mut conn));
    assert!(
        actual <= expected,
        "with steps: {actual}, Diesel {expected}"
    );
}

/// How many allocations this takes, once nothing has to grow any more: when more operations run at the
/// same time than ever before, in other tests, the table of connections grows in one of them.
fn least(mut work: impl FnMut()) -> u64 {
    let counts = (0..5).map(|_| measure(&mut work).count_total);
    counts.min().expect("it is counted")
}

/// Without a transaction it costs what its statement costs.
#[test]
fn none_without_a_transaction() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default().with_logger(Arc::new(Silent));
    let plain = runner.operation("plain").without_transaction();
    let work = |conn: &mut Conn| set(conn, 1, 7);
    for _ in 0..3 {
        work(&mut conn).expect("done");
        plain.run(&mut conn, work).expect("done");
    }
    let expected = least(|| _ = work(&mut conn));
    let actual = least(|| _ = plain.run(&mut conn, work));
    assert!(actual <= expected, "{actual}, Diesel {expected}");
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
        let least = |attempts| (0..5).map(|_| cost_of(operation, &pool, attempts)).min();
        let (three, four) = (least(3), least(4));
        four.expect("it is counted") - three.expect("it is counted")
    };
    let expected = of_another(&runner.operation("write"));
    assert_eq!(of_another(&with_settings()), expected);
}
