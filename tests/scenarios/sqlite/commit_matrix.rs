//! The matrix of COMMIT on SQLite: there is no wire, so nothing is ever unknown, nobody is asked,
//! and no ledger is needed.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Dialect, Ledger, Outcome, Report, StopReason};
use dbop_tests::{Meanwhile, Number};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::{QueryResult, sql_query};

use super::money::add;
use super::{
    Bed, Conn, Connection as _, RunQueryDsl as _, Runner, SimpleConnection as _, helper, scenario,
};

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

#[derive(Clone, Copy, Debug)]
struct Cell {
    fate: Fate,
    resolution: Resolution,
    idempotent: bool,
}

/// A cell that has been played.
struct Played {
    report: Report<usize, Error>,
    bodies: u32,
    looks: u32,
}

#[helper]
async fn play(cell: Cell, bed: &Bed) -> Played {
    let opponent = bed.opponent();
    if matches!(cell.fate, Fate::Busy | Fate::BusyAtFirst) {
        opponent.execute("BEGIN; SELECT * FROM accounts");
    }
    let clock = Meanwhile::new(move |number| {
        if cell.fate == Fate::BusyAtFirst && number == 2 {
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
        if cell.fate == Fate::Violated {
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
    let operation = if cell.idempotent {
        operation.idempotent()
    } else {
        operation
    };
    let report = match cell.resolution {
        Resolution::Nothing => operation.run_on_report(&source, body).await,
        Resolution::Verify => operation.verify(look).run_on_report(&source, body).await,
        Resolution::Ledger => operation.ledger(&ledger).run_on_report(&source, body).await,
    };
    Played {
        report,
        bodies: bodies.into_inner(),
        looks: looks.into_inner(),
    }
}

impl Cell {
    /// What is promised.
    fn check(self, played: &Played, bed: &Bed) {
        let report = &played.report;
        let (outcome, left) = if self.fate.is_done() {
            (Outcome::Committed, 110)
        } else {
            (Outcome::Undone, 100)
        };
        assert_eq!(report.outcome, outcome, "{self:?}");
        assert_eq!(report.stop, self.fate.stop(), "{self:?}");
        let seen = match &report.result {
            Ok(1) => "done",
            Err(Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)) => "violated",
            Err(error) if error.to_string() == "database is locked" => "busy",
            other => panic!("{self:?}: {other:?}"),
        };
        let expected = match self.fate {
            Fate::Done | Fate::BusyAtFirst => "done",
            Fate::Busy => "busy",
            Fate::Violated => "violated",
        };
        assert_eq!(seen, expected, "{self:?}");
        assert_eq!((report.attempts, played.bodies), (1, 1), "{self:?}");
        assert_eq!(played.looks, 0, "{self:?}");
        assert_eq!(bed.balances()[0], (1, left), "{self:?}");
    }
}

#[scenario]
async fn in_every_cell_it_is_done_once_or_certainly_undone() {
    for fate in Fate::ALL {
        for resolution in [Resolution::Nothing, Resolution::Verify, Resolution::Ledger] {
            for idempotent in [false, true] {
                let cell = Cell {
                    fate,
                    resolution,
                    idempotent,
                };
                let bed = Bed::with_rollback_journal();
                let set_up = bed.connect().batch_execute(SETUP).await;
                set_up.expect("a new table");
                let played = play(cell, &bed).await;
                cell.check(&played, &bed);
            }
        }
    }
}

/// The cells above have no table at all.
#[scenario]
async fn without_a_key_the_ledger_writes_nothing() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for _ in 0..2 {
        let create = &Ledger::new().create_table(Dialect::Sqlite);
        conn.batch_execute(create).await.expect("a table");
    }
    let ledger = Ledger::new();
    let paid = Runner::default()
        .operation("pay")
        .ledger(&ledger)
        .run_on(
            &async || Conn::establish(bed.url()).await,
            async |conn: &mut Conn| add(conn, 1, 10).await,
        )
        .await;
    assert_eq!(paid, Ok(1));
    let rows: Number = sql_query("SELECT count(*) AS n FROM dbop_ledger")
        .get_result(&mut conn)
        .await
        .expect("a number");
    assert_eq!(rows.n, 0);
}
