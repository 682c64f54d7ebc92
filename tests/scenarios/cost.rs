//! An operation costs what Diesel's own transaction costs: not one statement batch more, and not
//! one allocation more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use allocation_counter::measure;
use dbop_tests::accounts;
use diesel::connection::{Connection as _, InstrumentationEvent};
use diesel::prelude::{ExpressionMethods as _, QueryDsl as _};
use diesel::result::Error;
use log::{Log, Metadata, Record};

use super::{Bed, Conn, RunQueryDsl, Runner};

fn update(conn: &mut Conn) -> Result<usize, Error> {
    diesel::update(accounts::table.find(1))
        .set(accounts::balance.eq(7))
        .execute(conn)
}

fn bare(conn: &mut Conn) {
    conn.transaction(update).expect("committed");
}

fn with_dbop(runner: &Runner, conn: &mut Conn) {
    runner.run(conn, update).expect("committed");
}

fn bare_steps(conn: &mut Conn) {
    conn.transaction(|conn| {
        conn.transaction(update)?;
        conn.transaction(update)
    })
    .expect("committed");
}

fn steps_with_dbop(runner: &Runner, conn: &mut Conn) {
    runner
        .run(conn, |conn| {
            runner.run(conn, update)?;
            runner.run(conn, update)
        })
        .expect("committed");
}

#[test]
fn no_allocation_that_diesel_does_not_make() {
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

#[test]
fn no_batch_that_diesel_does_not_send() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let sent = Arc::new(AtomicU32::new(0));
    let counter = sent.clone();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { .. } = event {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    bare(&mut conn);
    let expected = sent.swap(0, Ordering::Relaxed);
    assert_eq!(expected, 3, "BEGIN, UPDATE, COMMIT");
    with_dbop(&runner, &mut conn);
    assert_eq!(sent.swap(0, Ordering::Relaxed), expected);
    bare_steps(&mut conn);
    let expected = sent.swap(0, Ordering::Relaxed);
    steps_with_dbop(&runner, &mut conn);
    assert_eq!(sent.swap(0, Ordering::Relaxed), expected);
}

/// A logger that wants nothing.
struct Silent;

impl Log for Silent {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &Record<'_>) {}

    fn flush(&self) {}
}
