//! What was measured, a line for each policy.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use super::timeline::{Event, Timeline};
use crate::storm::Outcome;

const FILE: &str = "outages.tsv";

const COLUMNS: [&str; 13] = [
    "server",
    "policy",
    "arrivals/s",
    "outage s",
    "stopped at, in tenths of a second",
    "back at",
    "committed without having been told so",
    "arrived in each tenth",
    "tried to connect",
    "connected",
    "bodies",
    "committed",
    "failed",
];

/// An outage under a policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outage {
    pub(crate) server: String,
    pub(crate) policy: String,
    pub(crate) rate: u32,
    pub(crate) seconds: f64,
    /// The tenth of a second in which the server was stopped.
    pub(crate) stopped: usize,
    /// The one in which a connection could be opened again.
    pub(crate) back: usize,
    /// What was committed, but not told to the operation.
    pub(crate) untold: i64,
    counts: Vec<Vec<u64>>,
}

impl Outage {
    pub(crate) fn new(
        (server, policy): (String, &str),
        (rate, seconds): (u32, f64),
        (stopped, started): (usize, usize),
        gained: i64,
        timeline: &Timeline,
    ) -> Outcome<Self> {
        let counts: Vec<_> = Event::ALL
            .iter()
            .map(|event| timeline.counts(*event))
            .collect();
        let connected = counts[Event::Connected as usize].iter();
        let back = connected.enumerate().skip(started);
        let back = back
            .filter(|(_, count)| **count > 0)
            .map(|(tenth, _)| tenth);
        let mut outage = Self {
            server,
            policy: policy.into(),
            rate,
            seconds,
            stopped,
            back: back.min().ok_or("no one has connected after the outage")?,
            untold: 0,
            counts,
        };
        outage.untold = gained - i64::try_from(outage.all(Event::Committed))?;
        Ok(outage)
    }

    fn counts(&self, event: Event) -> &[u64] {
        &self.counts[event as usize]
    }

    pub(crate) fn all(&self, event: Event) -> u64 {
        self.counts(event).iter().sum()
    }

    /// How many there were per second, between two tenths of a second.
    fn rate(&self, event: Event, from: usize, to: usize) -> f64 {
        let counts = self.counts(event);
        let to = to.min(counts.len());
        let from = from.min(to);
        let sum: u64 = counts[from..to].iter().sum();
        float(sum) * 10.0 / float(u64::try_from(to - from).unwrap_or(0).max(1))
    }

    /// Before the outage; the first second is left out.
    pub(crate) fn before(&self, event: Event) -> f64 {
        self.rate(event, 10, self.stopped)
    }

    /// In the outage.
    pub(crate) fn meanwhile(&self, event: Event) -> f64 {
        self.rate(event, self.stopped + 1, self.back)
    }

    /// In the seconds after it.
    pub(crate) fn after(&self, event: Event, seconds: usize) -> f64 {
        self.rate(event, self.back, self.back + 10 * seconds)
    }

    /// How often the bodies of the seconds after it are those of the time before.
    pub(crate) fn extra(&self, seconds: usize) -> f64 {
        self.after(Event::Body, seconds) / self.before(Event::Body).max(0.1)
    }

    /// After how many seconds there is no more to do than before, and stays so until the last arrival, if that
    /// comes.
    pub(crate) fn calm(&self) -> Option<usize> {
        let seconds = self.end().saturating_sub(self.back) / 10;
        let usual = 1.2 * self.before(Event::Body);
        let is_calm = |second: &usize| {
            let begin = self.back + 10 * second;
            self.rate(Event::Body, begin, begin + 10) <= usual
        };
        let busy = (0..seconds).rev().find(|second| !is_calm(second));
        let calm = busy.map_or(0, |second| second + 1);
        (calm < seconds).then_some(calm)
    }

    /// The tenth after the last arrival.
    fn end(&self) -> usize {
        let mut arrived = self.counts(Event::Arrived).iter();
        arrived
            .rposition(|count| *count > 0)
            .map_or(0, |last| last + 1)
    }

    /// How many there were in each second until the last arrival, with the time at which it ends. The server is stopped at 0.
    pub(crate) fn seconds(&self, event: Event) -> impl Iterator<Item = (f64, f64)> {
        let first = self.stopped % 10;
        let end = self.end().max(first);
        let counts = self.counts(event)[first..end].chunks_exact(10);
        counts.enumerate().map(move |(second, counts)| {
            let end = first + 10 * (second + 1);
            let since = float(end as u64) - float(self.stopped as u64);
            (since / 10.0, float(counts.iter().sum()))
        })
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} s without, {}: of {} {} committed, {} failed, {} untold; bodies/s {:.0} before, {:.0} in \
             the first second after, {:.0} in the first five; attempts to connect {:.0}/s in the outage, \
             {:.0} connections opened in the first second after; calm after {:?} s",
            self.server,
            self.seconds,
            self.policy,
            self.all(Event::Arrived),
            self.all(Event::Committed),
            self.all(Event::Failed),
            self.untold,
            self.before(Event::Body),
            self.after(Event::Body, 1),
            self.after(Event::Body, 5),
            self.meanwhile(Event::Connecting),
            self.after(Event::Connected, 1),
            self.calm(),
        )
    }

    fn row(&self) -> String {
        let mut fields = vec![
            self.server.clone(),
            self.policy.clone(),
            self.rate.to_string(),
            self.seconds.to_string(),
            self.stopped.to_string(),
            self.back.to_string(),
            self.untold.to_string(),
        ];
        for counts in &self.counts {
            let counts: Vec<_> = counts.iter().map(u64::to_string).collect();
            fields.push(counts.join(" "));
        }
        fields.join("\t")
    }

    fn read(row: &str) -> Outcome<Self> {
        let fields: Vec<_> = row.split('\t').collect();
        let [
            server,
            policy,
            rate,
            seconds,
            stopped,
            back,
            untold,
            counts @ ..,
        ] = &fields[..]
        else {
            return Err(format!("too short: {row}").into());
        };
        let numbers = |counts: &&str| counts.split(' ').map(str::parse).collect();
        let counts: Vec<Vec<u64>> = counts.iter().map(numbers).collect::<Result<_, _>>()?;
        if counts.len() != Event::ALL.len() {
            return Err(format!("{} lists of counts: {row}", counts.len()).into());
        }
        Ok(Self {
            server: (*server).into(),
            policy: (*policy).into(),
            rate: rate.parse()?,
            seconds: seconds.parse()?,
            stopped: stopped.parse()?,
            back: back.parse()?,
            untold: untold.parse()?,
            counts,
        })
    }
}

/// Adds a line to the file in this folder.
pub(crate) fn append(folder: &Path, outage: &Outage) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(FILE);
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if is_new {
        writeln!(file, "{}", COLUMNS.join("\t"))?;
    }
    Ok(writeln!(file, "{}", outage.row())?)
}

/// All lines of the file in this folder, if there is one.
pub(crate) fn read(folder: &Path) -> Outcome<Vec<Outage>> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path)?;
    text.lines().skip(1).map(Outage::read).collect()
}

#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 bodies a second; none for two seconds; 400 and 200 in the seconds after; then 100 again.
    fn outage() -> Outage {
        let mut bodies = vec![10; 30];
        bodies.extend([0; 20]);
        bodies.extend([40; 10]);
        bodies.extend([20; 10]);
        bodies.extend([10; 30]);
        bodies.extend([0; 20]); // no more arrive
        Outage {
            server: "a server".into(),
            policy: "a policy".into(),
            rate: 100,
            seconds: 2.0,
            stopped: 30,
            back: 50,
            untold: 1,
            counts: vec![bodies; Event::ALL.len()],
        }
    }

    #[test]
    fn what_comes_after_an_outage_is_compared_with_what_was_before() {
        let outage = outage();
        let figures = [
            outage.before(Event::Body),
            outage.meanwhile(Event::Body),
            outage.after(Event::Body, 1),
            outage.after(Event::Body, 2),
            outage.extra(1),
            outage.extra(2),
        ];
        assert_eq!(figures, [100.0, 0.0, 400.0, 300.0, 4.0, 3.0]);
        assert_eq!(outage.calm(), Some(2));
        let seconds: Vec<_> = outage.seconds(Event::Body).collect();
        assert_eq!(seconds[0], (-2.0, 100.0));
        assert_eq!(seconds[5], (3.0, 400.0));
        assert_eq!(seconds.last(), Some(&(7.0, 100.0)));
    }

    #[test]
    fn it_is_as_before_after_the_last_second_with_more_to_do() {
        let calm = |second: usize, bodies: u64| {
            let mut outage = outage();
            let begin = outage.back + 10 * second;
            outage.counts[Event::Body as usize][begin..begin + 10].fill(bodies);
            outage.calm()
        };
        // In the fourth second there is more again, or no more than is usual.
        assert_eq!(calm(3, 13), Some(4));
        assert_eq!(calm(3, 12), Some(2));
        assert_eq!(calm(4, 13), None);
    }

    #[test]
    fn an_outage_is_the_same_when_it_is_read_again() {
        let outage = outage();
        let folder = tempfile::tempdir().expect("a temporary directory");
        append(folder.path(), &outage).expect("a file");
        append(folder.path(), &outage).expect("a file");
        let read = read(folder.path()).expect("two lines");
        assert_eq!(read, [outage.clone(), outage]);
    }
}
