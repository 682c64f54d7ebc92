//! What a backend or a scope cannot have is an error before the operation begins, or with best
//! effort skipped and logged. What it can have, it has.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dbop_diesel::{BeginMode, IsolationLevel, OperationError as _, SynchronousCommit};
use dbop_tests::Capture;
use diesel::QueryResult;
use diesel::result::Error;

use super::money::balance;
use super::{Bed, Conn, Connection as _, Operation, Runner, backend, depth, helper, scenario};

type Ask = for<'a> fn(Operation<'a>) -> Operation<'a>;

struct Case {
    setting: &'static str,
    ask: Ask,
    /// Where it is supported: at top level and in a savepoint, on PostgreSQL, MySQL, SQLite.
    where_: [[bool; 2]; 3],
}

const NOWHERE: [bool; 2] = [false, false];
const TOP: [bool; 2] = [true, false];
const BOTH: [bool; 2] = [true, true];

const CASES: [Case; 9] = [
    Case {
        setting: "lock_timeout",
        ask: |operation| operation.lock_timeout(Duration::from_secs(5)),
        where_: [BOTH, BOTH, BOTH],
    },
    Case {
        setting: "deadline",
        ask: |operation| operation.deadline(Duration::from_secs(60)),
        where_: [BOTH, BOTH, BOTH],
    },
    Case {
        setting: "statement_timeout",
        ask: |operation| operation.statement_timeout(Duration::from_secs(5)),
        where_: [BOTH, BOTH, NOWHERE],
    },
    Case {
        setting: "read_only",
        ask: |operation| operation.read_only(),
        where_: [BOTH, TOP, BOTH],
    },
    Case {
        setting: "synchronous_commit",
        ask: |operation| operation.synchronous_commit(SynchronousCommit::Off),
        where_: [TOP, NOWHERE, NOWHERE],
    },
    Case {
        setting: "isolation",
        ask: |operation| operation.isolation(IsolationLevel::ReadCommitted),
        where_: [TOP, TOP, NOWHERE],
    },
    Case {
        setting: "isolation",
        ask: |operation| operation.isolation(IsolationLevel::Serializable),
        where_: [TOP, TOP, TOP],
    },
    Case {
        setting: "begin_mode",
        ask: |operation| operation.begin_mode(BeginMode::Immediate),
        where_: [NOWHERE, NOWHERE, TOP],
    },
    Case {
        setting: "begin_mode",
        ask: |operation| operation.begin_mode(BeginMode::Deferred),
        where_: [NOWHERE, NOWHERE, TOP],
    },
];

const BACKEND: usize = match backend::BACKEND.as_bytes() {
    b"postgresql" => 0,
    b"mysql" => 1,
    _ => 2,
};

#[helper]
async fn read(
    conn: &mut Conn,
    operation: Operation<'_>,
    in_savepoint: bool,
    bodies: &AtomicU32,
) -> QueryResult<i64> {
    let body = async |conn: &mut Conn| {
        bodies.fetch_add(1, Ordering::Relaxed);
        balance(conn, 1).await
    };
    if !in_savepoint {
        return operation.run(conn, body).await;
    }
    conn.transaction(async |conn: &mut Conn| {
        let result: QueryResult<i64> = operation.run(conn, body).await;
        assert_eq!(depth(conn), Some(1), "the caller's is as it was");
        result
    })
    .await
}

#[scenario]
async fn each_setting_is_there_or_refused_before_the_operation_begins() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    for case in CASES {
        for in_savepoint in [false, true] {
            let bodies = AtomicU32::new(0);
            let operation = (case.ask)(runner.operation("asks"));
            let result = read(&mut conn, operation, in_savepoint, &bodies).await;
            let what = format!("{}, in a savepoint: {in_savepoint}", case.setting);
            if case.where_[BACKEND][usize::from(in_savepoint)] {
                assert_eq!(result, Ok(100), "{what}");
                assert_eq!(bodies.into_inner(), 1);
            } else {
                assert!(is_unsupported(&result.expect_err(&what)), "{what}");
                assert_eq!(bodies.into_inner(), 0, "{what}: begun");
            }
            assert_eq!(depth(&mut conn), Some(0));
        }
    }
}

#[scenario]
async fn with_best_effort_what_cannot_be_had_is_logged_and_done_without() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for case in CASES {
        for in_savepoint in [false, true] {
            let log = Capture::new();
            let runner = Runner::default().with_logger(log.clone());
            let bodies = AtomicU32::new(0);
            let operation = (case.ask)(runner.operation("asks")).best_effort();
            let result = read(&mut conn, operation, in_savepoint, &bodies).await;
            assert_eq!(result, Ok(100), "{}", case.setting);
            assert_eq!(bodies.into_inner(), 1);
            let is_there = case.where_[BACKEND][usize::from(in_savepoint)];
            let expected: &[&str] = if is_there { &[] } else { &[case.setting] };
            assert_eq!(skipped(&log), expected, "in a savepoint: {in_savepoint}");
        }
    }
}

#[scenario]
async fn with_best_effort_everything_that_is_skipped_is_logged() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default().with_logger(log.clone());
    let bodies = AtomicU32::new(0);
    let operation = runner
        .operation("asks")
        .isolation(IsolationLevel::ReadCommitted)
        .begin_mode(BeginMode::Immediate)
        .best_effort();
    let result = read(&mut conn, operation, true, &bodies).await;
    assert_eq!(result, Ok(100));
    assert_eq!(skipped(&log), ["isolation", "begin_mode"]);
}

#[scenario]
async fn deferrable_takes_read_only_and_serializable_and_postgresql() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let runner = Runner::default();
    let bodies = AtomicU32::new(0);
    let alone = runner.operation("asks").deferrable();
    let serializable = alone.isolation(IsolationLevel::Serializable);
    let repeatable = alone.isolation(IsolationLevel::RepeatableRead).read_only();
    for operation in [
        alone,
        serializable,
        alone.read_only(),
        repeatable,
        alone.best_effort(),
    ] {
        let error = read(&mut conn, operation, false, &bodies).await;
        let error = error.expect_err("it means nothing");
        let own = error.dbop_error().expect("of dbop's own");
        assert!(own.is_invalid_setting(), "{own}");
    }
    assert_eq!(bodies.load(Ordering::Relaxed), 0);
    let whole = serializable.read_only();
    for in_savepoint in [false, true] {
        let result = read(&mut conn, whole, in_savepoint, &bodies).await;
        if BACKEND == 0 && !in_savepoint {
            assert_eq!(result, Ok(100));
        } else {
            assert!(is_unsupported(&result.expect_err("not there")));
        }
    }
    assert_eq!(bodies.into_inner(), u32::from(BACKEND == 0));
}

#[scenario]
async fn deferrable_with_best_effort_is_logged_where_it_is_not_there() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for in_savepoint in [false, true] {
        let log = Capture::new();
        let runner = Runner::default().with_logger(log.clone());
        let bodies = AtomicU32::new(0);
        let operation = runner
            .operation("asks")
            .isolation(IsolationLevel::Serializable)
            .read_only()
            .deferrable()
            .best_effort();
        let result = read(&mut conn, operation, in_savepoint, &bodies).await;
        assert_eq!(result, Ok(100));
        let is_there = BACKEND == 0 && !in_savepoint;
        let is_skipped = skipped(&log).iter().any(|setting| setting == "deferrable");
        assert_eq!(is_skipped, !is_there, "{:?}", skipped(&log));
    }
}

#[scenario]
async fn defaults_that_do_not_apply_are_skipped_in_silence() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    let log = Capture::new();
    let runner = Runner::default()
        .with_logger(log.clone())
        .with_default_statement_timeout(Duration::from_secs(5))
        .with_default_isolation(IsolationLevel::RepeatableRead)
        .with_default_begin_mode(BeginMode::Deferred)
        .with_default_read_only(true);
    let bodies = AtomicU32::new(0);
    for in_savepoint in [false, true] {
        let operation = runner.operation("asks for nothing");
        let result = read(&mut conn, operation, in_savepoint, &bodies).await;
        assert_eq!(result, Ok(100));
    }
    assert_eq!(bodies.into_inner(), 2);
    assert_eq!(skipped(&log), [""; 0]);
}

#[scenario]
async fn for_tests_what_only_an_open_transaction_refuses_is_skipped_and_logged_once() {
    let bed = Bed::new();
    let mut conn = bed.connect();
    for case in CASES {
        let log = Capture::new();
        let runner = Runner::default().for_tests().with_logger(log.clone());
        let operation = (case.ask)(runner.operation("asks"));
        let [at_top_level, in_savepoint] = case.where_[BACKEND];
        for _ in 0..2 {
            let result = read(&mut conn, operation, true, &AtomicU32::new(0)).await;
            match result {
                Ok(balance) => assert_eq!((balance, at_top_level), (100, true), "{}", case.setting),
                Err(error) => assert!(is_unsupported(&error) && !at_top_level, "{}", case.setting),
            }
        }
        let is_skipped = at_top_level && !in_savepoint;
        let expected: &[&str] = if is_skipped { &[case.setting] } else { &[] };
        assert_eq!(skipped(&log), expected);
        let nested: QueryResult<i64> = runner
            .run(&mut conn, async |conn: &mut Conn| {
                let body = async |conn: &mut Conn| balance(conn, 1).await;
                operation.run(conn, body).await
            })
            .await;
        match nested {
            Ok(balance) => assert_eq!((balance, in_savepoint), (100, true), "{}", case.setting),
            Err(error) => assert!(is_unsupported(&error) && !in_savepoint, "{}", case.setting),
        }
    }
}

fn is_unsupported(error: &Error) -> bool {
    error
        .dbop_error()
        .is_some_and(|own| own.is_unsupported_setting())
}

/// The settings that were skipped, by the log.
fn skipped(log: &Capture) -> Vec<String> {
    let records = log.records().into_iter();
    records
        .filter_map(|mut record| record.keys.remove("setting"))
        .collect()
}
