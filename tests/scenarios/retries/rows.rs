//! The rows of tables of errors: how each is provoked, and what dbop is to make of it.

use dbop_diesel::{FaultClass, Outcome, StopReason};
use dbop_tests::Opponent;

use super::{Bed, Operation};

/// What a session does.
#[derive(Clone, Copy)]
pub(crate) enum Do {
    /// Ours sends this as a prepared statement.
    Ours(&'static str),
    /// Ours sends this as text, because it cannot be prepared.
    Text(&'static str),
    /// Ours ignores that this fails.
    Swallow(&'static str),
    /// The opponent sends this.
    Theirs(&'static str),
    /// The opponent waits for another session, or another session for the opponent.
    Meanwhile(fn(&Bed, &Opponent)),
}

/// What becomes of an operation that fails in the same way in each attempt, with two retries allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Top {
    Final,
    /// Retried once.
    Once,
    Retried,
    /// Retried on other connections only.
    Elsewhere,
    /// Retried on another connection once.
    ElsewhereOnce,
    /// COMMIT alone is retried.
    CommitAgain,
    Unknown,
}

/// What becomes of it in a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nested {
    Final,
    /// The body runs once more in place, then the error is escalated.
    InPlace,
    /// The error is escalated.
    Up,
    /// It is escalated, and the transaction around the savepoint is lost.
    Lost,
    /// The transaction around the savepoint is lost, and no retry can help.
    LostFinal,
    Unknown,
}

/// An error, how to provoke it, and what dbop is to make of it.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(super) name: &'static str,
    /// Its code; several where servers differ, "" where none is known.
    pub(super) codes: &'static [&'static str],
    /// The adapter whose client shows the code for certain.
    pub(super) shown_by: Option<&'static str>,
    pub(super) class: FaultClass,
    pub(super) top: Top,
    pub(super) nested: Nested,
    /// What fails at top level, and in a savepoint.
    pub(super) phases: [&'static str; 2],
    /// A query for a number, which is 1 where the server knows this error.
    pub(super) applies: Option<&'static str>,
    pub(super) only: Option<&'static str>,
    pub(super) settings: fn(Operation<'_>) -> Operation<'_>,
    /// What happens before the operation, on each connection.
    pub(super) before: &'static [Do],
    pub(super) body: &'static [Do],
    /// Whether the body changes account 3 first.
    pub(super) writes: bool,
    /// Whether the server has to be asked for the code.
    pub(super) asks: bool,
}

impl Row {
    pub(crate) const fn new(
        name: &'static str,
        codes: &'static [&'static str],
        class: FaultClass,
        verdict: (Top, Nested),
        body: &'static [Do],
    ) -> Self {
        Self {
            name,
            codes,
            shown_by: None,
            class,
            top: verdict.0,
            nested: verdict.1,
            phases: ["body"; 2],
            applies: None,
            only: None,
            settings: |operation| operation,
            before: &[],
            body,
            writes: true,
            asks: false,
        }
    }

    pub(crate) const fn before(mut self, before: &'static [Do]) -> Self {
        self.before = before;
        self
    }

    /// It fails when the transaction begins.
    pub(crate) const fn at_begin(mut self) -> Self {
        self.phases = ["begin"; 2];
        self
    }

    /// It fails in the COMMIT of the outermost operation.
    pub(crate) const fn at_commit(mut self) -> Self {
        self.phases = ["commit"; 2];
        self
    }

    /// It fails at the end of the operation, by COMMIT or RELEASE.
    pub(crate) const fn at_end(mut self) -> Self {
        self.phases = ["commit", "release"];
        self
    }

    /// The client of the other adapter hears a code at one time and none at another, which are counted
    /// apart.
    pub(crate) const fn only(mut self, mode: &'static str) -> Self {
        self.only = Some(mode);
        self
    }

    /// The client of the other adapter may hear no code.
    pub(crate) const fn shown_by(mut self, mode: &'static str) -> Self {
        self.shown_by = Some(mode);
        self
    }

    pub(crate) const fn at_top_only(mut self) -> Self {
        self.phases = [self.phases[0], ""];
        self
    }

    /// The server is asked for the code, which it keeps until the next statement.
    pub(crate) const fn by_asking(mut self) -> Self {
        self.asks = true;
        self
    }

    pub(crate) const fn if_server(mut self, applies: &'static str) -> Self {
        self.applies = Some(applies);
        self
    }

    pub(crate) const fn with(mut self, settings: fn(Operation<'_>) -> Operation<'_>) -> Self {
        self.settings = settings;
        self
    }

    /// The body writes nothing but what is in the row.
    pub(crate) const fn writes_nothing_first(mut self) -> Self {
        self.writes = false;
        self
    }
}

/// A connection that is refused, and what dbop is to make of it.
pub(crate) struct Refusal {
    pub(crate) name: &'static str,
    /// What makes it so; `{}` is a name for this test alone.
    pub(crate) before: &'static str,
    /// Where to connect to, given that name.
    pub(crate) url: fn(&Bed, &str) -> String,
    pub(crate) codes: &'static [&'static str],
    pub(crate) class: FaultClass,
    pub(crate) attempts: u32,
}

/// What can be seen of an operation from outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) code: String,
    pub(super) class: Option<FaultClass>,
    pub(super) phase: String,
    pub(super) attempts: u32,
    pub(super) bodies: u32,
    /// Of the operation nested in it.
    pub(super) steps: u32,
    pub(super) outcome: Outcome,
    pub(super) stop: StopReason,
}

/// How many each operation is allowed.
pub(super) const RETRIES: u32 = 2;

impl Row {
    /// How often an operation is tried.
    pub(super) fn attempts(&self, has_source: bool) -> u32 {
        match self.top {
            Top::Final | Top::Unknown | Top::CommitAgain => 1,
            Top::Elsewhere | Top::ElsewhereOnce if !has_source => 1,
            Top::Once | Top::ElsewhereOnce => 2,
            Top::Retried | Top::Elsewhere => 1 + RETRIES,
        }
    }

    pub(super) fn at_top(&self, has_source: bool) -> Seen {
        let attempts = self.attempts(has_source);
        let bodies = match self.phases[0] {
            "begin" => 0,
            _ => attempts,
        };
        Seen {
            code: self.codes.concat(),
            class: Some(self.class),
            phase: self.phases[0].into(),
            attempts,
            bodies,
            steps: 0,
            outcome: match self.top {
                Top::Unknown => Outcome::Unknown,
                _ => Outcome::Undone,
            },
            stop: match self.top {
                Top::Final => StopReason::NotRetryable,
                Top::Unknown => StopReason::OutcomeUnknown,
                Top::Elsewhere | Top::ElsewhereOnce if !has_source => StopReason::NeedsConnection,
                _ => StopReason::RetriesExhausted,
            },
        }
    }

    /// With everything in a step of an operation whose connections come from a source.
    pub(super) fn in_a_step(&self) -> Seen {
        let mut seen = self.at_top(true);
        seen.phase = self.phases[1].into();
        seen.steps = seen.bodies;
        if self.phases[1] == "release" {
            // The step returns an error of dbop's own, which is not judged again.
            (seen.code, seen.class, seen.stop) = (String::new(), None, StopReason::OwnError);
        }
        if self.nested == Nested::InPlace {
            // One retry in place, the other one of the whole.
            seen.attempts = 2;
            seen.bodies = 2;
            seen.steps = 1 + RETRIES;
        }
        seen
    }

    /// The step in the caller's transaction.
    pub(super) fn in_the_callers_transaction(&self) -> Seen {
        let mut seen = self.at_top(false);
        seen.phase = self.phases[1].into();
        let tries = match self.nested {
            Nested::InPlace => 2,
            _ => 1,
        };
        (seen.attempts, seen.bodies) = (tries, tries);
        seen.stop = match self.nested {
            Nested::Final | Nested::LostFinal => StopReason::NotRetryable,
            Nested::InPlace | Nested::Up | Nested::Lost => StopReason::EnclosingTransaction,
            Nested::Unknown => StopReason::OutcomeUnknown,
        };
        seen
    }
}
