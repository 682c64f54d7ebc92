//! SQLite has no round trips: calls, counted by what Diesel's instrumentation is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::connection::InstrumentationEvent;

use super::cost::round_trips::{Course, assert_documented, rows};
use super::{Bed, Connection as _, scenario};

#[scenario]
async fn an_operation_makes_no_more_calls_than_a_bare_transaction() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { .. } = event {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let taken = || calls.swap(0, Ordering::Relaxed);
    let table = rows(&mut conn, &taken, &[Course::Success, Course::Again]).await;
    assert_documented(&table, true);
}
