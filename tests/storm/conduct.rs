//! One cell under one policy, from the first row to the last check.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::Outcome;
use super::cells::{Cell, Work};
use super::client::Client;
use super::options::Options;
use super::policies::Policy;
use super::processes::{self, Job};
use super::results::Measured;
use super::tally::{Span, Tally};

/// How long clients may take to end after their time is over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Measures.
///
/// # Errors
///
/// If a client does not end, or if money was lost or made.
pub(crate) fn conduct(
    cell: &'static Cell,
    policy: &'static Policy,
    clients: usize,
    number: usize,
    options: &Options,
) -> Outcome<Measured> {
    let mut ground = cell.backend.ground()?;
    let server = ground.server()?;
    let before = ground.money()?;
    let job = Job {
        backend: cell.backend,
        url: ground.url().into(),
        session: format!("{}; {}", cell.session, ground.session()),
        work: cell.work,
        policy,
        clients: Options::clients_under(policy, clients),
        seconds: options.seconds,
        ramp: options.ramp,
        is_async: options.is_async,
    };
    let interrupt = || ground.interrupt();
    let tallies = if options.processes > 1 {
        processes::share(&job, options.processes, interrupt)?
    } else {
        job.run(|| Ok(()), interrupt)?
    };
    let gained = ground.money()? - before;
    check(cell.work, gained, &tallies)
        .map_err(|error| format!("{server}, {}, {}: {error}", cell.name, policy.name))?;
    Ok(Measured::new(
        server, cell, policy, clients, number, options, &tallies,
    ))
}

/// Transfers leave all the money as it is, and each operation on the hot row adds one.
fn check(work: Work, gained: i64, tallies: &[Tally]) -> Outcome<()> {
    let sum = |count: fn(&Tally) -> u64| -> Outcome<i64> {
        Ok(i64::try_from(tallies.iter().map(count).sum::<u64>())?)
    };
    let (least, most) = match work {
        Work::Transfers => (0, 0),
        Work::HotRow => {
            let committed = sum(|tally| tally.committed + tally.late)?;
            // The end interrupts statements. Whether a COMMIT was among them need not be known.
            (committed, committed + sum(|tally| tally.cut)?)
        }
    };
    if (least..=most).contains(&gained) {
        return Ok(());
    }
    Err(format!("{gained} was gained, not {least} to {most}").into())
}

impl Job {
    /// Lets the clients work: connects, says so, and waits for the end of all of them.
    pub(crate) fn run(
        &self,
        connected: impl FnOnce() -> Outcome<()>,
        mut interrupt: impl FnMut() -> Outcome<()>,
    ) -> Outcome<Vec<Tally>> {
        let crew = self
            .backend
            .crew(self.is_async, &self.url, &self.session, self.clients)?;
        connected()?;
        let (sender, told) = channel();
        let begin = Instant::now() + Duration::from_millis(50);
        let span = Span {
            begin,
            end: begin + self.seconds,
        };
        let clients = (0..self.clients).map(|number| {
            let share = f64::from(u32::try_from(number).unwrap_or(0))
                / f64::from(u32::try_from(self.clients).unwrap_or(1));
            let begin = begin + self.ramp.mul_f64(share);
            Client::new(self.policy.way, self.work, begin, span, sender.clone())
        });
        crew.set_to_work(self.policy.way, span.end, clients.collect())?;
        drop(sender);
        let mut tallies = Vec::new();
        while tallies.len() < self.clients {
            match told.recv_timeout(Duration::from_millis(50)) {
                Ok(tally) => tallies.push(tally),
                Err(RecvTimeoutError::Disconnected) => return Err("a client has panicked".into()),
                Err(RecvTimeoutError::Timeout) if Instant::now() > span.end + PATIENCE => {
                    return Err(
                        format!("{} clients are stuck", self.clients - tallies.len()).into(),
                    );
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > span.end => interrupt()?,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(tallies)
    }
}
