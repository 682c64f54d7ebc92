//! The cells: what the clients do, and where.

use super::backends::Backend;

/// Some work on some server.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) backend: Backend,
    pub(crate) work: Work,
    /// What a session is told first.
    pub(crate) session: &'static str,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// It reads a row and adds to it. All do so to the same row.
    HotRow,
    /// It moves money between two of four accounts, in whichever order.
    Transfers,
}

/// How many rows there are.
pub(crate) const ACCOUNTS: i32 = 4;

/// Every cell.
pub(crate) const CELLS: &[Cell] = &[
    Cell {
        name: "transfers",
        about: "PostgreSQL, read committed, deadlock_timeout 100 ms: deadlocks",
        backend: Backend::Postgres,
        work: Work::Transfers,
        session: "SET lock_timeout = '10s'; SET deadlock_timeout = '100ms'",
    },
    Cell {
        name: "transfers-1s",
        about: "PostgreSQL, read committed, deadlock_timeout 1 s: deadlocks that last",
        backend: Backend::Postgres,
        work: Work::Transfers,
        session: "SET lock_timeout = '10s'; SET deadlock_timeout = '1s'",
    },
    Cell {
        name: "hot-row",
        about: "PostgreSQL, read committed: no conflict, only a queue",
        backend: Backend::Postgres,
        work: Work::HotRow,
        session: "SET lock_timeout = '10s'; SET deadlock_timeout = '100ms'",
    },
    Cell {
        name: "serializable-hot-row",
        about: "PostgreSQL, serializable: serialization failures",
        backend: Backend::Postgres,
        work: Work::HotRow,
        session: "SET lock_timeout = '10s'; SET deadlock_timeout = '100ms'; \
                  SET default_transaction_isolation = 'serializable'",
    },
    Cell {
        name: "serializable-transfers",
        about: "PostgreSQL, serializable, deadlock_timeout 100 ms: both",
        backend: Backend::Postgres,
        work: Work::Transfers,
        session: "SET lock_timeout = '10s'; SET deadlock_timeout = '100ms'; \
                  SET default_transaction_isolation = 'serializable'",
    },
    Cell {
        name: "transfers",
        about: "MySQL and MariaDB, repeatable read: deadlocks, found at once",
        backend: Backend::Mysql,
        work: Work::Transfers,
        session: "SET SESSION innodb_lock_wait_timeout = 10",
    },
    Cell {
        name: "hot-row",
        about: "MySQL and MariaDB, repeatable read: a queue",
        backend: Backend::Mysql,
        work: Work::HotRow,
        session: "SET SESSION innodb_lock_wait_timeout = 10",
    },
    Cell {
        name: "serializable-hot-row",
        about: "MySQL and MariaDB, serializable: readers that want to write are deadlocks",
        backend: Backend::Mysql,
        work: Work::HotRow,
        session: "SET SESSION innodb_lock_wait_timeout = 10; \
                  SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    },
    Cell {
        name: "busy-hot-row",
        about: "SQLite, WAL, busy_timeout 0: a file that is locked is an error at once",
        backend: Backend::Sqlite,
        work: Work::HotRow,
        session: "PRAGMA busy_timeout = 0; PRAGMA synchronous = NORMAL",
    },
    Cell {
        name: "busy-transfers",
        about: "SQLite, WAL, busy_timeout 0",
        backend: Backend::Sqlite,
        work: Work::Transfers,
        session: "PRAGMA busy_timeout = 0; PRAGMA synchronous = NORMAL",
    },
    Cell {
        name: "waiting-transfers",
        about: "SQLite, WAL, busy_timeout 1 s: SQLite itself waits",
        backend: Backend::Sqlite,
        work: Work::Transfers,
        session: "PRAGMA busy_timeout = 1000; PRAGMA synchronous = NORMAL",
    },
];
