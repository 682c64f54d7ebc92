//! The services show what they are written for.

use std::process::Command;

use dbop_diesel::Metrics;

/// What a program prints.
pub(crate) fn printed(path: &str) -> String {
    let output = Command::new(path).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What Prometheus gets.
pub(crate) fn prometheus() -> String {
    printed(env!("CARGO_BIN_EXE_prometheus"))
}

#[test]
fn prometheus_gets_each_metric_with_its_unit_and_buckets() {
    let text = prometheus();
    for name in Metrics::NAMES {
        let name = name.replace('.', "_");
        assert!(text.contains(&format!("# HELP {name}")), "{name}: {text}");
    }
    for line in [
        "dbop_retries_total{db_system_name=\"sqlite\",dbop_class=\"busy\",dbop_phase=\"begin\"} 1",
        "dbop_outcomes_total{dbop_outcome=\"undone\",dbop_stop=\"own_error\"} 1",
        "dbop_outcomes_total{dbop_outcome=\"committed\",dbop_stop=\"succeeded\"} 3",
        // Before there is one.
        "dbop_outcomes_total{dbop_outcome=\"unknown\",dbop_stop=\"outcome_unknown\"} 0",
        "dbop_outcomes_total{dbop_outcome=\"undone\",dbop_stop=\"panicked\"} 0",
        "dbop_outcomes_total{dbop_outcome=\"unknown\",dbop_stop=\"panicked\"} 0",
        "dbop_operation_attempts_bucket{db_system_name=\"sqlite\",dbop_outcome=\"committed\",le=\"2\"} 3",
        "dbop_connection_wait_time_seconds_count{dbop_pool=\"accounts\"} 5",
        "dbop_gate_conflicts_total{db_system_name=\"sqlite\",dbop_gate=\"number\"} 1",
        "dbop_gate_limit{db_system_name=\"sqlite\",dbop_gate=\"number\"} 1",
        "dbop_gate_limit{db_system_name=\"sqlite\",dbop_gate=\"create\"} 0",
        // 100 of the reserve, less the two that were made.
        "dbop_retry_budget{dbop_pool=\"accounts\"} 98",
        "dbop_node_failures{dbop_pool=\"accounts\",dbop_node=\"0\"} 0",
        "db_query_summary=\"transfer\",le=\"10\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // What failed has the code.
    let line = "error_type=\"19\",db_query_summary=\"open\"} 1";
    assert!(text.contains(line), "{line}: {text}");
}

#[test]
fn opentelemetry_gets_the_spans_of_operations_attempts_and_bodies() {
    let text = printed(env!("CARGO_BIN_EXE_opentelemetry"));
    for name in [
        "POST /transfers",
        "transfer",
        "dbop.attempt",
        "withdraw",
        "deposit",
    ] {
        assert!(
            text.contains(&format!("Name         : {name}"))
                || text.contains(&format!("Name        : {name}")),
            "{name}: {text}"
        );
    }
    for field in [
        "db.system.name",
        "dbop.resend_count",
        "dbop.outcome",
        "busy",
    ] {
        assert!(text.contains(field), "{field}: {text}");
    }
}
