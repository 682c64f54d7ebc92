//! PostgreSQL.
//!
//! `SET LOCAL` ends with the transaction and with `ROLLBACK TO`, but outlives `RELEASE`
//! (measured); so a savepoint keeps the old value in a variable of ours and puts it back.
//! Read-only is undone by `RELEASE` itself.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Level, duration, milliseconds, sql_with_room_for};
use crate::settings::{Applied, Timeout};

pub(super) fn begin(level: Level, applied: &Applied) -> Cow<'static, str> {
    let plain = !applied.read_only && timeouts(applied).next().is_none();
    if plain && level == Level::Transaction {
        return Cow::Borrowed("BEGIN");
    }
    let mut sql = sql_with_room_for(applied);
    _ = match level {
        Level::Transaction => write!(sql, "BEGIN"),
        Level::Savepoint(depth) => write!(sql, "SAVEPOINT diesel_savepoint_{depth}"),
    };
    if applied.read_only {
        sql.push_str(match level {
            Level::Transaction => " READ ONLY",
            Level::Savepoint(_) => "; SET TRANSACTION READ ONLY",
        });
    }
    let mut queried = false;
    for (name, timeout) in timeouts(applied) {
        set(&mut sql, level, name, timeout, &mut queried);
    }
    Cow::Owned(sql)
}

pub(super) fn commit(level: Level, applied: &Applied) -> Cow<'static, str> {
    let Level::Savepoint(depth) = level else {
        // A bare COMMIT of an aborted transaction rolls back and reports success (measured). The
        // statement before it fails there, with 25P02, and the COMMIT is not run. This one also
        // brings the deferred constraints under the statement timeout, which COMMIT ignores.
        return Cow::Borrowed("SET CONSTRAINTS ALL IMMEDIATE; COMMIT");
    };
    let mut sql = sql_with_room_for(applied);
    for (name, _) in timeouts(applied) {
        let separator = if sql.is_empty() { "SELECT" } else { "," };
        _ = write!(
            sql,
            "{separator} set_config('{name}', current_setting('dbop.{name}_{depth}'), true)"
        );
    }
    if !sql.is_empty() {
        sql.push_str("; ");
    }
    _ = write!(sql, "RELEASE SAVEPOINT diesel_savepoint_{depth}");
    Cow::Owned(sql)
}

pub(super) fn rollback(level: Level) -> Cow<'static, str> {
    match level {
        Level::Transaction => Cow::Borrowed("ROLLBACK"),
        Level::Savepoint(depth) => Cow::Owned(format!(
            "ROLLBACK TO SAVEPOINT diesel_savepoint_{depth}; \
             RELEASE SAVEPOINT diesel_savepoint_{depth}"
        )),
    }
}

fn timeouts(applied: &Applied) -> impl Iterator<Item = (&'static str, Timeout)> {
    [
        ("lock_timeout", applied.lock_timeout),
        ("statement_timeout", applied.statement_timeout),
    ]
    .into_iter()
    .filter_map(|(name, timeout)| Some((name, timeout?)))
}

fn set(sql: &mut String, level: Level, name: &str, timeout: Timeout, queried: &mut bool) {
    let value = milliseconds(duration(timeout));
    if let (Level::Transaction, Timeout::Exact(_)) = (level, timeout) {
        _ = write!(sql, "; SET LOCAL {name} = {value}");
        *queried = false;
        return;
    }
    sql.push_str(if *queried { "," } else { "; SELECT" });
    *queried = true;
    if let Level::Savepoint(depth) = level {
        // The target list is evaluated from left to right (measured): old value kept, then set.
        _ = write!(
            sql,
            " set_config('dbop.{name}_{depth}', current_setting('{name}'), true),"
        );
    }
    _ = match timeout {
        Timeout::Exact(_) => write!(sql, " set_config('{name}', '{value}', true)"),
        // What `current_setting` prints ('0', '250ms', '3s', '1min') reads as an interval.
        Timeout::AtMost(_) => write!(
            sql,
            " set_config('{name}', CASE WHEN current_setting('{name}')::interval \
             BETWEEN '1 ms' AND '{value} ms' THEN current_setting('{name}') \
             ELSE '{value}' END, true)"
        ),
    };
}
