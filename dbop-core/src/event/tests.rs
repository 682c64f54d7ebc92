//! Levels, filters and keys of records; their texts are for readers and may change.

use std::collections::BTreeMap;
use std::sync::Mutex;

use log::kv::VisitSource;
use log::{LevelFilter, set_max_level};

use super::*;
use crate::FaultClass;

/// The records that were written: levels and keys. Texts have quotation marks, numbers have none.
#[derive(Default)]
struct Records {
    written: Mutex<Vec<(Level, BTreeMap<String, String>)>>,
    is_deaf: bool,
}

impl Records {
    fn take(&self) -> Vec<(Level, BTreeMap<String, String>)> {
        std::mem::take(&mut *self.written.lock().expect("no panic"))
    }
}

impl Log for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        assert_eq!(metadata.target(), TARGET);
        !self.is_deaf
    }

    fn log(&self, record: &Record<'_>) {
        let mut keys = Keys(BTreeMap::new());
        record.key_values().visit(&mut keys).expect("no error");
        let mut written = self.written.lock().expect("no panic");
        written.push((record.level(), keys.0));
    }

    fn flush(&self) {}
}

struct Keys(BTreeMap<String, String>);

impl<'kvs> VisitSource<'kvs> for Keys {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KvError> {
        self.0.insert(key.to_string(), format!("{value:?}"));
        Ok(())
    }
}

const SUBJECT: Subject<'static> = Subject {
    name: Name::Given("transfer"),
    dialect: Dialect::Mysql,
    mode: "sync",
};

const fn event(kind: EventKind) -> Event {
    Event {
        kind,
        attempt: 2,
        fault: None,
        own: None,
        phase: Phase::Body,
        delay: None,
        rollback_fault: None,
        is_autocommit: false,
    }
}

/// The only record that comes of it.
fn record(logging: &Logging, event: &Event) -> (Level, BTreeMap<String, String>) {
    let records = Arc::new(Records::default());
    let logging = Logging {
        logger: Some(records.clone()),
        ..logging.clone()
    };
    logging.record(&SUBJECT, event, Some(&"Duplicate entry"));
    let mut written = records.take();
    assert_eq!(written.len(), 1);
    written.remove(0)
}

fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter().map(|&(key, value)| (key.into(), value.into()));
    pairs.collect()
}

#[test]
fn each_kind_of_record_has_its_level() {
    let levels = LogLevels {
        success: Level::Trace,
        success_after_retries: Level::Debug,
        retry: Level::Info,
        own_error: Level::Warn,
        failure: Level::Error,
    };
    let logging = Logging {
        levels,
        ..Logging::default()
    };
    for (kind, level) in [
        (EventKind::Succeeded, levels.success_after_retries),
        (EventKind::FoundCommitted, levels.success_after_retries),
        (EventKind::Asking, levels.retry),
        (EventKind::Retrying, levels.retry),
        (EventKind::Escalated, levels.retry),
        (EventKind::SettingSkipped(Setting::ReadOnly), levels.retry),
        (EventKind::Returned, levels.own_error),
        (EventKind::HidFailure, levels.retry),
        (EventKind::Failed, levels.failure),
        (EventKind::Panicked, levels.failure),
        (EventKind::OutcomeUnknown, levels.failure),
    ] {
        assert_eq!(record(&logging, &event(kind)).0, level, "{kind:?}");
    }
    let first = Event {
        attempt: 1,
        ..event(EventKind::Succeeded)
    };
    assert_eq!(record(&logging, &first).0, levels.success);
}

/// A name that is taken is an answer. That a COMMIT was perhaps done is none, whatever refused it.
#[test]
fn a_violated_constraint_has_the_level_of_an_answer() {
    let logging = Logging::default();
    let violated = |kind| Event {
        fault: Some(Fault::from_class(Dialect::Postgres, FaultClass::Constraint)),
        attempt: 1,
        ..event(kind)
    };
    let failed = violated(EventKind::Failed);
    assert_eq!(record(&logging, &failed).0, Level::Debug);
    let not_rolled_back = Event {
        rollback_fault: Some(Fault::from_class(
            Dialect::Postgres,
            FaultClass::ConnectionLost,
        )),
        ..failed
    };
    assert_eq!(record(&logging, &not_rolled_back).0, Level::Error);
    let retried = Event {
        attempt: 2,
        ..failed
    };
    assert_eq!(record(&logging, &retried).0, Level::Error);
    let unknown = violated(EventKind::OutcomeUnknown);
    assert_eq!(record(&logging, &unknown).0, Level::Error);
    let own = Event {
        own: Some(Kind::RolledBack),
        ..failed
    };
    assert_eq!(record(&logging, &own).0, Level::Error);
}

#[test]
fn a_record_has_the_keys_of_what_happened() {
    let always = [
        ("operation", "transfer"),
        ("backend", "\"mysql\""),
        ("mode", "\"sync\""),
        ("attempt", "2"),
    ];
    let with = |more: &[(&str, &str)]| keys(&[&always, more].concat());
    let logging = Logging::default();
    let shown = |event: &Event| record(&logging, event).1;

    assert_eq!(shown(&event(EventKind::Succeeded)), keys(&always));
    assert_eq!(shown(&event(EventKind::FoundCommitted)), keys(&always));
    let returned = with(&[("phase", "\"body\""), ("transient", "false")]);
    assert_eq!(shown(&event(EventKind::Returned)), returned);
    let retrying = Event {
        fault: Some(Fault::from_code(Dialect::Mysql, Code::Errno(1213))),
        delay: Some(Duration::from_micros(12_345)),
        rollback_fault: Some(Fault::from_class(
            Dialect::Mysql,
            FaultClass::ConnectionLost,
        )),
        ..event(EventKind::Retrying)
    };
    let more = [
        ("class", "\"deadlock\""),
        ("code", "1213"),
        ("phase", "\"body\""),
        ("transient", "true"),
        ("delay_ms", "12"),
        ("rollback", "\"connection_lost\""),
    ];
    assert_eq!(shown(&retrying), with(&more));
    let skipped = event(EventKind::SettingSkipped(Setting::ReadOnly));
    assert_eq!(shown(&skipped), with(&[("setting", "\"read_only\"")]));
    let queued = Event {
        delay: Some(Duration::from_millis(7)),
        ..event(EventKind::Queued)
    };
    assert_eq!(shown(&queued), with(&[("waited_ms", "7")]));
    let waited = (queued.waited(), queued.delay());
    assert_eq!(waited, (Some(Duration::from_millis(7)), None));
    assert_eq!(retrying.waited(), None);
    assert_eq!(retrying.delay(), Some(Duration::from_micros(12_345)));
    let limited = event(EventKind::Limited(2));
    assert_eq!(shown(&limited), with(&[("limit", "2")]));
    let autocommit = Event {
        is_autocommit: true,
        ..event(EventKind::Succeeded)
    };
    assert_eq!(shown(&autocommit), with(&[("scope", "\"autocommit\"")]));
    assert!(autocommit.is_without_transaction() && !queued.is_without_transaction());
}

#[test]
fn a_class_that_the_user_gave_is_shown_beside_the_recognized_one() {
    let keys = |judged| {
        let fault = Fault::from_class(Dialect::Mysql, FaultClass::Unknown).judged_as(judged);
        let event = Event {
            fault: Some(fault),
            ..event(EventKind::Failed)
        };
        record(&Logging::default(), &event).1
    };
    let judged = keys(FaultClass::Deadlock);
    assert_eq!(judged["class"], "\"deadlock\"");
    assert_eq!(judged["recognized"], "\"unknown\"");
    assert_eq!(judged["transient"], "true");
    let same = keys(FaultClass::Unknown);
    assert_eq!(same["class"], "\"unknown\"");
    assert!(!same.contains_key("recognized"));
}

#[test]
fn the_server_s_message_is_there_if_it_was_asked_for() {
    let logging = Logging {
        server_messages: true,
        ..Logging::default()
    };
    let (_, keys) = record(&logging, &event(EventKind::Failed));
    assert_eq!(keys["error"], "Duplicate entry");
}

#[test]
fn an_operation_without_a_name_is_called_by_its_file_and_line() {
    let location = Location::caller();
    let expected = format!("{}:{}", location.file(), location.line());
    assert_eq!(Name::Call(location).to_string(), expected);
}

#[test]
fn an_event_tells_what_it_is_about() {
    let fault = Fault::from_class(Dialect::Mysql, FaultClass::Deadlock);
    let event = Event {
        fault: Some(fault),
        delay: Some(Duration::from_secs(1)),
        ..event(EventKind::Retrying)
    };
    assert_eq!(event.kind(), EventKind::Retrying);
    assert_eq!(event.attempt(), 2);
    assert_eq!(event.fault(), Some(fault));
    assert_eq!(event.delay(), Some(Duration::from_secs(1)));
}

#[test]
fn a_logger_that_wants_no_record_gets_none() {
    let deaf = Arc::new(Records {
        is_deaf: true,
        ..Records::default()
    });
    let logging = Logging {
        logger: Some(deaf.clone()),
        ..Logging::default()
    };
    logging.record(&SUBJECT, &event(EventKind::Failed), None);
    assert!(deaf.take().is_empty());
}

/// The only test that sets the global logger.
#[test]
fn the_global_logger_gets_what_the_global_level_lets_through() {
    static GLOBAL: Records = Records {
        written: Mutex::new(Vec::new()),
        is_deaf: false,
    };
    log::set_logger(&GLOBAL).expect("it is the first");
    let levels_up_to = |filter| {
        set_max_level(filter);
        let logging = Logging::default();
        for kind in [EventKind::Returned, EventKind::Retrying, EventKind::Failed] {
            logging.record(&SUBJECT, &event(kind), None);
        }
        let written = GLOBAL.take().into_iter();
        written.map(|(level, _)| level).collect::<Vec<_>>()
    };
    assert!(levels_up_to(LevelFilter::Off).is_empty());
    let all = [Level::Debug, Level::Warn, Level::Error];
    assert_eq!(levels_up_to(LevelFilter::Warn), all[1..]);
    assert!(!Logging::default().takes_success(1));
    assert_eq!(levels_up_to(LevelFilter::Debug), all);
    assert!(Logging::default().takes_success(1));
}
