//! A `run_on` that is dropped half-way, at any await point, also while it connects and while it
//! waits, leaves nothing that was not committed, and its pool can be used as before.

use std::collections::BTreeSet;
use std::time::Duration;

use dbop_diesel_async::{ConnectError, Fault, Jitter, Request, RetryPolicy, Runner, Source};
use dbop_tests::asynchronous::sources::closure;
use dbop_tests::asynchronous::{Moment, Trace, depth, dropped_after, dropped_when, eventually};
use dbop_tests::{Again, Capture, TestPool};
use diesel::QueryResult;
use diesel_async::AsyncConnection as _;
use diesel_async::pooled_connection::{bb8, deadpool, mobc};
use log::Level;

use super::money::{balance, share_out};
use super::{Bed, Conn, Db, run};

/// A source that can be asked whether it is as it was before.
pub(super) trait Watched:
    Source<Conn: dbop_diesel_async::SupportedConnection<Backend = Db>>
{
    /// Waits until it has no connection lent, if it is one that lends them.
    fn has_all_back(&self) -> impl Future<Output = ()> + Send;
}

pub(super) struct Closure<S>(pub(super) S);

impl<S: Source<Conn = Conn>> Source for Closure<S> {
    type Conn = Conn;
    type Held = S::Held;

    const IS_POOL: bool = S::IS_POOL;

    fn connect(
        &self,
        request: &Request<'_>,
    ) -> impl Future<Output = Result<S::Held, ConnectError>> + Send {
        self.0.connect(request)
    }

    fn discard(&self, held: S::Held, why: Option<Fault>) {
        self.0.discard(held, why);
    }
}

impl<S: Source<Conn = Conn>> Watched for Closure<S> {
    async fn has_all_back(&self) {}
}

impl Watched for deadpool::Pool<Conn> {
    async fn has_all_back(&self) {
        eventually("all are back", || self.lent() == 0).await;
    }
}

impl Watched for bb8::Pool<Conn> {
    async fn has_all_back(&self) {
        eventually("all are back", || self.lent() == 0).await;
    }
}

impl Watched for mobc::Pool<Conn> {
    async fn has_all_back(&self) {
        let all_back = async {
            while self.state().await.in_use > 0 {
                tokio::task::yield_now().await;
            }
        };
        let ten_seconds = Duration::from_secs(10);
        let is_back = tokio::time::timeout(ten_seconds, all_back).await;
        is_back.expect("all are back");
    }
}

fn one<P: TestPool>(bed: &Bed) -> P {
    P::of(bed.url(), 1, Duration::from_secs(10))
}

#[test]
fn with_a_closure_at_every_await_point() {
    run(async {
        let bed = Bed::new();
        let source = Closure(closure::<Conn>(bed.url()));
        at_every_await_point(&bed, &source).await;
    });
}

#[test]
fn with_deadpool_at_every_await_point() {
    run(async {
        let bed = Bed::new();
        at_every_await_point(&bed, &one::<deadpool::Pool<Conn>>(&bed)).await;
    });
}

#[test]
fn with_bb8_at_every_await_point() {
    run(async {
        let bed = Bed::new();
        at_every_await_point(&bed, &one::<bb8::Pool<Conn>>(&bed)).await;
    });
}

#[test]
fn with_mobc_at_every_await_point() {
    run(async {
        let bed = Bed::new();
        at_every_await_point(&bed, &one::<mobc::Pool<Conn>>(&bed)).await;
    });
}

/// Drops a run at its first await point, at its second, and so on, until it has been dropped before
/// its body began, and while each of the statements since then was under way.
async fn at_every_await_point<S: Watched>(bed: &Bed, source: &S) {
    for moment in Moment::ALL {
        let mut dropped_at = BTreeSet::new();
        let mut all = BTreeSet::new();
        // Where an answer comes so soon that nobody waits for it, it is tried again.
        for _ in 0..50 {
            let mut waits = 0;
            let statements = loop {
                waits += 1;
                match dropped_at_await_point(bed, source, waits, moment).await {
                    Ok(statement) => dropped_at.insert(statement),
                    Err(statements) => break statements,
                };
            };
            all = (0..=statements).collect();
            if dropped_at == all {
                break;
            }
        }
        assert_eq!(dropped_at, all, "{moment:?}");
        assert!(all.len() >= 4, "{all:?}");
    }
}

/// Drops a run at one await point: while which statement of its body or its end? `Err` if it was
/// done before, in so many statements.
async fn dropped_at_await_point<S: Watched>(
    bed: &Bed,
    source: &S,
    waits: u32,
    moment: Moment,
) -> Result<usize, usize> {
    let before = bed.balances();
    let after: Vec<_> = before
        .iter()
        .zip([-10, 4, 6])
        .map(|((id, balance), amount)| (*id, balance + amount))
        .collect();
    let seen = Trace::default();
    let runner = Runner::default();
    let work = runner.run_on(source, async |conn: &mut S::Conn| {
        conn.set_instrumentation(seen.clone());
        share_out(conn).await
    });
    let done = dropped_after(work, waits, moment).await;
    if let Some(result) = done {
        assert_eq!((result, bed.balances()), (Ok(()), after));
        return Err(seen.statements());
    }
    source.has_all_back().await;
    assert_eq!(usable(source).await, Ok(0), "{waits} {moment:?}");
    bed.transactions_end().await;
    let now = bed.balances();
    let may_be_done = seen.is_committing() && now == after;
    assert!(now == before || may_be_done, "{waits} {moment:?}");
    Ok(seen.statements())
}

/// How many transactions were open on what the source gives.
pub(super) async fn usable<S: Watched>(source: &S) -> QueryResult<u32> {
    let request = Request::new(&std::time::Instant::now);
    let mut conn = source.connect(&request).await.expect("there is one");
    let open = depth(&mut conn).expect("a healthy one");
    balance(&mut conn, 1).await?;
    Ok(open)
}

#[test]
fn during_the_pause_between_two_attempts_the_pool_has_it_back() {
    run(async {
        let bed = Bed::new();
        dropped_in_pause(&bed, &one::<deadpool::Pool<Conn>>(&bed)).await;
        dropped_in_pause(&bed, &one::<bb8::Pool<Conn>>(&bed)).await;
        dropped_in_pause(&bed, &one::<mobc::Pool<Conn>>(&bed)).await;
        dropped_in_pause(&bed, &Closure(closure::<Conn>(bed.url()))).await;
    });
}

async fn dropped_in_pause<S: Watched>(bed: &Bed, source: &S) {
    let log = Capture::new();
    let hours = Duration::from_secs(9999);
    let policy = RetryPolicy::new()
        .with_initial_delay(hours)
        .with_max_delay(hours)
        .with_jitter(Jitter::None);
    let runner = Runner::new(policy).with_logger(log.clone());
    let never: Option<Result<(), Again>> = dropped_when(
        runner.run_on(source, async |conn: &mut S::Conn| {
            share_out(conn).await?;
            Err(Again)
        }),
        Moment::UnderWay,
        || log.levels().contains(&Level::Warn),
    )
    .await;
    assert!(never.is_none());
    source.has_all_back().await;
    assert_eq!(usable(source).await, Ok(0));
    bed.transactions_end().await;
    assert_eq!(bed.balances(), [(1, 100), (2, 100), (3, 100)]);
}
