//! An outage: operations arrive at a steady rate, the server is stopped for a while, and is back.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dbop_tests::server::Server;

use super::Outcome;
use super::backends::Backend;
use super::options::Options;
use super::policies::{Policy, Way};
use figures::Outage;
use timeline::{Event, Timeline};

pub(crate) mod figures;
pub(crate) mod page;
pub(crate) mod timeline;

/// Those that are measured unless others are asked for.
pub(crate) const POLICIES: &[&str] = &[
    "loop",
    "loop without end",
    "default",
    "default, budget",
    "20 retries",
    "20 retries, budget",
    "20 retries, tokens",
];

const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(10);

/// How long the last operations may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections the pool has.
pub(crate) const CONNECTIONS: usize = 32;

/// What arrives.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) url: String,
    /// What a session is told first.
    pub(crate) session: String,
    pub(crate) way: Way,
    /// Operations per second.
    pub(crate) rate: u32,
    pub(crate) length: Duration,
    pub(crate) timeline: Arc<Timeline>,
}

/// How long that takes, about: the server's own time to stop and to start is a second.
pub(crate) fn expected(options: &Options, length: Duration) -> Outcome<Duration> {
    let each = BEFORE + length + AFTER + Duration::from_secs(1);
    let runs = options.policies_or(POLICIES)?.len() * options.repeat;
    Ok(each * u32::try_from(runs)?)
}

/// Measures each policy.
///
/// # Errors
///
/// If the server is not one that may be stopped, if it does not come back, or if money was lost.
pub(crate) fn measure(options: &Options, length: Duration) -> Outcome<()> {
    let backend = options.backend();
    if backend == Backend::Sqlite || std::env::var_os("DBOP_TEST_DIR").is_none() {
        return Err("an outage needs a server of its own: see tests/run.sh storm".into());
    }
    let server = Server::of_this_run();
    for policy in options.policies_or(POLICIES)? {
        for _ in 0..options.repeat {
            let outage = conduct(backend, policy, (options.rate, length), &server)?;
            println!("{}", outage.line());
            figures::append(&options.out, &outage)?;
        }
    }
    Ok(())
}

fn conduct(
    backend: Backend,
    policy: &Policy,
    (rate, length): (u32, Duration),
    server: &Server,
) -> Outcome<Outage> {
    let mut ground = backend.ground()?;
    let name = ground.server()?;
    let before = ground.money()?;
    let all = BEFORE + length + AFTER;
    let timeline = Arc::new(Timeline::new(all + PATIENCE));
    let plan = Plan {
        url: ground.url().into(),
        session: ground.session(),
        way: policy.way,
        rate,
        length: all,
        timeline: Arc::clone(&timeline),
    };
    let arrivals = backend.arrivals(plan)?;
    timeline.begin();
    let arriving = thread::spawn(move || arrivals.run());
    let times = interrupt(server, length, &timeline);
    arriving.join().map_err(|_| "the arrivals have panicked")?;

    ground.connect();
    let gained = ground.money()? - before;
    let seconds = length.as_secs_f64();
    let outage = Outage::new(
        (name, policy.name),
        (rate, seconds),
        times,
        gained,
        &timeline,
    )?;
    check(&outage, policy.way)
        .map_err(|error| format!("{}, {}: {error}", outage.server, policy.name))?;
    Ok(outage)
}

/// Stops the server for a while: the tenths of a second in which that begins and ends.
fn interrupt(server: &Server, length: Duration, timeline: &Timeline) -> (usize, usize) {
    thread::sleep(BEFORE);
    let stopped = timeline.now();
    server.stop();
    thread::sleep(length);
    let started = timeline.now();
    server.start();
    (stopped, started)
}

/// Each operation adds one. dbop does so once at most; a loop that tries everything again may do so twice.
fn check(outage: &Outage, way: Way) -> Outcome<()> {
    let all = i64::try_from(outage.all(Event::Arrived) - outage.all(Event::Committed))?;
    let most = match way {
        Way::Dbop(_) => all,
        Way::ByHand(_) => i64::MAX,
    };
    if (0..=most).contains(&outage.untold) {
        return Ok(());
    }
    Err(format!(
        "{} more was gained than was told, of {all} at most",
        outage.untold
    )
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::policies;

    #[test]
    fn operations_arrive_at_their_rate_and_each_is_counted() {
        let policy = policies::POLICIES.iter().find(|one| one.name == "default");
        let mut ground = Backend::Sqlite.ground().expect("rows");
        let before = ground.money().expect("a sum");
        let timeline = Arc::new(Timeline::new(Duration::from_secs(20)));
        let plan = Plan {
            url: ground.url().into(),
            session: ground.session(),
            way: policy.expect("a policy").way,
            rate: 20,
            length: Duration::from_secs(1),
            timeline: Arc::clone(&timeline),
        };
        Backend::Sqlite.arrivals(plan).expect("a pool").run();

        let count = |event| timeline.counts(event).iter().sum::<u64>();
        let [arrived, committed] = [count(Event::Arrived), count(Event::Committed)];
        assert!((19..=21).contains(&arrived), "{arrived}");
        assert_eq!(committed + count(Event::Failed), arrived);
        assert!(committed > 0 && count(Event::Body) >= committed);
        let gained = ground.money().expect("a sum") - before;
        assert_eq!(u64::try_from(gained), Ok(committed));
    }
}
