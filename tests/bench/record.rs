//! What was measured, a line of JSON for each comparison.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::build::Build;
use super::interval::Interval;
use crate::storm::Outcome;

/// What the name of a server ends with if each connection has a database of its own, in memory.
pub(crate) const IN_MEMORY: &str = " in memory";

/// A case beside its partner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Name and version, and what is special about it.
    pub(crate) server: String,
    pub(crate) adapter: String,
    pub(crate) connections: u32,
    pub(crate) case: String,
    pub(crate) partner: String,
    pub(crate) pairs: u32,
    /// Operations in a second, as a share of the partner's.
    #[serde(flatten)]
    pub(crate) interval: Interval,
    pub(crate) of_case: Side,
    pub(crate) of_partner: Side,
}

/// The blocks of one of the two, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Side {
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// What the client's process has spent on an operation, in microseconds of CPU time.
    pub(crate) client_cpu_us: f64,
    /// The same of the server's processes, if they are on this machine.
    pub(crate) server_cpu_us: Option<f64>,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Record {
    Measured(Box<Measured>),
    Build(Build),
}

/// Adds a line to the file.
pub(crate) fn append(file: &Path, line: &str) -> Outcome<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(writeln!(file, "{line}")?)
}

/// The lines of the file. Of those that are about the same, the last one counts.
pub(crate) fn read(text: &str) -> Outcome<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    for line in text.lines() {
        let record = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        match records.iter_mut().find(|other| is_same(other, &record)) {
            Some(earlier) => *earlier = record,
            None => records.push(record),
        }
    }
    Ok(records)
}

fn is_same(one: &Record, other: &Record) -> bool {
    match (one, other) {
        (Record::Measured(one), Record::Measured(other)) => {
            let key = |of: &Measured| {
                let names = [&of.server, &of.adapter, &of.case, &of.partner].map(String::clone);
                (names, of.connections)
            };
            key(one) == key(other)
        }
        (Record::Build(one), Record::Build(other)) => one.adapter == other.adapter,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"server":"PostgreSQL 15.18","adapter":"sync","connections":16,"case":"run1",
        "partner":"bare1","pairs":20,"ratio":0.97,"low":0.96,"high":0.98,
        "of_case":{"operations":97,"seconds":1.0,"per_second":97.0,"client_cpu_us":9.5,"server_cpu_us":130.0},
        "of_partner":{"operations":100,"seconds":1.0,"per_second":100.0,"client_cpu_us":9.0,"server_cpu_us":null}}"#;

    #[test]
    fn the_last_line_about_the_same_counts() {
        let line = LINE.replace('\n', " ");
        let again = line.replace("0.97,", "0.99,");
        let other = line.replace(":16", ":1");
        let build = r#"{"adapter":"async","operations":100,"bare_s":2.0,"dbop_s":2.5}"#;
        let text = [&line, &other, build, &again, build].join("\n");
        let records = read(&text).expect("records");
        assert_eq!(records.len(), 3, "{records:?}");
        let Record::Measured(first) = &records[0] else {
            panic!("{records:?}")
        };
        assert!((first.interval.ratio - 0.99).abs() < 1e-9, "{first:?}");
        assert_eq!(first.of_partner.server_cpu_us, None);
        let line = serde_json::to_string(first).expect("a line");
        let read_again = read(&line).expect("a record");
        assert_eq!(&records[..1], &read_again[..]);
        assert!(read("{}").is_err());
    }
}
