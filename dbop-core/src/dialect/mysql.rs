//! MySQL and MariaDB.
//!
//! Both roll back the *whole* transaction at a deadlock, after which the session is in autocommit
//! and every further statement sticks, one by one, while COMMIT says OK (measured). Two things guard
//! against that. A transaction is opened with autocommit off, so that whatever follows the loss is in
//! a new transaction that is never committed. And it contains a savepoint of dbop's, whose RELEASE
//! before the commit fails if the transaction is not the one that was opened.
//!
//! There is no COMMIT: to turn autocommit on commits, and the settings are restored in the same
//! statement. Where the session chains transactions (`completion_type`), that begins no other one, as
//! a bare COMMIT or ROLLBACK would, which is read-only like the one before and in which the session's
//! next statements would run (measured).
//!
//! Session variables are not transactional: the old values stay in user variables until restored.
//! Where others may use the session, there are neither those nor settings: autocommit is a constant, which
//! every pooler knows of, and COMMIT commits. The timeouts are left out.
//!
//! Comments like `/*M!100100 */` are executed by MariaDB only and `/*!80000 */` by MySQL only
//! (measured), so the SQL is the same for both.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::applied::{Applied, Isolation, Timeout};
use super::plan::Plan;
use super::proof::CommitProof;
use super::sql::{List, Sql};
use super::{Level, milliseconds, seconds};
use crate::settings::IsolationLevel;

pub(super) fn begin(plan: &Plan) -> Cow<'static, str> {
    match plan.level {
        Level::Transaction => begin_transaction(plan),
        Level::Savepoint(depth) => {
            let mut sql = Sql::new(plan);
            set_timeouts(&mut sql.list("SET"), plan);
            sql.then(format_args!("SAVEPOINT dbop_savepoint_{depth}"));
            if let Some(key) = plan.key() {
                let behind = plan.savepoint_behind_key();
                sql.then(key.opening(plan.level))
                    .then(format_args!("SAVEPOINT {behind}"));
            }
            sql.finish()
        }
    }
}

fn begin_transaction(plan: &Plan) -> Cow<'static, str> {
    let mut sql = Sql::new(plan);
    let may_set_session = plan.profile.may_set_session();
    let mut set = sql.list("SET");
    if may_set_session {
        set.item(format_args!("@dbop_autocommit=@@autocommit"));
    }
    set.item(format_args!("autocommit=0"));
    set_timeouts(&mut set, plan);
    if let (Some(Isolation::AtLeast(level)), true) = (plan.applied.isolation, may_set_session) {
        set_isolation(&mut set, level);
    }
    // It can fail, so it comes behind the SET that keeps what a rollback puts back.
    if let Some(proof) = &plan.proof {
        sql.then(proof.cleanup(plan.profile.end_words()));
    }
    if let (Some(Isolation::AtLeast(level)), false) = (plan.applied.isolation, may_set_session) {
        set_next_isolation(&mut sql.list("SET"), level);
    }
    // For the next transaction only.
    if let Some(Isolation::Exact(level)) = plan.applied.isolation {
        let level = level.as_str();
        sql.then(format_args!("SET TRANSACTION ISOLATION LEVEL {level}"));
    }
    sql.then("START TRANSACTION");
    if plan.applied.read_only {
        sql.push(" READ ONLY");
    }
    if let Some(key) = plan.key() {
        sql.then(key.opening(plan.level));
    }
    sql.then("SAVEPOINT dbop_alive");
    if let Some(CommitProof::Token(token)) = &plan.proof {
        sql.then(token.opening());
    }
    sql.finish()
}

/// To turn autocommit on commits. All values are checked before the first one is assigned, so nothing can
/// fail after that (measured). A session whose own value is 0 commits by the 1, and gets the 0 back. If
/// the commit fails, MariaDB assigns what follows all the same: nothing is left that it could commit,
/// because the failure has rolled the transaction back (measured).
pub(super) fn commit(plan: &Plan) -> Cow<'static, str> {
    match plan.level {
        Level::Transaction => {
            let mut sql = Sql::new(plan);
            sql.then("RELEASE SAVEPOINT dbop_alive");
            close_proof(&mut sql, plan);
            if !plan.profile.may_set_session() {
                let words = plan.profile.end_words();
                check_row(&mut sql, plan);
                sql.then(format_args!("COMMIT{words}"));
                sql.then(restore_autocommit(plan));
                return sql.finish();
            }
            let mut set = sql.list("SET");
            if plan.proof.is_some() {
                set.item(format_args!("@dbop_is_ours={IS_OURS}"));
            }
            // Not with what follows, or it would be the limit of the commit as well, which it can then interrupt.
            if plan.applied.statement_timeout.is_some() {
                restore_statement_timeout(&mut set, plan);
                set = sql.list("SET");
            }
            restore_lock_timeout(&mut set, plan);
            set.item(format_args!("autocommit=1"));
            restore_isolation(&mut set, plan);
            set.item(format_args!("autocommit=@dbop_autocommit"));
            sql.finish()
        }
        Level::Savepoint(depth) => {
            let mut sql = Sql::new(plan);
            if plan.key().is_some() {
                let behind = plan.savepoint_behind_key();
                sql.then(format_args!("RELEASE SAVEPOINT {behind}"));
            }
            close_proof(&mut sql, plan);
            check_row(&mut sql, plan);
            restore(&mut sql, plan);
            sql.then(format_args!("RELEASE SAVEPOINT dbop_savepoint_{depth}"));
            sql.finish()
        }
    }
}

/// Behind the RELEASE that fails if the transaction is not the one that was opened.
fn close_proof(sql: &mut Sql, plan: &Plan) {
    if let Some(closing) = plan
        .proof
        .as_ref()
        .and_then(|proof| proof.closing(plan.level))
    {
        sql.then(closing);
    }
}

/// Fails if the statement before has not found the row that the transaction has begun with.
///
/// Group Replication aborts a transaction that is in the way of one from another member. If its next statement is
/// SAVEPOINT, that begins another transaction, without an error: all before it is lost, and RELEASE and COMMIT say OK
/// (measured). What the row then lacks is in the binary log, which stops the other members.
const IS_OURS: &str = "IF(ROW_COUNT() > 0, 1, (SELECT 1 UNION SELECT 2))";

/// The number of the error by which [`IS_OURS`] fails.
pub(super) const IS_NOT_OURS: u16 = 1242;

/// The same as a statement.
fn check_row(sql: &mut Sql, plan: &Plan) {
    if plan.proof.is_none() {
        return;
    }
    // Not DO, of which MariaDB makes a warning (measured).
    match plan.profile.may_set_session() {
        true => sql.then(format_args!("SET @dbop_is_ours={IS_OURS}")),
        false => sql.then(format_args!("SELECT {IS_OURS}")),
    };
}

/// The settings come first: they must be restored even if the savepoint is gone.
pub(super) fn rollback(plan: &Plan) -> Cow<'static, str> {
    let mut sql = Sql::new(plan);
    restore(&mut sql, plan);
    match plan.level {
        Level::Transaction => sql
            .then("ROLLBACK TO SAVEPOINT dbop_alive")
            .then(format_args!("ROLLBACK{}", plan.profile.end_words()))
            .then(restore_autocommit(plan)),
        Level::Savepoint(depth) => sql
            .then(format_args!("ROLLBACK TO SAVEPOINT dbop_savepoint_{depth}"))
            .then(format_args!("RELEASE SAVEPOINT dbop_savepoint_{depth}")),
    };
    sql.finish()
}

pub(super) fn blind_rollback(plan: &Plan) -> Cow<'static, str> {
    let mut sql = Sql::new(plan);
    sql.then(format_args!("ROLLBACK{}", plan.profile.end_words()));
    restore(&mut sql, plan);
    sql.then(restore_autocommit(plan));
    sql.finish()
}

/// Where it is not kept it was 1, as it is unless a session says otherwise.
const fn restore_autocommit(plan: &Plan) -> &'static str {
    match plan.profile.may_set_session() {
        true => "SET autocommit=@dbop_autocommit",
        false => "SET autocommit=1",
    }
}

/// See [`Dialect::undone_check`](super::Dialect::undone_check). Fails if a lock timeout does not end
/// the whole transaction: a subquery of two rows is an error, 1242, if it is evaluated.
pub(super) const UNDONE_CHECK: &str =
    "SET @dbop_ends = IF(@@innodb_rollback_on_timeout, 1, (SELECT 1 UNION SELECT 2))";

/// The same where there are no user variables. Not DO, of which MariaDB makes a warning (measured).
pub(super) const UNDONE_CHECK_WITHOUT_VARIABLE: &str =
    "SELECT IF(@@innodb_rollback_on_timeout, 1, (SELECT 1 UNION SELECT 2))";

/// See [`Dialect::keep_diagnostics`](super::Dialect::keep_diagnostics). Where there is no error, the
/// second statement leaves the old number in place (measured), so the first says whether there is
/// one.
pub(super) const KEEP_DIAGNOSTICS: &str = "GET DIAGNOSTICS @dbop_errors=NUMBER; \
     GET DIAGNOSTICS CONDITION 1 @dbop_errno=MYSQL_ERRNO, @dbop_message=MESSAGE_TEXT";

/// Reads what [`KEEP_DIAGNOSTICS`] has kept, as one text: the number of the error, a space, and its
/// message. NULL if there is no error.
pub(super) const KEPT_DIAGNOSTICS: &str =
    "SELECT CAST(IF(@dbop_errors > 0, CONCAT(@dbop_errno, ' ', @dbop_message), NULL) AS CHAR) AS s";

/// The settings as they were before.
pub(super) fn restoration(plan: &Plan) -> Cow<'static, str> {
    let mut sql = Sql::new(plan);
    restore(&mut sql, plan);
    sql.finish_terminated()
}

/// Assignments that keep the old values and set the new ones.
fn set_timeouts(set: &mut List<'_>, plan: &Plan) {
    let suffix = Suffix(plan.level);
    if !plan.profile.may_set_session() {
        return;
    }
    if let Some(timeout) = plan.applied.lock_timeout {
        let name = "innodb_lock_wait_timeout";
        let value = seconds(timeout.duration());
        set.item(format_args!("@dbop_lock{suffix}=@@SESSION.{name}"));
        match timeout {
            Timeout::Exact(_) => set.item(format_args!("SESSION {name}={value}")),
            // MySQL makes a decimal of the LEAST of two integers, and refuses it (measured).
            Timeout::AtMost(_) => set.item(format_args!(
                "SESSION {name}=CAST(LEAST(@@SESSION.{name}, {value}) AS UNSIGNED)"
            )),
        }
    }
    if let Some(timeout) = plan.applied.statement_timeout {
        if plan.applied.lock_timeout.is_none() {
            // One of the two comments is executed, so the comma can stand before both.
            set.separate();
        }
        set.item_by_server([
            (
                MARIADB,
                StatementTimeout {
                    name: "max_statement_time",
                    value: mariadb_seconds(timeout.duration()),
                    least: "0.000001",
                    kind: "DECIMAL(20,6)",
                    timeout,
                    suffix,
                },
            ),
            (
                MYSQL,
                StatementTimeout {
                    name: "max_execution_time",
                    value: milliseconds(timeout.duration()).to_string(),
                    least: "1",
                    kind: "UNSIGNED",
                    timeout,
                    suffix,
                },
            ),
        ]);
    }
}

/// A comment with this marker is executed by MariaDB only.
const MARIADB: &str = "M!100100";
/// A comment with this marker is executed by MariaDB only, from 11.1 on.
const MARIADB_11: &str = "M!110100";
/// A comment with this marker is executed by MySQL only.
const MYSQL: &str = "!80000";

/// The assignments for a statement timeout, in the words of one server.
struct StatementTimeout {
    name: &'static str,
    value: String,
    /// The smallest value that is a limit: zero means "no limit" to both.
    least: &'static str,
    kind: &'static str,
    timeout: Timeout,
    suffix: Suffix,
}

impl fmt::Display for StatementTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            value,
            least,
            kind,
            timeout,
            suffix,
        } = self;
        write!(
            f,
            "@dbop_statement{suffix}=@@SESSION.{name}, SESSION {name}="
        )?;
        match timeout {
            Timeout::Exact(_) => f.write_str(value),
            Timeout::AtMost(_) => write!(
                f,
                "CAST(IF(@@SESSION.{name} BETWEEN {least} AND {value}, @@SESSION.{name}, {value}) \
                 AS {kind})"
            ),
        }
    }
}

/// Keeps the session's isolation level, and makes it stricter where it is weaker. The variable has
/// two names (MariaDB 10.11 knows the old one only, MySQL the new one).
fn set_isolation(set: &mut List<'_>, at_least: IsolationLevel) {
    set.item_by_server(
        [(MARIADB, "tx_isolation"), (MYSQL, "transaction_isolation")]
            .map(|(server, variable)| (server, SessionIsolation { variable, at_least })),
    );
}

/// Makes the next transaction as strict as the session, or as this. Without SESSION, a variable with `@@` is
/// for the next transaction alone (measured).
fn set_next_isolation(set: &mut List<'_>, at_least: IsolationLevel) {
    set.item_by_server(
        [(MARIADB, "tx_isolation"), (MYSQL, "transaction_isolation")]
            .map(|(server, variable)| (server, NextIsolation { variable, at_least })),
    );
}

/// The assignment for a default isolation level of one transaction, in the words of one server.
struct NextIsolation {
    variable: &'static str,
    at_least: IsolationLevel,
}

impl fmt::Display for NextIsolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, at_least } = *self;
        write!(f, "@@{variable}={}", Strictest { variable, at_least })
    }
}

/// The assignments for a default isolation level, in the words of one server.
struct SessionIsolation {
    variable: &'static str,
    at_least: IsolationLevel,
}

impl fmt::Display for SessionIsolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, at_least } = *self;
        write!(
            f,
            "@dbop_isolation=@@SESSION.{variable}, SESSION {variable}={}",
            Strictest { variable, at_least }
        )
    }
}

/// The session's level, or this one if it is stricter, as an expression.
struct Strictest {
    variable: &'static str,
    at_least: IsolationLevel,
}

impl fmt::Display for Strictest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, at_least } = *self;
        write!(f, "IF(FIND_IN_SET(@@SESSION.{variable}, '")?;
        for (index, level) in at_least.stricter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", hyphenated(level))?;
        }
        let level = hyphenated(at_least);
        write!(f, "'), @@SESSION.{variable}, '{level}')")
    }
}

/// A level as the value of a variable.
const fn hyphenated(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::ReadUncommitted => "READ-UNCOMMITTED",
        IsolationLevel::ReadCommitted => "READ-COMMITTED",
        IsolationLevel::RepeatableRead => "REPEATABLE-READ",
        IsolationLevel::Serializable => "SERIALIZABLE",
    }
}

/// Sets the session back to its old values.
fn restore(sql: &mut Sql, plan: &Plan) {
    if !plan.profile.may_set_session() {
        return;
    }
    let mut set = sql.list("SET");
    restore_lock_timeout(&mut set, plan);
    restore_statement_timeout(&mut set, plan);
    if has_default_isolation(&plan.applied) {
        set.item_by_server([
            (MARIADB, "SESSION tx_isolation=@dbop_isolation"),
            (MYSQL, "SESSION transaction_isolation=@dbop_isolation"),
        ]);
    }
}

fn restore_lock_timeout(set: &mut List<'_>, plan: &Plan) {
    let suffix = Suffix(plan.level);
    if plan.applied.lock_timeout.is_some() {
        set.item(format_args!(
            "SESSION innodb_lock_wait_timeout=@dbop_lock{suffix}"
        ));
    }
}

fn restore_statement_timeout(set: &mut List<'_>, plan: &Plan) {
    let suffix = Suffix(plan.level);
    if plan.applied.statement_timeout.is_some() {
        set.item_by_server([
            (
                MARIADB,
                format_args!("SESSION max_statement_time=@dbop_statement{suffix}"),
            ),
            (
                MYSQL,
                format_args!("SESSION max_execution_time=@dbop_statement{suffix}"),
            ),
        ]);
    }
}

/// After a commit, has the next transaction begin with what the session has. COMMIT does that by itself.
/// To turn autocommit on does not: the next one on the connection would be read-only and serializable
/// like this one (measured). Also where `SET TRANSACTION` has made this one so, unknown to dbop.
///
/// The variables have two names each: MariaDB knows the old ones before 11.1, and warns of them since,
/// which would hide an error from `GET DIAGNOSTICS`. A newer MariaDB reads the old ones as a text.
fn restore_isolation(set: &mut List<'_>, plan: &Plan) {
    let [new, old] = match has_default_isolation(&plan.applied) {
        true => ["@dbop_isolation"; 2],
        false => ["@@SESSION.transaction_isolation", "@@SESSION.tx_isolation"],
    };
    set.continue_item(format_args!(
        "/*{MARIADB_11} , SESSION transaction_isolation={new}, \
         SESSION transaction_read_only=@@SESSION.transaction_read_only, @dbop_skipped=' */\
         /*{MARIADB} , SESSION tx_isolation={old}, SESSION tx_read_only=@@SESSION.tx_read_only */\
         /*{MARIADB_11} ' */\
         /*{MYSQL} , SESSION transaction_isolation={new}, \
         SESSION transaction_read_only=@@SESSION.transaction_read_only */"
    ));
}

const fn has_default_isolation(applied: &Applied) -> bool {
    matches!(applied.isolation, Some(Isolation::AtLeast(_)))
}

/// Keeps the user variables of nested operations apart.
#[derive(Clone, Copy)]
struct Suffix(Level);

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Level::Transaction => Ok(()),
            Level::Savepoint(depth) => write!(f, "_{depth}"),
        }
    }
}

/// MariaDB takes seconds with a fraction. Whole milliseconds are enough. Below one, a timeout that
/// strikes in the middle of a batch can leave the client waiting for ever: the server announces a
/// further result and does not send it (measured on 10.11 and 11.8, with bare Diesel).
fn mariadb_seconds(duration: Duration) -> String {
    let millis = milliseconds(duration);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}
