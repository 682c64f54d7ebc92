//! What was measured, a line for each cell and policy.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::Outcome;
use super::cells::Cell;
use super::options::Options;
use super::policies::Policy;
use super::tally::Tally;

const FILE: &str = "results.tsv";

const COLUMNS: [&str; 19] = [
    "server",
    "cell",
    "adapter",
    "processes",
    "ramp s",
    "clients",
    "policy",
    "run",
    "seconds",
    "committed",
    "attempts",
    "failed",
    "cut off",
    "p50 ms",
    "p99 ms",
    "longest ms",
    "fewest of a client",
    "most of a client",
    "committed in each second",
];

/// The figures of a cell under a policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Measured {
    pub(crate) server: String,
    pub(crate) cell: String,
    pub(crate) adapter: String,
    pub(crate) processes: usize,
    pub(crate) ramp: f64,
    pub(crate) clients: usize,
    pub(crate) policy: String,
    pub(crate) run: usize,
    pub(crate) seconds: f64,
    pub(crate) committed: u64,
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    pub(crate) cut: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
    pub(crate) fewest: u64,
    pub(crate) most: u64,
    pub(crate) each_second: String,
}

impl Measured {
    pub(crate) fn new(
        server: String,
        cell: &Cell,
        policy: &Policy,
        clients: usize,
        run: usize,
        options: &Options,
        tallies: &[Tally],
    ) -> Self {
        let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
        let mut took: Vec<u64> = tallies
            .iter()
            .flat_map(|tally| &tally.took)
            .copied()
            .collect();
        took.sort_unstable();
        let committed = || tallies.iter().map(|tally| tally.committed);
        let mut seconds = Vec::new();
        for tally in tallies {
            seconds.resize(seconds.len().max(tally.seconds.len()), 0);
            for (all, own) in seconds.iter_mut().zip(&tally.seconds) {
                *all += own;
            }
        }
        let seconds: Vec<String> = seconds.iter().map(u64::to_string).collect();
        Self {
            server,
            cell: cell.name.into(),
            adapter: if options.is_async { "async" } else { "sync" }.into(),
            processes: options.processes,
            ramp: options.ramp.as_secs_f64(),
            clients,
            policy: policy.name.into(),
            run,
            seconds: options.seconds.as_secs_f64(),
            committed: sum(|tally| tally.committed),
            attempts: sum(|tally| tally.attempts),
            failed: sum(|tally| tally.failed),
            cut: sum(|tally| tally.cut),
            p50: percentile(&took, 50),
            p99: percentile(&took, 99),
            longest: milliseconds(tallies.iter().map(|tally| tally.longest).max().unwrap_or(0)),
            fewest: committed().min().unwrap_or(0),
            most: committed().max().unwrap_or(0),
            each_second: seconds.join(" "),
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        float(self.committed) / self.seconds
    }

    /// Attempts that did not commit, for each that did.
    pub(crate) fn wasted(&self) -> f64 {
        float(self.attempts.saturating_sub(self.committed)) / float(self.committed.max(1))
    }

    /// Whether a client had less than half of what the clients had on average.
    pub(crate) fn is_unfair(&self) -> bool {
        let clients = u64::try_from(self.clients).unwrap_or(u64::MAX);
        2 * self.fewest * clients < self.committed
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} {} {}x{} {}: {:.1}/s, {} failed, {:.2} wasted, p50 {:.1} p99 {:.1} longest {:.0} ms, \
             {} to {} a client, each second {}",
            self.server,
            self.cell,
            self.processes,
            self.clients,
            self.policy,
            self.per_second(),
            self.failed,
            self.wasted(),
            self.p50,
            self.p99,
            self.longest,
            self.fewest,
            self.most,
            self.each_second
        )
    }

    fn row(&self) -> String {
        [
            self.server.clone(),
            self.cell.clone(),
            self.adapter.clone(),
            self.processes.to_string(),
            self.ramp.to_string(),
            self.clients.to_string(),
            self.policy.clone(),
            self.run.to_string(),
            self.seconds.to_string(),
            self.committed.to_string(),
            self.attempts.to_string(),
            self.failed.to_string(),
            self.cut.to_string(),
            format!("{:.2}", self.p50),
            format!("{:.2}", self.p99),
            format!("{:.1}", self.longest),
            self.fewest.to_string(),
            self.most.to_string(),
            self.each_second.clone(),
        ]
        .join("\t")
    }

    fn read(row: &str) -> Outcome<Self> {
        let mut fields = row.split('\t');
        let mut field = || fields.next().ok_or_else(|| format!("too short: {row}"));
        Ok(Self {
            server: field()?.into(),
            cell: field()?.into(),
            adapter: field()?.into(),
            processes: field()?.parse()?,
            ramp: field()?.parse()?,
            clients: field()?.parse()?,
            policy: field()?.into(),
            run: field()?.parse()?,
            seconds: field()?.parse()?,
            committed: field()?.parse()?,
            attempts: field()?.parse()?,
            failed: field()?.parse()?,
            cut: field()?.parse()?,
            p50: field()?.parse()?,
            p99: field()?.parse()?,
            longest: field()?.parse()?,
            fewest: field()?.parse()?,
            most: field()?.parse()?,
            each_second: field()?.into(),
        })
    }
}

/// Adds a line to the file in this folder.
pub(crate) fn append(folder: &Path, measured: &Measured) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(FILE);
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if is_new {
        writeln!(file, "{}", COLUMNS.join("\t"))?;
    }
    Ok(writeln!(file, "{}", measured.row())?)
}

/// All lines of the file in this folder, if there is one.
pub(crate) fn read(folder: &Path) -> Outcome<Vec<Measured>> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path)?;
    text.lines().skip(1).map(Measured::read).collect()
}

#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
fn float(count: u64) -> f64 {
    count as f64
}

fn milliseconds(micros: u64) -> f64 {
    float(micros) / 1000.0
}

/// Of numbers in order.
fn percentile(took: &[u64], percent: usize) -> f64 {
    let index = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(index).map_or(0.0, |micros| milliseconds(*micros))
}
