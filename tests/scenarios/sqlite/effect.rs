//! How a transaction begins on SQLite, by what others can do meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};

use dbop_diesel::{BeginMode, Code, RetryPolicy, StopReason};
use diesel::QueryResult;
use diesel::result::Error;

use super::money::{add, balance};
use super::{Bed, Conn, Operation, Runner, SimpleConnection as _, helper, scenario};

/// Whether others can write and read while it has begun and done nothing.
#[helper]
async fn others(bed: &Bed, operation: Operation<'_>) -> [bool; 2] {
    let mut conn = bed.connect();
    let seen: QueryResult<[bool; 2]> = operation
        .run(&mut conn, async |_: &mut Conn| {
            let mut other = bed.connect();
            let read: QueryResult<()> = other.batch_execute("SELECT * FROM accounts").await;
            let write: QueryResult<()> = other
                .batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 3")
                .await;
            Ok([write.is_ok(), read.is_ok()])
        })
        .await;
    seen.expect("it has begun")
}

#[scenario]
async fn each_mode_keeps_out_whom_it_says() {
    let runner = Runner::default();
    let journal = |wal| {
        if wal {
            Bed::new()
        } else {
            Bed::with_rollback_journal()
        }
    };
    for (mode, wal, expected) in [
        (BeginMode::Deferred, true, [true, true]),
        (BeginMode::Deferred, false, [true, true]),
        (BeginMode::Immediate, true, [false, true]),
        (BeginMode::Immediate, false, [false, true]),
        (BeginMode::Exclusive, true, [false, true]),
        (BeginMode::Exclusive, false, [false, false]),
    ] {
        let bed = journal(wal);
        let own = runner.operation("own").begin_mode(mode);
        assert_eq!(others(&bed, own).await, expected, "{mode:?}, WAL: {wal}");
        let default = Runner::default().with_default_begin_mode(mode);
        let seen = others(&bed, default.operation("default")).await;
        assert_eq!(seen, expected, "{mode:?} as a default, WAL: {wal}");
        let immediate = default.operation("own").begin_mode(BeginMode::Immediate);
        assert_eq!(others(&bed, immediate).await, [false, true], "not {mode:?}");
    }
}

#[scenario]
async fn without_a_mode_it_is_immediate_and_deferred_for_what_reads() {
    let runner = Runner::default();
    let bed = Bed::new();
    assert_eq!(others(&bed, runner.operation("write")).await, [false, true]);
    let read = runner.operation("read").read_only();
    assert_eq!(others(&bed, read).await, [true, true]);
    let reader = Runner::default().with_default_read_only(true);
    assert_eq!(others(&bed, reader.operation("read")).await, [true, true]);
    let told = read.begin_mode(BeginMode::Immediate);
    assert_eq!(others(&bed, told).await, [false, true]);
}

/// What a deferred one risks: somebody else goes first between its read and its write.
#[scenario]
async fn a_deferred_one_reads_then_fails_to_write_and_is_tried_again() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    for (mode, attempts) in [(BeginMode::Deferred, 2), (BeginMode::Immediate, 1)] {
        let bodies = AtomicU32::new(0);
        let report = Runner::new(RetryPolicy::new().with_max_retries(3))
            .operation("pay")
            .begin_mode(mode)
            .run_report(&mut conn, async |conn: &mut Conn| {
                let is_first = bodies.fetch_add(1, Ordering::Relaxed) == 0;
                balance(conn, 1).await?;
                if is_first {
                    opponent.start("UPDATE accounts SET balance = balance + 1 WHERE id = 1");
                    let went_first = opponent.finish();
                    assert_eq!(went_first.is_ok(), mode == BeginMode::Deferred);
                }
                add(conn, 1, 10).await
            })
            .await;
        assert_eq!(report.result, Ok(1), "{mode:?}");
        assert_eq!((report.attempts, bodies.into_inner()), (attempts, attempts));
        if let Some(failure) = report.failures.first() {
            let fault = failure.fault.expect("a database error");
            assert_eq!(fault.code(), Some(Code::Sqlite(5)));
        }
    }
    assert_eq!(bed.balances()[0], (1, 121));
}

/// A step in a transaction that began deferred cannot be saved by another try.
#[scenario]
async fn nested_in_a_deferred_one_it_goes_up() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let opponent = bed.opponent();
    let runner = Runner::default();
    let (outer, steps) = (AtomicU32::new(0), AtomicU32::new(0));
    let report = runner
        .operation("pay")
        .begin_mode(BeginMode::Deferred)
        .run_report(&mut conn, async |conn: &mut Conn| {
            outer.fetch_add(1, Ordering::Relaxed);
            balance(conn, 1).await?;
            runner
                .run(conn, async |conn: &mut Conn| {
                    if steps.fetch_add(1, Ordering::Relaxed) == 0 {
                        opponent.execute("UPDATE accounts SET balance = 7 WHERE id = 1");
                    }
                    let added: Result<usize, Error> = add(conn, 1, 10).await;
                    added
                })
                .await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.stop, StopReason::Succeeded);
    assert_eq!((outer.into_inner(), steps.into_inner()), (2, 2));
    assert_eq!(bed.balances()[0], (1, 17));
}
