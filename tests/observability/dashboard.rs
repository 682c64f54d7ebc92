//! The dashboard for Grafana and the rules for alerts ask for metrics, labels and values that there are.

use std::collections::BTreeSet;
use std::path::Path;

use dbop_diesel::{Metrics, StopReason};

use crate::programs::prometheus;

/// Why an operation can have ended.
const STOPS: [StopReason; 13] = [
    StopReason::Succeeded,
    StopReason::AlreadyDone,
    StopReason::OwnError,
    StopReason::NotRetryable,
    StopReason::RetriesExhausted,
    StopReason::BudgetExhausted,
    StopReason::DeadlineExceeded,
    StopReason::EnclosingTransaction,
    StopReason::NeedsConnection,
    StopReason::OutcomeUnknown,
    StopReason::Vetoed,
    StopReason::Panicked,
    StopReason::Cancelled,
];

/// A file of the documentation.
fn docs(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    std::fs::read_to_string(docs.join(name)).expect("it is there")
}

/// The queries of the dashboard.
fn shown(dashboard: &str) -> Vec<&str> {
    let lines = dashboard.lines().filter_map(|line| {
        let (_, query) = line.trim().split_once("\"expr\": \"")?;
        query.rsplit_once('"').map(|(query, _)| query)
    });
    lines.collect()
}

/// The queries of the rules for alerts.
fn alerted(page: &str) -> Vec<&str> {
    let lines = page.lines();
    lines
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .collect()
}

/// What is between these, each time.
fn between<'a>(text: &'a str, begin: &'a str, end: char) -> impl Iterator<Item = &'a str> {
    let parts = text.split(begin).skip(1);
    parts.filter_map(move |part| part.split_once(end).map(|(inside, _)| inside))
}

/// The conditions of a query: labels with their values.
fn conditions(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let conditions = between(query, "{", '}').flat_map(|all| all.split(','));
    conditions.map(|condition| {
        let (label, value) = condition.split_once('=').expect("a condition");
        let value = value.trim_start_matches('~').trim_matches(['"', '\'']);
        (label.trim().trim_end_matches('!'), value)
    })
}

/// The labels in a query.
fn labels(query: &str) -> BTreeSet<&str> {
    let grouped = between(query, "by (", ')').flat_map(|all| all.split(", "));
    let labels = conditions(query).map(|(label, _)| label).chain(grouped);
    labels.collect()
}

/// The names of metrics in a query.
fn metrics(query: &str) -> BTreeSet<&str> {
    let labels = labels(query);
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("dbop_") || word.starts_with("db_"));
    names.filter(|word| !labels.contains(word)).collect()
}

/// Each of these is one of those.
#[track_caller]
fn assert_known(what: &BTreeSet<&str>, known: &BTreeSet<&str>) {
    for name in what {
        assert!(
            known.contains(name),
            "{name} is asked for and not there: {known:?}"
        );
    }
}

#[test]
fn the_dashboard_and_the_rules_ask_for_what_there_is() {
    let (dashboard, page) = (docs("grafana-dashboard.json"), docs("observability.md"));
    let (shown, alerted) = (shown(&dashboard), alerted(&page));
    assert!(shown.len() >= 7 && alerted.len() >= 5);
    let served = prometheus();
    let lines: Vec<_> = served
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    let names = lines
        .iter()
        .filter_map(|line| line.split(['{', ' ']).next());
    let names: BTreeSet<_> = names.collect();
    let served = lines.iter().flat_map(|line| conditions(line));
    let served: BTreeSet<_> = served.map(|(label, _)| label).collect();
    let stops = STOPS.map(StopReason::as_str);

    for query in shown.iter().chain(&alerted) {
        assert!(!metrics(query).is_empty(), "{query}");
        assert_known(&metrics(query), &names);
        assert_known(&labels(query), &served);
        for (_, values) in conditions(query).filter(|(label, _)| *label == "dbop_stop") {
            assert_known(&values.split('|').collect(), &stops.into());
        }
    }
    let all: BTreeSet<_> = shown.iter().flat_map(|query| metrics(query)).collect();
    for name in Metrics::NAMES {
        let name = name.replace('.', "_");
        let is_shown = all.iter().any(|shown| shown.starts_with(&*name));
        assert!(is_shown, "{name} is not on the dashboard: {all:?}");
    }
    let all: BTreeSet<_> = alerted.iter().flat_map(|query| metrics(query)).collect();
    assert!(all.len() >= 3, "{all:?}");
}
