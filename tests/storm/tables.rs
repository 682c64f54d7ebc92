//! Tables and charts of what was measured, in a page between two marks.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Outcome;
use super::cells::CELLS;
use super::chart::{self, file_name};
use super::outage::page;
use super::policies::{ALONE, POLICIES};
use super::results::{self, Measured};
use super::verdicts;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// How many clients the long table of a cell is about.
const CLIENTS: usize = 32;

/// What is compared in one table.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    /// The name of its chart.
    pub(crate) file: String,
    pub(crate) rows: Vec<Measured>,
}

impl Group {
    /// The numbers of clients, in order.
    pub(crate) fn clients(&self) -> Vec<usize> {
        let clients: BTreeSet<usize> = self.rows.iter().map(|row| row.clients).collect();
        clients.into_iter().collect()
    }

    /// The policies, in the order of their table.
    pub(crate) fn policies(&self) -> Vec<&'static str> {
        let names = POLICIES.iter().map(|policy| policy.name);
        names
            .filter(|name| self.rows.iter().any(|row| row.policy == *name))
            .collect()
    }

    /// Those that were measured with more than one number of clients.
    pub(crate) fn policies_across(&self) -> Vec<&'static str> {
        let mut policies = self.policies();
        let clients = self.clients();
        policies.retain(|policy| {
            let measured = clients.iter().filter(|n| self.find(policy, **n).is_some());
            measured.count() > 1
        });
        policies
    }

    pub(crate) fn find(&self, policy: &str, clients: usize) -> Option<&Measured> {
        let mut rows = self.rows.iter().rev();
        rows.find(|row| row.policy == policy && row.clients == clients && row.run == 0)
    }
}

/// Renders the results of a folder into the page `storms.md` and the charts of `storms/`.
pub(crate) fn render(results: &Path, docs: &Path) -> Outcome<()> {
    let all = results::read(results)?;
    let charts = docs.join("storms");
    fs::create_dir_all(&charts)?;
    let mut text = measured(&all)?;
    for group in groups(&all) {
        write!(text, "\n### {}\n\n", group.title)?;
        if group.clients().len() > 1 {
            chart::draw(&group, &charts.join(&group.file))?;
            let alt = format!("{}: committed operations and p99", group.title);
            write!(text, "![{alt}](storms/{})\n\n", group.file)?;
            text += &across(&group);
        }
        text += &in_full(&group);
        text += &verdicts::of(&group);
    }
    text += &twice(&all);
    text += &page::tables(results, docs)?;
    put_between_marks(&docs.join("storms.md"), &text)
}

/// Replaces what stands between the marks of a page.
pub(crate) fn put_between_marks(page: &Path, text: &str) -> Outcome<()> {
    let old = fs::read_to_string(page).unwrap_or_else(|_| format!("{BEGIN}\n{END}\n"));
    let (head, rest) = old.split_once(BEGIN).ok_or("the page has no mark")?;
    let (_, tail) = rest.split_once(END).ok_or("the page has one mark only")?;
    Ok(fs::write(
        page,
        format!("{head}{BEGIN}\n{text}\n{END}{tail}"),
    )?)
}

/// What is measured, where, and on what.
fn measured(all: &[Measured]) -> Outcome<String> {
    let cores = std::thread::available_parallelism()?;
    let seconds: BTreeSet<String> = all.iter().map(|row| row.seconds.to_string()).collect();
    let seconds: Vec<_> = seconds.into_iter().collect();
    let mut text =
        format!("\nMeasured on a machine with {cores} cores, clients and servers together");
    if !seconds.is_empty() {
        _ = write!(text, ", {} s a cell", seconds.join(" or "));
    }
    text += ".\n\n| cell | what it is |\n|---|---|\n";
    for cell in CELLS {
        _ = writeln!(text, "| {} | {} |", cell.name, cell.about);
    }
    text += "\n| policy | what it is |\n|---|---|\n";
    for policy in POLICIES {
        _ = writeln!(text, "| {} | {} |", policy.name, policy.about);
    }
    Ok(text)
}

fn groups(all: &[Measured]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in all {
        let title = title(row);
        match groups.iter_mut().find(|group| group.title == title) {
            Some(group) => group.rows.push(row.clone()),
            None => groups.push(Group {
                file: format!("{}.svg", file_name(&title)),
                title,
                rows: vec![row.clone()],
            }),
        }
    }
    groups
}

fn title(row: &Measured) -> String {
    let mut title = format!("{}: {}", row.server, row.cell);
    if row.adapter != "sync" {
        _ = write!(title, ", {}", row.adapter);
    }
    if row.processes > 1 {
        _ = write!(title, ", {} processes", row.processes);
    }
    if row.ramp > 0.0 {
        _ = write!(title, ", ramp of {} s", row.ramp);
    }
    title
}

/// Committed operations per second, by the number of clients.
fn across(group: &Group) -> String {
    let clients = group.clients();
    let mut text = String::from("| committed/s (failed) |");
    for number in &clients {
        _ = write!(text, " {number} clients |");
    }
    text += "\n|---|";
    text += &"---|".repeat(clients.len());
    text.push('\n');
    for policy in group.policies_across() {
        _ = write!(text, "| {policy} |");
        for number in &clients {
            match group.find(policy, *number) {
                Some(row) => _ = write!(text, " {}{} |", rate(row), failures(row)),
                None => text += " |",
            }
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

fn failures(row: &Measured) -> String {
    match row.failed {
        0 => String::new(),
        failed => format!(" ({failed})"),
    }
}

/// Everything, for one number of clients.
fn in_full(group: &Group) -> String {
    let clients = group.clients();
    let Some(clients) = clients.iter().find(|n| **n == CLIENTS).or(clients.last()) else {
        return String::new();
    };
    let alone = group.find(ALONE, *clients).map(Measured::per_second);
    let mut text = format!(
        "| {clients} clients | committed/s | of one alone | failed | wasted | p50 ms | p99 ms \
         | longest ms | a client |\n|---|---|---|---|---|---|---|---|---|\n"
    );
    for policy in group.policies() {
        let Some(row) = group.find(policy, *clients) else {
            continue;
        };
        let share = alone.map_or(String::new(), |alone| {
            format!("{:.3}", row.per_second() / alone)
        });
        let unfair = if row.is_unfair() { ", unfair" } else { "" };
        _ = writeln!(
            text,
            "| {policy} | {} | {share} | {} | {:.2} | {:.1} | {:.1} | {:.0} | {} to {}{unfair} |",
            rate(row),
            row.failed,
            row.wasted(),
            row.p50,
            row.p99,
            row.longest,
            row.fewest,
            row.most,
        );
    }
    text
}

pub(crate) fn rate(row: &Measured) -> String {
    let rate = row.per_second();
    if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

/// The same twice: how much of a difference is noise.
fn twice(all: &[Measured]) -> String {
    let mut text = String::new();
    let mut most = 1.0_f64;
    let is_same = |one: &Measured, other: &Measured| {
        (&one.policy, one.clients) == (&other.policy, other.clients) && title(one) == title(other)
    };
    for (index, second) in all.iter().enumerate().filter(|(_, row)| row.run > 0) {
        let later = &all[index + 1..];
        if later.iter().any(|row| row.run > 0 && is_same(row, second)) {
            continue;
        }
        let mut before = all[..index].iter().rev();
        let Some(first) = before.find(|row| row.run == 0 && is_same(row, second)) else {
            continue;
        };
        let (one, other) = (first.per_second(), second.per_second());
        // A few operations more or less are any factor.
        if one.min(other) >= 1.0 {
            most = most.max(one.max(other) / one.min(other));
        }
        _ = writeln!(
            text,
            "| {} | {} | {} | {} ({}) | {} ({}) | {:.1} | {:.1} |",
            title(second),
            second.policy,
            second.clients,
            rate(first),
            first.failed,
            rate(second),
            second.failed,
            first.p99,
            second.p99,
        );
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "\n### The same twice\n\nWhere one operation a second or more was committed, two runs of the same differ by a \
         factor of {most:.1} at most. Believe no smaller one.\n\n| where | policy | clients | committed/s (failed) | again | p99 ms \
         | again |\n|---|---|---|---|---|---|---|\n{text}"
    )
}
