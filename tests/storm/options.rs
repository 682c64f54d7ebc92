//! What is asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use super::Outcome;
use super::backends::Backend;
use super::cells::{CELLS, Cell};
use super::policies::{ALONE, ALONE_BY_DBOP, POLICIES, Policy};
use super::processes::Job;

pub(crate) const HELP: &str = "\
Lets many clients work on a few rows, under one policy of retries after another.

usage: storm [--servers URL,..] [--cells NAME,..] [--policies NAME;..] [--clients N,..] [--seconds N]
             [--ramp N] [--processes N] [--async] [--repeat N] [--json] [--out FOLDER]
       storm --outage N [--rate N] [--policies NAME;..] [--repeat N] [--out FOLDER]
       storm --list
       storm --expect ARGUMENT..
       storm --render FOLDER [--out FOLDER]

The server is the one of DBOP_TEST_URL; without it the cells are those of SQLite. --servers names
others, and `sqlite` is one of them. --cells and --policies are names of --list (default: all of the
backend), --clients defaults to 8,32,64,128, --seconds to 5. With --ramp the clients begin one after
the other, over so many seconds. --processes shares the clients out among processes. --out (default:
target/storm) gets a line for each cell and policy in results.tsv; with --json what is printed is one
object for each, except for outages. --render makes tables and charts of
that, in the page storms.md and the folder storms of the FOLDER.

--expect measures nothing, and says how many seconds that takes.

With --outage the server is stopped for so many seconds while operations arrive, --rate of them a second
(default: 200), and started again. It has to be one that tests/run.sh has started for that. The lines go
to outages.tsv.";

/// What to do.
#[derive(Debug)]
pub(crate) enum Asked {
    Help,
    List,
    Render(Options, PathBuf),
    Clients(Box<Job>),
    Servers(Vec<String>, Vec<String>),
    Expect(Options),
    Measure(Options),
}

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    backend: Backend,
    cells: Vec<String>,
    policies: Vec<String>,
    pub(crate) clients: Vec<usize>,
    pub(crate) seconds: Duration,
    pub(crate) ramp: Duration,
    pub(crate) processes: usize,
    pub(crate) is_async: bool,
    pub(crate) repeat: usize,
    /// What is printed is for programs.
    pub(crate) is_json: bool,
    /// How long the server is stopped.
    pub(crate) outage: Option<Duration>,
    /// How many operations arrive in each second of that.
    pub(crate) rate: u32,
    pub(crate) out: PathBuf,
}

impl Options {
    fn new(backend: Backend) -> Self {
        Self {
            backend,
            cells: Vec::new(),
            policies: Vec::new(),
            clients: vec![8, 32, 64, 128],
            seconds: Duration::from_secs(5),
            ramp: Duration::ZERO,
            processes: 1,
            is_async: false,
            repeat: 1,
            is_json: false,
            outage: None,
            rate: 200,
            out: PathBuf::from("target/storm"),
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// The cells of this server's backend.
    pub(crate) fn cells(&self) -> Outcome<Vec<&'static Cell>> {
        let cells = CELLS.iter().filter(|cell| cell.backend == self.backend);
        chosen(cells, &self.cells, |cell| cell.name)
    }

    pub(crate) fn policies(&self) -> Outcome<Vec<&'static Policy>> {
        chosen(POLICIES.iter(), &self.policies, |policy| policy.name)
    }

    /// Those that were asked for, or else these.
    pub(crate) fn policies_or(&self, names: &[&str]) -> Outcome<Vec<&'static Policy>> {
        if self.policies.is_empty() {
            let names: Vec<_> = names.iter().copied().map(String::from).collect();
            return chosen(POLICIES.iter(), &names, |policy| policy.name);
        }
        self.policies()
    }

    /// How many clients there are under this policy.
    pub(crate) fn clients_under(policy: &Policy, clients: usize) -> usize {
        if [ALONE, ALONE_BY_DBOP].contains(&policy.name) {
            1
        } else {
            clients
        }
    }
}

fn chosen<'a, T>(
    all: impl Iterator<Item = &'a T>,
    names: &[String],
    name_of: impl Fn(&T) -> &str,
) -> Outcome<Vec<&'a T>> {
    let all: Vec<_> = all.collect();
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        let found = all.iter().copied().find(|one| name_of(one) == name);
        found.ok_or_else(|| format!("there is no {name} here: see --list").into())
    };
    names.iter().map(find).collect()
}

pub(crate) fn read(arguments: impl IntoIterator<Item = String>) -> Outcome<Asked> {
    let mut arguments = arguments.into_iter();
    let mut options = Options::new(Backend::of_environment());
    let (mut servers, mut rest, mut render, mut is_expected) =
        (Vec::new(), Vec::new(), None, false);
    while let Some(name) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--list" => return Ok(Asked::List),
            "--as-clients" => return Ok(Asked::Clients(Box::new(Job::read(&value()?)?))),
            "--servers" => {
                servers = list(&value()?);
                continue;
            }
            "--render" => {
                render = Some(PathBuf::from(value()?));
                continue;
            }
            "--expect" => {
                is_expected = true;
                continue;
            }
            "--json" => {
                options.is_json = true;
                rest.push(name);
                continue;
            }
            "--async" => {
                options.is_async = true;
                rest.push(name);
                continue;
            }
            _ => {}
        }
        let value = value()?;
        match name.as_str() {
            "--cells" => options.cells = list(&value),
            "--policies" => options.policies = value.split(';').map(String::from).collect(),
            "--clients" => options.clients = numbers(&value)?,
            "--seconds" => options.seconds = Duration::try_from_secs_f64(value.parse()?)?,
            "--ramp" => options.ramp = Duration::try_from_secs_f64(value.parse()?)?,
            "--processes" => options.processes = value.parse::<usize>()?.max(1),
            "--repeat" => options.repeat = value.parse()?,
            "--outage" => options.outage = Some(Duration::try_from_secs_f64(value.parse()?)?),
            "--rate" => options.rate = value.parse()?,
            "--out" => options.out = value.clone().into(),
            _ => return Err(format!("unknown option: {name}\n\n{HELP}").into()),
        }
        rest.extend([name, value]);
    }
    Ok(match render {
        Some(folder) => Asked::Render(options, folder),
        None if is_expected => Asked::Expect(options),
        None if servers == ["sqlite"] => {
            options.backend = Backend::Sqlite;
            Asked::Measure(options)
        }
        None if !servers.is_empty() => Asked::Servers(servers, rest),
        None => Asked::Measure(options),
    })
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(String::from).collect()
}

fn numbers(value: &str) -> Outcome<Vec<usize>> {
    let numbers = value.split(',').map(str::parse);
    Ok(numbers.collect::<Result<_, _>>()?)
}
