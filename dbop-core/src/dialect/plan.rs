//! What the texts of an operation are made from.

use std::time::Duration;

use super::applied::{Applied, Timeout};
use super::ledger::key::KeySql;
use super::proof::CommitProof;
use super::sessions::{Known, SessionSetting};
use super::{Dialect, Level, Profile, SavedPragmas, milliseconds};

/// What the texts of an operation are made from.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) dialect: Dialect,
    pub(super) level: Level,
    /// Which server it is, and whether others may use the session.
    pub(super) profile: Profile,
    pub(super) applied: Applied,
    pub(super) before: SavedPragmas,
    /// PostgreSQL: what is known of the session, in a transaction of the operation's own.
    pub(super) known: Known,
    pub(super) proof: Option<CommitProof>,
    /// SQL of the operation's own, at the end of the batch that begins an attempt.
    pub(super) opening: Option<Box<str>>,
    /// PostgreSQL: whether what others have prepared on the server connection is forgotten first.
    pub(super) forgets: bool,
}

impl Plan {
    /// The row of the operation's key.
    pub(super) const fn key(&self) -> Option<&KeySql> {
        match &self.proof {
            Some(CommitProof::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// What can fail in the batch that begins an attempt when something is open already.
    pub(super) const fn opens_with_more(&self) -> bool {
        self.opening.is_some() || self.key().is_some()
    }

    /// The savepoint behind the key: where the body is rolled back to if its refusal is remembered.
    pub(super) fn savepoint_behind_key(&self) -> String {
        match self.level {
            Level::Transaction => "dbop_alive".to_owned(),
            Level::Savepoint(depth) => format!("dbop_key_{depth}"),
        }
    }

    /// The plan of an attempt with this lock timeout, in which no statement may take longer than
    /// what is `left` until the deadline. `None` if it is the same plan.
    pub(super) fn for_attempt(
        &self,
        lock_timeout: Option<Timeout>,
        left: Option<Duration>,
    ) -> Option<Self> {
        let (mut applied, mut known) = (self.applied, self.known);
        if lock_timeout.is_some() && self.limits_statements() && self.profile.has_locks() {
            applied.lock_timeout = lock_timeout;
        }
        if let Some(left) = left.filter(|_| self.limits_statements()) {
            self.limit(&mut applied, left);
            // In a laxer session no statement would end by the deadline.
            known = known.without_stricter(SessionSetting::StatementTimeout);
        }
        let differs = (applied, known) != (self.applied, self.known);
        differs.then(|| Self {
            applied,
            known,
            ..self.clone()
        })
    }

    /// Whether a timeout can be set without being seen by others who use the session.
    fn limits_statements(&self) -> bool {
        self.dialect != Dialect::Mysql || self.profile.may_set_session()
    }

    /// Where a statement timeout does not bound the wait for a lock, the lock timeout has to; SQLite
    /// has nothing else.
    fn limit(&self, applied: &mut Applied, left: Duration) {
        let left = left.max(SHORTEST);
        match self.dialect {
            Dialect::Postgres => shorten(&mut applied.statement_timeout, left),
            Dialect::Mysql => {
                shorten(&mut applied.statement_timeout, left);
                shorten(&mut applied.lock_timeout, left);
            }
            Dialect::Sqlite if applied.lock_timeout.is_some() => {
                shorten(&mut applied.lock_timeout, left);
            }
            // How long the connection itself waits, above all in BEGIN.
            Dialect::Sqlite if milliseconds(left) < self.before.busy_timeout_ms() => {
                applied.lock_timeout = Some(Timeout::Exact(left));
            }
            Dialect::Sqlite => {}
        }
    }
}

/// Zero would mean "no limit".
const SHORTEST: Duration = Duration::from_millis(1);

fn shorten(timeout: &mut Option<Timeout>, left: Duration) {
    *timeout = Some(match *timeout {
        Some(Timeout::Exact(asked)) => Timeout::Exact(asked.min(left)),
        Some(Timeout::AtMost(default)) => Timeout::AtMost(default.min(left)),
        None => Timeout::AtMost(left),
    });
}
