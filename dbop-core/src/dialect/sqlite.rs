//! SQLite.
//!
//! A transaction that is going to write begins IMMEDIATE: a deferred one that reads first and
//! writes later fails at once, without waiting, as soon as somebody else has written (measured).
//! Pragmas are not transactional and SQL cannot keep their old values; they are read beforehand.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Level, SavedPragmas, duration, milliseconds, sql_with_room_for};
use crate::settings::{Applied, BeginMode};

/// Releases the savepoint that is in every transaction of ours: where SQLite has rolled back by
/// itself, it is gone, and whatever transaction is open now is another one, which a SAVEPOINT of
/// Diesel's can have opened.
const RELEASE_ALIVE: &str = "RELEASE SAVEPOINT dbop_alive; ";

/// If the batch fails, nothing is open: what can fail comes before and in the BEGIN. Under
/// `query_only` no write lock is given, so where one is asked for, that pragma has to follow.
pub(super) fn begin(level: Level, applied: &Applied, before: SavedPragmas) -> Cow<'static, str> {
    let mut sql = sql_with_room_for(applied);
    if let Some(timeout) = applied.lock_timeout {
        let value = milliseconds(duration(timeout));
        _ = write!(sql, "PRAGMA busy_timeout={value}; ");
    }
    let query_only = changes_query_only(applied, before);
    let locks = level == Level::Transaction && begin_mode(applied) != BeginMode::Deferred;
    if query_only && !locks {
        sql.push_str("PRAGMA query_only=1; ");
    }
    match level {
        Level::Transaction => sql.push_str(match begin_mode(applied) {
            BeginMode::Deferred => "BEGIN; SAVEPOINT dbop_alive",
            BeginMode::Immediate => "BEGIN IMMEDIATE; SAVEPOINT dbop_alive",
            BeginMode::Exclusive => "BEGIN EXCLUSIVE; SAVEPOINT dbop_alive",
        }),
        Level::Savepoint(depth) => _ = write!(sql, "SAVEPOINT dbop_savepoint_{depth}"),
    }
    if query_only && locks {
        sql.push_str("; PRAGMA query_only=1");
    }
    Cow::Owned(sql)
}

pub(super) const fn begin_mode(applied: &Applied) -> BeginMode {
    match applied.begin_mode {
        Some(mode) => mode,
        None if applied.read_only => BeginMode::Deferred,
        None => BeginMode::Immediate,
    }
}

pub(super) fn commit(level: Level, applied: &Applied, before: SavedPragmas) -> Cow<'static, str> {
    let query_only = query_only_off(applied, before);
    match level {
        // The COMMIT itself may have to wait for readers, so the busy timeout goes after it.
        Level::Transaction if applied.lock_timeout.is_some() => Cow::Owned(format!(
            "{RELEASE_ALIVE}{query_only}COMMIT; PRAGMA busy_timeout={}",
            before.busy_timeout
        )),
        Level::Transaction if query_only.is_empty() => {
            Cow::Borrowed("RELEASE SAVEPOINT dbop_alive; COMMIT")
        }
        Level::Transaction => Cow::Owned(format!("{RELEASE_ALIVE}{query_only}COMMIT")),
        Level::Savepoint(depth) => {
            let mut sql = sql_with_room_for(applied);
            sql.push_str(query_only);
            sql.push_str(&busy_timeout_back(applied, before));
            _ = write!(sql, "RELEASE SAVEPOINT dbop_savepoint_{depth}");
            Cow::Owned(sql)
        }
    }
}

/// The same once more, after a COMMIT that was busy: all in front of it was done.
pub(super) fn commit_again(commit: &str) -> &str {
    commit.strip_prefix(RELEASE_ALIVE).unwrap_or(commit)
}

/// The pragmas come first: they must be restored even if the transaction is gone.
pub(super) fn rollback(level: Level, applied: &Applied, before: SavedPragmas) -> Cow<'static, str> {
    let mut sql = restoration(applied, before).into_owned();
    match level {
        Level::Transaction => sql.push_str("ROLLBACK"),
        Level::Savepoint(depth) => {
            _ = write!(
                sql,
                "ROLLBACK TO SAVEPOINT dbop_savepoint_{depth}; \
                 RELEASE SAVEPOINT dbop_savepoint_{depth}"
            );
        }
    }
    Cow::Owned(sql)
}

/// The pragmas as they were before.
pub(super) fn restoration(applied: &Applied, before: SavedPragmas) -> Cow<'static, str> {
    let query_only = query_only_off(applied, before);
    match applied.lock_timeout {
        Some(_) => Cow::Owned(format!(
            "{query_only}{}",
            busy_timeout_back(applied, before)
        )),
        None => Cow::Borrowed(query_only),
    }
}

const fn changes_query_only(applied: &Applied, before: SavedPragmas) -> bool {
    applied.read_only && !before.query_only
}

const fn query_only_off(applied: &Applied, before: SavedPragmas) -> &'static str {
    if changes_query_only(applied, before) {
        "PRAGMA query_only=0; "
    } else {
        ""
    }
}

fn busy_timeout_back(applied: &Applied, before: SavedPragmas) -> String {
    match applied.lock_timeout {
        Some(_) => format!("PRAGMA busy_timeout={}; ", before.busy_timeout),
        None => String::new(),
    }
}
