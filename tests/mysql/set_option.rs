//! Diesel sends COM_SET_OPTION by itself, in front of every batch and after it. What is lost there is
//! not what dbop has sent: in front of COMMIT nothing is committed, after it everything is, and the
//! error is the same.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{Ledger, Outcome, Runner};
use dbop_tests::mysql::{Bed, Conn, DIALECT};
use dbop_tests::proxy::{Cut, Proxy, When};
use dbop_tests::{InstantClock, is_unknown};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_query;

/// Those of an operation, from 1.
const IN_FRONT_OF_BEGIN: u32 = 1;
const AFTER_BEGIN: u32 = 2;
const IN_FRONT_OF_COMMIT: u32 = 3;
const AFTER_COMMIT: u32 = 4;

const CUTS: [Cut; 3] = [Cut::BeforeSent, Cut::AnswerLost, Cut::HalfClose];

/// What has become of an operation that lost its connection there.
struct Paid {
    result: QueryResult<usize>,
    outcome: Outcome,
    attempts: u32,
    bodies: u32,
    balance: i64,
}

fn pay(nth: u32, cut: Cut, has_ledger: bool) -> Paid {
    let bed = Bed::new();
    bed.connect()
        .batch_execute(&Ledger::new().create_table(DIALECT))
        .expect("a new table");
    let proxy = Proxy::start(bed.url());
    let planned = proxy.cut(When::message("COM_SET_OPTION").nth(nth), cut);
    let ledger = Ledger::new();
    let bodies = AtomicU32::new(0);
    let body = |conn: &mut Conn| {
        bodies.fetch_add(1, Ordering::Relaxed);
        sql_query("UPDATE accounts SET balance = balance + 10 WHERE id = 1").execute(conn)
    };
    let source = || Conn::establish(proxy.url());
    let runner = Runner::default().with_clock(InstantClock::new());
    let operation = runner.operation("pay");
    let report = if has_ledger {
        operation.ledger(&ledger).run_on_report(&source, body)
    } else {
        operation.run_on_report(&source, body)
    };
    assert_eq!(planned.reached(), 1, "{nth} {cut:?}");
    Paid {
        result: report.result,
        outcome: report.outcome,
        attempts: report.attempts,
        bodies: bodies.into_inner(),
        balance: bed.balances()[0].1,
    }
}

#[test]
fn lost_around_begin_the_operation_is_begun_again() {
    for nth in [IN_FRONT_OF_BEGIN, AFTER_BEGIN] {
        for cut in CUTS {
            let paid = pay(nth, cut, false);
            assert_eq!(paid.result, Ok(1), "{nth} {cut:?}");
            assert_eq!(paid.outcome, Outcome::Committed, "{nth} {cut:?}");
            assert_eq!((paid.attempts, paid.bodies), (2, 1), "{nth} {cut:?}");
            assert_eq!(paid.balance, 110, "{nth} {cut:?}");
        }
    }
}

#[test]
fn lost_around_commit_nobody_knows() {
    for (nth, balance) in [(IN_FRONT_OF_COMMIT, 100), (AFTER_COMMIT, 110)] {
        for cut in CUTS {
            let paid = pay(nth, cut, false);
            let error: Error = paid.result.expect_err("nobody knows");
            assert!(is_unknown(&error), "{nth} {cut:?}: {error}");
            assert_eq!(paid.outcome, Outcome::Unknown, "{nth} {cut:?}");
            assert_eq!((paid.attempts, paid.bodies), (1, 1), "{nth} {cut:?}");
            assert_eq!(paid.balance, balance, "{nth} {cut:?}");
        }
    }
}

#[test]
fn the_ledger_tells_which() {
    for (nth, bodies) in [(IN_FRONT_OF_COMMIT, 2), (AFTER_COMMIT, 1)] {
        for cut in CUTS {
            let paid = pay(nth, cut, true);
            assert_eq!(paid.result, Ok(1), "{nth} {cut:?}");
            assert_eq!(paid.outcome, Outcome::Committed, "{nth} {cut:?}");
            assert_eq!((paid.attempts, paid.bodies), (bodies, bodies));
            assert_eq!(paid.balance, 110, "{nth} {cut:?}");
        }
    }
}
