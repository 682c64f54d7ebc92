//! What settings should be in force in an operation, told in the words of the promises and not in
//! those of the library.

use std::time::Duration;

use dbop_diesel::{BeginMode, IsolationLevel};
use dbop_tests::session::{Server, Session};

use super::{Operation, Runner};

/// A deadline is in force as what is left of it: this much may be gone.
const SLACK: u64 = 20_000;

/// What an operation asks for. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ask {
    pub(super) lock: Option<u64>,
    pub(super) ladder: Option<[Duration; 2]>,
    pub(super) statement: Option<u64>,
    pub(super) deadline: Option<u64>,
    pub(super) read_only: bool,
    pub(super) isolation: Option<IsolationLevel>,
    pub(super) deferrable: bool,
    pub(super) begin_mode: Option<BeginMode>,
}

/// What a runner has for operations that do not ask.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standard {
    pub(super) lock: Option<u64>,
    pub(super) statement: Option<u64>,
    pub(super) deadline: Option<u64>,
    pub(super) read_only: bool,
    pub(super) isolation: Option<IsolationLevel>,
    pub(super) begin_mode: Option<BeginMode>,
}

/// What a session has before anything is asked for. Zero: no limit, and on SQLite no wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) lock: u64,
    pub(super) statement: u64,
    pub(super) read_only: bool,
    pub(super) isolation: IsolationLevel,
    pub(super) deferrable: bool,
}

/// A time that is in force.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Exactly(u64),
    /// What is left of this much.
    LeftOf(u64),
}

/// What is in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    lock: Limit,
    statement: Limit,
    deadline: Option<u64>,
    pub(super) read_only: bool,
    isolation: IsolationLevel,
    /// What the transaction has, which on MySQL is not what the session shows.
    pub(super) transaction_isolation: IsolationLevel,
    deferrable: bool,
    /// SQLite: it has the write lock from the beginning. `None`: who knows.
    pub(super) write_lock: Option<bool>,
}

/// Where an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) in_transaction: bool,
    pub(super) in_operation: bool,
}

impl Ask {
    pub(super) fn operation<'a>(&'a self, runner: &'a Runner) -> Operation<'a> {
        let mut operation = runner.operation("random").best_effort();
        if let Some(lock) = self.lock {
            operation = operation.lock_timeout(Duration::from_millis(lock));
        }
        if let Some(ladder) = &self.ladder {
            operation = operation.lock_timeouts(ladder);
        }
        if let Some(statement) = self.statement {
            operation = operation.statement_timeout(Duration::from_millis(statement));
        }
        if let Some(deadline) = self.deadline {
            operation = operation.deadline(Duration::from_millis(deadline));
        }
        if self.read_only {
            operation = operation.read_only();
        }
        if let Some(isolation) = self.isolation {
            operation = operation.isolation(isolation);
        }
        if self.deferrable {
            operation = operation.deferrable();
        }
        if let Some(mode) = self.begin_mode {
            operation = operation.begin_mode(mode);
        }
        operation
    }
}

impl Standard {
    pub(super) fn runner(self, runner: Runner) -> Runner {
        runner
            .with_default_lock_timeout(self.lock.map(Duration::from_millis))
            .with_default_statement_timeout(self.statement.map(Duration::from_millis))
            .with_default_deadline(self.deadline.map(Duration::from_millis))
            .with_default_read_only(self.read_only)
            .with_default_isolation(self.isolation)
            .with_default_begin_mode(self.begin_mode)
    }
}

impl Before {
    pub(super) const fn values(self) -> Values {
        Values {
            lock: Limit::Exactly(self.lock),
            statement: Limit::Exactly(self.statement),
            deadline: None,
            read_only: self.read_only,
            isolation: self.isolation,
            transaction_isolation: self.isolation,
            deferrable: self.deferrable,
            write_lock: None,
        }
    }

    /// How a session becomes so.
    pub(super) fn sql(self, server: Server) -> String {
        let Self {
            lock, statement, ..
        } = self;
        let level = self.isolation.as_str();
        match server {
            Server::Postgres => format!(
                "SET lock_timeout = {lock}; SET statement_timeout = {statement}; \
                 SET default_transaction_isolation = '{}'; \
                 SET default_transaction_read_only = {}; \
                 SET default_transaction_deferrable = {}",
                level.to_lowercase(),
                self.read_only,
                self.deferrable
            ),
            Server::Mysql => format!(
                "SET innodb_lock_wait_timeout = {}; SET SESSION TRANSACTION ISOLATION LEVEL {level}; \
                 SET SESSION TRANSACTION READ {}; \
                 /*M!100100 SET max_statement_time = {statement} / 1000 */ \
                 /*!80000 SET max_execution_time = {statement} */",
                lock / 1000,
                if self.read_only { "ONLY" } else { "WRITE" },
            ),
            Server::Sqlite => format!("PRAGMA busy_timeout = {lock}"),
        }
    }
}

impl Values {
    /// What is in force in an attempt, counted from 0, of an operation in which this is in force
    /// outside.
    pub(super) fn within(
        self,
        server: Server,
        place: Place,
        ask: &Ask,
        standard: &Standard,
        attempt: u32,
    ) -> Self {
        // The defaults of a runner are for outermost operations; the others inherit.
        let standard = match place.in_operation {
            true => &Standard::default(),
            false => standard,
        };
        let rung = usize::from(attempt > 0);
        let own_lock = ask.ladder.map(|ladder| ladder[rung]);
        let own_deadline = ask.deadline.or(standard.deadline);
        let deadline = [own_deadline, self.deadline].into_iter().flatten().min();
        let whole_seconds = |lock: u64| match server {
            Server::Mysql => lock.next_multiple_of(1000),
            Server::Postgres | Server::Sqlite => lock,
        };
        let own_lock = own_lock.map(milliseconds).or(ask.lock).map(whole_seconds);
        let default_lock = standard.lock.map(whole_seconds);
        let lock = match (server, own_lock, default_lock) {
            (_, Some(own), _) => Limit::Exactly(own),
            // It belongs to the connection there.
            (Server::Sqlite, None, _) | (_, None, None) => self.lock,
            (_, None, Some(default)) => self.lock.at_most(default),
        };
        let lock = match server {
            // Where a statement timeout does not bound the wait for a lock.
            Server::Mysql => lock.until(deadline),
            // Zero is no wait there, and not one without an end.
            Server::Sqlite if own_lock.is_some() || own_deadline.is_some() => match lock {
                Limit::Exactly(0) => lock,
                _ => lock.until(deadline),
            },
            Server::Postgres | Server::Sqlite => lock,
        };
        let statement = match (ask.statement, standard.statement) {
            (Some(own), _) => Limit::Exactly(own),
            (None, Some(default)) => self.statement.at_most(default),
            (None, None) => self.statement,
        };
        let read_only = match server {
            // Nobody can have it there.
            Server::Mysql if place.in_transaction => false,
            _ => ask.read_only || standard.read_only,
        };
        let read_only = self.read_only || read_only;
        let weakest = standard.isolation.unwrap_or(self.isolation);
        let isolation = match ask.isolation {
            _ if place.in_transaction => self.isolation,
            // MySQL's is for the next transaction: the session's does not change.
            Some(_) if server == Server::Mysql => self.isolation,
            Some(own) => own,
            None => self.isolation.max(weakest),
        };
        let transaction_isolation = match ask.isolation {
            _ if place.in_transaction => self.transaction_isolation,
            Some(own) => own,
            None => isolation,
        };
        let mode = match read_only {
            true => BeginMode::Deferred,
            false => BeginMode::Immediate,
        };
        let mode = ask.begin_mode.or(standard.begin_mode).unwrap_or(mode);
        let locked = mode != BeginMode::Deferred;
        Self {
            lock,
            statement: statement.until(deadline),
            deadline,
            read_only,
            isolation,
            transaction_isolation,
            deferrable: self.deferrable || ask.deferrable && !place.in_transaction,
            write_lock: (!place.in_transaction).then_some(locked),
        }
    }

    /// Where the session of the server is different.
    pub(super) fn differences(&self, server: Server, seen: &Session) -> Vec<String> {
        let mut differences = Vec::new();
        let mut expect = |name: &str, is_so: bool| {
            if !is_so {
                differences.push(format!("{name} is {:?}", seen.get(name)));
            }
        };
        let level = self.isolation.as_str();
        match server {
            Server::Postgres => {
                let time = |name| seen.get(name).and_then(in_milliseconds);
                expect("lock_timeout", self.lock.fits(time("lock_timeout")));
                let statement = self.statement.fits(time("statement_timeout"));
                expect("statement_timeout", statement);
                let is = |name, on| seen.get(name) == Some(if on { "on" } else { "off" });
                let read_only = is("transaction_read_only", self.read_only);
                expect("transaction_read_only", read_only);
                let deferrable = is("transaction_deferrable", self.deferrable);
                expect("transaction_deferrable", deferrable);
                let isolation = seen.get("transaction_isolation");
                let is_so = isolation == Some(level.to_lowercase().as_str());
                expect("transaction_isolation", is_so);
            }
            Server::Mysql => {
                let time = |name, factor| {
                    let seconds: f64 = seen.get(name)?.parse().ok()?;
                    Duration::try_from_secs_f64(seconds * factor)
                        .ok()
                        .map(milliseconds)
                };
                let lock = time("innodb_lock_wait_timeout", 1.0);
                expect("innodb_lock_wait_timeout", self.lock.fits(lock));
                if seen.get("max_statement_time").is_some() {
                    let limit = time("max_statement_time", 1.0);
                    expect("max_statement_time", self.statement.fits(limit));
                } else {
                    let limit = time("max_execution_time", 0.001);
                    expect("max_execution_time", self.statement.fits(limit));
                }
                let level = level.replace(' ', "-");
                let name = match seen.get("tx_isolation") {
                    Some(_) => "tx_isolation",
                    None => "transaction_isolation",
                };
                expect(name, seen.get(name) == Some(&level));
            }
            Server::Sqlite => {
                let wait = seen.get("busy_timeout").and_then(|wait| wait.parse().ok());
                expect("busy_timeout", self.lock.fits(wait));
                let read_only = if self.read_only { "1" } else { "0" };
                expect("query_only", seen.get("query_only") == Some(read_only));
            }
        }
        differences
    }
}

impl Limit {
    /// A default: never looser than what is there.
    const fn at_most(self, default: u64) -> Self {
        match self {
            Self::Exactly(there) if there > 0 && there < default => self,
            Self::Exactly(_) | Self::LeftOf(_) => Self::Exactly(default),
        }
    }

    /// No longer than what is left of a deadline.
    fn until(self, deadline: Option<u64>) -> Self {
        let Some(deadline) = deadline else {
            return self;
        };
        match self {
            Self::Exactly(time) if time > 0 && time <= deadline - SLACK => self,
            Self::Exactly(_) => Self::LeftOf(deadline),
            Self::LeftOf(other) => Self::LeftOf(deadline.min(other)),
        }
    }

    fn fits(self, seen: Option<u64>) -> bool {
        seen.is_some_and(|seen| match self {
            Self::Exactly(time) => seen == time,
            Self::LeftOf(deadline) => (deadline - SLACK..=deadline).contains(&seen),
        })
    }
}

/// What PostgreSQL shows for a time: `0`, `250ms`, `3s`, `1min`.
fn in_milliseconds(shown: &str) -> Option<u64> {
    let digits = shown.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &shown[digits.len()..] {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse().ok().map(|number: u64| number * factor)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
