//! What is asked for on the command line.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cases::{self, Pair};
use crate::storm::Outcome;
use crate::storm::backends::Backend;

pub(crate) const HELP: &str = "\
Measures what an operation costs, beside the same work in Diesel's own words.

usage: bench op [--cases CASE[/PARTNER],..] [--conc N,..] [--async] [--sqlite | --memory] [--pairs N]
                [--seconds N | --ops N] [--note TEXT] [--port N] [--out FILE]
       bench op --expect ARGUMENT..
       bench contention ARGUMENT..
       bench list
       bench render FILE [--docs FOLDER]

`op` prints a line of JSON for each case. The server is the one of DBOP_TEST_URL, at --port if that is
given; without the variable, or with --sqlite, it is SQLite on a file; with --memory in the memory of each
connection.
--cases are names of `bench list` (default: all of the backend); CASE/PARTNER compares a case with another
one than its own. --conc is how many connections work at the same time, each on a thread, or with --async
in a task (default: 1). Each works on a row of its own.

A case and its partner take turns, block by block, in the order A B B A. There are --pairs of blocks
(default: 20). A block lasts for --seconds (default: 0.15), or until all connections together have
carried out --ops. --note is added to the name of the server. --out is a file to which the lines are added.

--expect measures nothing, and says how many seconds that takes.

`contention` has the arguments of the storms (see `bench contention --help`) and prints JSON as well.

`render` makes tables and charts of the lines of FILE, in the page cost.md and the folder cost of the FOLDER.
Beside FILE it looks for instructions.md, a table that is shown as it is.";

/// What to do.
#[derive(Debug)]
pub(crate) enum Asked {
    Help,
    List,
    Contention(Vec<String>),
    Expect(Options),
    Measure(Options),
    Render(PathBuf, PathBuf),
}

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) backend: Backend,
    cases: Vec<String>,
    pub(crate) connections: Vec<u32>,
    pub(crate) is_async: bool,
    pub(crate) is_in_memory: bool,
    pub(crate) pairs: u32,
    pub(crate) bound: Bound,
    pub(crate) note: Option<String>,
    pub(crate) out: Option<PathBuf>,
}

/// How long a block is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    Time(Duration),
    /// Of all connections together.
    Operations(u64),
}

impl Bound {
    /// Whether a client has done its part.
    pub(crate) fn is_reached(self, done: u64, begun: Instant) -> bool {
        match self {
            Self::Time(time) => begun.elapsed() >= time,
            Self::Operations(operations) => done >= operations,
        }
    }

    /// The part of each client.
    pub(crate) fn shared(self, clients: u32) -> Self {
        match self {
            Self::Time(_) => self,
            Self::Operations(operations) => {
                Self::Operations(operations.div_ceil(u64::from(clients)))
            }
        }
    }
}

impl Options {
    fn new(backend: Backend) -> Self {
        Self {
            backend,
            cases: Vec::new(),
            connections: vec![1],
            is_async: false,
            is_in_memory: false,
            pairs: 20,
            bound: Bound::Time(Duration::from_millis(150)),
            note: None,
            out: None,
        }
    }

    pub(crate) fn pairs_of_cases(&self) -> Outcome<Vec<Pair>> {
        cases::pairs(&self.cases, self.backend)
    }

    pub(crate) const fn adapter(&self) -> &'static str {
        match self.is_async {
            true => "async",
            false => "sync",
        }
    }
}

pub(crate) fn read(arguments: Vec<String>) -> Outcome<Asked> {
    let mut arguments = arguments.into_iter();
    Ok(match arguments.next().as_deref() {
        Some("op") => read_op(arguments)?,
        Some("contention") => {
            let json = ["--json".into()].into_iter();
            Asked::Contention(json.chain(arguments).collect())
        }
        Some("list") => Asked::List,
        Some("render") => read_render(arguments)?,
        Some("--help" | "-h") => Asked::Help,
        other => return Err(format!("what is to be done: {other:?}?\n\n{HELP}").into()),
    })
}

fn read_op(mut arguments: impl Iterator<Item = String>) -> Outcome<Asked> {
    let mut options = Options::new(Backend::of_environment());
    let mut is_expected = false;
    while let Some(name) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--expect" => is_expected = true,
            "--async" => options.is_async = true,
            "--sqlite" => options.backend = Backend::Sqlite,
            "--memory" => {
                options.is_in_memory = true;
                options.backend = Backend::Sqlite;
            }
            "--cases" => options.cases = value()?.split(',').map(String::from).collect(),
            "--conc" => {
                let numbers = value()?;
                let numbers = numbers.split(',').map(str::parse);
                options.connections = numbers.collect::<Result<_, _>>()?;
            }
            "--pairs" => options.pairs = value()?.parse()?,
            "--ops" => options.bound = Bound::Operations(value()?.parse()?),
            "--seconds" => {
                let seconds = value()?.parse()?;
                options.bound = Bound::Time(Duration::try_from_secs_f64(seconds)?);
            }
            "--note" => options.note = Some(value()?),
            "--out" => options.out = Some(value()?.into()),
            _ => return Err(format!("unknown option: {name}\n\n{HELP}").into()),
        }
    }
    if options.pairs < 2 {
        return Err("one pair has no spread: --pairs is at least 2".into());
    }
    if options.connections.contains(&0) {
        return Err("no connection works: --conc is at least 1".into());
    }
    Ok(match is_expected {
        true => Asked::Expect(options),
        false => Asked::Measure(options),
    })
}

fn read_render(mut arguments: impl Iterator<Item = String>) -> Outcome<Asked> {
    let results = arguments.next().ok_or("render needs a file")?;
    let docs = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--docs"), Some(docs)) => docs,
        (None, _) => "docs".into(),
        _ => return Err("after the file there is --docs FOLDER or nothing".into()),
    };
    Ok(Asked::Render(results.into(), docs.into()))
}

/// Takes `--port N` out of the arguments.
pub(crate) fn take_port(arguments: &mut Vec<String>) -> Outcome<Option<u16>> {
    let Some(place) = arguments.iter().position(|argument| argument == "--port") else {
        return Ok(None);
    };
    let port = arguments.get(place + 1).ok_or("--port needs a value")?;
    let port = port.parse()?;
    arguments.drain(place..=place + 1);
    Ok(Some(port))
}

/// The URL with another port.
pub(crate) fn with_port(url: &str, port: u16) -> Outcome<String> {
    let (scheme, rest) = url.split_once("://").ok_or("DBOP_TEST_URL is no URL")?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (who, host) = match address.rsplit_once('@') {
        Some((who, host)) => (format!("{who}@"), host),
        None => (String::new(), address),
    };
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    Ok(format!("{scheme}://{who}{host}:{port}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &str) -> Vec<String> {
        words.split(' ').map(String::from).collect()
    }

    #[test]
    fn a_port_replaces_that_of_the_url() {
        let mut arguments = words("op --port 5433 --async");
        assert_eq!(take_port(&mut arguments).expect("a port"), Some(5433));
        assert_eq!(arguments, words("op --async"));
        assert_eq!(take_port(&mut arguments).expect("none"), None);
        assert!(take_port(&mut words("op --port")).is_err());
        for (url, expected) in [
            (
                "postgres://a:b@127.0.0.1:1/dbop?x=@:",
                "postgres://a:b@127.0.0.1:7/dbop?x=@:",
            ),
            ("mysql://localhost/dbop", "mysql://localhost:7/dbop"),
        ] {
            assert_eq!(with_port(url, 7).expect("a URL"), expected);
        }
    }

    #[test]
    fn operations_are_asked_for() {
        let asked = read(words(
            "op --memory --cases run1,run1/run1 --conc 1,64 --pairs 2 --ops 10",
        ));
        let Ok(Asked::Measure(options)) = asked else {
            panic!("{asked:?}")
        };
        assert_eq!(options.connections, [1, 64]);
        assert_eq!(options.pairs_of_cases().expect("pairs").len(), 2);
        assert_eq!(options.bound.shared(64), Bound::Operations(1));
        let begun = Instant::now();
        assert!(!options.bound.is_reached(9, begun) && options.bound.is_reached(10, begun));
        let asked = read(words("op --expect --seconds 0.5"));
        assert!(matches!(asked, Ok(Asked::Expect(_))), "{asked:?}");
        for wrong in [
            "op --pairs 1",
            "op --conc 0",
            "op --cases",
            "op --what",
            "storm",
        ] {
            assert!(read(words(wrong)).is_err(), "{wrong}");
        }
        let asked = read(words("contention --list"));
        let Ok(Asked::Contention(arguments)) = asked else {
            panic!("{asked:?}")
        };
        assert_eq!(arguments, words("--json --list"));
    }
}
