//! Tables and charts of what was measured, in a page between two marks.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::build::Build;
use super::cases::CASES;
use super::chart;
use super::record::{self, Measured, Record};
use super::verdicts;
use crate::storm::Outcome;
use crate::storm::tables::put_between_marks;

/// What a guarantee costs is what a case costs beside its partner.
#[derive(Debug)]
pub(crate) struct Guarantee {
    pub(crate) what: &'static str,
    how: &'static str,
    case: &'static str,
    partner: &'static str,
}

const fn guarantee(
    what: &'static str,
    how: &'static str,
    case: &'static str,
    partner: &'static str,
) -> Guarantee {
    Guarantee {
        what,
        how,
        case,
        partner,
    }
}

pub(crate) const GUARANTEES: &[Guarantee] = &[
    guarantee("none: the same twice, A/A", "", "bare1", "bare1"),
    guarantee(
        "a rollback that the server does not tell of is noticed",
        "always",
        "checked1",
        "bare1",
    ),
    guarantee(
        "no statement after such a rollback is committed",
        "always, on MySQL and MariaDB",
        "contained1",
        "checked1",
    ),
    guarantee(
        "all that is always there",
        "`with_default_lock_timeout(None)`",
        "unset1",
        "bare1",
    ),
    guarantee(
        "the same and the default lock timeout",
        "default",
        "run1",
        "bare1",
    ),
    guarantee(
        "timeouts of its own",
        "`lock_timeout`, `statement_timeout`",
        "settings1",
        "run1",
    ),
    guarantee("it writes nothing", "`read_only`", "readonly1", "bareread1"),
    guarantee(
        "steps that are undone alone",
        "nested operations",
        "nested3",
        "barenested3",
    ),
    guarantee(
        "once, also if the answer to COMMIT is lost",
        "`ledger`",
        "ledger1",
        "runon1",
    ),
    guarantee(
        "once for all calls with one key",
        "`idempotency_key`",
        "keyed1",
        "runon1",
    ),
    guarantee(
        "retries without a transaction",
        "`without_transaction`",
        "plain1",
        "bareplain1",
    ),
];

/// What was measured on one server, by one adapter, with so many connections.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) title: String,
    pub(crate) rows: Vec<&'a Measured>,
}

impl<'a> Group<'a> {
    fn all(measured: &[&'a Measured]) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for row in measured {
            let title = title(row);
            match groups.iter_mut().find(|group| group.title == title) {
                Some(group) => group.rows.push(row),
                None => groups.push(Self {
                    title,
                    rows: vec![row],
                }),
            }
        }
        groups
    }

    pub(crate) fn find(&self, guarantee: &Guarantee) -> Option<&'a Measured> {
        let mut rows = self.rows.iter().copied();
        rows.find(|row| row.case == guarantee.case && row.partner == guarantee.partner)
    }
}

fn title(row: &Measured) -> String {
    let connections = match row.connections {
        1 => "1 connection".into(),
        number => format!("{number} connections"),
    };
    format!("{}, {}, {connections}", row.server, row.adapter)
}

/// Renders the file into the page `cost.md` and the charts of `cost/`.
pub(crate) fn render(results: &Path, docs: &Path) -> Outcome<()> {
    let records = record::read(&fs::read_to_string(results)?)?;
    let measured = records.iter().filter_map(|record| match record {
        Record::Measured(measured) => Some(&**measured),
        Record::Build(_) => None,
    });
    let (threads, on_servers): (Vec<_>, Vec<_>) =
        measured.partition(|row| row.server.contains(record::IN_MEMORY));
    let builds: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Build(build) => Some(build),
            Record::Measured(_) => None,
        })
        .collect();
    let groups = Group::all(&on_servers);
    let charts = docs.join("cost");
    fs::create_dir_all(&charts)?;

    let mut text = introduction(&on_servers)?;
    text += &guarantees(&groups);
    if !groups.is_empty() {
        chart::draw_guarantees(&groups, &charts.join("guarantees.svg"))?;
        text +=
            "\n![What each guarantee costs, as a share of the throughput](cost/guarantees.svg)\n";
    }
    for group in &groups {
        text += &in_full(group);
    }
    if !threads.is_empty() {
        text += &by_threads(&threads);
        chart::draw_threads(&threads, &charts.join("threads.svg"))?;
        text += "\n![The share of the throughput, by the number of threads](cost/threads.svg)\n";
    }
    text += &compiled(&builds);
    text += &counted(&results.with_file_name("instructions.md"))?;
    text += &verdicts::of(&on_servers, &threads, &builds);
    put_between_marks(&docs.join("cost.md"), &text)
}

fn introduction(measured: &[&Measured]) -> Outcome<String> {
    let cores = std::thread::available_parallelism()?;
    let mut text =
        format!("\nMeasured on a machine with {cores} cores, clients and servers together");
    if let Some(row) = measured.first() {
        let blocks = 2.0 * f64::from(row.pairs);
        let seconds = (row.of_case.seconds + row.of_partner.seconds) / blocks;
        _ = write!(text, ", in {} pairs of blocks of {seconds:.2} s", row.pairs);
    }
    text += ".\n\n| case | what an operation is |\n|---|---|\n";
    for case in CASES {
        _ = writeln!(text, "| {} | {} |", case.name, case.about);
    }
    Ok(text)
}

fn guarantees(groups: &[Group<'_>]) -> String {
    let mut text =
        String::from("\n### What each guarantee costs\n\n| guarantee | how to have it |");
    let groups = || groups.iter().filter(|group| is_sync(group));
    for group in groups() {
        _ = write!(text, " {} |", group.title.replace(", sync", ""));
    }
    _ = writeln!(text, "\n|---|---|{}", "---|".repeat(groups().count()));
    for guarantee in GUARANTEES {
        _ = write!(text, "| {} | {} |", guarantee.what, guarantee.how);
        for group in groups() {
            match group.find(guarantee) {
                Some(row) => _ = write!(text, " {} |", row.interval),
                None => text += " |",
            }
        }
        text.push('\n');
    }
    text
}

pub(crate) fn is_sync(group: &Group<'_>) -> bool {
    group.rows.iter().all(|row| row.adapter == "sync")
}

fn in_full(group: &Group<'_>) -> String {
    let mut text = format!(
        "\n### {}\n\n| case | beside | ratio | operations/s | server CPU, us | client CPU, us |\n\
         |---|---|---|---|---|---|\n",
        group.title
    );
    for row in &group.rows {
        let (one, other) = (row.of_case, row.of_partner);
        let server = match (one.server_cpu_us, other.server_cpu_us) {
            (Some(one), Some(other)) => format!("{one:.1} / {other:.1}"),
            _ => String::new(),
        };
        _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} / {:.0} | {server} | {:.1} / {:.1} |",
            row.case,
            row.partner,
            row.interval,
            one.per_second,
            other.per_second,
            one.client_cpu_us,
            other.client_cpu_us,
        );
    }
    text
}

/// In memory, where each thread has a database of its own and nothing is shared but dbop.
fn by_threads(rows: &[&Measured]) -> String {
    let mut text = format!(
        "\n### {}, by the number of threads\n\n| threads |",
        rows[0].server
    );
    let pairs = pairs_of(rows);
    for (case, partner) in &pairs {
        _ = write!(text, " {case} / {partner} |");
    }
    _ = writeln!(text, "\n|---|{}", "---|".repeat(pairs.len()));
    let mut threads: Vec<_> = rows.iter().map(|row| row.connections).collect();
    threads.sort_unstable();
    threads.dedup();
    for number in threads {
        _ = write!(text, "| {number} |");
        for (case, partner) in &pairs {
            let mut rows = rows.iter();
            let is_it = |row: &&&Measured| {
                (row.connections, &row.case, &row.partner) == (number, case, partner)
            };
            match rows.find(is_it) {
                Some(row) => _ = write!(text, " {} |", row.interval),
                None => text += " |",
            }
        }
        text.push('\n');
    }
    text
}

/// The cases with their partners, in the order in which they were measured.
pub(crate) fn pairs_of(rows: &[&Measured]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for row in rows {
        let pair = (row.case.clone(), row.partner.clone());
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs
}

fn compiled(builds: &[&Build]) -> String {
    if builds.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n### Compile time\n\nCPU seconds of a release build of a crate of operations, its dependencies left \
         out.\n\n| adapter | operations | Diesel | dbop | ratio |\n|---|---|---|---|---|\n",
    );
    for build in builds {
        _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.2} |",
            build.adapter,
            build.operations,
            build.bare_s,
            build.dbop_s,
            build.ratio(),
        );
    }
    text
}

/// The table of another program.
fn counted(file: &Path) -> Outcome<String> {
    if !file.exists() {
        return Ok(String::new());
    }
    let table = fs::read_to_string(file)?;
    Ok(format!(
        "\n### Instructions\n\nOf one operation, in the client, on SQLite in memory. They are counted, so there \
         is no noise.\n\n{}\n",
        table.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::interval::Interval;
    use crate::bench::record::Side;

    fn row(case: &str, partner: &str, connections: u32) -> Measured {
        let side = Side {
            operations: 100,
            seconds: 1.0,
            per_second: 100.0,
            client_cpu_us: 9.0,
            server_cpu_us: Some(130.0),
        };
        Measured {
            server: "PostgreSQL 15.18".into(),
            adapter: "sync".into(),
            connections,
            case: case.into(),
            partner: partner.into(),
            pairs: 20,
            interval: Interval {
                ratio: 0.97,
                low: 0.96,
                high: 0.98,
            },
            of_case: side,
            of_partner: Side {
                server_cpu_us: Some(120.0),
                ..side
            },
        }
    }

    #[test]
    fn a_guarantee_has_a_column_for_each_place() {
        let rows = [row("run1", "bare1", 16), row("ledger1", "runon1", 32)];
        let groups = Group::all(&rows.iter().collect::<Vec<_>>());
        let text = guarantees(&groups);
        let line = |what: &str| {
            let line = text.lines().find(|line| line.contains(what));
            line.expect("a line").to_owned()
        };
        assert_eq!(
            line("how to have it"),
            "| guarantee | how to have it | PostgreSQL 15.18, 16 connections | PostgreSQL 15.18, 32 connections |"
        );
        assert!(line("default lock timeout").ends_with("| default | 0.97 (0.96 to 0.98) | |"));
        assert!(line("`ledger`").ends_with("| `ledger` | | 0.97 (0.96 to 0.98) |"));
        let text = in_full(&groups[0]);
        let expected =
            "| run1 | bare1 | 0.97 (0.96 to 0.98) | 100 / 100 | 130.0 / 120.0 | 9.0 / 9.0 |";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn threads_are_lines_of_one_table() {
        let rows = [
            row("run1", "bare1", 1),
            row("bare1", "bare1", 1),
            row("run1", "bare1", 64),
        ];
        let text = by_threads(&rows.iter().collect::<Vec<_>>());
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines[0], "| threads | run1 / bare1 | bare1 / bare1 |");
        assert_eq!(lines[3], "| 64 | 0.97 (0.96 to 0.98) | |");
    }

    #[test]
    fn each_guarantee_is_a_case_and_its_partner() {
        for Guarantee { case, partner, .. } in GUARANTEES {
            let of_name = |name: &&str| CASES.iter().any(|case| case.name == *name);
            assert!(of_name(case) && of_name(partner), "{case}/{partner}");
        }
    }
}
