//! MySQL and MariaDB.
//!
//! Both roll back the *whole* transaction at a deadlock, after which the session is in autocommit
//! and every further statement sticks, one by one, while COMMIT says OK (measured). Against that,
//! a transaction is opened with autocommit off, so that whatever comes after the loss is in a new
//! transaction that nobody commits, and with a savepoint of ours, whose RELEASE in front of the
//! COMMIT fails if the transaction is not the one that was opened.
//!
//! Where the session chains transactions (`completion_type`), a bare COMMIT would begin another one
//! that is read-only like the one before, and so would be what the session does next (measured).
//!
//! Session variables are not transactional: the old values stay in user variables until restored.
//! Comments like `/*M!100100 */` are executed by MariaDB only and `/*!80000 */` by MySQL only
//! (measured), so nobody has to ask which of the two it is.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use super::proof::CommitProof;
use super::{Level, duration, milliseconds, seconds, sql_with_room_for};
use crate::settings::{Applied, Isolation, IsolationLevel, Timeout};

pub(super) fn begin(
    level: Level,
    applied: &Applied,
    proof: Option<&CommitProof>,
) -> Cow<'static, str> {
    let Level::Savepoint(depth) = level else {
        let mut sql = sql_with_room_for(applied);
        sql.push_str("SET @dbop_autocommit=@@autocommit, autocommit=0");
        if has_timeouts(applied) {
            sql.push_str(", ");
            set_timeouts(&mut sql, level, applied);
        }
        match applied.isolation {
            Some(Isolation::AtLeast(isolation)) => set_isolation(&mut sql, isolation),
            // For the next transaction only.
            Some(Isolation::Exact(isolation)) => {
                let isolation = isolation.as_str();
                _ = write!(sql, "; SET TRANSACTION ISOLATION LEVEL {isolation}");
            }
            None => {}
        }
        sql.push_str("; START TRANSACTION");
        if applied.read_only {
            sql.push_str(" READ ONLY");
        }
        sql.push_str("; SAVEPOINT dbop_alive");
        if let Some(CommitProof::Token(token)) = proof {
            _ = write!(sql, "; {}", token.opening());
        }
        return Cow::Owned(sql);
    };
    let mut sql = sql_with_room_for(applied);
    if has_timeouts(applied) {
        sql.push_str("SET ");
        set_timeouts(&mut sql, level, applied);
        sql.push_str("; ");
    }
    _ = write!(sql, "SAVEPOINT dbop_savepoint_{depth}");
    Cow::Owned(sql)
}

pub(super) fn commit(
    level: Level,
    applied: &Applied,
    proof: Option<&CommitProof>,
) -> Cow<'static, str> {
    let Level::Savepoint(depth) = level else {
        if proof.is_none() && !has_timeouts(applied) && !has_default_isolation(applied) {
            return Cow::Borrowed(
                "RELEASE SAVEPOINT dbop_alive; COMMIT AND NO CHAIN NO RELEASE; \
                 SET autocommit=@dbop_autocommit",
            );
        }
        let mut sql = sql_with_room_for(applied);
        sql.push_str("RELEASE SAVEPOINT dbop_alive; ");
        if let Some(CommitProof::Token(token)) = proof {
            _ = write!(sql, "{}; ", token.closing());
        }
        restore(&mut sql, level, applied);
        // Setting autocommit commits by itself, so it has to come last.
        sql.push_str("COMMIT AND NO CHAIN NO RELEASE; SET autocommit=@dbop_autocommit");
        return Cow::Owned(sql);
    };
    let mut sql = restoration(level, applied);
    _ = write!(sql, "RELEASE SAVEPOINT dbop_savepoint_{depth}");
    Cow::Owned(sql)
}

/// The settings come first: they must be restored even if the savepoint is gone.
pub(super) fn rollback(level: Level, applied: &Applied) -> Cow<'static, str> {
    let mut sql = restoration(level, applied);
    _ = match level {
        Level::Transaction => write!(
            sql,
            "ROLLBACK TO SAVEPOINT dbop_alive; ROLLBACK AND NO CHAIN NO RELEASE; \
             SET autocommit=@dbop_autocommit"
        ),
        Level::Savepoint(depth) => write!(
            sql,
            "ROLLBACK TO SAVEPOINT dbop_savepoint_{depth}; \
             RELEASE SAVEPOINT dbop_savepoint_{depth}"
        ),
    };
    Cow::Owned(sql)
}

pub(super) fn blind_rollback(applied: &Applied) -> Cow<'static, str> {
    let mut sql = String::from("ROLLBACK AND NO CHAIN NO RELEASE; ");
    sql.push_str(&restoration(Level::Transaction, applied));
    sql.push_str("SET autocommit=@dbop_autocommit");
    Cow::Owned(sql)
}

const fn has_timeouts(applied: &Applied) -> bool {
    applied.lock_timeout.is_some() || applied.statement_timeout.is_some()
}

/// Assignments that keep the old values and set the new ones.
fn set_timeouts(sql: &mut String, level: Level, applied: &Applied) {
    let suffix = suffix(level);
    if let Some(timeout) = applied.lock_timeout {
        let name = "innodb_lock_wait_timeout";
        let value = seconds(duration(timeout));
        _ = write!(sql, "@dbop_lock{suffix}=@@SESSION.{name}, SESSION {name}=");
        _ = match timeout {
            Timeout::Exact(_) => write!(sql, "{value}"),
            // MySQL makes a decimal of the LEAST of two integers, and refuses it (measured).
            Timeout::AtMost(_) => {
                write!(sql, "CAST(LEAST(@@SESSION.{name}, {value}) AS UNSIGNED)")
            }
        };
    }
    if let Some(timeout) = applied.statement_timeout {
        // A comment can be the whole list of one of the two servers, never of both: each takes
        // the first assignment, with the variable of its own.
        let comma = if applied.lock_timeout.is_some() {
            ", "
        } else {
            ""
        };
        let mariadb = mariadb_seconds(duration(timeout));
        let mysql = milliseconds(duration(timeout));
        for (version, name, value, least, kind) in [
            (
                "M!100100",
                "max_statement_time",
                mariadb,
                "0.000001",
                "DECIMAL(20,6)",
            ),
            (
                "!80000",
                "max_execution_time",
                mysql.to_string(),
                "1",
                "UNSIGNED",
            ),
        ] {
            _ = write!(
                sql,
                "/*{version} {comma}@dbop_statement{suffix}=@@SESSION.{name}, SESSION {name}="
            );
            // Zero means "no limit" to both.
            _ = match timeout {
                Timeout::Exact(_) => write!(sql, "{value}"),
                Timeout::AtMost(_) => write!(
                    sql,
                    "CAST(IF(@@SESSION.{name} BETWEEN {least} AND {value}, @@SESSION.{name}, \
                     {value}) AS {kind})"
                ),
            };
            sql.push_str(" */");
        }
    }
}

/// `SET ..; ` with the old values, or nothing.
pub(super) fn restoration(level: Level, applied: &Applied) -> String {
    let mut sql = sql_with_room_for(applied);
    restore(&mut sql, level, applied);
    sql
}

fn restore(sql: &mut String, level: Level, applied: &Applied) {
    if has_timeouts(applied) {
        sql.push_str("SET ");
        restore_timeouts(sql, level, applied);
        sql.push_str("; ");
    }
    if has_default_isolation(applied) {
        sql.push_str(
            "SET /*M!100100 SESSION tx_isolation */ /*!80000 SESSION transaction_isolation */\
             =@dbop_isolation; ",
        );
    }
}

const fn has_default_isolation(applied: &Applied) -> bool {
    matches!(applied.isolation, Some(Isolation::AtLeast(_)))
}

/// `, ..`: the session's level is kept, and made stricter where it is weaker. The variable has
/// two names (MariaDB 10.11 knows the old one only, MySQL the new one).
fn set_isolation(sql: &mut String, isolation: IsolationLevel) {
    let name = |isolation: IsolationLevel| isolation.as_str().replace(' ', "-");
    let level = name(isolation);
    let stricter: Vec<_> = IsolationLevel::ALL
        .into_iter()
        .filter(|stricter| *stricter > isolation)
        .map(name)
        .collect();
    let stricter = stricter.join(",");
    for (version, variable) in [
        ("M!100100", "tx_isolation"),
        ("!80000", "transaction_isolation"),
    ] {
        _ = write!(
            sql,
            "/*{version} , @dbop_isolation=@@SESSION.{variable}, SESSION {variable}=\
             IF(FIND_IN_SET(@@SESSION.{variable}, '{stricter}'), @@SESSION.{variable}, '{level}') */"
        );
    }
}

fn restore_timeouts(sql: &mut String, level: Level, applied: &Applied) {
    let suffix = suffix(level);
    if applied.lock_timeout.is_some() {
        _ = write!(sql, "SESSION innodb_lock_wait_timeout=@dbop_lock{suffix}");
    }
    if applied.statement_timeout.is_some() {
        let comma = if applied.lock_timeout.is_some() {
            ", "
        } else {
            ""
        };
        _ = write!(
            sql,
            "/*M!100100 {comma}SESSION max_statement_time=@dbop_statement{suffix} */\
             /*!80000 {comma}SESSION max_execution_time=@dbop_statement{suffix} */"
        );
    }
}

/// Nested operations keep their old values under names of their own.
fn suffix(level: Level) -> String {
    match level {
        Level::Transaction => String::new(),
        Level::Savepoint(depth) => format!("_{depth}"),
    }
}

/// MariaDB takes seconds with a fraction. Whole milliseconds are enough, and below one, a timeout
/// that strikes in the middle of a batch can leave the client waiting for ever: the server
/// announces a further result and does not send it (measured on 10.11 and 11.8, with bare Diesel).
fn mariadb_seconds(duration: Duration) -> String {
    let millis = milliseconds(duration);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}
