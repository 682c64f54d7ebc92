//! The dashboard for Grafana shows metrics that there are.

use std::collections::BTreeSet;
use std::path::Path;

use crate::programs::prometheus;

/// The texts of a file's queries.
fn queries(dashboard: &str) -> Vec<&str> {
    let lines = dashboard.lines().filter_map(|line| {
        let (_, query) = line.trim().split_once("\"expr\": \"")?;
        query.rsplit_once('"').map(|(query, _)| query)
    });
    lines.collect()
}

/// The names of metrics in a query.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| {
        let is_label = [
            "db_system_name",
            "db_query_summary",
            "dbop_outcome",
            "dbop_stop",
        ];
        let is_label =
            is_label.contains(word) || matches!(*word, "dbop_class" | "dbop_phase" | "dbop_pool");
        (word.starts_with("dbop_") || word.starts_with("db_")) && !is_label
    })
}

#[test]
fn the_dashboard_shows_metrics_that_there_are() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let dashboard =
        std::fs::read_to_string(docs.join("grafana-dashboard.json")).expect("it is there");
    let page = std::fs::read_to_string(docs.join("observability.md")).expect("it is there");
    let served = prometheus();
    let served: BTreeSet<_> = served
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let shown: BTreeSet<_> = queries(&dashboard).into_iter().flat_map(metrics).collect();
    assert!(shown.len() >= 7, "{shown:?}");
    for name in &shown {
        assert!(
            served.contains(name),
            "{name} is shown and not there: {served:?}"
        );
    }
    // Those of the rules for alerts, too.
    let rules = page
        .lines()
        .filter(|line| line.trim_start().starts_with("expr:"));
    let alerted: BTreeSet<_> = rules.flat_map(metrics).collect();
    assert!(alerted.len() >= 3, "{alerted:?}");
    for name in &alerted {
        assert!(
            served.contains(name),
            "{name} is asked for and not there: {served:?}"
        );
    }
}
