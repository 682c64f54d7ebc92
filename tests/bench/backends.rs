//! The backends: who works on the rows. What is in `backends/` is written once.

use std::fmt::Write as _;

use super::cases::What;
use super::compare::Block;
use super::options::{Bound, Options};
use crate::storm::Outcome;
use crate::storm::backends::Backend;

/// The first rows are those of the test bed.
const FIRST_ROW: i32 = 5;

/// Clients that have their connections already.
pub(crate) trait Crew {
    /// Lets them work, each until it has reached this bound.
    fn work(&self, what: What, bound: Bound) -> Outcome<Block>;
}

/// What is sent to connections before they are used.
#[derive(Clone, Debug)]
struct Setup {
    /// To each.
    session: String,
    /// To one, afterwards.
    ground: String,
}

/// Connections to these rows. SQLite waits for a lock, as the servers do.
pub(crate) fn crew(options: &Options, url: &str, connections: u32) -> Outcome<Box<dyn Crew>> {
    let mut rows = String::from("INSERT INTO accounts (id, balance) VALUES ");
    for row in 0..i32::try_from(connections)? {
        let comma = if row == 0 { "" } else { ", " };
        write!(rows, "{comma}({}, 100)", FIRST_ROW + row)?;
    }
    let session = match options.backend {
        Backend::Sqlite => "PRAGMA busy_timeout = 10000; PRAGMA synchronous = NORMAL",
        Backend::Postgres | Backend::Mysql => "",
    };
    let (url, setup) = match options.is_in_memory {
        // Each connection has a database of its own.
        true => {
            let session = format!("{session}; {}; {rows}", dbop_tests::ACCOUNTS);
            let ground = String::new();
            (":memory:", Setup { session, ground })
        }
        false => {
            let (session, ground) = (session.into(), rows);
            (url, Setup { session, ground })
        }
    };
    crew_of(options.backend, options.is_async, url, setup, connections)
}

/// Either may be empty.
fn joined(sql: &str, more: &str) -> String {
    match (sql, more) {
        (sql, "") => sql.into(),
        ("", more) => more.into(),
        (sql, more) => format!("{sql}; {more}"),
    }
}

/// Calls something of the module of a backend.
macro_rules! crew_of {
    ($backend:ident, $is_async:ident, $arguments:tt: $($name:ident, $of:ident, $feature:literal;)*) => {
        match $backend {
            $(
                #[cfg(feature = $feature)]
                Backend::$of => match $is_async {
                    true => $name::asynchronous::tasks::crew $arguments,
                    false => $name::sync::threads::crew $arguments,
                },
            )*
            #[allow(unreachable_patterns, reason = "not every build lacks a backend")]
            _ => Err(format!("built without the feature of {:?}", $backend).into()),
        }
    };
}

fn crew_of(
    backend: Backend,
    is_async: bool,
    url: &str,
    setup: Setup,
    connections: u32,
) -> Outcome<Box<dyn Crew>> {
    crew_of!(backend, is_async, (url, setup, connections):
        postgres, Postgres, "postgres";
        mysql, Mysql, "mysql";
        sqlite, Sqlite, "sqlite";
    )
}

/// A backend: clients of both adapters.
macro_rules! backend {
    ($name:ident, $feature:literal, { $($item:item)* }) => {
        #[cfg(feature = $feature)]
        #[path = "backends"]
        mod $name {
            use dbop_tests::$name::{Conn, DIALECT};

            use crate::bench::cases::What;

            $($item)*

            #[path = "."]
            pub(super) mod sync {
                use dbop_diesel::Runner;
                use dbop_tests_macros::sync_helper as helper;
                use diesel::RunQueryDsl;
                use diesel::connection::{Connection, SimpleConnection};
                use diesel::r2d2::ConnectionManager;

                use super::{Conn, DIALECT, by_hand};

                type Pool = diesel::r2d2::Pool<ConnectionManager<Conn>>;
                type Start = std::sync::Barrier;

                pub(in super::super) mod threads;
                mod work;

                use threads::checkout;
            }

            #[path = "."]
            pub(super) mod asynchronous {
                use dbop_diesel_async::Runner;
                use dbop_tests::asynchronous::$name::Conn;
                use dbop_tests::asynchronous::scenarios::RunQueryDsl;
                use dbop_tests_macros::async_helper as helper;
                use diesel_async::pooled_connection::AsyncDieselConnectionManager;
                use diesel_async::{AsyncConnection as Connection, SimpleAsyncConnection as SimpleConnection};

                use super::{DIALECT, by_hand};

                type Pool = diesel_async::pooled_connection::deadpool::Pool<Conn>;
                type Start = tokio::sync::Barrier;

                pub(in super::super) mod tasks;
                mod work;

                use tasks::checkout;
            }
        }
    };
}

// By hand: what opens a transaction and what ends it, no more than the guarantee takes.

backend!(postgres, "postgres", {
    fn by_hand(_: What) -> (&'static str, &'static str) {
        ("BEGIN", "SAVEPOINT kept; COMMIT")
    }
});

backend!(mysql, "mysql", {
    fn by_hand(what: What) -> (&'static str, &'static str) {
        match what {
            What::Contained => (
                "SET autocommit=0; START TRANSACTION; SAVEPOINT kept",
                "RELEASE SAVEPOINT kept; SET autocommit=1",
            ),
            _ => ("BEGIN; SAVEPOINT kept", "RELEASE SAVEPOINT kept; COMMIT"),
        }
    }
});

backend!(sqlite, "sqlite", {
    fn by_hand(_: What) -> (&'static str, &'static str) {
        ("BEGIN; SAVEPOINT kept", "RELEASE SAVEPOINT kept; COMMIT")
    }
});
