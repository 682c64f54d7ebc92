//! A future that is dropped at a gate hands its turn on: while it waits in the queue, after it got its turn
//! and before it is polled again, and wherever else it is dropped. So it is at the gate of a name, which a
//! deadlock on the server has closed, and with keys.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use dbop_diesel_async::{FaultClass, GateStatus, Keys, Operation, Report, RetryPolicy, Runner};
use dbop_tests::Meanwhile;
use dbop_tests::asynchronous::sources::closure;
use dbop_tests::asynchronous::{Moment, dropped_after};
use diesel::result::Error;
use tokio::sync::{Barrier, Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::money::add;
use super::{Bed, Conn, run};

/// Payments between accounts of a test bed.
struct Payments {
    bed: Bed,
    url: String,
    runner: Runner,
    /// Those that all of them have, or else they are at the gate of their name.
    keys: Option<Keys>,
}

/// What a payment does between its two statements.
struct Between {
    is_there: Notify,
    may_continue: Semaphore,
}

impl Between {
    fn new(may_continue: bool) -> Self {
        Self {
            is_there: Notify::new(),
            may_continue: Semaphore::new(may_continue.into()),
        }
    }
}

type Payment<'a> = Pin<Box<dyn Future<Output = Report<usize, Error>> + Send + 'a>>;

impl Payments {
    fn new(runner: Runner, has_keys: bool) -> Self {
        let bed = Bed::new();
        Self {
            url: bed.service_url(),
            runner: runner.with_gates(!has_keys),
            keys: has_keys.then(|| Keys::new(bed.url(), [1, 2])),
            bed,
        }
    }

    fn operation(&self) -> Operation<'_> {
        let pay = self.runner.operation("pay");
        match &self.keys {
            Some(keys) => pay.exclusive_by(keys),
            None => pay,
        }
    }

    fn pay<'a>(&'a self, [from, to]: [i32; 2], between: &'a Between) -> Payment<'a> {
        Box::pin(async move {
            let source = closure::<Conn>(&self.url);
            let body = async |conn: &mut Conn| {
                add(conn, from, -1).await?;
                between.is_there.notify_one();
                _ = between.may_continue.acquire().await;
                add(conn, to, 1).await
            };
            self.operation().run_on_report(&source, body).await
        })
    }

    /// The gate, unless there are keys.
    fn gate(&self) -> Option<GateStatus> {
        self.runner.gate_status("pay")
    }

    #[track_caller]
    fn assert_at_gate(&self, inside: u32, waiting: usize) {
        let counts = self.gate().map(|gate| (gate.inside, gate.waiting));
        assert!(
            counts.is_none_or(|counts| counts == (inside, waiting)),
            "{counts:?}"
        );
    }

    /// Two payments meet in a deadlock, which closes the gate.
    async fn meet_in_deadlock(&self) {
        let both_hold = Barrier::new(2);
        let (one, other) = tokio::join!(
            self.collide([1, 2], &both_hold),
            self.collide([2, 1], &both_hold)
        );
        assert_eq!((one.result, other.result), (Ok(1), Ok(1)));
        let failures = one.failures.iter().chain(&other.failures);
        let classes = failures.filter_map(|failure| Some(failure.fault?.class()));
        assert_eq!(classes.collect::<Vec<_>>(), [FaultClass::Deadlock]);
        let gate = self.gate().expect("there are gates");
        assert_eq!((gate.limit, gate.inside, gate.waiting), (Some(1), 0, 0));
    }

    async fn collide(&self, [from, to]: [i32; 2], both_hold: &Barrier) -> Report<usize, Error> {
        let source = closure::<Conn>(&self.url);
        let is_first = AtomicBool::new(true);
        let body = async |conn: &mut Conn| {
            add(conn, from, -1).await?;
            if is_first.swap(false, Ordering::Relaxed) {
                both_hold.wait().await;
            }
            add(conn, to, 1).await
        };
        // So that no wait ends before the deadlock is found.
        let patient = self.operation().lock_timeout(Duration::from_secs(20));
        patient.run_on_report(&source, body).await
    }
}

async fn polled_once(payment: &mut Payment<'_>) -> bool {
    poll_fn(|context| Poll::Ready(payment.as_mut().poll(context).is_ready())).await
}

/// When a payment is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dropped {
    InTheQueue,
    /// It has got its turn, and does not know it.
    WithItsTurn,
}

/// By its clock no time passes, so that no patience ends, and no one counts as missing: a turn that is lost
/// is lost.
async fn the_next_one_has_its_turn(has_keys: bool, dropped: Dropped) {
    let policy = RetryPolicy::new().with_initial_delay(Duration::ZERO);
    let runner = Runner::new(policy).with_clock(Meanwhile::new(|_| ()));
    let payments = Payments::new(runner, has_keys);
    if !has_keys {
        payments.meet_in_deadlock().await;
    }
    let (stops, passes) = (Between::new(false), Between::new(true));
    let mut first = payments.pay([1, 2], &stops);
    tokio::select! {
        report = &mut first => panic!("it stays: {report:?}"),
        () = stops.is_there.notified() => {}
    }
    let mut second = payments.pay([2, 3], &passes);
    assert!(!polled_once(&mut second).await);
    let mut third = payments.pay([2, 1], &passes);
    assert!(!polled_once(&mut third).await);
    payments.assert_at_gate(1, 2);
    let mut waits = Some(second);
    if dropped == Dropped::InTheQueue {
        drop(waits.take());
        payments.assert_at_gate(1, 1);
    }
    stops.may_continue.close();
    assert_eq!(first.await.result, Ok(1));
    payments.assert_at_gate(1, waits.iter().len());
    drop(waits);
    let third = timeout(Duration::from_secs(20), third).await;
    let third = third.expect("it is its turn");
    assert_eq!((third.result, third.attempts), (Ok(1), 1));
    payments.assert_at_gate(0, 0);
    assert_eq!(payments.bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}

#[test]
fn dropped_in_the_queue_of_a_name() {
    run(the_next_one_has_its_turn(false, Dropped::InTheQueue));
}

#[test]
fn dropped_with_its_turn_at_the_gate_of_a_name() {
    run(the_next_one_has_its_turn(false, Dropped::WithItsTurn));
}

#[test]
fn dropped_in_the_queue_of_a_key() {
    run(the_next_one_has_its_turn(true, Dropped::InTheQueue));
}

#[test]
fn dropped_with_its_turn_at_a_key() {
    run(the_next_one_has_its_turn(true, Dropped::WithItsTurn));
}

const WORKERS: u32 = 4;
const ROUNDS: u32 = 24;

/// One payment in three is dropped at an await point that changes from round to round.
async fn one_in_three_is_dropped(payments: Arc<Payments>, worker: u32) -> u32 {
    let mut dropped = 0;
    for round in 0..ROUNDS {
        let between = Between::new(true);
        let rows = match (worker + round) % 2 {
            0 => [1, 2],
            _ => [2, 1],
        };
        let payment = payments.pay(rows, &between);
        if (worker + round) % 3 == 0 {
            let moment = Moment::ALL[(round / 3 % 2) as usize];
            let done = dropped_after(payment, 1 + round / 3, moment).await;
            dropped += u32::from(done.is_none());
            continue;
        }
        let report = timeout(Duration::from_secs(30), payment).await;
        let report = report.expect("it has its turn");
        assert_eq!(report.result, Ok(1), "{worker} {round}");
    }
    dropped
}

async fn no_turn_is_lost(has_keys: bool) {
    let policy = RetryPolicy::new()
        .with_max_retries(50)
        .with_initial_delay(Duration::from_millis(1));
    let payments = Arc::new(Payments::new(Runner::new(policy), has_keys));
    if !has_keys {
        payments.meet_in_deadlock().await;
    }
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(one_in_three_is_dropped(payments.clone(), worker));
    }
    let dropped: u32 = workers.join_all().await.into_iter().sum();
    assert!(dropped >= WORKERS * ROUNDS / 6, "{dropped}");
    payments.assert_at_gate(0, 0);
    let balances = payments.bed.balances();
    let sum: i64 = balances.iter().map(|(_, balance)| balance).sum();
    assert_eq!(sum, 300, "{balances:?}");
}

#[test]
fn no_turn_is_lost_at_the_gate_of_a_name() {
    run(no_turn_is_lost(false));
}

#[test]
fn no_turn_is_lost_at_keys() {
    run(no_turn_is_lost(true));
}
