//! What a table says about the default and about gates, in words.

use std::fmt::Write as _;

use super::policies::ALONE_BY_DBOP;
use super::results::Measured;
use super::tables::{Group, rate};

/// What is compared, and against what.
const COMPARED: [(&str, &str); 3] = [
    ("default", "loop"),
    ("default, in steps", "loop"),
    ("default, in steps", "loop, in steps"),
];

/// Gates, and the share of what one client does alone that they are to reach, in percent.
const GATES: [(&str, f64); 2] = [("gate by name", 60.0), ("gate by key", 90.0)];

/// A line for each comparison, for every number of clients.
pub(crate) fn of(group: &Group) -> String {
    let mut lines = String::new();
    for clients in group.clients() {
        for (policy, by_hand) in COMPARED {
            _ = against_loop(&mut lines, group, clients, policy, by_hand);
        }
        for (gate, wanted) in GATES {
            _ = at_gate(&mut lines, group, clients, gate, wanted);
        }
    }
    match lines.is_empty() {
        true => lines,
        false => format!("\n{lines}"),
    }
}

/// Where the policy is worse than the loop. Nothing if one of them was not measured.
fn against_loop(
    lines: &mut String,
    group: &Group,
    clients: usize,
    policy: &str,
    by_hand: &str,
) -> Option<()> {
    let default = group.find(policy, clients)?;
    let other = group.find(by_hand, clients)?;
    _ = write!(lines, "- {clients} clients, `{policy}` and `{by_hand}`: ");
    let verdict = match (default.is_unfair(), other.is_unfair()) {
        (false, false) => worse(default, other),
        (true, true) => "not compared, both are unfair".into(),
        (true, false) => format!("not compared, `{policy}` is unfair"),
        (false, true) => format!("not compared, `{by_hand}` is unfair"),
    };
    _ = writeln!(lines, "{verdict}.");
    Some(())
}

fn worse(default: &Measured, other: &Measured) -> String {
    let mut worse = Vec::new();
    if default.per_second() < other.per_second() {
        worse.push(format!(
            "committed/s ({} against {})",
            rate(default),
            rate(other)
        ));
    }
    if default.failed > other.failed {
        worse.push(format!(
            "failed ({} against {})",
            default.failed, other.failed
        ));
    }
    if default.p99 > other.p99 {
        worse.push(format!(
            "p99 ({:.1} ms against {:.1} ms)",
            default.p99, other.p99
        ));
    }
    match worse.is_empty() {
        true => "worse in nothing".into(),
        false => format!("worse in {}", worse.join(", ")),
    }
}

/// How much of what one client does alone a gate reaches. Nothing if one of them was not measured.
fn at_gate(
    lines: &mut String,
    group: &Group,
    clients: usize,
    gate: &str,
    wanted: f64,
) -> Option<()> {
    let row = group.find(gate, clients)?;
    // One alone is the same, however many clients the others are.
    let mut rows = group.rows.iter().rev();
    let alone = rows.find(|row| row.policy == ALONE_BY_DBOP && row.run == 0)?;
    let share = 100.0 * row.per_second() / alone.per_second().max(0.1);
    let verdict = match share >= wanted {
        _ if row.is_unfair() => "which is unfair",
        true => "which is enough",
        false => "which is too little",
    };
    _ = writeln!(
        lines,
        "- {clients} clients, `{gate}`: {share:.0} % of `{ALONE_BY_DBOP}`, {verdict} ({wanted} % are expected)."
    );
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policy: &str, committed: u64, failed: u64, p99: f64, fewest: u64) -> Measured {
        Measured {
            server: "a server".into(),
            cell: "a cell".into(),
            adapter: "sync".into(),
            processes: 1,
            ramp: 0.0,
            clients: 10,
            policy: policy.into(),
            run: 0,
            seconds: 1.0,
            committed,
            attempts: committed,
            failed,
            cut: 0,
            p50: 1.0,
            p99,
            longest: p99,
            fewest,
            most: committed,
            each_second: String::new(),
        }
    }

    fn verdicts(rows: Vec<Measured>) -> String {
        of(&Group {
            title: "a title".into(),
            file: "a-file.svg".into(),
            rows,
        })
    }

    #[test]
    fn what_is_worse_than_the_loop_is_named() {
        let default = row("default", 100, 5, 20.0, 10);
        assert_eq!(
            verdicts(vec![default.clone(), row("loop", 200, 3, 10.0, 20)]),
            "\n- 10 clients, `default` and `loop`: worse in committed/s (100 against 200), failed \
             (5 against 3), p99 (20.0 ms against 10.0 ms).\n"
        );
        assert_eq!(
            verdicts(vec![default.clone(), row("loop", 90, 5, 30.0, 9)]),
            "\n- 10 clients, `default` and `loop`: worse in nothing.\n"
        );
        assert_eq!(
            verdicts(vec![default.clone(), row("loop", 900, 0, 1.0, 1)]),
            "\n- 10 clients, `default` and `loop`: not compared, `loop` is unfair.\n"
        );
        assert_eq!(verdicts(vec![default]), "");
    }

    #[test]
    fn gates_reach_a_share_of_one_alone_or_do_not() {
        let alone = row(ALONE_BY_DBOP, 1000, 0, 1.0, 1000);
        let (name, key) = (
            row("gate by name", 600, 0, 1.0, 60),
            row("gate by key", 890, 0, 1.0, 89),
        );
        assert_eq!(
            verdicts(vec![alone, name, key.clone()]),
            "\n- 10 clients, `gate by name`: 60 % of `one alone, by dbop`, which is enough (60 % are expected).\n\
             - 10 clients, `gate by key`: 89 % of `one alone, by dbop`, which is too little (90 % are expected).\n"
        );
        assert_eq!(verdicts(vec![key]), "");
    }
}
