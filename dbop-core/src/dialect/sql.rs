//! Writes a batch: where a statement or an item of a list ends is decided here.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use super::Dialect;
use super::plan::Plan;

/// Between two statements.
pub(super) const SEPARATOR: &str = "; ";

/// A batch that is being written.
pub(super) struct Sql(String);

impl Sql {
    /// An empty batch, with room for its text: it is made in one allocation, as Diesel makes its own.
    pub(super) fn new(plan: &Plan) -> Self {
        let applied = &plan.applied;
        let is_short = applied.lock_timeout.is_none()
            && applied.statement_timeout.is_none()
            && plan.dialect != Dialect::Mysql;
        Self(String::with_capacity(if is_short { 96 } else { 1024 }))
    }

    /// Adds a statement. An empty one adds nothing.
    pub(super) fn then(&mut self, statement: impl Display) -> &mut Self {
        let end = self.0.len();
        self.separate();
        let start = self.0.len();
        self.push(statement);
        if self.0.len() == start {
            self.0.truncate(end);
        }
        self
    }

    /// Adds to the last statement.
    pub(super) fn push(&mut self, more: impl Display) -> &mut Self {
        // A String takes everything.
        _ = write!(self.0, "{more}");
        self
    }

    /// Adds a statement that consists of these words and a list. Without items it adds nothing.
    pub(super) fn list(&mut self, words: &'static str) -> List<'_> {
        List {
            sql: self,
            words,
            separator: None,
        }
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push_str(SEPARATOR);
        }
    }

    /// The batch.
    pub(super) fn finish(self) -> Cow<'static, str> {
        Cow::Owned(self.0)
    }

    /// The batch as the beginning of another one: its last statement is terminated.
    pub(super) fn finish_terminated(mut self) -> Cow<'static, str> {
        self.separate();
        self.finish()
    }
}

/// A statement with a list at its end.
pub(super) struct List<'a> {
    sql: &'a mut Sql,
    words: &'static str,
    /// In front of the next item, once there is one.
    separator: Option<&'static str>,
}

impl List<'_> {
    /// Adds an item.
    pub(super) fn item(&mut self, item: fmt::Arguments<'_>) {
        let separator = self.separator();
        self.sql.push(format_args!("{separator}{item}"));
    }

    /// Adds to the last item.
    pub(super) fn continue_item(&mut self, more: fmt::Arguments<'_>) {
        self.sql.push(more);
    }

    /// Adds an item that each server knows under another name. Each is in a comment that only the
    /// server with this version marker executes.
    pub(super) fn item_by_server(&mut self, items: [(&str, impl Display); 2]) {
        // A comment can be the first item for one server, never for both.
        let separator = self.separator();
        for (marker, item) in items {
            self.sql
                .push(format_args!("/*{marker} {separator}{item} */"));
        }
    }

    /// Writes the separator before the next item now.
    pub(super) fn separate(&mut self) {
        let separator = self.separator();
        self.sql.push(separator);
        self.separator = Some("");
    }

    /// Begins the statement, or separates the next item from the one before.
    fn separator(&mut self) -> &'static str {
        self.separator.replace(", ").unwrap_or_else(|| {
            self.sql.then(self.words).push(' ');
            ""
        })
    }
}
