use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, Log, Metadata, Record};

/// A logger that remembers.
#[derive(Debug, Default)]
pub struct Capture {
    records: Mutex<Vec<Captured>>,
}

/// A remembered record.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Its level.
    pub level: Level,
    /// Its target.
    pub target: String,
    /// Its text.
    pub text: String,
    /// Its keys and values.
    pub keys: BTreeMap<String, String>,
}

impl Capture {
    /// A new one, ready to be shared with a runner.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The records so far.
    #[must_use]
    pub fn records(&self) -> Vec<Captured> {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What the last record says for a key.
    ///
    /// # Panics
    ///
    /// If there is no record, or it does not have the key.
    #[must_use]
    pub fn last(&self, key: &str) -> String {
        let records = self.records();
        records.last().expect("a record").keys[key].clone()
    }

    /// The levels of the records so far.
    #[must_use]
    pub fn levels(&self) -> Vec<Level> {
        self.records().iter().map(|record| record.level).collect()
    }
}

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut keys = Keys::default();
        record.key_values().visit(&mut keys).expect("readable keys");
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Captured {
                level: record.level(),
                target: record.target().into(),
                text: record.args().to_string(),
                keys: keys.0,
            });
    }

    fn flush(&self) {}
}

#[derive(Default)]
struct Keys(BTreeMap<String, String>);

impl<'kvs> VisitSource<'kvs> for Keys {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.insert(key.to_string(), value.to_string());
        Ok(())
    }
}
