//! Metrics of operations.

use dbop_core::{Event, EventKind, NodesHealth, Observer, Outcome, StopReason, Subject, Summary};
use metrics::{
    Counter, Label, SharedString, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};

/// An [`Observer`] that counts and times operations, for the recorder of the `metrics` crate. With the
/// feature `metrics`.
///
/// | name | kind | unit | labels |
/// |---|---|---|---|
/// | `db.client.operation.duration` | histogram | s | `db.system.name`, `error.type` if it failed, `db.query.summary` if asked for |
/// | `dbop.operation.attempts` | histogram | attempts | `db.system.name`, `dbop.outcome` |
/// | `dbop.outcomes` | counter | operations | `dbop.outcome`, `dbop.stop` |
/// | `dbop.retries` | counter | retries | `db.system.name`, `dbop.class`, `dbop.phase` |
/// | `dbop.retry.delay` | histogram | s | `db.system.name` |
/// | `dbop.connection.wait_time` | histogram | s | `dbop.pool` if there is a name |
/// | `dbop.gate.wait_time` | histogram | s | `db.system.name` |
/// | `dbop.gate.conflicts` | counter | conflicts | `db.system.name`, `dbop.gate` if asked for |
/// | `dbop.gate.limit` | gauge | operations | `db.system.name`, `dbop.gate`; only if asked for |
/// | `dbop.retry.budget` | gauge | retries | `dbop.pool` if there is a name |
/// | `dbop.node.failures` | gauge | failures | `dbop.node`, `dbop.pool` if there is a name; only with [nodes](Self::with_nodes) |
///
/// A duration is that of an operation with all its attempts. `error.type` is the database's code, or the
/// class of a fault without a code, and the [`StopReason`](crate::StopReason) of what failed for another
/// reason; an error of the operation's own has none. `dbop.class` is the class of the fault that is
/// retried, and `own` for an error of the operation's that asked for it. The wait for a connection is that
/// of an operation in all its attempts; it is there for connections from a source alone. The wait at a gate is
/// there for operations that have a gate. Nested operations count as well.
///
/// The gauges are set at the end of each operation, and stay where they are until the next one ends. `dbop.gate` is
/// the name of the operations that wait at a gate together. The limit of a gate is how many it lets in at a time, and
/// 0 if it is open: then there is no limit. It comes with the
/// [names of operations](Self::with_operation_names): one number for all gates would say nothing. A conflict counts
/// if a gate has answered to it, by letting in one at a time, or half as many as before. The budget is how
/// many retries are left, for runners that have a [retry budget](crate::RetryBudget). The failures of a node are those
/// in a row: 0 if it is well. `dbop.node` is its number among the nodes, from 0.
///
/// Exporters that allow no dots in names write underscores: `db_client_operation_duration`.
///
/// ```
/// use dbop_diesel::{Metrics, Runner};
///
/// let runner = Runner::default().with_observer(Metrics::new());
/// ```
///
/// # Default
///
/// [`new`](Self::new): no names of operations, no name of a pool, no nodes.
#[derive(Clone, Debug)]
pub struct Metrics {
    with_names: bool,
    pool: Option<SharedString>,
    nodes: Option<NodesHealth>,
}

impl Metrics {
    /// How long an operation took, in seconds.
    pub const DURATION: &'static str = "db.client.operation.duration";

    /// How many attempts an operation had.
    pub const ATTEMPTS: &'static str = "dbop.operation.attempts";

    /// How many operations ended, by what became of them and why.
    pub const OUTCOMES: &'static str = "dbop.outcomes";

    /// How many attempts failed and were followed by another one.
    pub const RETRIES: &'static str = "dbop.retries";

    /// How long the delay before another attempt was, in seconds.
    pub const RETRY_DELAY: &'static str = "dbop.retry.delay";

    /// How long an operation waited for connections from its source, in seconds.
    pub const CONNECTION_WAIT: &'static str = "dbop.connection.wait_time";

    /// How long an operation waited for its turn at a gate, in seconds.
    pub const GATE_WAIT: &'static str = "dbop.gate.wait_time";

    /// How many conflicts gates have answered to, by letting in fewer at a time.
    pub const GATE_CONFLICTS: &'static str = "dbop.gate.conflicts";

    /// How many operations a gate lets in at a time. 0 if it is open, which is no limit.
    pub const GATE_LIMIT: &'static str = "dbop.gate.limit";

    /// How many retries are left in the retry budget.
    pub const RETRY_BUDGET: &'static str = "dbop.retry.budget";

    /// How often a node has failed in a row: 0 if it is well.
    pub const NODE_FAILURES: &'static str = "dbop.node.failures";

    /// The names of all metrics.
    pub const NAMES: &'static [&'static str] = &[
        Self::DURATION,
        Self::ATTEMPTS,
        Self::OUTCOMES,
        Self::RETRIES,
        Self::RETRY_DELAY,
        Self::CONNECTION_WAIT,
        Self::GATE_WAIT,
        Self::GATE_CONFLICTS,
        Self::GATE_LIMIT,
        Self::RETRY_BUDGET,
        Self::NODE_FAILURES,
    ];

    /// The bounds of the buckets for durations, in seconds: those of OpenTelemetry's conventions for
    /// databases.
    pub const DURATION_BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

    /// The bounds of the buckets for numbers of attempts.
    pub const ATTEMPTS_BUCKETS: [f64; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];

    /// An observer for runners. Describes the metrics to the global recorder, so install that before. The
    /// outcomes of which one is a reason for an alert are counted from then on, and are 0 until there is one:
    /// unknown outcomes and panics.
    #[must_use]
    pub fn new() -> Self {
        describe();
        begin();
        Self {
            with_names: false,
            pool: None,
            nodes: None,
        }
    }

    /// Adds the operation's name to the durations, as the label `db.query.summary`, and to what there is about gates
    /// of operations' names, as `dbop.gate`. Not set by default: each name is a time series of its own, so only for names that are not made up at run time.
    ///
    /// ```
    /// use dbop_diesel::{Metrics, Runner};
    ///
    /// let runner = Runner::default().with_observer(Metrics::new().with_operation_names());
    /// ```
    #[must_use]
    pub const fn with_operation_names(mut self) -> Self {
        self.with_names = true;
        self
    }

    /// The name of the source of connections, for the label `dbop.pool` of the waits for connections and of the
    /// retry budget. None by default.
    ///
    /// ```
    /// use dbop_diesel::{Metrics, Runner};
    ///
    /// let runner = Runner::default().with_observer(Metrics::new().with_pool("orders"));
    /// ```
    #[must_use]
    pub fn with_pool(mut self, name: impl Into<String>) -> Self {
        self.pool = Some(name.into().into());
        self
    }

    /// The health of these nodes, in gauges that are set at the end of each operation. None by default.
    ///
    /// ```
    /// use dbop_diesel::{Metrics, Nodes, Runner};
    /// use diesel::prelude::*;
    ///
    /// let connect = |url: &'static str| move || SqliteConnection::establish(url);
    /// let nodes = Nodes::new([":memory:", ":memory:"].map(connect));
    /// let metrics = Metrics::new().with_pool("orders").with_nodes(nodes.health());
    /// let runner = Runner::default().with_observer(metrics);
    /// runner.run_on(&nodes, |_conn| QueryResult::Ok(()))?;
    /// # Ok::<(), diesel::result::Error>(())
    /// ```
    #[must_use]
    pub fn with_nodes(mut self, health: NodesHealth) -> Self {
        self.nodes = Some(health);
        self
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Metrics {
    fn on_event(&self, subject: &Subject<'_>, event: &Event) {
        match event.kind() {
            EventKind::Retrying => {}
            EventKind::Limited(_) => {
                let mut labels = vec![system(subject)];
                labels.extend(self.name("dbop.gate", subject));
                return counter!(Self::GATE_CONFLICTS, labels).increment(1);
            }
            _ => return,
        }
        let class = event.fault().map_or("own", |fault| fault.class().as_str());
        let labels = vec![
            system(subject),
            Label::from_static_parts("dbop.class", class),
            Label::from_static_parts("dbop.phase", event.phase().as_str()),
        ];
        counter!(Self::RETRIES, labels).increment(1);
        if let Some(delay) = event.delay() {
            histogram!(Self::RETRY_DELAY, vec![system(subject)]).record(delay);
        }
    }

    fn on_end(&self, subject: &Subject<'_>, summary: &Summary) {
        let outcome = Label::from_static_parts("dbop.outcome", summary.outcome().as_str());
        let mut labels = vec![system(subject)];
        labels.extend(error_type(summary));
        labels.extend(self.name("db.query.summary", subject));
        histogram!(Self::DURATION, labels).record(summary.elapsed());
        let labels = vec![system(subject), outcome];
        histogram!(Self::ATTEMPTS, labels).record(summary.attempts());
        outcomes(summary.outcome(), summary.stop()).increment(1);
        let wait = summary.connection_wait();
        if !wait.is_zero() {
            histogram!(Self::CONNECTION_WAIT, self.pool()).record(wait);
        }
        let queued = summary.queued();
        if !queued.is_zero() {
            histogram!(Self::GATE_WAIT, vec![system(subject)]).record(queued);
        }
        if let (Some(gate), Some(name)) = (summary.gate(), self.name("dbop.gate", subject)) {
            let labels = vec![system(subject), name];
            gauge!(Self::GATE_LIMIT, labels).set(gate.limit.unwrap_or(OPEN));
        }
        if let Some(left) = summary.retries_left() {
            gauge!(Self::RETRY_BUDGET, self.pool()).set(left);
        }
        if let Some(health) = &self.nodes {
            self.set_health(health);
        }
    }
}

/// The limit of a gate that has none.
const OPEN: u32 = 0;

impl Metrics {
    /// The operation's name as this label, for those who have asked for it.
    fn name(&self, label: &'static str, subject: &Subject<'_>) -> Option<Label> {
        let name = || Label::new(label, subject.name().to_string());
        self.with_names.then(name)
    }

    fn set_health(&self, health: &NodesHealth) {
        for (number, node) in health.status().iter().enumerate() {
            let mut labels = self.pool();
            labels.push(Label::new("dbop.node", number.to_string()));
            gauge!(Self::NODE_FAILURES, labels).set(node.failures);
        }
    }

    fn pool(&self) -> Vec<Label> {
        let label = |name| Label::new("dbop.pool", name);
        self.pool.clone().map(label).into_iter().collect()
    }
}

/// A counter that begins with its first event has no increase then, and a rule that asks for an increase misses
/// that event. So the ones that must not be missed begin with 0.
fn begin() {
    for (outcome, stop) in [
        (Outcome::Unknown, StopReason::OutcomeUnknown),
        (Outcome::Undone, StopReason::Panicked),
        (Outcome::Unknown, StopReason::Panicked),
    ] {
        outcomes(outcome, stop).increment(0);
    }
}

fn outcomes(outcome: Outcome, stop: StopReason) -> Counter {
    let labels = vec![
        Label::from_static_parts("dbop.outcome", outcome.as_str()),
        Label::from_static_parts("dbop.stop", stop.as_str()),
    ];
    counter!(Metrics::OUTCOMES, labels)
}

fn system(subject: &Subject<'_>) -> Label {
    Label::from_static_parts("db.system.name", subject.dialect().as_str())
}

/// What failed: the code, else the class, else why there was no further attempt.
fn error_type(summary: &Summary) -> Option<Label> {
    if !summary.is_failure() {
        return None;
    }
    let label = |text: SharedString| Label::new("error.type", text);
    Some(match summary.last_fault() {
        Some(fault) => match fault.code() {
            Some(code) => label(code.to_string().into()),
            None => label(fault.class().as_str().into()),
        },
        None => label(summary.stop().as_str().into()),
    })
}

fn describe() {
    describe_histogram!(
        Metrics::DURATION,
        Unit::Seconds,
        "How long a database operation took, with all its attempts."
    );
    describe_histogram!(
        Metrics::ATTEMPTS,
        Unit::Count,
        "How many attempts a database operation had."
    );
    describe_counter!(
        Metrics::OUTCOMES,
        Unit::Count,
        "Database operations that ended, by what became of them and why."
    );
    describe_counter!(
        Metrics::RETRIES,
        Unit::Count,
        "Attempts that failed and were followed by another one."
    );
    describe_histogram!(
        Metrics::RETRY_DELAY,
        Unit::Seconds,
        "The delay before another attempt."
    );
    describe_histogram!(
        Metrics::CONNECTION_WAIT,
        Unit::Seconds,
        "How long a database operation waited for connections from its source."
    );
    describe_histogram!(
        Metrics::GATE_WAIT,
        Unit::Seconds,
        "How long a database operation waited for its turn at a gate."
    );
    describe_counter!(
        Metrics::GATE_CONFLICTS,
        Unit::Count,
        "Conflicts after which a gate lets in fewer database operations at a time."
    );
    describe_gauge!(
        Metrics::GATE_LIMIT,
        Unit::Count,
        "How many database operations a gate lets in at a time; 0 if it is open."
    );
    describe_gauge!(
        Metrics::RETRY_BUDGET,
        Unit::Count,
        "How many retries are left in the retry budget."
    );
    describe_gauge!(
        Metrics::NODE_FAILURES,
        Unit::Count,
        "How often a node has failed in a row; 0 if it is well."
    );
}
