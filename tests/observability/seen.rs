//! A subscriber that remembers spans and events, for the whole process.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// A span or an event.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The number of the span in which it is.
    parent: Option<usize>,
    /// Its level and name; `event` for events.
    what: String,
    /// Its fields.
    pub(crate) fields: BTreeMap<&'static str, String>,
}

static NODES: Mutex<Vec<Node>> = Mutex::new(Vec::new());

fn nodes() -> MutexGuard<'static, Vec<Node>> {
    NODES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that everything is remembered from now on.
pub(crate) fn watch() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Memory);
        tracing::subscriber::set_global_default(subscriber).expect("the only one");
    });
}

/// What was seen of the operations of this name and in them, with their fields.
pub(crate) fn of(operation: &str) -> Vec<Node> {
    let all = nodes();
    let is_root = |node: &Node| {
        node.fields
            .get("otel.name")
            .is_some_and(|it| it == operation)
    };
    let mut inside = vec![false; all.len()];
    let mut found = Vec::new();
    for (number, node) in all.iter().enumerate() {
        inside[number] = is_root(node) || node.parent.is_some_and(|parent| inside[parent]);
        if inside[number] {
            found.push(node.clone());
        }
    }
    found
}

/// The same as a tree, by names alone.
pub(crate) fn tree(operation: &str) -> Vec<String> {
    let all = nodes();
    let depth = |node: &Node| {
        let parents = std::iter::successors(node.parent, |&number| all[number].parent);
        parents.count()
    };
    let is_root = |node: &Node| {
        node.fields
            .get("otel.name")
            .is_some_and(|it| it == operation)
    };
    let mut depth_of_root = 0;
    let mut inside = vec![false; all.len()];
    let mut lines = Vec::new();
    for (number, node) in all.iter().enumerate() {
        let is_first = is_root(node) && !node.parent.is_some_and(|parent| inside[parent]);
        if is_first {
            depth_of_root = depth(node);
        }
        inside[number] = is_first || node.parent.is_some_and(|parent| inside[parent]);
        if inside[number] {
            let indent = "  ".repeat(depth(node) - depth_of_root);
            lines.push(format!("{indent}{}", node.text()));
        }
    }
    lines
}

impl Node {
    fn text(&self) -> String {
        match self.fields.get("message") {
            Some(message) => format!("{} {message}", self.what),
            None => self.what.clone(),
        }
    }

    /// Whether it has this name.
    pub(crate) fn is(&self, what: &str) -> bool {
        self.text().ends_with(what)
    }
}

/// The layer that remembers.
struct Memory;

/// The number of a span.
struct Number(usize);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Memory {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = context.span(id).expect("it is new");
        let parent = span.parent();
        let parent = parent.and_then(|parent| Some(parent.extensions().get::<Number>()?.0));
        let metadata = attributes.metadata();
        let mut nodes = nodes();
        span.extensions_mut().insert(Number(nodes.len()));
        nodes.push(Node {
            parent,
            what: format!("{} {}", metadata.level(), metadata.name()),
            fields: fields.0,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("it is open");
        let number = span.extensions().get::<Number>().expect("numbered").0;
        let mut fields = Fields::default();
        values.record(&mut fields);
        nodes()[number].fields.append(&mut fields.0);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.event_span(event);
        let parent = span.and_then(|span| Some(span.extensions().get::<Number>()?.0));
        nodes().push(Node {
            parent,
            what: format!("{} event", event.metadata().level()),
            fields: fields.0,
        });
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        _ = write!(text, "{value:?}");
        self.0.insert(field.name(), text);
    }
}
