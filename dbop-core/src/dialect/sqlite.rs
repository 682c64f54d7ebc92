//! SQLite.
//!
//! A transaction that is going to write begins IMMEDIATE: a deferred one that reads first and
//! writes later fails at once, without waiting, as soon as another connection has written (measured).
//! Pragmas are not transactional and SQL cannot keep their old values; they are read beforehand.

use std::borrow::Cow;

use super::plan::Plan;
use super::sql::{SEPARATOR, Sql};
use super::{Level, milliseconds};
use crate::settings::BeginMode;

/// A savepoint in every transaction of dbop's that can write.
const ALIVE: &str = "SAVEPOINT dbop_alive";

/// Where SQLite itself has rolled back, the savepoint is gone, and any transaction that is open now is
/// another one, which a SAVEPOINT of Diesel's can have opened.
const RELEASE_ALIVE: &str = "RELEASE SAVEPOINT dbop_alive";

/// See [`Dialect::undone_check`](super::Dialect::undone_check). Fails if the last statement that could
/// write has written; a statement that failed and ended the transaction has not. It does not see
/// earlier writes, or DDL. If a read failed and ended the transaction, it sees the write before that.
/// (2^63 is an integer overflow.)
pub(super) const UNDONE_CHECK: &str =
    "SELECT CASE WHEN changes() > 0 THEN abs(-9223372036854775807 - 1) END";

/// If the batch fails, nothing is open: what can fail comes before and in the BEGIN. Under
/// `query_only` no write lock is given, so where one is asked for, that pragma has to follow.
pub(super) fn begin(plan: &Plan) -> Cow<'static, str> {
    let mut sql = Sql::new(plan);
    if let Some(value) = new_busy_timeout(plan) {
        sql.then(format_args!("PRAGMA busy_timeout={value}"));
    }
    let query_only = changes_query_only(plan);
    let locks = plan.level == Level::Transaction && begin_mode(plan) != BeginMode::Deferred;
    if query_only && !locks {
        set_query_only(&mut sql, plan, 1);
    }
    match plan.level {
        Level::Transaction => {
            sql.then(match begin_mode(plan) {
                BeginMode::Deferred => "BEGIN",
                BeginMode::Immediate => "BEGIN IMMEDIATE",
                BeginMode::Exclusive => "BEGIN EXCLUSIVE",
            });
            if let Some(key) = plan.key() {
                sql.then(key.opening(plan.level));
            }
            sql.then(if has_savepoint(plan) { ALIVE } else { "" })
        }
        Level::Savepoint(depth) => {
            sql.then(format_args!("SAVEPOINT dbop_savepoint_{depth}"));
            if let Some(key) = plan.key() {
                let behind = plan.savepoint_behind_key();
                sql.then(key.opening(plan.level))
                    .then(format_args!("SAVEPOINT {behind}"));
            }
            &mut sql
        }
    };
    if query_only && locks {
        set_query_only(&mut sql, plan, 1);
    }
    sql.finish()
}

pub(super) const fn begin_mode(plan: &Plan) -> BeginMode {
    match plan.applied.begin_mode {
        Some(mode) => mode,
        None if plan.applied.read_only => BeginMode::Deferred,
        None => BeginMode::Immediate,
    }
}

pub(super) fn commit(plan: &Plan) -> Cow<'static, str> {
    match plan.level {
        Level::Transaction => {
            let mut sql = Sql::new(plan);
            if has_savepoint(plan) {
                sql.then(RELEASE_ALIVE);
            }
            if let Some(key) = plan.key() {
                sql.then(key.closing(plan.level));
            }
            restore_query_only(&mut sql, plan);
            // The COMMIT itself may have to wait for readers, so the busy timeout goes after it.
            sql.then("COMMIT");
            restore_busy_timeout(&mut sql, plan);
            sql.finish()
        }
        Level::Savepoint(depth) => {
            let mut sql = Sql::new(plan);
            if let Some(key) = plan.key() {
                let behind = plan.savepoint_behind_key();
                sql.then(format_args!("RELEASE SAVEPOINT {behind}"))
                    .then(key.closing(plan.level));
            }
            restore(&mut sql, plan);
            sql.then(format_args!("RELEASE SAVEPOINT dbop_savepoint_{depth}"));
            sql.finish()
        }
    }
}

/// The same once more, after a COMMIT that was busy: everything before it was done.
pub(super) fn commit_again(commit: &str) -> &str {
    let rest = commit.strip_prefix(RELEASE_ALIVE);
    rest.and_then(|rest| rest.strip_prefix(SEPARATOR))
        .unwrap_or(commit)
}

/// The pragmas come first: they must be restored even if the transaction is gone.
pub(super) fn rollback(plan: &Plan) -> Cow<'static, str> {
    let mut sql = Sql::new(plan);
    restore(&mut sql, plan);
    match plan.level {
        Level::Transaction => sql.then("ROLLBACK"),
        Level::Savepoint(depth) => sql
            .then(format_args!("ROLLBACK TO SAVEPOINT dbop_savepoint_{depth}"))
            .then(format_args!("RELEASE SAVEPOINT dbop_savepoint_{depth}")),
    };
    sql.finish()
}

/// The pragmas as they were before.
pub(super) fn restoration(plan: &Plan) -> Cow<'static, str> {
    let mut sql = Sql::new(plan);
    restore(&mut sql, plan);
    sql.finish_terminated()
}

fn restore(sql: &mut Sql, plan: &Plan) {
    restore_query_only(sql, plan);
    restore_busy_timeout(sql, plan);
}

fn restore_query_only(sql: &mut Sql, plan: &Plan) {
    if changes_query_only(plan) {
        set_query_only(sql, plan, 0);
    }
}

fn set_query_only(sql: &mut Sql, plan: &Plan, value: u8) {
    if plan.before.is_set_by_explain {
        sql.then("EXPLAIN QUERY PLAN");
        sql.push(format_args!(" PRAGMA query_only={value}"));
    } else {
        sql.then(format_args!("PRAGMA query_only={value}"));
    }
}

fn restore_busy_timeout(sql: &mut Sql, plan: &Plan) {
    if new_busy_timeout(plan).is_some() {
        let value = plan.before.busy_timeout;
        sql.then(format_args!("PRAGMA busy_timeout={value}"));
    }
}

/// What `busy_timeout` is set to, if that changes it.
pub(super) fn new_busy_timeout(plan: &Plan) -> Option<u128> {
    let asked = milliseconds(plan.applied.lock_timeout?.duration());
    Some(asked).filter(|asked| *asked != plan.before.busy_timeout_ms())
}

/// What only reads loses nothing with its transaction: that it is gone, COMMIT tells.
const fn has_savepoint(plan: &Plan) -> bool {
    !plan.applied.read_only
}

const fn changes_query_only(plan: &Plan) -> bool {
    plan.applied.read_only && !plan.before.query_only
}
