//! The async adapter on SQLite.

use dbop_tests::asynchronous::on_many_threads;

/// What exists in the async adapter only.
///
/// On a runtime of several threads: diesel-async's wrapper of sync connections can be cancelled on
/// no other.
#[path = "."]
mod asynchronous {
    use dbop_tests::asynchronous::sqlite::{Bed, Conn, Db, LOCK, LOCK_NOWAIT};
    use dbop_tests::sqlite::{BACKEND, Conn as SyncConn};

    use super::on_many_threads as run;

    /// What a service logs when opposite transfers meet: SQLite has them wait for one another.
    const CONTENTION: &[&str] = &[];

    mod axum_service;
    mod cancellation;
    mod cancellation_load;
    mod cancellation_pools;
    #[expect(dead_code, reason = "some of it is for sessions on a server")]
    mod classes;
    mod closures;
    mod frame;
    mod fresh_cancellation;
    mod keying;
    mod leaked;
    mod leaks_cancellation;
    mod money;
    mod panics;
    mod paused_time;
    mod pools;
    mod refused;
    mod sqlite_classes;
    mod sqlite_current_thread;
    mod sqlite_paused_time;
    mod sqlite_sync_runner;
}

/// The scenarios, on the async adapter.
#[path = "../scenarios"]
mod scenarios {
    use dbop_diesel_async::{Operation, Runner};
    use dbop_tests::asynchronous::scenarios::{
        Deep, RunQueryDsl, caught, deep, depth, is_test_transaction, together,
    };
    use dbop_tests::asynchronous::sqlite::{Conn, ScenarioBed as Bed};
    use dbop_tests::sqlite as backend;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::{
        AsyncConnection as Connection, SimpleAsyncConnection as SimpleConnection,
        TransactionManager,
    };

    type Manager = <Conn as Connection>::TransactionManager;

    const MODE: &str = "async";

    #[path = "../asynchronous/allocations.rs"]
    mod allocations;
    mod basics;
    mod cost;
    mod deadline;
    mod displaced;
    mod effect_read_only;
    mod effect_refused;
    mod effect_steps;
    mod fallback;
    mod instrumentation;
    mod ladder;
    mod leaks;
    mod leaks_model;
    mod leaks_nesting;
    mod leaks_plans;
    mod leaks_session;
    mod leaks_sqlite;
    mod logging;
    mod money;
    mod negative;
    mod nesting;
    mod own_errors;
    mod panics;
    mod reports;
    mod retries;
    mod round_trips;
    mod round_trips_local;
    mod settings_common;
    mod sqlite_batches;
    mod sqlite_begun_in_sql;
    mod sqlite_busy;
    mod sqlite_commit;
    mod sqlite_commit_matrix;
    mod sqlite_effect;
    mod sqlite_limits;
    mod sqlite_loss;
    mod sqlite_settings;
    mod sqlite_snapshot;
    mod sqlite_steps;
    mod transaction_status_elsewhere;
}

/// The scenarios that a pooled connection could make a difference to, on deadpool's.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod pooled {
    use dbop_diesel_async::{Operation, Runner};
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth, is_test_transaction};
    use dbop_tests::asynchronous::sqlite::{PooledBed as Bed, PooledConn as Conn};
    use dbop_tests::sqlite as backend;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::{
        AsyncConnection as Connection, SimpleAsyncConnection as SimpleConnection,
        TransactionManager,
    };

    type Manager = <Conn as Connection>::TransactionManager;

    mod basics;
    mod fallback;
    mod leaks_pool;
    mod leaks_session;
    mod money;
    mod nesting;
    mod panics;
    mod pool;
    mod sqlite_pool;
    mod sqlite_steps;
}

/// Fresh connections from a closure.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod from_closure {
    use dbop_diesel_async::{Runner, Source};
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth};
    use dbop_tests::asynchronous::sources::closure;
    use dbop_tests::asynchronous::sqlite::Conn;
    use dbop_tests::sqlite::Bed;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::{AsyncConnection as Connection, TransactionManager};

    type Manager = <Conn as Connection>::TransactionManager;

    fn source(url: &str) -> impl Source<Conn = Conn> + use<> {
        closure(url)
    }

    mod fresh_any;
    mod fresh_closure;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    mod money;
}

/// Fresh connections from deadpool.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod from_deadpool {
    use std::time::Duration;

    use dbop_diesel_async::{Operation, Runner};
    use dbop_tests::TestPool as _;
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth};
    use dbop_tests::asynchronous::sqlite::Conn as Unpooled;
    use dbop_tests::sqlite::{self as backend, Bed};
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::SimpleAsyncConnection as SimpleConnection;
    use diesel_async::pooled_connection::deadpool;

    type Pool = deadpool::Pool<Unpooled>;
    type Conn = deadpool::Object<Unpooled>;

    fn source(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_secs(10))
    }

    mod fresh_any;
    mod fresh_leaks;
    mod fresh_pool;
    mod leaks_session;
    mod money;
}

/// Fresh connections from bb8.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod from_bb8 {
    use std::time::Duration;

    use dbop_diesel_async::{Operation, Runner};
    use dbop_tests::TestPool as _;
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth};
    use dbop_tests::asynchronous::sqlite::Conn as Unpooled;
    use dbop_tests::sqlite::{self as backend, Bed};
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::SimpleAsyncConnection as SimpleConnection;
    use diesel_async::pooled_connection::bb8;

    type Pool = bb8::Pool<Unpooled>;
    type Conn = bb8::PooledConnection<'static, Unpooled>;

    fn source(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_secs(10))
    }

    mod fresh_any;
    mod fresh_leaks;
    mod fresh_pool;
    mod leaks_session;
    mod money;
}

/// Fresh connections from mobc.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod from_mobc {
    use std::time::Duration;

    use dbop_diesel_async::Runner;
    use dbop_tests::TestPool as _;
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth};
    use dbop_tests::asynchronous::sqlite::Conn as Unpooled;
    use dbop_tests::sqlite::Bed;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::pooled_connection::mobc;

    type Pool = mobc::Pool<Unpooled>;
    type Conn = mobc::PooledConnection<Unpooled>;

    fn source(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_secs(10))
    }

    mod fresh_any;
    mod fresh_pool;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    mod money;
}
