//! The benchmark program works: every case that SQLite has, from the first row to the charts.

use std::fs;
use std::path::Path;

use crate::bench;

fn run(arguments: &[&str]) -> Result<(), String> {
    let arguments = arguments.iter().copied().map(String::from);
    bench::run(arguments).map_err(|error| error.to_string())
}

fn op(out: &Path, arguments: &[&str]) {
    let few = ["--pairs", "2", "--ops", "4", "--out", utf8(out)];
    run(&[&["op"], arguments, &few].concat()).expect("every operation is carried out");
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn every_case_is_measured_and_drawn() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let folder = folder.path();
    let out = folder.join("results.jsonl");
    op(&out, &["--sqlite"]);
    op(&out, &["--sqlite", "--async", "--conc", "2"]);
    op(
        &out,
        &["--memory", "--conc", "1,4", "--cases", "run1,bare1"],
    );

    let lines = fs::read_to_string(&out).expect("results");
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let is_in_memory = |line: &serde_json::Value| {
        let server = line["server"].as_str();
        server.expect("a name").contains("memory")
    };
    let of_adapter = |adapter| -> Vec<_> {
        let lines = lines.iter().filter(|line| line["adapter"] == adapter);
        lines.filter(|line| !is_in_memory(line)).collect()
    };
    assert_eq!(of_adapter("sync").len(), of_adapter("async").len());
    for line in &lines {
        for side in ["of_case", "of_partner"] {
            let operations = line[side]["operations"].as_u64();
            assert_eq!(operations, Some(8), "two blocks of four: {line}");
        }
        let [low, ratio, high] = ["low", "ratio", "high"].map(|name| line[name].as_f64());
        assert!(low <= ratio && ratio <= high, "{line}");
    }

    let build = r#"{"adapter":"async","operations":100,"bare_s":2.0,"dbop_s":2.5}"#;
    bench::record::append(&out, build).expect("one more line");
    fs::write(folder.join("instructions.md"), "| 4711 |\n").expect("a table");
    run(&["render", utf8(&out), "--docs", utf8(folder)]).expect("a page");
    let page = fs::read_to_string(folder.join("cost.md")).expect("a page");
    for line in of_adapter("sync") {
        let case = line["case"].as_str().expect("a name");
        assert!(page.contains(&format!("| {case} | ")), "{case}: {page}");
    }
    assert!(
        page.contains("1 to 4 threads, run1 beside bare1: "),
        "{page}"
    );
    assert!(
        page.contains("| async | 100 | 2.0 | 2.5 | 1.25 |"),
        "{page}"
    );
    assert!(page.contains("\n| 4711 |\n"), "{page}");
    for chart in ["guarantees.svg", "threads.svg"] {
        assert!(page.contains(&format!("(cost/{chart})")), "{page}");
        let chart = fs::read_to_string(folder.join("cost").join(chart)).expect("a chart");
        assert!(chart.contains("<circle"), "{chart}");
    }
}

#[test]
fn how_long_it_takes_is_known_before() {
    run(&["op", "--sqlite", "--expect"]).expect("a number");
    let error = run(&["op", "--sqlite", "--expect", "--ops", "1"]).expect_err("no number");
    assert!(error.contains("--seconds"), "{error}");
}

/// Storms have a small one of their own.
#[test]
fn contention_is_that_of_the_storms() {
    run(&["contention", "--list"]).expect("a list");
    let error = run(&["contention", "--cells", "none"]).expect_err("no cell");
    assert!(error.contains("none"), "{error}");
}
