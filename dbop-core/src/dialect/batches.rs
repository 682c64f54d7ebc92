//! What an operation sends to open a transaction or savepoint, and to close it.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use super::applied::{Applied, Skipped, Timeout};
use super::engine::ReadOnly;
use super::plan::Plan;
use super::proof::CommitProof;
use super::sessions::{Known, SessionSetting};
use super::{Dialect, Level, SavedPragmas, mysql, postgres, sqlite};
use crate::error::Error;
use crate::ledger::Entry;
use crate::settings::{BeginMode, Defaults, Settings};

mod keyed;

/// The batches of one operation: its own, or those that all operations like it share. A pointer, so that
/// it can be moved.
pub(crate) type BatchesOf<'a> = Cow<'a, Box<Batches>>;

/// The batches of one operation. Each text is made when it is first needed, and used by every
/// attempt.
///
/// The savepoints have names of dbop's own. Diesel leaves its savepoints on the server after a nested
/// rollback, so one of Diesel's names could mean an old one where a new one failed to be opened.
#[derive(Clone, Debug)]
pub(crate) struct Batches {
    plan: Plan,
    /// By [`Text`].
    texts: [OnceLock<Cow<'static, str>>; Text::COUNT],
}

impl Batches {
    /// The batches for an operation with these settings.
    ///
    /// # Errors
    ///
    /// If a timeout is zero or longer than `i32::MAX` milliseconds, and if a setting is not supported
    /// by this dialect or at this level, unless [`Settings::best_effort`] is set.
    pub(crate) fn new(
        dialect: Dialect,
        level: Level,
        settings: &Settings,
        defaults: &Defaults,
        before: SavedPragmas,
    ) -> Result<Self, Error> {
        Ok(Self::of(Plan {
            dialect,
            level,
            profile: defaults.profile(),
            applied: Applied::resolve(dialect, level, settings, defaults)?,
            before,
            known: Known::NOTHING,
            proof: None,
            opening: None,
            forgets: false,
        }))
    }

    /// For a session of which this is known.
    pub(crate) fn in_session(self, known: Known) -> Self {
        Self::of(Plan { known, ..self.plan })
    }

    /// Whether the session is asked, in the batch that begins an attempt, if it is stricter than the
    /// defaults.
    pub(crate) fn asks(&self) -> bool {
        self.plan.known.asks()
    }

    /// What it is asked about.
    pub(crate) fn asked(&self) -> impl Iterator<Item = SessionSetting> {
        self.plan.known.asked()
    }

    /// Whether its answer holds for the attempts that follow: behind a pooler each can have another session.
    pub(crate) const fn remembers_answers(&self) -> bool {
        !self.plan.profile.pooler_safe
    }

    /// The batches after it has said nothing: it is not stricter.
    pub(crate) fn in_laxer_session(&self) -> Self {
        let known = self.plan.known.with_answer();
        self.clone().in_session(known)
    }

    /// In what the session is stricter, if this message of an error says so.
    pub(crate) fn stricter_setting(&self, message: &str) -> Option<SessionSetting> {
        self.asked()
            .find(|setting| message.contains(setting.word()))
    }

    /// The batches after it has said so.
    pub(crate) fn in_stricter_session(&self, setting: SessionSetting) -> Self {
        let known = match self.remembers_answers() {
            true => self.plan.known.with_stricter(setting),
            false => self.plan.known.with_look(setting),
        };
        self.clone().in_session(known)
    }

    fn of(plan: Plan) -> Self {
        Self {
            plan,
            texts: Default::default(),
        }
    }

    /// The batches of an attempt with this lock timeout, in which no statement may take longer than
    /// what is `left` until the deadline. `None` if they are the same.
    pub(crate) fn for_attempt(
        &self,
        lock_timeout: Option<Timeout>,
        left: Option<Duration>,
    ) -> Option<Self> {
        self.plan.for_attempt(lock_timeout, left).map(Self::of)
    }

    /// With the token of an operation, written first and completed last in the transaction, in the
    /// same batches. What writes nothing has none, nor has a savepoint: the transaction around it
    /// decides whether its work counts.
    pub(crate) fn with_token(&self, entry: &Entry<'_>) -> Option<Self> {
        if !self.can_have_proof() {
            return None;
        }
        let token = entry.issue_sql(self.plan.dialect)?;
        Some(self.with_proof(CommitProof::Token(token)))
    }

    /// With a mark that ends with the transaction, for [`CurrentTransaction::is_ours`]. PostgreSQL
    /// only; what writes nothing has none.
    ///
    /// [`CurrentTransaction::is_ours`]: super::CurrentTransaction::is_ours
    pub(crate) fn with_mark(&self) -> Option<Self> {
        let has_marks = self.can_have_proof() && self.plan.dialect == Dialect::Postgres;
        has_marks.then(|| self.with_proof(CommitProof::Mark))
    }

    /// With SQL of the operation's own in each attempt, behind what begins it.
    pub(crate) fn with_opening(&self, sql: &str) -> Self {
        Self::of(Plan {
            opening: Some(sql.into()),
            ..self.plan.clone()
        })
    }

    /// With all prepared statements forgotten, where the transaction begins: behind a pooler that keeps them
    /// for its clients.
    pub(crate) fn forgetting(&self) -> Self {
        Self::of(Plan {
            forgets: true,
            ..self.plan.clone()
        })
    }

    fn can_have_proof(&self) -> bool {
        self.plan.level == Level::Transaction && !self.plan.applied.read_only
    }

    fn with_proof(&self, proof: CommitProof) -> Self {
        Self::of(Plan {
            proof: Some(proof),
            ..self.plan.clone()
        })
    }

    /// Whether the server itself makes sure that the attempt writes nothing.
    pub(crate) const fn is_read_only(&self) -> bool {
        self.plan.applied.read_only && matches!(self.plan.profile.read_only(), ReadOnly::Enforced)
    }

    /// Whether there is no transaction, so that nothing of this is sent.
    pub(crate) const fn is_autocommit(&self) -> bool {
        self.plan.applied.autocommit
    }

    /// How long a statement waits for a lock.
    pub(crate) fn lock_timeout(&self) -> Option<Duration> {
        self.plan.applied.lock_timeout.map(Timeout::duration)
    }

    /// Where the attempts run.
    #[must_use]
    pub(crate) const fn level(&self) -> Level {
        self.plan.level
    }

    /// The pragmas of the session that they are made for.
    pub(crate) const fn before(&self) -> SavedPragmas {
        self.plan.before
    }

    /// The settings that were asked for with best effort and are not supported.
    pub(crate) const fn skipped(&self) -> Skipped {
        self.plan.applied.skipped
    }

    /// Whether an attempt that begins like this holds SQLite's write lock from the start.
    #[must_use]
    pub(crate) const fn begins_immediate(&self) -> bool {
        matches!(self.plan.dialect, Dialect::Sqlite)
            && matches!(self.plan.level, Level::Transaction)
            && !self.is_autocommit()
            && !matches!(sqlite::begin_mode(&self.plan), BeginMode::Deferred)
    }

    /// Whether what comes before the COMMIT in its batch fails only where the server has refused the
    /// transaction. A statement timeout asks for deferred constraints to be checked there, and a token is
    /// completed there.
    pub(crate) const fn only_checks_before_commit(&self) -> bool {
        let only_checks = !postgres::checks_constraints(&self.plan) && !self.has_token();
        let is_savepoint = matches!(self.plan.level, Level::Savepoint(_));
        (is_savepoint && self.plan.key().is_none()) || only_checks
    }

    /// Whether nothing follows the COMMIT in its batch.
    pub(crate) fn commit_is_last(&self) -> bool {
        match self.plan.dialect {
            Dialect::Postgres => true,
            // Diesel sends COM_SET_OPTION behind a batch.
            Dialect::Mysql => false,
            Dialect::Sqlite => sqlite::new_busy_timeout(&self.plan).is_none(),
        }
    }

    /// Whether an attempt can be undone like this.
    pub(crate) fn has(&self, undo: Undo) -> bool {
        let is_transaction = self.plan.level == Level::Transaction;
        match undo {
            Undo::Rollback => true,
            Undo::CheckedRollback => is_transaction && self.plan.dialect == Dialect::Postgres,
            Undo::ProbedRollback => self.plan.dialect == Dialect::Postgres,
            Undo::BlindRollback => is_transaction && self.plan.dialect == Dialect::Mysql,
            Undo::FailedBegin => {
                self.plan.dialect == Dialect::Sqlite && !self.plan.opens_with_more()
            }
            Undo::IfOpened => {
                is_transaction
                    && self.plan.dialect == Dialect::Sqlite
                    && self.plan.opens_with_more()
            }
            Undo::LeftOpen => self.is_autocommit(),
        }
    }

    /// Whether MariaDB can get them as prepared statements. There are few of them: no token and no SQL of
    /// the operation's own makes each one another one. And nothing in them is longer than a statement may
    /// take, because a statement timeout would limit a compound statement as a whole, with its commit.
    pub(crate) const fn are_fixed(&self) -> bool {
        matches!(self.plan.dialect, Dialect::Mysql)
            && self.plan.applied.statement_timeout.is_none()
            && self.plan.proof.is_none()
            && self.plan.opening.is_none()
    }

    /// Opens the transaction or savepoint, with its settings.
    #[must_use]
    pub(crate) fn begin(&self) -> &str {
        self.text(Text::Begin)
    }

    /// Closes it for good, with the settings restored. In a transaction that the server has
    /// aborted or dropped it fails, where a bare COMMIT would succeed.
    #[must_use]
    pub(crate) fn commit(&self) -> &str {
        self.text(Text::Commit)
    }

    /// The same again, after SQLite was busy and has left the transaction open.
    pub(crate) fn commit_again(&self) -> &str {
        sqlite::commit_again(self.commit())
    }

    /// Undoes the attempt and restores the settings.
    pub(crate) fn undo(&self, undo: Undo) -> &str {
        self.text(match undo {
            Undo::Rollback | Undo::IfOpened => Text::Rollback,
            Undo::CheckedRollback => Text::CheckedRollback,
            Undo::ProbedRollback => Text::ProbedRollback,
            Undo::BlindRollback => Text::BlindRollback,
            Undo::FailedBegin => Text::Restoration,
            Undo::LeftOpen => return "ROLLBACK",
        })
    }

    /// Restores the settings in a savepoint that is gone, where they do not end with it. Terminated,
    /// so that another statement can follow. Can be empty.
    pub(crate) fn restoration(&self) -> &str {
        self.text(Text::Restoration)
    }

    /// Whether the token of the operation is written.
    pub(crate) const fn has_token(&self) -> bool {
        matches!(
            self.plan.proof,
            Some(CommitProof::Token(_) | CommitProof::Key(_))
        )
    }

    /// The question about the operation's token, in a transaction with the timeouts of the operation.
    /// `None` if no token is written.
    pub(crate) fn question(&self) -> Option<TokenQuestion> {
        let (ask, state) = self.plan.proof.as_ref()?.question()?;
        let mut plan = Plan {
            proof: None,
            opening: Some(ask.into()),
            forgets: false,
            // What fails here is the question about the token.
            known: self.plan.known.without_asking(),
            ..self.plan.clone()
        };
        plan.applied.ask(plan.dialect);
        Some(TokenQuestion {
            batches: Self::of(plan),
            state,
        })
    }

    fn text(&self, text: Text) -> &str {
        self.texts[text as usize].get_or_init(|| self.render(text))
    }

    fn render(&self, text: Text) -> Cow<'static, str> {
        let plan = &self.plan;
        match (text, plan.dialect) {
            (Text::Begin, _) => self.open(),
            (Text::Commit, _) => commit(plan),
            (Text::Rollback, Dialect::Postgres) => postgres::rollback(plan),
            (Text::Rollback, Dialect::Mysql) => mysql::rollback(plan),
            (Text::Rollback, Dialect::Sqlite) => sqlite::rollback(plan),
            (Text::CheckedRollback, _) => postgres::checked_rollback(plan),
            (Text::ProbedRollback, _) => postgres::probed_rollback(plan),
            (Text::BlindRollback, _) => mysql::blind_rollback(plan),
            (Text::Restoration, Dialect::Postgres) => Cow::Borrowed(""),
            (Text::Restoration, Dialect::Mysql) => mysql::restoration(plan),
            (Text::Restoration, Dialect::Sqlite) => sqlite::restoration(plan),
        }
    }

    fn open(&self) -> Cow<'static, str> {
        let begin = begin(&self.plan);
        match self.plan.opening.as_deref().map(str::trim) {
            None | Some("") => begin,
            Some(sql) => Cow::Owned(format!("{begin}; {sql}")),
        }
    }
}

/// What asks for a token of the ledger.
#[derive(Debug)]
pub(crate) struct TokenQuestion {
    /// The transaction that asks. The answer counts once it is committed.
    pub(crate) batches: Batches,
    /// The query in it that reads the answer, as a [`RowState`](super::ledger::RowState).
    pub(crate) state: String,
}

fn begin(plan: &Plan) -> Cow<'static, str> {
    match plan.dialect {
        Dialect::Postgres => postgres::begin(plan),
        Dialect::Mysql => mysql::begin(plan),
        Dialect::Sqlite => sqlite::begin(plan),
    }
}

fn commit(plan: &Plan) -> Cow<'static, str> {
    match plan.dialect {
        Dialect::Postgres => postgres::commit(plan),
        Dialect::Mysql => mysql::commit(plan),
        Dialect::Sqlite => sqlite::commit(plan),
    }
}

/// The texts of an operation.
#[derive(Clone, Copy, Debug)]
enum Text {
    Begin,
    Commit,
    Rollback,
    CheckedRollback,
    ProbedRollback,
    BlindRollback,
    Restoration,
}

impl Text {
    const COUNT: usize = Self::Restoration as usize + 1;
}

/// How an attempt is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Fails where the transaction is gone, if the dialect can tell.
    Rollback,
    /// The same after the end of a body: fails where no transaction is open any more.
    ///
    /// PostgreSQL only warns of a ROLLBACK without a transaction, and diesel-async does not look.
    /// AND CHAIN is an error there, and ends an aborted transaction like any other (measured).
    /// PostgreSQL has it since version 12; what speaks its protocol may not. Where the outcome can be
    /// asked for, the transaction contains a savepoint of dbop's: ROLLBACK TO fails even in another
    /// transaction.
    CheckedRollback,
    /// The same after an error of the body's own: fails, too, where a statement before it has failed.
    /// PostgreSQL only, where the transaction is aborted then.
    ProbedRollback,
    /// Does not look whether the transaction is still there: for where it is known or likely to be
    /// gone.
    BlindRollback,
    /// Only restores the settings, after a BEGIN that failed where nothing can have been opened.
    FailedBegin,
    /// The same where the operation's own SQL can have failed behind the BEGIN: that nothing is open is no
    /// error.
    IfOpened,
    /// Ends the transaction that a body without one has left open.
    LeftOpen,
}

impl Undo {
    /// Whether it fails where no transaction is open any more, on PostgreSQL.
    pub(crate) const fn is_checked(self) -> bool {
        matches!(self, Self::CheckedRollback | Self::ProbedRollback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_made_once_and_only_if_it_is_needed() {
        let batches = Batches::new(
            Dialect::Mysql,
            Level::Transaction,
            &Settings::default(),
            &Defaults::default(),
            SavedPragmas::default(),
        )
        .expect("valid");
        let made = || {
            let texts = batches.texts.iter();
            texts.filter(|text| text.get().is_some()).count()
        };
        assert_eq!(made(), 0);
        let first = batches.begin();
        assert_eq!(made(), 1);
        assert!(std::ptr::eq(first, batches.begin()));
        _ = (batches.commit(), batches.undo(Undo::Rollback));
        assert_eq!(made(), 3);
    }

    /// Else the connection would prepare a statement for each operation, or the server would limit the
    /// commit.
    #[test]
    fn what_is_prepared_is_the_same_for_all_operations_with_these_settings() {
        let second = Some(Duration::from_secs(1));
        let of = |dialect, settings: &Settings| {
            let (level, before) = (Level::Transaction, SavedPragmas::default());
            Batches::new(dialect, level, settings, &Defaults::default(), before).expect("valid")
        };
        let plain = of(Dialect::Mysql, &Settings::default());
        assert!(plain.are_fixed());
        let locks = Settings {
            lock_timeout: second,
            read_only: true,
            ..Settings::default()
        };
        assert!(of(Dialect::Mysql, &locks).are_fixed());
        let statements = Settings {
            statement_timeout: second,
            ..Settings::default()
        };
        assert!(!of(Dialect::Mysql, &statements).are_fixed());
        let late = plain.for_attempt(None, second).expect("a deadline");
        assert!(!late.are_fixed());
        assert!(!plain.with_opening("DO 0").are_fixed());
        let ledger = crate::Ledger::new();
        let with_token = plain.with_token(&ledger.open()).expect("a token");
        assert!(!with_token.are_fixed());
        assert!(!of(Dialect::Postgres, &Settings::default()).are_fixed());
    }

    /// An attempt with other settings begins with no text of the attempt before.
    #[test]
    fn other_settings_are_other_texts() {
        let settings = Settings {
            lock_timeout: Some(Duration::from_secs(3)),
            ..Settings::default()
        };
        let (none, before) = (Defaults::NONE, SavedPragmas::default());
        let top = Level::Transaction;
        let batches = Batches::new(Dialect::Postgres, top, &settings, &none, before);
        let batches = batches.expect("valid");
        assert_eq!(batches.begin(), "BEGIN; SET LOCAL lock_timeout = 3000");
        let same = batches.for_attempt(Some(Timeout::Exact(Duration::from_secs(3))), None);
        assert!(same.is_none());
        let other = batches.for_attempt(Some(Timeout::Exact(Duration::from_secs(4))), None);
        let other = other.expect("another lock timeout");
        assert_eq!(other.begin(), "BEGIN; SET LOCAL lock_timeout = 4000");
    }
}
