//! The backends: where the rows are, and who works on them. What is in `backends/` is written once.

use super::Outcome;
use super::client::Client;
use super::outage::Plan;
use super::policies::Way;
use std::time::Instant;

/// What is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Postgres,
    Mysql,
    Sqlite,
}

/// The rows of a cell.
pub(crate) trait Ground {
    fn url(&self) -> &str;

    /// Names a session, so that it can be interrupted.
    fn session(&self) -> String;

    /// Name and version of the server.
    fn server(&mut self) -> Outcome<String>;

    /// All the money.
    fn money(&mut self) -> Outcome<i64>;

    /// Takes a new session for its own, after the server was stopped.
    fn connect(&mut self);

    /// Ends the statements of all sessions.
    fn interrupt(&mut self) -> Outcome<()>;
}

/// Clients that have their connections already.
pub(crate) trait Crew {
    /// Lets them work.
    fn set_to_work(&self, way: Way, end: Instant, clients: Vec<Client>) -> Outcome<()>;
}

/// Operations that arrive, with a pool that is full already.
pub(crate) trait Arrivals: Send {
    /// Runs all of them.
    fn run(self: Box<Self>);
}

/// Calls something of the module of a backend.
macro_rules! by_backend {
    ($of:expr, $backend:ident => $call:expr) => {
        match $of {
            #[cfg(feature = "postgres")]
            Self::Postgres => {
                use postgres as $backend;
                $call
            }
            #[cfg(feature = "mysql")]
            Self::Mysql => {
                use mysql as $backend;
                $call
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite => {
                use sqlite as $backend;
                $call
            }
            #[allow(unreachable_patterns, reason = "not every build lacks a backend")]
            _ => Err($of.is_missing()),
        }
    };
}

impl Backend {
    /// The one of `DBOP_TEST_URL`, as for the tests; SQLite needs no server.
    pub(crate) fn of_environment() -> Self {
        match std::env::var("DBOP_TEST_URL") {
            Ok(url) if url.starts_with("postgres") => Self::Postgres,
            Ok(url) if url.starts_with("mysql:") => Self::Mysql,
            _ => Self::Sqlite,
        }
    }

    /// New rows.
    pub(crate) fn ground(self) -> Outcome<Box<dyn Ground>> {
        by_backend!(self, backend => Ok(Box::new(backend::ground::Here::new()?)))
    }

    /// As many connections as there are clients.
    pub(crate) fn crew(
        self,
        is_async: bool,
        url: &str,
        session: &str,
        clients: usize,
    ) -> Outcome<Box<dyn Crew>> {
        by_backend!(self, backend => if is_async {
            backend::asynchronous::tasks::crew(url, session, clients)
        } else {
            backend::sync::threads::crew(url, session, clients)
        })
    }

    /// Operations that arrive at a steady rate.
    pub(crate) fn arrivals(self, plan: Plan) -> Outcome<Box<dyn Arrivals>> {
        by_backend!(self, backend => backend::asynchronous::arrivals::arrivals(plan))
    }

    #[allow(dead_code, reason = "not every build lacks a backend")]
    fn is_missing(self) -> Box<dyn std::error::Error + Send + Sync> {
        format!("built without the feature of {self:?}").into()
    }
}

/// A backend: its rows, and clients of both adapters.
macro_rules! backend {
    ($name:ident, $feature:literal, { $($item:item)* }) => {
        #[cfg(feature = $feature)]
        #[path = "backends"]
        mod $name {
            use dbop_tests::$name::{Bed, Conn, DIALECT};

            $($item)*

            pub(super) mod ground;

            #[path = "."]
            pub(super) mod sync {
                use dbop_diesel::Runner;
                use dbop_tests_macros::sync_helper as helper;
                use diesel::RunQueryDsl;
                use diesel::connection::Connection;
                use diesel::r2d2::ConnectionManager;

                use super::{Conn, DIALECT};

                type Pool = diesel::r2d2::Pool<ConnectionManager<Conn>>;

                mod runners;
                pub(in super::super) mod threads;
                mod work;

                use threads::{checkout, pause};
            }

            #[path = "."]
            pub(super) mod asynchronous {
                use dbop_diesel_async::Runner;
                use dbop_tests::asynchronous::$name::Conn;
                use dbop_tests::asynchronous::scenarios::RunQueryDsl;
                use dbop_tests_macros::async_helper as helper;
                use diesel_async::AsyncConnection as Connection;

                use super::DIALECT;

                type Pool = diesel_async::pooled_connection::deadpool::Pool<Conn>;

                pub(in super::super) mod arrivals;
                mod runners;
                pub(in super::super) mod tasks;
                mod work;

                use tasks::{checkout, pause};
            }
        }
    };
}

backend!(postgres, "postgres", {
    const VERSION: &str = "SELECT 'PostgreSQL ' || split_part(version(), ' ', 2) AS s";

    /// What tells the sessions of this place from others.
    fn session_of(url: &str) -> String {
        format!("SET application_name = '{}'", name_of(url))
    }

    fn name_of(url: &str) -> &str {
        url.rsplit_once("%3D").map_or(url, |(_, name)| name)
    }

    /// The statements of the others, and what ends one.
    fn others(url: &str) -> String {
        format!(
            "SELECT pid::bigint AS n FROM pg_stat_activity \
             WHERE application_name = '{}' AND state = 'active' AND pid <> pg_backend_pid()",
            name_of(url)
        )
    }

    fn interruption(session: i64) -> String {
        format!("SELECT pg_cancel_backend({session}::int)")
    }
});

backend!(mysql, "mysql", {
    const VERSION: &str = "SELECT CONCAT(IF(VERSION() LIKE '%MariaDB%', 'MariaDB ', 'MySQL '), \
        SUBSTRING_INDEX(VERSION(), '-', 1)) AS s";

    fn session_of(_: &str) -> String {
        "SET @storm = 1".into()
    }

    fn others(_: &str) -> String {
        "SELECT CAST(id AS SIGNED) AS n FROM information_schema.processlist \
         WHERE db = DATABASE() AND command <> 'Sleep' AND id <> CONNECTION_ID()"
            .into()
    }

    fn interruption(session: i64) -> String {
        format!("KILL QUERY {session}")
    }
});

backend!(sqlite, "sqlite", {
    const VERSION: &str = "SELECT 'SQLite ' || sqlite_version() AS s";

    fn session_of(_: &str) -> String {
        "SELECT 1".into()
    }

    /// No statement waits for more than a second.
    fn others(_: &str) -> String {
        "SELECT 1 AS n WHERE 1 = 0".into()
    }

    fn interruption(_: i64) -> String {
        "SELECT 1".into()
    }
});
