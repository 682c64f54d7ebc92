//! Gates: operations that would collide wait for their turn, without a connection and without locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use dbop_diesel::{Advice, FaultClass, Keys, OperationError, RetryPolicy, StopReason};
use dbop_tests::{Capture, eventually};
use diesel::QueryResult;

use super::money::add;
use super::{
    Bed, Conn, Connection as _, Runner, SimpleConnection as _, helper, scenario, source, together,
};

/// How many operations are at work on each account.
type Inside = [AtomicU32; 4];

/// SQLite locks the file while its last connection is closed, so one stays open that has read it.
#[helper]
async fn open(bed: &Bed) -> Conn {
    let mut conn = Conn::establish(bed.url())
        .await
        .expect("the server answers");
    let read = conn.batch_execute("SELECT balance FROM accounts").await;
    read.expect("there are accounts");
    conn
}

/// Twenty transfers between accounts in any order, whose keys are these. Returns how many attempts they
/// took.
#[helper]
async fn transfers(bed: &Bed, number: i32, inside: &Inside) -> u32 {
    let (source, runner) = (source(bed.url()), Runner::default());
    let mut attempts = 0;
    for round in 0..20 {
        let from = 1 + (number + round) % 3;
        let to = 1 + (from + round % 2) % 3;
        let keys = Keys::new(bed.url(), [from, to]);
        let report = runner
            .operation("transfer")
            .exclusive_by(&keys)
            .run_on_report(&source, async |conn: &mut Conn| {
                let before = [from, to].map(|row| inside[row as usize].fetch_add(1, Relaxed));
                add(conn, from, -1).await?;
                add(conn, to, 1).await?;
                let after = [from, to].map(|row| inside[row as usize].fetch_sub(1, Relaxed));
                QueryResult::Ok((before, after))
            })
            .await;
        assert_eq!(
            report.result,
            Ok(([0, 0], [1, 1])),
            "no other one is at work there"
        );
        attempts += report.attempts;
    }
    attempts
}

#[scenario]
async fn operations_that_name_their_rows_never_collide() {
    let bed = Bed::new();
    let _open = open(&bed).await;
    let inside = Inside::default();
    let attempts = together(
        async || {
            together(
                async || transfers(&bed, 0, &inside).await,
                async || transfers(&bed, 1, &inside).await,
            )
            .await
        },
        async || {
            together(
                async || transfers(&bed, 2, &inside).await,
                async || transfers(&bed, 0, &inside).await,
            )
            .await
        },
    )
    .await;
    assert_eq!(attempts, ((20, 20), (20, 20)), "each one succeeded at once");
    let sum: i64 = bed.balances().iter().map(|(_, balance)| balance).sum();
    assert_eq!(sum, 300);
}

/// What an operation says that has met a conflict.
#[derive(Debug, PartialEq)]
struct Conflict;

impl From<diesel::result::Error> for Conflict {
    fn from(error: diesel::result::Error) -> Self {
        panic!("{error}")
    }
}

impl OperationError for Conflict {
    fn diesel_error(&self) -> Option<&diesel::result::Error> {
        None
    }

    fn advice(&self) -> Advice {
        Advice::As(FaultClass::SerializationFailure)
    }
}

fn gated() -> Runner {
    Runner::new(RetryPolicy::new().with_initial_delay(Duration::ZERO)).with_gates(true)
}

/// Closes the gate of the name by a conflict.
#[helper]
async fn close(runner: &Runner, bed: &Bed, name: &str) {
    let operation = runner.operation(name).max_retries(0);
    let result = operation
        .run_on(&source(bed.url()), async |_: &mut Conn| {
            Err::<(), _>(Conflict)
        })
        .await;
    assert_eq!(result, Err(Conflict));
    let status = runner.gate_status(name).expect("there are gates");
    assert_eq!((status.limit, status.inside), (Some(1), 0));
}

#[scenario]
async fn after_a_conflict_the_operations_of_a_name_wait_for_each_other() {
    let bed = Bed::new();
    let _open = open(&bed).await;
    let log = Capture::new();
    let runner = gated().with_logger(log.clone());
    close(&runner, &bed, "pay").await;
    let limited = |record: &dbop_tests::Captured| record.keys.get("limit").cloned();
    assert_eq!(
        log.records().iter().filter_map(limited).collect::<Vec<_>>(),
        ["1"]
    );
    let status = || runner.gate_status("pay").expect("there are gates");
    let inside = AtomicU32::new(0);
    let pay = async |waits: bool| {
        if waits {
            eventually("the first one is in", || inside.load(Relaxed) == 1);
        }
        let pay = async |conn: &mut Conn| {
            assert_eq!(inside.fetch_add(1, Relaxed), 0);
            if !waits {
                eventually("the second one waits", || status().waiting == 1);
            }
            let done = add(conn, 1, 1).await;
            inside.fetch_sub(1, Relaxed);
            done
        };
        runner
            .operation("pay")
            .run_on(&source(bed.url()), pay)
            .await
    };
    let done = together(async || pay(false).await, async || pay(true).await).await;
    assert_eq!(done, (Ok(1), Ok(1)));
    assert_eq!((status().inside, status().waiting), (0, 0));
    let waited = |record: &dbop_tests::Captured| record.keys.contains_key("waited_ms");
    assert_eq!(
        log.records().iter().filter(|record| waited(record)).count(),
        1
    );
    assert_eq!(bed.balances()[0], (1, 102));
}

#[scenario]
async fn the_deadline_ends_the_wait_for_a_turn() {
    let bed = Bed::new();
    let _open = open(&bed).await;
    let runner = gated();
    close(&runner, &bed, "late").await;
    let bodies = AtomicU32::new(0);
    let report = runner
        .operation("late")
        .run_on(&source(bed.url()), async |_: &mut Conn| {
            let late = runner
                .operation("late")
                .deadline(Duration::from_millis(50))
                .run_on_report(&source(bed.url()), async |conn: &mut Conn| {
                    bodies.fetch_add(1, Relaxed);
                    add(conn, 1, 1).await
                })
                .await;
            QueryResult::Ok((late.stop, late.attempts))
        })
        .await;
    assert_eq!(report, Ok((StopReason::DeadlineExceeded, 0)));
    assert_eq!(bodies.into_inner(), 0);
    let status = runner.gate_status("late").expect("there are gates");
    assert_eq!((status.inside, status.waiting), (0, 0));
}

/// What holds the key is waiting for this operation, which no database sees: that has an end.
#[scenario]
async fn a_wait_that_waits_for_itself_ends() {
    let bed = Bed::new();
    let _open = open(&bed).await;
    let keys = Arc::new(Keys::new(bed.url(), ["itself"]));
    let runner = Runner::default().with_default_lock_timeout(Duration::from_millis(300));
    let done = runner
        .operation("outer")
        .exclusive_by(&keys)
        .run_on(&source(bed.url()), async |_: &mut Conn| {
            // On SQLite the outer one has the only lock for writing.
            let inner = runner.operation("inner").exclusive_by(&keys).read_only();
            inner
                .run_on(&source(bed.url()), async |_: &mut Conn| QueryResult::Ok(1))
                .await
        })
        .await;
    assert_eq!(done, Ok(1));
}
