//! What scenarios find in `super`: the same names in every environment, so that one text of a
//! scenario runs on each backend, adapter and kind of connection.
//!
//! | name | what it is |
//! |---|---|
//! | `scenario`, `helper` | the attributes of a test and of a function that tests call |
//! | `Runner`, `Operation`, `Source`, `after_commit`, `read_position` | the adapter's own |
//! | `Connection`, `SimpleConnection`, `TransactionManager`, `RunQueryDsl` | Diesel's or diesel-async's traits |
//! | `Conn`, `Manager` | the connection under test, and its transaction manager |
//! | `Bed` | a fresh schema, database or file with `accounts`; it connects, kills, looks at balances |
//! | `backend` | the module of the backend in `support/`: its name, codes and SQL |
//! | `caught`, `deep`, `Deep`, `depth`, `is_test_transaction`, `together` | panics, recursion, Diesel's depth, two things at once |
//! | `MODE` | `sync` or `async` |
//! | `patient` | a runner that does not give up a statement after the deadline |
//! | `LOSS_IS_NOTICED` | whether a COMMIT that could not be sent is told from one that was |
//! | `source`, `impatient` | a source of connections, and one that does not wait for long |
//! | `Pool` | what `source` returns, where it is a pool |
//! | `SOURCE_TRIES_AGAIN`, `SOURCE_TELLS_WHY`, `HEALTHY_ONES_STAY` | how the source behaves |
//!
//! The last three rows are for connections that come from a source. `effect` is the one name that
//! a test target adds: the scenarios of its backend about what the server does.

/// What the sync adapter has.
pub mod sync {
    pub use dbop_diesel::{Operation, Runner, Source, after_commit, read_position};
    pub use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    pub use diesel::RunQueryDsl;
    pub use diesel::connection::{Connection, SimpleConnection, TransactionManager};

    pub use crate::{Deep, caught, deep, depth, is_test_transaction, together};

    /// One that waits for as long as a statement takes.
    #[must_use]
    pub fn patient(runner: Runner) -> Runner {
        runner
    }

    /// Which adapter runs.
    pub const MODE: &str = "sync";
}

/// What the async adapter has.
pub mod asynchronous {
    pub use dbop_diesel_async::{Operation, Runner, Source, after_commit, read_position};
    pub use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    pub use diesel_async::{
        AsyncConnection as Connection, SimpleAsyncConnection as SimpleConnection,
        TransactionManager,
    };

    pub use crate::asynchronous::scenarios::{
        Deep, RunQueryDsl, caught, deep, depth, is_test_transaction, together,
    };

    /// One that waits for as long as a statement takes, also beyond the deadline: InnoDB looks at its lock
    /// timeouts once in a second.
    #[must_use]
    pub fn patient(runner: Runner) -> Runner {
        runner.with_grace_period(std::time::Duration::from_secs(10))
    }

    /// Which adapter runs.
    pub const MODE: &str = "async";
}

/// An environment: an adapter, a test bed, its connections, and what else there is.
macro_rules! environment {
    (
        $(#[$attribute:meta])*
        $name:ident: $adapter:ident on $backend:ident, $bed:ty, $conn:ty, { $($item:item)* }
    ) => {
        $(#[$attribute])*
        pub mod $name {
            pub use super::LOSS_IS_NOTICED;
            pub use crate::$backend as backend;
            pub use crate::environment::$adapter::*;

            /// The test bed.
            pub type Bed = $bed;

            /// The connection under test.
            pub type Conn = $conn;

            /// Its transaction manager.
            pub type Manager = <Conn as Connection>::TransactionManager;

            $($item)*
        }
    };
}

/// An environment whose connections come from a closure.
macro_rules! closure {
    ($adapter:ident on $backend:ident, $conn:ty, $closure:path) => {
        environment!(
            /// Connections from a closure.
            from_closure: $adapter on $backend, crate::$backend::Bed, $conn,
            {
                /// Whether the source keeps trying to connect on its own.
                pub const SOURCE_TRIES_AGAIN: bool = false;

                /// Whether the source says why there is no connection.
                pub const SOURCE_TELLS_WHY: bool = true;

                /// The closure that connects to this URL.
                pub fn source(url: &str) -> impl Source<Conn = Conn> + use<> {
                    $closure(url)
                }

                /// One that does not wait for long.
                pub fn impatient(url: &str) -> impl Source<Conn = Conn> + use<> {
                    $closure(url)
                }
            }
        );
    };
}

/// An environment whose connections come from a pool.
macro_rules! pool {
    (
        $name:ident: $adapter:ident on $backend:ident, $pool:ty, $conn:ty,
        tries_again: $tries_again:expr,
        tells_why: $tells_why:expr,
        healthy_ones_stay: $healthy_ones_stay:expr
    ) => {
        environment!(
            /// Connections from a pool.
            $name: $adapter on $backend, crate::$backend::Bed, $conn,
            {
                /// The pool.
                pub type Pool = $pool;

                /// Whether the source keeps trying to connect on its own.
                pub const SOURCE_TRIES_AGAIN: bool = $tries_again;

                /// Whether the source says why there is no connection.
                pub const SOURCE_TELLS_WHY: bool = $tells_why;

                /// Whether the pool keeps a connection in order that is given back.
                pub const HEALTHY_ONES_STAY: bool = $healthy_ones_stay;

                /// A pool of two.
                #[must_use]
                pub fn source(url: &str) -> Pool {
                    <Pool as crate::TestPool>::of(url, 2, std::time::Duration::from_secs(10))
                }

                /// One that does not wait for long.
                #[must_use]
                pub fn impatient(url: &str) -> Pool {
                    <Pool as crate::TestPool>::of(url, 2, std::time::Duration::from_millis(300))
                }
            }
        );
    };
}

/// All environments of a backend.
macro_rules! environments {
    ($(#[$attribute:meta])* $backend:ident, loss_is_noticed: $loss_is_noticed:expr) => {
        $(#[$attribute])*
        pub mod $backend {
            /// The environments of the sync adapter.
            pub mod sync {
                use diesel::r2d2::{ConnectionManager, Pool};

                use crate::$backend::{Bed, Conn, PooledBed, PooledConn};

                /// Whether a COMMIT is known not to have been sent, because a statement before it
                /// has found the connection lost: libpq alone remembers that.
                pub const LOSS_IS_NOTICED: bool = $loss_is_noticed;

                environment!(
                    /// Connections of the scenario's own.
                    unpooled: sync on $backend, super::Bed, super::Conn, {}
                );
                environment!(
                    /// Connections out of a pool, r2d2's.
                    pooled: sync on $backend, super::PooledBed, super::PooledConn, {}
                );
                closure!(sync on $backend, super::Conn, crate::closure);
                pool!(
                    from_r2d2: sync on $backend,
                    super::Pool<super::ConnectionManager<super::Conn>>,
                    super::Conn,
                    tries_again: true,
                    tells_why: true,
                    healthy_ones_stay: true
                );
            }

            /// The environments of the async adapter.
            pub mod asynchronous {
                use diesel_async::pooled_connection::{bb8, deadpool, mobc};

                use crate::asynchronous::$backend::{Conn, PooledBed, PooledConn, ScenarioBed};
                use crate::asynchronous::sources::closure;

                /// Whether a COMMIT is known not to have been sent, because a statement before it
                /// has found the connection lost: no driver of diesel-async remembers that.
                pub const LOSS_IS_NOTICED: bool = false;

                environment!(
                    /// Connections of the scenario's own.
                    unpooled: asynchronous on $backend, super::ScenarioBed, super::Conn, {}
                );
                environment!(
                    /// Connections out of a pool, deadpool's.
                    pooled: asynchronous on $backend, super::PooledBed, super::PooledConn, {}
                );
                closure!(asynchronous on $backend, super::Conn, super::closure);
                pool!(
                    from_deadpool: asynchronous on $backend,
                    super::deadpool::Pool<super::Conn>,
                    super::Conn,
                    tries_again: false,
                    tells_why: true,
                    healthy_ones_stay: true
                );
                pool!(
                    from_bb8: asynchronous on $backend,
                    super::bb8::Pool<super::Conn>,
                    super::Conn,
                    tries_again: true,
                    tells_why: false,
                    healthy_ones_stay: true
                );
                pool!(
                    from_mobc: asynchronous on $backend,
                    super::mobc::Pool<super::Conn>,
                    super::Conn,
                    tries_again: false,
                    tells_why: true,
                    healthy_ones_stay: false
                );
            }
        }
    };
}

#[cfg(feature = "postgres")]
environments!(
    /// PostgreSQL.
    postgres, loss_is_noticed: true
);

#[cfg(feature = "mysql")]
environments!(
    /// MySQL and MariaDB.
    mysql, loss_is_noticed: false
);

#[cfg(feature = "sqlite")]
environments!(
    /// SQLite.
    sqlite, loss_is_noticed: false
);
