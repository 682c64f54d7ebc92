//! What a runner of any adapter is configured with.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::budget::RetryBudget;
use crate::classifier::{Classifier, Seen, SharedClassifier};
use crate::dialect::{Batches, BatchesOf, Dialect, Known, Level, SavedPragmas, Sessions};
use crate::error::Error;
use crate::event::{Logging, Name};
use crate::fault::FaultClass;
use crate::gate::{GateStatus, NamedGates};
use crate::machine::Placement;
use crate::observer::{Observer, Observers};
use crate::policy::RetryPolicy;
use crate::settings::{Defaults, Settings};

/// The configuration of a runner: policy, budget, classifier, default settings, logging and observers.
///
/// # Default
///
/// The defaults of [`RetryPolicy`], [`Defaults`] and [`Logging`]; no budget, no classifier and no
/// observer.
#[derive(Clone, Debug, Default)]
pub struct RunnerConfig {
    policy: RetryPolicy,
    budget: Option<Arc<RetryBudget>>,
    classifier: Option<SharedClassifier>,
    defaults: Defaults,
    logging: Logging,
    gates: Option<NamedGates>,
    has_compound_statements: bool,
    observers: Observers,
    hidden_failures: OnceByName,
    skipped_in_tests: OnceByName,
    by_defaults: Arc<ByDefaults>,
}

/// What depends on the default settings of a runner. Shared by its clones.
#[derive(Debug, Default)]
struct ByDefaults {
    sessions: Sessions,
    plain: Plain,
    /// The SQL of top-level operations that ask for nothing, where it depends on more than their place.
    by_kind: [OnceLock<(Kind, Box<Batches>)>; Self::MOST],
}

/// On what: the database, what is known of the session, and the lock timeout of an operation that does
/// not wait for as long as others.
type Kind = (Dialect, Known, Option<Duration>);

impl ByDefaults {
    /// A runner is for one database as a rule. What is known of its sessions changes rarely.
    const MOST: usize = 6;

    /// The SQL of this kind. One kind too many has its SQL made for each operation.
    fn of_kind(
        &self,
        kind: Kind,
        make: impl Fn() -> Result<Batches, Error>,
    ) -> Result<BatchesOf<'_>, Error> {
        for place in &self.by_kind {
            let made = match place.get() {
                Some(made) => made,
                None => {
                    let batches = Box::new(make()?);
                    place.get_or_init(|| (kind, batches))
                }
            };
            if made.0 == kind {
                return Ok(Cow::Borrowed(&made.1));
            }
        }
        make().map(|batches| Cow::Owned(Box::new(batches)))
    }
}

/// The SQL of operations that ask for nothing, for each dialect and each place where they are often. In the last
/// place, of operations without a transaction.
#[derive(Debug, Default)]
struct Plain([[OnceLock<Box<Batches>>; Self::PLACES + 1]; Dialect::COUNT]);

impl Plain {
    /// In so many transactions and savepoints.
    const DEEPEST: usize = 3;
    /// Outermost ones and nested ones, whose defaults differ.
    const PLACES: usize = 2 * (Self::DEEPEST + 1);

    fn of(
        &self,
        dialect: Dialect,
        placement: &Placement,
        settings: &Settings,
    ) -> Option<&OnceLock<Box<Batches>>> {
        const AUTOCOMMIT: Settings = Settings {
            without_transaction: true,
            ..Settings::NONE
        };
        if *settings == Settings::NONE {
            return self.at(dialect, placement);
        }
        // Read-only is the caller's promise.
        let read_only = settings.read_only;
        let is_autocommit = *settings
            == Settings {
                read_only,
                ..AUTOCOMMIT
            };
        let is_there = is_autocommit && placement.level() == Level::Transaction;
        self.0[dialect as usize].last().filter(|_| is_there)
    }

    fn at(&self, dialect: Dialect, placement: &Placement) -> Option<&OnceLock<Box<Batches>>> {
        let depth = usize::try_from(placement.level().outside()).ok()?;
        let nested = usize::from(!placement.is_outermost());
        let places = &self.0[dialect as usize][..Self::PLACES];
        places.get(depth.checked_mul(2)?.checked_add(nested)?)
    }
}

/// The names of the operations of which something has been reported that is reported once. Shared by
/// the clones of a runner.
#[derive(Clone, Debug, Default)]
pub(crate) struct OnceByName {
    names: Arc<Mutex<Vec<String>>>,
}

impl OnceByName {
    /// Names can be made up without end.
    const MOST: usize = 100;

    /// Whether there is something to report.
    pub(crate) fn is_new(&self, name: Name<'_>) -> bool {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Self::are_without(&names, name)
    }

    /// Returns whether it is the first time. Of two operations at the same time one is.
    pub(crate) fn add(&self, name: Name<'_>) -> bool {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = Self::are_without(&names, name);
        if is_new {
            names.push(name.to_string());
        }
        is_new
    }

    fn are_without(names: &[String], name: Name<'_>) -> bool {
        names.len() < Self::MOST && !names.iter().any(|known| name.is(known))
    }
}

impl RunnerConfig {
    /// Sets the retry policy.
    pub const fn set_policy(&mut self, policy: RetryPolicy) {
        self.policy = policy;
    }

    /// Sets how many retries all operations may make together.
    pub fn set_retry_budget(&mut self, budget: Arc<RetryBudget>) {
        self.budget = Some(budget);
    }

    /// How many retries all operations may make together.
    #[must_use]
    pub fn retry_budget(&self) -> Option<&RetryBudget> {
        self.budget.as_deref()
    }

    /// Sets what judges the database errors of all operations.
    pub fn set_classifier(&mut self, classifier: Arc<Classifier<'static>>) {
        self.classifier = Some(SharedClassifier(classifier));
    }

    pub(crate) const fn has_classifier(&self) -> bool {
        self.classifier.is_some()
    }

    pub(crate) fn classify(&self, seen: &Seen<'_>) -> Option<FaultClass> {
        (self.classifier.as_ref()?.0)(seen)
    }

    /// Sets the default settings.
    pub fn set_defaults(&mut self, change: impl FnOnce(&mut Defaults)) {
        change(&mut self.defaults);
        self.by_defaults = Arc::default();
    }

    /// What the runner has learned of its sessions.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.by_defaults.sessions
    }

    /// Lets the operations of a name queue once they collide, or never.
    pub fn set_gates(&mut self, gated: bool) {
        self.gates = gated.then(NamedGates::new);
    }

    pub(crate) const fn gates(&self) -> Option<&NamedGates> {
        self.gates.as_ref()
    }

    /// Has what opens and what commits an operation sent as one compound statement each. MariaDB only.
    pub const fn set_compound_statements(&mut self, compound: bool) {
        self.has_compound_statements = compound;
    }

    pub(crate) const fn has_compound_statements(&self) -> bool {
        self.has_compound_statements
    }

    /// How the gate of a name stands.
    #[must_use]
    pub fn gate_status(&self, name: Name<'_>) -> Option<GateStatus> {
        Some(self.gates.as_ref()?.of(name).status())
    }

    /// The default settings.
    #[must_use]
    pub const fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// Sets up logging.
    pub fn set_logging(&mut self, change: impl FnOnce(&mut Logging)) {
        change(&mut self.logging);
    }

    /// The retry policy.
    #[must_use]
    pub const fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// Where records go.
    #[must_use]
    pub const fn logging(&self) -> &Logging {
        &self.logging
    }

    /// Adds one that is told about all operations, after those that were added before.
    pub fn add_observer(&mut self, observer: impl Observer) {
        self.observers.add(Box::new(observer));
    }

    pub(crate) const fn observers(&self) -> &Observers {
        &self.observers
    }

    /// Of these operations it has been reported that their errors hide failed statements.
    pub(crate) const fn hidden_failures(&self) -> &OnceByName {
        &self.hidden_failures
    }

    /// Of these operations it has been reported what
    /// [`skip_what_open_transactions_refuse`](Defaults::skip_what_open_transactions_refuse) skips.
    pub(crate) const fn skipped_in_tests(&self) -> &OnceByName {
        &self.skipped_in_tests
    }

    /// The SQL of an operation. `pragmas` are what the session has, where
    /// [`Dialect::pragmas_to_read`] asks for it. `hurry`: the default lock timeout, if the operation does
    /// not wait for as long as others. `known`: what is known of the session.
    pub(crate) fn batches(
        &self,
        dialect: Dialect,
        placement: &Placement,
        settings: &Settings,
        pragmas: SavedPragmas,
        hurry: Option<Duration>,
        known: Known,
    ) -> Result<BatchesOf<'_>, Error> {
        let is_plain = pragmas == SavedPragmas::default();
        let plain = || {
            let plain = self.by_defaults.plain.of(dialect, placement, settings);
            plain.filter(|_| is_plain)
        };
        let level = placement.level();
        let make = |defaults: &Defaults| {
            let batches = Batches::new(dialect, level, settings, defaults, pragmas)?;
            Ok(batches.in_session(known))
        };
        if !placement.is_outermost() {
            return made_once(plain(), || make(&self.defaults.of_nested()));
        }
        if hurry.is_none() && known == Known::NOTHING {
            return made_once(plain(), || make(&self.defaults));
        }
        let defaults = Defaults {
            lock_timeout: hurry.or(self.defaults.lock_timeout),
            ..self.defaults
        };
        let is_plain = is_plain && *settings == Settings::NONE && level == Level::Transaction;
        // What a pooler-safe runner asks is the same in each operation.
        match is_plain && (!known.asks() || self.defaults.pooler_safe) {
            true => self
                .by_defaults
                .of_kind((dialect, known, hurry), || make(&defaults)),
            false => made_once(None, || make(&defaults)),
        }
    }
}

/// What is there, or what is made. It is kept if there is a place for it.
fn made_once(
    place: Option<&OnceLock<Box<Batches>>>,
    make: impl FnOnce() -> Result<Batches, Error>,
) -> Result<BatchesOf<'_>, Error> {
    let Some(place) = place else {
        return make().map(|batches| Cow::Owned(Box::new(batches)));
    };
    if let Some(batches) = place.get() {
        return Ok(Cow::Borrowed(batches));
    }
    let batches = Box::new(make()?);
    Ok(Cow::Borrowed(place.get_or_init(|| batches)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::{Machine, Name, Spec};

    #[test]
    fn logging_can_be_changed() {
        let mut config = RunnerConfig::default();
        config.set_logging(|logging| logging.server_messages = true);
        assert!(config.logging().server_messages);
    }

    /// Whether the SQL is that of every operation that asks for nothing.
    fn is_shared(depth: u32, settings: &Settings, pragmas: SavedPragmas) -> bool {
        let config = RunnerConfig::default();
        let spec = Spec::new(Name::Given("x"));
        let now = std::time::Instant::now;
        let machine = Machine::new(Dialect::Sqlite, &config, &spec, false, now).expect("valid");
        let key = std::ptr::from_ref(&config).addr();
        let placement = machine.place(key, depth);
        let known = Known::NOTHING;
        let batches = config.batches(Dialect::Sqlite, &placement, settings, pragmas, None, known);
        matches!(batches, Ok(Cow::Borrowed(_)))
    }

    #[test]
    fn only_operations_that_are_all_alike_share_their_sql() {
        let none = SavedPragmas::default();
        for depth in 0..=3 {
            assert!(is_shared(depth, &Settings::NONE, none));
        }
        assert!(!is_shared(4, &Settings::NONE, none));
        for read_only in [false, true] {
            let settings = Settings {
                without_transaction: true,
                read_only,
                ..Settings::NONE
            };
            assert!(is_shared(0, &settings, none));
        }
        let settings = Settings {
            lock_timeout: Some(Duration::from_secs(1)),
            ..Settings::NONE
        };
        assert!(!is_shared(0, &settings, none));
        let pragmas = SavedPragmas {
            busy_timeout: 17,
            ..none
        };
        assert!(!is_shared(0, &Settings::NONE, pragmas));
    }

    /// The runner's defaults are for outermost operations, also in a transaction of the caller's.
    #[test]
    fn each_place_has_its_own_sql() {
        let config = RunnerConfig::default();
        let spec = Spec::new(Name::Given("x"));
        let now = std::time::Instant::now;
        let machine = Machine::new(Dialect::Postgres, &config, &spec, false, now).expect("valid");
        let key = std::ptr::from_ref(&config).addr();
        let begin = |depth| {
            let (settings, pragmas) = (Settings::NONE, SavedPragmas::default());
            let placement = machine.place(key, depth);
            let batches = config.batches(
                Dialect::Postgres,
                &placement,
                &settings,
                pragmas,
                None,
                Known::NOTHING,
            );
            batches.expect("valid").begin().to_owned()
        };
        let outermost = [0, 1, 2].map(begin);
        let around = machine.place(key, 0);
        let nested = [1, 2].map(begin);
        assert!(nested[0].contains("dbop_savepoint_1") && nested[1].contains("dbop_savepoint_2"));
        drop(around);
        for (depth, own) in [0, 1, 2].into_iter().zip(&outermost) {
            assert!(!nested.contains(own), "{own}");
            assert_eq!(begin(depth), *own);
        }
        let settings = Settings {
            without_transaction: true,
            ..Settings::NONE
        };
        let (placement, pragmas) = (machine.place(key, 0), SavedPragmas::default());
        let batches = config.batches(
            Dialect::Postgres,
            &placement,
            &settings,
            pragmas,
            None,
            Known::NOTHING,
        );
        assert!(batches.expect("valid").is_autocommit());
    }

    #[test]
    fn what_hides_failures_is_remembered_by_the_clones_too_and_not_without_end() {
        let config = RunnerConfig::default();
        let hidden = config.hidden_failures();
        let name = Name::Given("pay");
        assert!(hidden.is_new(name));
        assert!(hidden.add(name) && !hidden.add(name));
        assert!(!config.clone().hidden_failures().is_new(name));
        let call = Name::Call(std::panic::Location::caller());
        assert!(hidden.is_new(call));
        assert!(hidden.add(call));
        assert!(!hidden.is_new(call));
        let elsewhere = Name::Call(std::panic::Location::caller());
        assert!(hidden.is_new(elsewhere));
        for number in 2..OnceByName::MOST {
            assert!(hidden.is_new(elsewhere));
            assert!(hidden.add(Name::Given(&number.to_string())));
        }
        assert!(!hidden.is_new(elsewhere) && !hidden.add(elsewhere));
    }
}
