//! Whether what is expected of dbop was measured.

use std::fmt::Write as _;

use super::build::Build;
use super::record::Measured;

/// PostgreSQL, 16 connections: the interval contains this share of bare Diesel, or lies above it.
const SHARE: f64 = 0.95;

/// How much longer than bare Diesel's the build may be.
const BUILD: f64 = 1.5;

/// A line for each expectation of which there is a measurement.
pub(crate) fn of(servers: &[&Measured], threads: &[&Measured], builds: &[&Build]) -> String {
    let mut lines = String::new();
    for row in servers {
        if is_run(row) && row.server.starts_with("PostgreSQL") && row.connections == 16 {
            let verdict = match row.interval.reaches(SHARE) {
                true => "which contains or exceeds",
                false => "which is less than",
            };
            _ = writeln!(
                lines,
                "- {}, {}, 16 connections, run1 beside bare1: {}, {verdict} {SHARE}.",
                row.server, row.adapter, row.interval
            );
        }
    }
    lines += &flat(threads).unwrap_or_default();
    for build in builds {
        let ratio = build.ratio();
        let verdict = match ratio <= BUILD {
            true => "within",
            false => "above",
        };
        _ = writeln!(
            lines,
            "- Compiling {} operations, {}: {ratio:.2} of bare Diesel, {verdict} the limit of {BUILD}.",
            build.operations, build.adapter
        );
    }
    match lines.is_empty() {
        true => lines,
        false => format!("\n### What is expected\n\n{lines}"),
    }
}

fn is_run(row: &Measured) -> bool {
    row.case == "run1" && row.partner == "bare1"
}

/// Whether more threads cost no more than one: their intervals meet.
fn flat(threads: &[&Measured]) -> Option<String> {
    let mut rows = threads.iter().filter(|row| is_run(row));
    let first = rows.next()?;
    let apart = rows
        .clone()
        .filter(|row| !row.interval.meets(first.interval));
    let apart: Vec<_> = apart.map(|row| row.connections.to_string()).collect();
    let last = rows.next_back()?;
    let verdict = match apart.is_empty() {
        true => "flat within the noise".into(),
        false => format!("not the same with {} threads", apart.join(", ")),
    };
    Some(format!(
        "- {}, {} to {} threads, run1 beside bare1: {verdict}.\n",
        first.server, first.connections, last.connections
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::interval::Interval;
    use crate::bench::record::Side;

    fn run(server: &str, connections: u32, low: f64, high: f64) -> Measured {
        Measured {
            server: server.into(),
            adapter: "sync".into(),
            connections,
            case: "run1".into(),
            partner: "bare1".into(),
            pairs: 20,
            interval: Interval {
                ratio: f64::midpoint(low, high),
                low,
                high,
            },
            of_case: Side::default(),
            of_partner: Side::default(),
        }
    }

    #[test]
    fn a_share_is_reached_or_not() {
        let enough = run("PostgreSQL 15.18", 16, 0.93, 0.95);
        let too_little = run("PostgreSQL 18.1", 16, 0.90, 0.94);
        let others = [
            run("PostgreSQL 15.18", 1, 0.5, 0.6),
            run("MySQL 9.7", 16, 0.5, 0.6),
        ];
        let rows = [&enough, &others[0], &too_little, &others[1]];
        assert_eq!(
            of(&rows, &[], &[]),
            "\n### What is expected\n\n\
             - PostgreSQL 15.18, sync, 16 connections, run1 beside bare1: 0.94 (0.93 to 0.95), which contains or \
             exceeds 0.95.\n\
             - PostgreSQL 18.1, sync, 16 connections, run1 beside bare1: 0.92 (0.90 to 0.94), which is less than \
             0.95.\n"
        );
        assert_eq!(of(&rows[1..2], &[], &[]), "");
    }

    #[test]
    fn threads_are_flat_or_not() {
        let alone = run("SQLite", 1, 0.80, 0.84);
        let two = run("SQLite", 2, 0.70, 0.79);
        let many = run("SQLite", 64, 0.83, 0.90);
        let text = of(&[], &[&alone, &many], &[]);
        assert!(
            text.contains("1 to 64 threads, run1 beside bare1: flat within"),
            "{text}"
        );
        let text = of(&[], &[&alone, &two, &many], &[]);
        assert!(text.contains("not the same with 2 threads."), "{text}");
        assert_eq!(of(&[], &[&alone], &[]), "");
    }

    #[test]
    fn a_build_is_within_its_limit_or_not() {
        let build = |dbop_s| Build {
            adapter: "async".into(),
            operations: 100,
            bare_s: 2.0,
            dbop_s,
        };
        let (short, long) = (build(3.0), build(3.2));
        let text = of(&[], &[], &[&short, &long]);
        assert!(
            text.contains("async: 1.50 of bare Diesel, within the limit"),
            "{text}"
        );
        assert!(
            text.contains("async: 1.60 of bare Diesel, above the limit"),
            "{text}"
        );
    }
}
