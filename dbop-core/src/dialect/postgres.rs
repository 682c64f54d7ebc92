//! PostgreSQL.
//!
//! `SET LOCAL` ends with the transaction and with `ROLLBACK TO`, but outlives `RELEASE`
//! (measured); so a savepoint keeps the old value in a variable of ours and puts it back.
//! Read-only is undone by `RELEASE` itself.
//!
//! A default has to look at the session's own value, which takes a query. In the operation's
//! transaction that would be the first one: it would fix the snapshot of REPEATABLE READ before
//! the operation can lock a table, and `SET TRANSACTION` would be refused (measured). So a default
//! is set for the session, in a transaction of its own in front of the operation's, in the same
//! batch, and is put back when the operation is closed.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::proof::CommitProof;
use super::{Level, milliseconds, sql_with_room_for};
use crate::settings::{Applied, Isolation, IsolationLevel, Timeout};

pub(super) mod status;

/// Is undone with the transaction, however it ends.
const MARK: &str = "SET LOCAL dbop.transaction = 'ours'";

/// The first statement of the ROLLBACK after the end of a body, which fails where the transaction is
/// not there any more, and takes an aborted one like any other.
pub(super) const fn rollback_check(proof: Option<&CommitProof>) -> &'static str {
    match proof {
        Some(_) => "ROLLBACK TO SAVEPOINT dbop_alive",
        None => "ROLLBACK AND CHAIN",
    }
}

/// Where it is asked what became of a commit, a savepoint shows that the transaction is the one that
/// was opened, and not another one that the operation has begun after ending that. Not everywhere: a
/// savepoint costs a transaction id of its own as soon as something is written.
pub(super) fn begin(
    level: Level,
    applied: &Applied,
    proof: Option<&CommitProof>,
) -> Cow<'static, str> {
    let begin = begin_level(level, applied);
    match proof {
        None => begin,
        Some(CommitProof::Mark) => Cow::Owned(format!("{begin}; {MARK}; SAVEPOINT dbop_alive")),
        Some(CommitProof::Token(token)) => {
            let (cleanup, opening) = (token.cleanup(), token.opening());
            let separator = if cleanup.is_empty() { "" } else { "; " };
            let sql = format!("{cleanup}{separator}{begin}; {opening}; SAVEPOINT dbop_alive");
            Cow::Owned(sql)
        }
    }
}

fn begin_level(level: Level, applied: &Applied) -> Cow<'static, str> {
    let Level::Savepoint(depth) = level else {
        return begin_transaction(applied);
    };
    let mut sql = sql_with_room_for(applied);
    _ = write!(sql, "SAVEPOINT dbop_savepoint_{depth}");
    if applied.read_only {
        sql.push_str("; SET TRANSACTION READ ONLY");
    }
    let mut separator = "; SELECT";
    for (name, timeout) in timeouts(applied) {
        // The target list is evaluated from left to right (measured): old value kept, then set.
        _ = write!(
            sql,
            "{separator} set_config('dbop.{name}_{depth}', current_setting('{name}'), true), \
             set_config('{name}', {}, true)",
            value(name, timeout)
        );
        separator = ",";
    }
    Cow::Owned(sql)
}

fn begin_transaction(applied: &Applied) -> Cow<'static, str> {
    if !applied.read_only && applied.isolation.is_none() && timeouts(applied).next().is_none() {
        return Cow::Borrowed("BEGIN");
    }
    let mut sql = sql_with_room_for(applied);
    // In a transaction that somebody has begun in SQL, behind Diesel's back, and used, the first
    // statement fails: NOT DEFERRABLE has to come before any query. A bare BEGIN would only be
    // warned about, and the COMMIT that follows would commit what is not ours (measured).
    let mut separator = "BEGIN NOT DEFERRABLE; SELECT";
    for (name, timeout) in defaults(applied) {
        _ = write!(
            sql,
            "{separator} set_config('dbop.{name}', current_setting('{name}'), false), \
             set_config('{name}', {}, false)",
            value(name, timeout)
        );
        separator = ",";
    }
    if let Some(Isolation::AtLeast(level)) = applied.isolation {
        _ = write!(
            sql,
            "{separator} set_config('dbop.{ISOLATION}', current_setting('{ISOLATION}'), false), \
             set_config('{ISOLATION}', CASE WHEN current_setting('{ISOLATION}') IN ("
        );
        let mut comma = "";
        for stricter in IsolationLevel::ALL
            .iter()
            .filter(|stricter| **stricter > level)
        {
            _ = write!(sql, "{comma}'{}'", stricter.as_str().to_lowercase());
            comma = ", ";
        }
        let level = level.as_str().to_lowercase();
        // An empty list is no list.
        _ = write!(
            sql,
            "{comma}'') THEN current_setting('{ISOLATION}') ELSE '{level}' END, false)"
        );
    }
    if !sql.is_empty() {
        sql.push_str("; COMMIT; ");
    }
    sql.push_str("BEGIN");
    if let Some(Isolation::Exact(level)) = applied.isolation {
        _ = write!(sql, " ISOLATION LEVEL {}", level.as_str());
    }
    if applied.read_only {
        sql.push_str(" READ ONLY");
    }
    if applied.deferrable {
        sql.push_str(" DEFERRABLE");
    }
    for (name, timeout) in timeouts(applied) {
        if let Timeout::Exact(duration) = timeout {
            _ = write!(sql, "; SET LOCAL {name} = {}", milliseconds(duration));
        }
    }
    Cow::Owned(sql)
}

pub(super) fn commit(
    level: Level,
    applied: &Applied,
    proof: Option<&CommitProof>,
) -> Cow<'static, str> {
    let mut sql = sql_with_room_for(applied);
    match level {
        // A bare COMMIT of an aborted transaction rolls back and reports success, and so does one
        // where no transaction is open any more (measured). The statement in front of it fails in
        // both, with 25P02 and 25P01, and the COMMIT is not run. COMMIT ignores the statement
        // timeout, so where one was asked for, deferred constraints are checked before it.
        Level::Transaction => {
            let constraints = applied.statement_timeout.is_some();
            let defaults = defaults_set(applied).next().is_some();
            if proof.is_none() && !defaults {
                return Cow::Borrowed(if constraints {
                    "SAVEPOINT dbop; SET CONSTRAINTS ALL IMMEDIATE; COMMIT"
                } else {
                    "SAVEPOINT dbop; COMMIT"
                });
            }
            sql.push_str(match proof {
                Some(_) => "RELEASE SAVEPOINT dbop_alive; ",
                None => "SAVEPOINT dbop; ",
            });
            if let Some(CommitProof::Token(token)) = proof {
                _ = write!(sql, "{}; ", token.closing());
            }
            if constraints {
                sql.push_str("SET CONSTRAINTS ALL IMMEDIATE; ");
            }
            if defaults {
                restore_defaults(&mut sql, applied);
                sql.push_str("; ");
            }
            sql.push_str("COMMIT");
        }
        Level::Savepoint(depth) => {
            let mut separator = "SELECT";
            for (name, _) in timeouts(applied) {
                restore(&mut sql, separator, name, &format!("{name}_{depth}"), true);
                separator = ",";
            }
            if !sql.is_empty() {
                sql.push_str("; ");
            }
            _ = write!(sql, "RELEASE SAVEPOINT dbop_savepoint_{depth}");
        }
    }
    Cow::Owned(sql)
}

pub(super) fn rollback(level: Level, applied: &Applied) -> Cow<'static, str> {
    match level {
        Level::Transaction if defaults_set(applied).next().is_none() => Cow::Borrowed("ROLLBACK"),
        Level::Transaction => {
            let mut sql = String::from("ROLLBACK; ");
            restore_defaults(&mut sql, applied);
            Cow::Owned(sql)
        }
        Level::Savepoint(depth) => Cow::Owned(format!(
            "ROLLBACK TO SAVEPOINT dbop_savepoint_{depth}; \
             RELEASE SAVEPOINT dbop_savepoint_{depth}"
        )),
    }
}

/// Puts back what the session had.
fn restore_defaults(sql: &mut String, applied: &Applied) {
    let mut separator = "SELECT";
    for name in defaults_set(applied) {
        restore(sql, separator, name, name, false);
        separator = ",";
    }
}

/// Puts one setting back, and forgets the old value. There is none where the opening batch did not
/// get that far, and after a `RESET ALL` in the operation: then what is there stays.
fn restore(sql: &mut String, separator: &str, name: &str, kept_as: &str, local: bool) {
    _ = write!(
        sql,
        "{separator} set_config('{name}', coalesce(nullif(current_setting('dbop.{kept_as}', true), \
         ''), current_setting('{name}')), {local}), set_config('dbop.{kept_as}', '', {local})"
    );
}

fn defaults(applied: &Applied) -> impl Iterator<Item = (&'static str, Timeout)> {
    timeouts(applied).filter(|(_, timeout)| matches!(timeout, Timeout::AtMost(_)))
}

/// The settings of the session that defaults have changed.
fn defaults_set(applied: &Applied) -> impl Iterator<Item = &'static str> {
    let isolation = matches!(applied.isolation, Some(Isolation::AtLeast(_)));
    defaults(applied)
        .map(|(name, _)| name)
        .chain(isolation.then_some(ISOLATION))
}

const ISOLATION: &str = "default_transaction_isolation";

fn timeouts(applied: &Applied) -> impl Iterator<Item = (&'static str, Timeout)> {
    [
        ("lock_timeout", applied.lock_timeout),
        ("statement_timeout", applied.statement_timeout),
    ]
    .into_iter()
    .filter_map(|(name, timeout)| Some((name, timeout?)))
}

/// The new value of a setting, as an expression.
fn value(name: &str, timeout: Timeout) -> String {
    match timeout {
        Timeout::Exact(duration) => format!("'{}'", milliseconds(duration)),
        // What `current_setting` prints ('0', '250ms', '3s', '1min') reads as an interval.
        Timeout::AtMost(duration) => {
            let value = milliseconds(duration);
            format!(
                "CASE WHEN current_setting('{name}')::interval BETWEEN '1 ms' AND '{value} ms' \
                 THEN current_setting('{name}') ELSE '{value}' END"
            )
        }
    }
}
