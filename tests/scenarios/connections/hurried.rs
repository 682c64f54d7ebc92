//! PostgreSQL: at the gate of a name, an attempt waits for a lock for 100 ms only. That closes the gate, and
//! is no retry. Who has a lock timeout of its own, or a shorter one, waits for that long.

use std::sync::Arc;
use std::time::Duration;

use dbop_diesel::{Jitter, RetryPolicy, StopReason};
use dbop_tests::proxy::Proxy;
use dbop_tests::{Capture, Captured, InstantClock, Meanwhile};

use super::money::add;
use super::steps::classes;
use super::{Bed, Conn, Runner, scenario, source};

const HOLD: &str = "BEGIN; UPDATE accounts SET balance = balance + 1000 WHERE id = 1";

const ONE_RETRY: RetryPolicy = RetryPolicy::new()
    .with_max_retries(1)
    .with_jitter(Jitter::None);

/// How the attempts have begun.
fn begins(proxy: &Proxy) -> Vec<String> {
    let mut lines = proxy.conversation();
    lines.retain(|line| line.contains("BEGIN"));
    lines
}

/// What limits the wait at a gate to 100 ms.
fn is_hurried(begin: &str) -> bool {
    begin.ends_with("; SET LOCAL lock_timeout = 100")
}

/// As often as the one who has the lock is still there: more often than there are retries.
#[scenario]
async fn a_lock_that_is_not_waited_for_closes_the_gate_and_takes_no_retry() {
    let bed = Bed::new();
    let opponent = Arc::new(bed.opponent());
    opponent.execute(HOLD);
    let proxy = Proxy::start(bed.url());
    let (holder, log) = (Arc::clone(&opponent), Capture::new());
    let clock = Meanwhile::new(move |sleep| {
        if sleep == 4 {
            holder.execute("COMMIT");
        }
    });
    let runner = Runner::new(ONE_RETRY)
        .with_clock(clock.clone())
        .with_logger(log.clone())
        .with_gates(true);
    let report = runner
        .operation("pay")
        .run_on_report(&source(proxy.url()), async |conn: &mut Conn| {
            add(conn, 1, 10).await
        })
        .await;
    assert_eq!(report.result, Ok(1));
    assert_eq!(report.attempts, 5);
    for failure in &report.failures {
        let code = failure.fault.and_then(|fault| fault.code());
        assert_eq!(code.map(|code| code.to_string()).as_deref(), Some("55P03"));
        assert!(failure.delay <= Duration::from_millis(100), "{failure:?}");
    }
    let begins = begins(&proxy);
    assert_eq!(begins.len(), 5, "{begins:?}");
    assert!(begins.iter().all(|begin| is_hurried(begin)), "{begins:?}");
    assert_eq!(classes(&log), ["lock_timeout"; 4]);
    let limit = |record: Captured| record.keys.get("limit").cloned();
    let limits: Vec<_> = log.records().into_iter().filter_map(limit).collect();
    assert_eq!(limits, ["1"; 4], "each is a conflict");
    let gate = runner.gate_status("pay").expect("there are gates");
    assert!(gate.limit.is_some());
    assert_eq!((gate.inside, gate.waiting), (0, 0));
    assert_eq!(bed.balances()[0], (1, 1110));
}

/// It waits for as long as its lock timeout says, and that it was too short is an error like others.
#[scenario]
async fn who_has_a_lock_timeout_of_its_own_or_a_shorter_one_is_not_hurried() {
    for is_own in [true, false] {
        let bed = Bed::new();
        let opponent = bed.opponent();
        opponent.execute(HOLD);
        let proxy = Proxy::start(bed.url());
        let log = Capture::new();
        let runner = Runner::new(ONE_RETRY)
            .with_clock(InstantClock::new())
            .with_logger(log.clone())
            .with_gates(true);
        let (runner, timeout) = match is_own {
            true => (runner, Duration::from_millis(300)),
            false => {
                let short = Duration::from_millis(40);
                (runner.with_default_lock_timeout(short), short)
            }
        };
        let pay = runner.operation("pay");
        let pay = if is_own {
            pay.lock_timeout(timeout)
        } else {
            pay
        };
        let report = pay
            .run_on_report(&source(proxy.url()), async |conn: &mut Conn| {
                add(conn, 1, 10).await
            })
            .await;
        assert!(report.result.is_err());
        let end = (report.attempts, report.stop);
        assert_eq!(end, (2, StopReason::RetriesExhausted), "{is_own}");
        assert!(report.failures.iter().all(|it| it.elapsed >= timeout));
        let begins = begins(&proxy);
        assert_eq!(begins.len(), 2, "{begins:?}");
        assert!(!begins.iter().any(|begin| is_hurried(begin)), "{begins:?}");
        let timeout_in_sql = match is_own {
            true => "SET LOCAL lock_timeout = 300",
            false => "SET LOCAL lock_timeout = 40",
        };
        let says = |begin: &String| begin.contains(timeout_in_sql);
        assert!(begins.iter().all(says), "{begins:?}");
        assert_eq!(classes(&log), ["lock_timeout"; 2]);
        let gate = runner.gate_status("pay").expect("there are gates");
        assert_eq!(gate.limit, None, "that is no conflict: {is_own}");
        opponent.execute("ROLLBACK");
    }
}
