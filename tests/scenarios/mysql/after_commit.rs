//! On MySQL and MariaDB a statement follows the COMMIT in its batch. That one failing says nothing of
//! the COMMIT: what was committed is never called undone, and never done again.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Ledger, Outcome, StopReason};
use dbop_tests::{InstantClock, is_unknown};

use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, backend, depth, scenario};

/// What autocommit is put back to, which it cannot be.
const SPOILT: &str = "SET @dbop_autocommit = 7";

#[scenario]
async fn an_error_behind_it_is_unknown() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let bodies = AtomicU32::new(0);
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("pay")
        .fallback(0)
        .run_report(&mut conn, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            let done = add(conn, 1, 10).await?;
            conn.batch_execute(SPOILT).await?;
            Ok(done)
        })
        .await;
    let error: diesel::result::Error = report.result.expect_err("no fallback: it is not undone");
    assert!(is_unknown(&error), "{error}");
    assert_eq!(report.outcome, Outcome::Unknown);
    assert_eq!(report.stop, StopReason::OutcomeUnknown);
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(depth(&mut conn), None, "it refuses to go on");
    drop(conn);
    assert_eq!(bed.balances()[0], (1, 110));
}

#[scenario]
async fn the_ledger_tells_what_became_of_it() {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(Ledger::create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let ledger = Ledger::new();
    let bodies = AtomicU32::new(0);
    let source = async || Conn::establish(bed.url()).await;
    let report = Runner::default()
        .with_clock(InstantClock::new())
        .operation("pay")
        .ledger(&ledger)
        .run_on_report(&source, async |conn: &mut Conn| {
            bodies.fetch_add(1, Ordering::Relaxed);
            let done = add(conn, 1, 10).await?;
            conn.batch_execute(SPOILT).await?;
            Ok::<_, diesel::result::Error>(done)
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!((report.attempts, bodies.into_inner()), (1, 1));
    assert_eq!(bed.balances()[0], (1, 110));
}
