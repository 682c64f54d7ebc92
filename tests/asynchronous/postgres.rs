//! The async adapter on PostgreSQL.

use dbop_tests::asynchronous::{on_current_thread, on_many_threads};

/// Whether a COMMIT is known not to have been sent, because a statement before it has found the
/// connection lost: libpq remembers it, and nobody else lets it be told from a COMMIT on its way.
const LOSS_IS_NOTICED: bool = false;

/// What exists in the async adapter only, on a runtime of several threads.
#[path = "."]
mod asynchronous {
    use dbop_tests::asynchronous::postgres::{Bed, Conn, Db, LOCK};
    use dbop_tests::postgres::{self as backend, BACKEND, Conn as SyncConn};

    use super::on_many_threads as run;

    /// What a service logs when opposite transfers meet.
    const CONTENTION: &[&str] = &[
        "transfer: attempt 1: deadlock (40P01) in body, trying again",
        "transfer: done in attempt ",
    ];

    mod axum_service;
    mod cancellation;
    mod cancellation_load;
    mod cancellation_pools;
    mod classes;
    mod closures;
    mod deadline;
    mod fresh_cancellation;
    mod fresh_cancellation_asking;
    mod fresh_deadpool;
    mod keying;
    mod leaked;
    mod leaks_cancellation;
    mod money;
    mod panics;
    mod pools;
    mod postgres_axum_service;
    mod postgres_classes;
    mod postgres_pipeline;
    mod postgres_stream;
    mod proxy_pipeline;
    mod refused;
    mod server_panics;
}

/// The same on a single thread.
#[path = "."]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on both kinds of runtime"
)]
mod current_thread {
    use dbop_tests::asynchronous::postgres::{Bed, Conn, Db, LOCK, LOCK_NOWAIT};

    use super::on_current_thread as run;

    mod cancellation;
    mod closures;
    mod keying;
    mod money;
    mod panics;
    mod paused_time;
    mod pools;
    mod postgres_pipeline;
    mod postgres_stream;
    mod proxy_pipeline;
    mod server_panics;
}

/// The scenarios, on the async adapter.
#[path = "../scenarios"]
mod scenarios {
    use dbop_diesel_async::{Operation, Runner};
    use dbop_tests::asynchronous::postgres::{Conn, ScenarioBed as Bed};
    use dbop_tests::asynchronous::scenarios::{
        Deep, RunQueryDsl, caught, deep, depth, is_test_transaction, together,
    };
    use dbop_tests::postgres as backend;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::{
        AsyncConnection as Connection, SimpleAsyncConnection as SimpleConnection,
        TransactionManager,
    };

    type Manager = <Conn as Connection>::TransactionManager;

    use self::postgres_effect as effect;

    const MODE: &str = "async";

    #[path = "../asynchronous/allocations.rs"]
    mod allocations;
    mod basics;
    mod cost;
    mod deadline;
    mod deadline_connecting;
    mod displaced;
    mod effect_read_only;
    mod effect_refused;
    mod effect_steps;
    mod fallback;
    mod instrumentation;
    mod isolation;
    mod ladder;
    mod leaks;
    mod leaks_model;
    mod leaks_nesting;
    mod leaks_plans;
    mod leaks_postgres;
    mod leaks_session;
    mod ledger;
    mod logging;
    mod lost_commit;
    mod lost_commit_asking;
    mod lost_commit_matrix;
    mod lost_connection;
    mod money;
    mod negative;
    mod nesting;
    mod own_errors;
    mod panics;
    mod postgres_batches;
    mod postgres_commit;
    mod postgres_connection;
    mod postgres_deadlock;
    mod postgres_documented_options;
    mod postgres_drop_in;
    mod postgres_effect;
    mod postgres_ended;
    mod postgres_ledger;
    mod postgres_locks;
    mod postgres_lost_connection;
    mod postgres_plan;
    mod postgres_serialization;
    mod postgres_settings;
    mod postgres_stale_savepoint;
    mod postgres_steps;
    mod postgres_swallowed_deadlock;
    mod postgres_transaction_status;
    mod proxy;
    mod proxy_plans;
    mod reports;
    mod retries;
    mod round_trips;
    mod round_trips_counted;
    mod settings_common;
}

/// The scenarios that a pooled connection could make a difference to, on deadpool's.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod pooled {
    use dbop_diesel_async::{Operation, Runner};
    use dbop_tests::asynchronous::postgres::{PooledBed as Bed, PooledConn as Conn};
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth, is_test_transaction};
    use dbop_tests::postgres as backend;
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
    mod postgres_pool;
    #[expect(dead_code, reason = "most of it is for other scenarios")]
    mod postgres_steps;
}

/// Fresh connections from a closure.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod from_closure {
    use dbop_diesel_async::{Runner, Source};
    use dbop_tests::asynchronous::postgres::Conn;
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth};
    use dbop_tests::asynchronous::sources::closure;
    use dbop_tests::postgres as backend;
    use dbop_tests::postgres::Bed;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::{AsyncConnection as Connection, TransactionManager};

    type Manager = <Conn as Connection>::TransactionManager;

    /// Whether it goes on trying to connect by itself.
    const SOURCE_TRIES_AGAIN: bool = false;

    /// Whether it says why there is no connection.
    const SOURCE_TELLS_WHY: bool = true;

    /// One that does not wait for long.
    fn impatient(url: &str) -> impl Source<Conn = Conn> + use<> {
        closure(url)
    }

    fn source(url: &str) -> impl Source<Conn = Conn> + use<> {
        closure(url)
    }

    mod fresh_any;
    mod fresh_closure;
    mod fresh_connecting;
    mod fresh_postgres;
    mod fresh_server;
    mod fresh_steps;
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
    use dbop_tests::asynchronous::postgres::Conn as Unpooled;
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth};
    use dbop_tests::postgres as backend;
    use dbop_tests::postgres::Bed;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::SimpleAsyncConnection as SimpleConnection;
    use diesel_async::pooled_connection::deadpool;

    type Pool = deadpool::Pool<Unpooled>;
    type Conn = deadpool::Object<Unpooled>;

    /// Whether it goes on trying to connect by itself.
    const SOURCE_TRIES_AGAIN: bool = false;

    /// Whether it says why there is no connection.
    const SOURCE_TELLS_WHY: bool = true;

    /// One that does not wait for long.
    fn impatient(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_millis(300))
    }

    /// Whether it keeps what is given back in order.
    const HEALTHY_ONES_STAY: bool = true;

    fn source(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_secs(10))
    }

    mod fresh_any;
    mod fresh_connecting;
    mod fresh_leaks;
    mod fresh_pool;
    mod fresh_postgres;
    mod fresh_server;
    mod fresh_server_pool;
    mod fresh_settings;
    mod fresh_steps;
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
    use dbop_tests::asynchronous::postgres::Conn as Unpooled;
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth};
    use dbop_tests::postgres as backend;
    use dbop_tests::postgres::Bed;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::SimpleAsyncConnection as SimpleConnection;
    use diesel_async::pooled_connection::bb8;

    type Pool = bb8::Pool<Unpooled>;
    type Conn = bb8::PooledConnection<'static, Unpooled>;

    /// Whether it goes on trying to connect by itself.
    const SOURCE_TRIES_AGAIN: bool = true;

    /// Whether it says why there is no connection.
    const SOURCE_TELLS_WHY: bool = false;

    /// One that does not wait for long.
    fn impatient(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_millis(300))
    }

    /// Whether it keeps what is given back in order.
    const HEALTHY_ONES_STAY: bool = true;

    fn source(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_secs(10))
    }

    mod fresh_any;
    mod fresh_connecting;
    mod fresh_leaks;
    mod fresh_pool;
    mod fresh_postgres;
    mod fresh_server;
    mod fresh_server_pool;
    mod fresh_settings;
    mod fresh_steps;
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
    use dbop_tests::asynchronous::postgres::Conn as Unpooled;
    use dbop_tests::asynchronous::scenarios::{RunQueryDsl, caught, depth};
    use dbop_tests::postgres as backend;
    use dbop_tests::postgres::Bed;
    use dbop_tests_macros::{async_helper as helper, async_scenario as scenario};
    use diesel_async::SimpleAsyncConnection as SimpleConnection;
    use diesel_async::pooled_connection::mobc;

    type Pool = mobc::Pool<Unpooled>;
    type Conn = mobc::PooledConnection<Unpooled>;

    /// Whether it goes on trying to connect by itself.
    const SOURCE_TRIES_AGAIN: bool = false;

    /// Whether it says why there is no connection.
    const SOURCE_TELLS_WHY: bool = true;

    /// One that does not wait for long.
    fn impatient(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_millis(300))
    }

    /// Whether it keeps what is given back in order.
    const HEALTHY_ONES_STAY: bool = false;

    fn source(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_secs(10))
    }

    mod fresh_any;
    mod fresh_connecting;
    mod fresh_pool;
    mod fresh_postgres;
    mod fresh_server;
    mod fresh_server_pool;
    mod fresh_steps;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    mod money;
}
