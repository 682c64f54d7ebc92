//! A `run_on` that is dropped at any await point, also while what became of its COMMIT is asked: all
//! rows or none, and its source can be used as before.

use std::time::Duration;

use dbop_diesel_async::{Ledger, Runner};
use dbop_tests::asynchronous::sources::closure;
use dbop_tests::asynchronous::{Moment, dropped_after};
use dbop_tests::proxy::{Cut, Planned, Proxy, When};
use dbop_tests::{InstantClock, TestPool};
use diesel::result::Error;
use diesel_async::SimpleAsyncConnection as _;
use diesel_async::pooled_connection::{bb8, deadpool, mobc};

use super::fresh_cancellation::{Closure, Watched, usable};
use super::money::{balance, share_out};
use super::{Bed, Conn, backend, run};

/// How what became of a lost COMMIT is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Verify,
    Ledger,
}

/// Where it was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    /// The COMMIT had been lost, and nobody had been asked yet.
    Lost,
    Asking,
}

#[test]
fn with_a_closure() {
    run(async {
        let source = |url: &str| Closure(closure::<Conn>(url));
        at_every_await_point(source, Way::Verify, Some(Cut::AnswerLost)).await;
        for cut in [None, Some(Cut::AnswerLost), Some(Cut::BeforeSent)] {
            at_every_await_point(source, Way::Ledger, cut).await;
        }
    });
}

#[test]
fn with_deadpool() {
    run(at_every_await_point(
        one::<deadpool::Pool<Conn>>,
        Way::Ledger,
        Some(Cut::AnswerLost),
    ));
}

#[test]
fn with_bb8() {
    run(at_every_await_point(
        one::<bb8::Pool<Conn>>,
        Way::Ledger,
        Some(Cut::AnswerLost),
    ));
}

#[test]
fn with_mobc() {
    run(at_every_await_point(
        one::<mobc::Pool<Conn>>,
        Way::Ledger,
        Some(Cut::AnswerLost),
    ));
}

fn one<P: TestPool>(url: &str) -> P {
    P::of(url, 1, Duration::from_secs(10))
}

/// Drops a run at its first await point, at its second, and so on.
async fn at_every_await_point<S: Watched>(source: impl Fn(&str) -> S, way: Way, cut: Option<Cut>) {
    let bed = Bed::new();
    bed.connect()
        .await
        .batch_execute(&Ledger::new().create_table(backend::DIALECT))
        .await
        .expect("a new table");
    let proxy = Proxy::start(bed.url());
    let place = Place {
        source: source(proxy.url()),
        ledger: Ledger::new(),
        bed,
        proxy,
    };
    let mut planned = cut.map(|cut| place.proxy.cut(When::commit(), cut));
    for moment in Moment::ALL {
        let mut asking = 0;
        for waits in 1.. {
            let phase = place.dropped(way, waits, moment, planned.as_ref()).await;
            if planned
                .as_ref()
                .is_some_and(|planned| planned.reached() > 0)
            {
                planned = cut.map(|cut| place.proxy.cut(When::commit(), cut));
            }
            match phase {
                Some(phase) => asking += u32::from(phase == Phase::Asking),
                None => break,
            }
        }
        assert_eq!(asking > 0, cut.is_some(), "{way:?} {cut:?} {moment:?}");
    }
}

struct Place<S> {
    bed: Bed,
    proxy: Proxy,
    source: S,
    ledger: Ledger,
}

impl<S: Watched> Place<S> {
    /// Drops it at one: where was that? `None` if it was done before.
    async fn dropped(
        &self,
        way: Way,
        waits: u32,
        moment: Moment,
        planned: Option<&Planned>,
    ) -> Option<Phase> {
        let before = self.bed.balances();
        let after: Vec<_> = before
            .iter()
            .zip([-10, 4, 6])
            .map(|((id, balance), amount)| (*id, balance + amount))
            .collect();
        let goal = after[0].1;
        self.proxy.reset();
        let runner = Runner::default().with_clock(InstantClock::new());
        let operation = runner.operation("share out");
        let look = async |conn: &mut S::Conn| Ok(balance(conn, 1).await? == goal);
        let body = async |conn: &mut S::Conn| share_out(conn).await;
        let done: Option<Result<(), Error>> = match way {
            Way::Verify => {
                let work = operation.verify(look).run_on(&self.source, body);
                dropped_after(work, waits, moment).await
            }
            Way::Ledger => {
                let work = operation.ledger(&self.ledger).run_on(&self.source, body);
                dropped_after(work, waits, moment).await
            }
        };
        let conversation = self.proxy.conversation();
        if let Some(result) = done {
            assert_eq!((result, self.bed.balances()), (Ok(()), after));
            return None;
        }
        let is_lost = planned.is_some_and(|planned| planned.reached() > 0);
        self.source.has_all_back().await;
        assert_eq!(usable(&self.source).await, Ok(0), "{way:?} {waits}");
        self.bed.transactions_end().await;
        let now = self.bed.balances();
        assert!(now == before || now == after, "{way:?} {waits} {moment:?}");
        let mut since_commit = conversation.iter().skip_while(|line| !commits(line));
        Some(match (is_lost, since_commit.nth(1)) {
            (false, _) => Phase::Before,
            (true, None) => Phase::Lost,
            (true, Some(_)) => Phase::Asking,
        })
    }
}

fn commits(line: &str) -> bool {
    let mut words = line.split(|letter: char| !letter.is_alphabetic());
    // On MySQL and MariaDB, to turn autocommit on commits.
    words.any(|word| word == "COMMIT") || line.contains("autocommit=1")
}
