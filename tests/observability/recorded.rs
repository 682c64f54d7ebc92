//! What a recorder of metrics has.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, Snapshotter};

/// The values of each metric with its labels. Each has a description.
pub(crate) fn values(snapshotter: &Snapshotter) -> BTreeMap<String, Vec<f64>> {
    let mut all = BTreeMap::new();
    for (key, _, description, value) in snapshotter.snapshot().into_vec() {
        assert!(description.is_some(), "{key:?}");
        let key = key.key();
        let mut name = key.name().to_owned();
        for label in key.labels() {
            name.push_str(&format!(" {}={}", label.key(), label.value()));
        }
        let values = match value {
            DebugValue::Counter(count) => vec![f64::from(u32::try_from(count).expect("few"))],
            DebugValue::Gauge(value) => vec![*value],
            DebugValue::Histogram(values) => values.into_iter().map(|value| *value).collect(),
        };
        all.insert(name, values);
    }
    all
}
