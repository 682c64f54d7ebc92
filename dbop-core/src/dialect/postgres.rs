//! PostgreSQL.
//!
//! `SET LOCAL` ends with the transaction and with `ROLLBACK TO`, but outlives `RELEASE` (measured).
//! So a savepoint keeps the old value in a setting of dbop's and restores it. Read-only is undone by
//! `RELEASE` itself.
//!
//! What a default does depends on the session's own value. Where the runner knows that the session is
//! not stricter, a default is `SET LOCAL`, which is no query; where it is, nothing is set.
//!
//! Where that is not known the session is looked at, which takes a query. As the first query of the
//! operation's transaction it would fix the snapshot of REPEATABLE READ before the operation can lock
//! a table, and `SET TRANSACTION` would be refused (measured). So the query is in a separate
//! transaction before the operation's but in the same batch. It either asks, by failing where the
//! session is stricter, or sets the default for the session, which is restored when the operation is
//! closed.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::applied::{Applied, Isolation, Timeout};
use super::plan::Plan;
use super::sessions::{Knowledge, SessionSetting};
use super::sql::{List, Sql};
use super::{Level, milliseconds};
use crate::settings::IsolationLevel;
use values::{Interval, IsStricter, NewIsolation, NewTimeout};

pub(super) mod status;
mod values;

/// Is undone with the transaction, however that ends.
const MARK: &str = "SET LOCAL dbop.transaction = 'ours'";

/// Fails where that is gone, by a name that is known in every language.
const CHECK_OF_MARK: &str = "SELECT CASE WHEN current_setting('dbop.transaction', true) = 'ours' \
                             THEN NULL ELSE current_setting('dbop_alive.is_gone') END";

/// On the server connection that the transaction gets. In a transaction of its own, because it takes the
/// snapshot. PgBouncer learns of it by the answer (from 1.22 on), and prepares anew what its clients need.
const FORGET: &str = "BEGIN NOT DEFERRABLE; DEALLOCATE ALL; COMMIT";

pub(super) fn begin(plan: &Plan) -> Cow<'static, str> {
    match plan.level {
        Level::Transaction => begin_transaction(plan),
        Level::Savepoint(depth) => {
            let mut sql = Sql::new(plan);
            sql.then(format_args!("SAVEPOINT dbop_savepoint_{depth}"));
            if plan.applied.read_only {
                sql.then("SET TRANSACTION READ ONLY");
            }
            let mut select = sql.list("SELECT");
            for (setting, timeout) in timeouts(&plan.applied) {
                let name = setting.name();
                set(
                    &mut select,
                    name,
                    Kept::ByLevel(depth),
                    NewTimeout::of(plan, name, timeout),
                );
            }
            open_key(&mut sql, plan);
            sql.finish()
        }
    }
}

/// In a savepoint.
fn open_key(sql: &mut Sql, plan: &Plan) {
    if let Some(key) = plan.key() {
        let behind = plan.savepoint_behind_key();
        sql.then(key.opening(plan.level))
            .then(format_args!("SAVEPOINT {behind}"));
    }
}

fn begin_transaction(plan: &Plan) -> Cow<'static, str> {
    let Plan { applied, proof, .. } = plan;
    let is_bare = !applied.read_only
        && applied.isolation.is_none()
        && applied.synchronous_commit.is_none()
        && timeouts(applied).next().is_none();
    if is_bare && proof.is_none() && !plan.profile.has_mark() && !plan.forgets {
        return Cow::Borrowed("BEGIN");
    }
    let mut sql = Sql::new(plan);
    if plan.forgets {
        sql.then(FORGET);
    }
    if let Some(proof) = proof {
        sql.then(proof.cleanup(""));
    }
    look_at_session(&mut sql, plan);
    sql.then("BEGIN");
    if let Some(level) = isolation(plan) {
        sql.push(format_args!(" ISOLATION LEVEL {}", level.as_str()));
    }
    if applied.read_only {
        sql.push(" READ ONLY");
    }
    sql.push(deferrable(plan));
    for (setting, timeout) in timeouts(applied) {
        if way(plan, setting, timeout) == Way::Local {
            let (name, value) = (setting.name(), milliseconds(timeout.duration()));
            sql.then(format_args!("SET LOCAL {name} = {value}"));
        }
    }
    if plan.profile.has_mark() {
        sql.then(MARK);
    }
    if let Some(commit) = applied.synchronous_commit {
        let value = commit.as_str();
        sql.then(format_args!("SET LOCAL synchronous_commit = '{value}'"));
    }
    look_in_transaction(&mut sql, plan);
    if let Some(proof) = proof {
        match proof.opening(plan.level) {
            Some(opening) => sql.then(opening),
            None => sql.then(MARK),
        };
    }
    if has_savepoint(plan) {
        sql.then("SAVEPOINT dbop_alive");
    }
    sql.finish()
}

/// Where the fate of a commit can be asked for, a savepoint shows that the transaction is the one that
/// was opened, and not another one that the operation began after ending that. In a read-only
/// transaction it keeps the operation from making it read-write: outside of a savepoint PostgreSQL
/// allows that until the first query (measured). Not everywhere: a savepoint costs a transaction id as
/// soon as something is written.
fn has_savepoint(plan: &Plan) -> bool {
    (plan.proof.is_some() || plan.applied.read_only) && !plan.profile.has_mark()
}

/// How a setting gets into the operation's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In the transaction.
    Local,
    /// In the transaction, by a query that looks at what the session has. It takes the snapshot.
    Looking,
    /// Into the session before it, after a look at what that has.
    InSession,
    /// The session has it, or what is stricter.
    NotAtAll,
}

fn way(plan: &Plan, setting: SessionSetting, timeout: Timeout) -> Way {
    let known = &plan.known;
    let Timeout::AtMost(duration) = timeout else {
        return Way::Local;
    };
    match known.of(setting) {
        Knowledge::Asked | Knowledge::Laxer => Way::Local,
        // Stricter than the runner's default, which is not to say than any shorter timeout.
        Knowledge::Stricter if known.bound(setting) == Some(duration) => Way::NotAtAll,
        Knowledge::Stricter | Knowledge::Nothing if plan.profile.pooler_safe => Way::Looking,
        Knowledge::Stricter | Knowledge::Nothing => Way::InSession,
    }
}

fn way_of_default_isolation(plan: &Plan) -> Option<Way> {
    let Some(Isolation::AtLeast(_)) = plan.applied.isolation else {
        return None;
    };
    Some(match plan.known.of(SessionSetting::Isolation) {
        Knowledge::Asked | Knowledge::Laxer => Way::Local,
        Knowledge::Stricter => Way::NotAtAll,
        Knowledge::Nothing if plan.profile.pooler_safe => Way::NotAtAll,
        Knowledge::Nothing => Way::InSession,
    })
}

/// The isolation level that the transaction begins with.
fn isolation(plan: &Plan) -> Option<IsolationLevel> {
    match plan.applied.isolation? {
        Isolation::Exact(level) => Some(level),
        Isolation::AtLeast(level) => match way_of_default_isolation(plan)? {
            Way::Local => Some(level),
            // A single level is stricter than this one. A session that is laxer after all gets it too.
            Way::NotAtAll if level == IsolationLevel::RepeatableRead => {
                Some(IsolationLevel::Serializable)
            }
            Way::NotAtAll | Way::Looking | Way::InSession => None,
        },
    }
}

/// Both words guard a BEGIN: in a transaction that was begun in SQL, behind Diesel's back, and used, it
/// fails with one of them, because they have to come before any query. A bare BEGIN would only be warned
/// about, and the COMMIT of the operation would commit that transaction's work (measured). Which of them
/// it is has to be what the session has for itself.
fn deferrable(plan: &Plan) -> &'static str {
    if plan.applied.deferrable {
        return " DEFERRABLE";
    }
    if !has_defaults(&plan.applied) {
        return "";
    }
    match plan.known.of(SessionSetting::Deferrable) {
        Knowledge::Nothing if !plan.profile.has_default_deferrable() => " NOT DEFERRABLE",
        Knowledge::Nothing => "",
        Knowledge::Asked | Knowledge::Laxer => " NOT DEFERRABLE",
        Knowledge::Stricter => " DEFERRABLE",
    }
}

/// Asks the session whether it is stricter than the defaults, or applies them to it, in a transaction of
/// their own. Where the BEGIN that follows is no guard, this one is.
fn look_at_session(sql: &mut Sql, plan: &Plan) {
    let applied = &plan.applied;
    let is_guarded = !has_defaults(applied) || !deferrable(plan).is_empty();
    if is_guarded && !plan.known.asks() && !changes_session(plan) {
        return;
    }
    sql.then("BEGIN NOT DEFERRABLE");
    let mut select = sql.list("SELECT");
    for setting in plan.known.asked() {
        let (stricter, word) = (Stricter(plan, setting), setting.word());
        select.item(format_args!(
            "CASE WHEN {stricter} THEN current_setting('{word}') END"
        ));
    }
    for (name, timeout) in defaults(plan) {
        set(
            &mut select,
            name,
            Kept::InSession,
            NewTimeout::of(plan, name, timeout),
        );
    }
    if let (Some(Way::InSession), Some(Isolation::AtLeast(level))) =
        (way_of_default_isolation(plan), applied.isolation)
    {
        set(&mut select, ISOLATION, Kept::InSession, NewIsolation(level));
    }
    sql.then("COMMIT");
}

/// Applies the defaults in the operation's transaction, where nothing may be set on the session.
fn look_in_transaction(sql: &mut Sql, plan: &Plan) {
    let mut select = sql.list("SELECT");
    for (setting, timeout) in timeouts(&plan.applied) {
        if way(plan, setting, timeout) == Way::Looking {
            let name = setting.name();
            let value = NewTimeout::of(plan, name, timeout);
            select.item(format_args!("set_config('{name}', {value}, true)"));
        }
    }
}

/// A session that is not stricter has a longer timeout than this. `None`: it has none at all.
fn bound(plan: &Plan, setting: SessionSetting) -> Option<Duration> {
    // Each attempt asks for itself.
    let own = timeouts(&plan.applied).find(|(timeout, _)| *timeout == setting);
    match own.filter(|_| plan.profile.pooler_safe) {
        Some((_, timeout)) => Some(timeout.duration()),
        None => plan.known.bound(setting),
    }
}

/// Whether the session is stricter, as an expression.
struct Stricter<'a>(&'a Plan, SessionSetting);

impl fmt::Display for Stricter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(plan, setting) = *self;
        let name = setting.name();
        match (setting, plan.applied.isolation, bound(plan, setting)) {
            (SessionSetting::Deferrable, ..) => write!(f, "current_setting('{name}') = 'on'"),
            (SessionSetting::Isolation, Some(Isolation::AtLeast(level)), _) => {
                write!(f, "{}", IsStricter(level))
            }
            (_, _, Some(bound)) => {
                let value = milliseconds(bound);
                write!(
                    f,
                    "{} BETWEEN '1 ms' AND '{value} ms'",
                    Interval(plan.profile, name)
                )
            }
            (_, _, None) => write!(f, "current_setting('{name}') <> '0'"),
        }
    }
}

pub(super) fn commit(plan: &Plan) -> Cow<'static, str> {
    match plan.level {
        Level::Transaction => commit_transaction(plan),
        Level::Savepoint(depth) => {
            let mut sql = Sql::new(plan);
            if let Some(key) = plan.key() {
                sql.then(key.closing(plan.level));
            }
            let mut select = sql.list("SELECT");
            for (setting, _) in timeouts(&plan.applied) {
                restore(&mut select, setting.name(), Kept::ByLevel(depth));
            }
            sql.then(format_args!("RELEASE SAVEPOINT dbop_savepoint_{depth}"));
            sql.finish()
        }
    }
}

/// A bare COMMIT of an aborted transaction rolls back and reports success, and so does one where no
/// transaction is open any more (measured). The statement before it fails in both, with 25P02 and
/// 25P01, and the COMMIT is not run. COMMIT ignores the statement timeout, so where one was asked for,
/// deferred constraints are checked before it.
fn commit_transaction(plan: &Plan) -> Cow<'static, str> {
    let constraints = checks_constraints(plan);
    if !has_savepoint(plan) && !changes_session(plan) && !plan.profile.has_mark() {
        return Cow::Borrowed(if constraints {
            "SAVEPOINT dbop; SET CONSTRAINTS ALL IMMEDIATE; COMMIT"
        } else {
            "SAVEPOINT dbop; COMMIT"
        });
    }
    let mut sql = Sql::new(plan);
    let closing = plan
        .proof
        .as_ref()
        .and_then(|proof| proof.closing(plan.level));
    match closing {
        Some(closing) => sql.then(closing),
        None if plan.profile.has_mark() => sql.then(CHECK_OF_MARK),
        None if has_savepoint(plan) => sql.then("RELEASE SAVEPOINT dbop_alive"),
        None => sql.then("SAVEPOINT dbop"),
    };
    if constraints {
        sql.then("SET CONSTRAINTS ALL IMMEDIATE");
    }
    restore_defaults(&mut sql, plan);
    sql.then("COMMIT");
    sql.finish()
}

/// Whether deferred constraints are checked before the COMMIT.
pub(super) const fn checks_constraints(plan: &Plan) -> bool {
    plan.applied.statement_timeout.is_some() && plan.profile.has_set_constraints()
}

pub(super) fn rollback(plan: &Plan) -> Cow<'static, str> {
    match plan.level {
        Level::Transaction if !changes_session(plan) => Cow::Borrowed("ROLLBACK"),
        Level::Transaction => {
            let mut sql = Sql::new(plan);
            sql.then("ROLLBACK");
            restore_defaults(&mut sql, plan);
            sql.finish()
        }
        Level::Savepoint(depth) => Cow::Owned(format!(
            "ROLLBACK TO SAVEPOINT dbop_savepoint_{depth}; \
             RELEASE SAVEPOINT dbop_savepoint_{depth}"
        )),
    }
}

/// The ROLLBACK after the end of a body. Its first statement fails where the transaction is gone, and
/// ends an aborted one like any other.
pub(super) fn checked_rollback(plan: &Plan) -> Cow<'static, str> {
    let check = match has_savepoint(plan) {
        // It fails in an aborted transaction, too, which is then rolled back alone.
        _ if plan.profile.has_mark() => CHECK_OF_MARK,
        true => "ROLLBACK TO SAVEPOINT dbop_alive",
        false => "ROLLBACK AND CHAIN",
    };
    Cow::Owned(format!("{check}; {}", rollback(plan)))
}

/// The same where an error of the operation's own may hide that a statement has failed: in an aborted
/// transaction the first statement fails, and nothing of this is done.
pub(super) fn probed_rollback(plan: &Plan) -> Cow<'static, str> {
    let undo = match plan.level {
        // Its check is one for that as well.
        Level::Transaction if plan.profile.has_mark() => return checked_rollback(plan),
        Level::Transaction => checked_rollback(plan),
        Level::Savepoint(_) => rollback(plan),
    };
    Cow::Owned(format!("SAVEPOINT dbop; {undo}"))
}

/// Puts back what the session had.
fn restore_defaults(sql: &mut Sql, plan: &Plan) {
    let mut select = sql.list("SELECT");
    for (name, _) in defaults(plan) {
        restore(&mut select, name, Kept::InSession);
    }
    if way_of_default_isolation(plan) == Some(Way::InSession) {
        restore(&mut select, ISOLATION, Kept::InSession);
    }
}

/// Under which name the old value of a setting is kept, and whether it ends with the transaction.
#[derive(Clone, Copy)]
enum Kept {
    InSession,
    ByLevel(NonZeroU32),
}

impl Kept {
    const fn is_local(self) -> bool {
        matches!(self, Self::ByLevel(_))
    }
}

/// Behind the name of the setting.
impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InSession => Ok(()),
            Self::ByLevel(depth) => write!(f, "_{depth}"),
        }
    }
}

/// Keeps the old value of a setting, then sets the new one: the target list is evaluated from left to
/// right (measured).
fn set(select: &mut List<'_>, name: &str, kept: Kept, value: impl fmt::Display) {
    let local = kept.is_local();
    select.item(format_args!(
        "set_config('dbop.{name}{kept}', current_setting('{name}'), {local})"
    ));
    select.item(format_args!("set_config('{name}', {value}, {local})"));
}

/// Puts one setting back, and forgets the old value. There is none if the opening batch did not get
/// that far, or after a `RESET ALL` in the operation: then the present value stays.
fn restore(select: &mut List<'_>, name: &str, kept: Kept) {
    let local = kept.is_local();
    select.item(format_args!(
        "set_config('{name}', coalesce(nullif(current_setting('dbop.{name}{kept}', true), ''), \
         current_setting('{name}')), {local})"
    ));
    select.item(format_args!("set_config('dbop.{name}{kept}', '', {local})"));
}

/// Whether defaults change settings of the session.
fn changes_session(plan: &Plan) -> bool {
    way_of_default_isolation(plan) == Some(Way::InSession) || defaults(plan).next().is_some()
}

/// The timeouts that the session gets.
fn defaults(plan: &Plan) -> impl Iterator<Item = (&'static str, Timeout)> {
    timeouts(&plan.applied)
        .filter(|(setting, timeout)| way(plan, *setting, *timeout) == Way::InSession)
        .map(|(setting, timeout)| (setting.name(), timeout))
}

/// Whether there is a default whose effect depends on the session.
fn has_defaults(applied: &Applied) -> bool {
    matches!(applied.isolation, Some(Isolation::AtLeast(_)))
        || timeouts(applied).any(|(_, timeout)| matches!(timeout, Timeout::AtMost(_)))
}

const ISOLATION: &str = SessionSetting::Isolation.name();

fn timeouts(applied: &Applied) -> impl Iterator<Item = (SessionSetting, Timeout)> {
    [
        (SessionSetting::LockTimeout, applied.lock_timeout),
        (SessionSetting::StatementTimeout, applied.statement_timeout),
    ]
    .into_iter()
    .filter_map(|(setting, timeout)| Some((setting, timeout?)))
}
