//! The matrix of COMMIT on SQLite: there is no wire, so nothing is ever unknown, nobody is asked,
//! and no ledger is needed.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Dialect, Ledger, Outcome, StopReason};
use dbop_tests::Meanwhile;
use diesel::QueryResult;
use diesel::result::{DatabaseErrorKind, Error};

use super::money::add;
use super::{Bed, Conn, Connection as _, Runner, SimpleConnection as _, scenario};

/// What becomes of the COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// Somebody reads, and then no longer.
    BusyAtFirst,
    /// Somebody goes on reading.
    Busy,
    /// A deferred constraint is violated.
    Violated,
}

impl Fate {
    const ALL: [Self; 4] = [Self::Done, Self::BusyAtFirst, Self::Busy, Self::Violated];

    const fn is_done(self) -> bool {
        matches!(self, Self::Done | Self::BusyAtFirst)
    }

    const fn stop(self) -> StopReason {
        match self {
            Self::Done | Self::BusyAtFirst => StopReason::Succeeded,
            Self::Busy => StopReason::RetriesExhausted,
            Self::Violated => StopReason::NotRetryable,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Resolution {
    Nothing,
    Verify,
    Ledger,
}

const SETUP: &str = "CREATE TABLE owned (account INTEGER NOT NULL REFERENCES accounts (id)
                     DEFERRABLE INITIALLY DEFERRED)";

#[scenario]
async fn in_every_cell_it_is_done_once_or_certainly_undone() {
    for fate in Fate::ALL {
        for resolution in [Resolution::Nothing, Resolution::Verify, Resolution::Ledger] {
            for idempotent in [false, true] {
                let bed = Bed::with_rollback_journal();
                let mut conn = bed.connect();
                conn.batch_execute(SETUP).await.expect("a new table");
                let opponent = bed.opponent();
                if matches!(fate, Fate::Busy | Fate::BusyAtFirst) {
                    opponent.execute("BEGIN; SELECT * FROM accounts");
                }
                let clock = Meanwhile::new(move |number| {
                    if fate == Fate::BusyAtFirst && number == 2 {
                        opponent.execute("COMMIT");
                    }
                });
                let (bodies, looks) = (AtomicU32::new(0), AtomicU32::new(0));
                let source = async || {
                    let mut conn = Conn::establish(bed.url()).await?;
                    let set = conn.batch_execute("PRAGMA foreign_keys = ON").await;
                    set.expect("a pragma");
                    diesel::ConnectionResult::Ok(conn)
                };
                let body = async |conn: &mut Conn| {
                    bodies.fetch_add(1, Ordering::Relaxed);
                    if fate == Fate::Violated {
                        conn.batch_execute("INSERT INTO owned VALUES (77)").await?;
                    }
                    add(conn, 1, 10).await
                };
                let look = async |_: &mut Conn| {
                    looks.fetch_add(1, Ordering::Relaxed);
                    QueryResult::Ok(false)
                };
                let ledger = Ledger::new();
                let runner = Runner::default().with_clock(clock);
                let operation = runner.operation("pay").max_retries(3);
                let operation = if idempotent {
                    operation.idempotent()
                } else {
                    operation
                };
                let report = match resolution {
                    Resolution::Nothing => operation.run_on_report(&source, body).await,
                    Resolution::Verify => operation.verify(look).run_on_report(&source, body).await,
                    Resolution::Ledger => {
                        operation.ledger(&ledger).run_on_report(&source, body).await
                    }
                };
                let cell = (fate, resolution, idempotent);
                assert_eq!(report.result.is_ok(), fate.is_done(), "{cell:?}");
                let is_violation = matches!(
                    report.result,
                    Err(Error::DatabaseError(
                        DatabaseErrorKind::ForeignKeyViolation,
                        _
                    ))
                );
                assert_eq!(is_violation, fate == Fate::Violated, "{cell:?}");
                assert_eq!(report.stop, fate.stop(), "{cell:?}");
                let outcome = if fate.is_done() {
                    Outcome::Committed
                } else {
                    Outcome::Undone
                };
                assert_eq!(report.outcome, outcome, "{cell:?}");
                assert_eq!((report.attempts, bodies.into_inner()), (1, 1), "{cell:?}");
                assert_eq!(looks.into_inner(), 0, "{cell:?}");
                let left = if fate.is_done() { 110 } else { 100 };
                assert_eq!(bed.balances()[0], (1, left), "{cell:?}");
            }
        }
    }
}

#[scenario]
async fn the_ledger_needs_no_table() {
    assert_eq!(Ledger::create_table(Dialect::Sqlite), "");
    assert_eq!(Ledger::prune(Dialect::Sqlite), "");
}
