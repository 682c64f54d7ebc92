//! The harness of the storms works: a small one, from the first client to the chart.

use std::fs;
use std::path::Path;

use crate::storm;

fn run(out: &Path, arguments: &[&str]) {
    let out = out.to_str().expect("UTF-8");
    let arguments = arguments.iter().copied().chain(["--out", out]);
    storm::run(arguments.map(String::from)).expect("a storm without a loss");
}

#[test]
fn a_small_one_is_measured_and_drawn() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let folder = folder.path();
    let cell = ["--servers", "sqlite", "--cells", "busy-transfers"];
    let policies = [
        "--policies",
        "loop;default",
        "--clients",
        "2,4",
        "--seconds",
        "0.5",
    ];
    run(folder, &[&cell[..], &policies].concat());

    let table = fs::read_to_string(folder.join("results.tsv")).expect("results");
    let rows: Vec<Vec<_>> = table.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows.len(), 5, "{table}");
    let committed = rows[0].iter().position(|name| *name == "committed");
    let committed = committed.expect("a column");
    for row in &rows[1..] {
        assert_ne!(row[committed], "0", "{row:?}");
    }

    run(folder, &["--render", folder.to_str().expect("UTF-8")]);
    let page = fs::read_to_string(folder.join("storms.md")).expect("a page");
    for row in &rows[1..] {
        assert!(page.contains(&format!("| {} |", row[6])), "{page}");
    }
    let charts = fs::read_dir(folder.join("storms")).expect("charts");
    assert_eq!(charts.count(), 1);
}
