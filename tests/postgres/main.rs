//! dbop on postgres.

mod row_by_row;

/// Whether a COMMIT is known not to have been sent, because a statement before it has found the
/// connection lost: libpq remembers it, and nobody else lets it be told from a COMMIT on its way.
const LOSS_IS_NOTICED: bool = true;

/// The scenarios, on the sync adapter.
#[path = "../scenarios"]
mod sync {
    use dbop_diesel::{Operation, Runner};
    use dbop_tests::postgres::{self as backend, Bed, Conn};
    use dbop_tests::{Deep, caught, deep, depth, is_test_transaction, together};
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::RunQueryDsl;
    use diesel::connection::{Connection, SimpleConnection, TransactionManager};

    type Manager = <Conn as Connection>::TransactionManager;

    use self::postgres_effect as effect;

    const MODE: &str = "sync";

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

/// The scenarios that a pooled connection could make a difference to, on r2d2's.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod pooled {
    use dbop_diesel::{Operation, Runner};
    use dbop_tests::postgres::{self as backend, PooledBed as Bed, PooledConn as Conn};
    use dbop_tests::{caught, depth, is_test_transaction};
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::RunQueryDsl;
    use diesel::connection::{Connection, SimpleConnection, TransactionManager};

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
    use dbop_diesel::{Runner, Source};
    use dbop_tests::postgres::{self as backend, Bed, Conn};
    use dbop_tests::{caught, closure, depth};
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::RunQueryDsl;
    use diesel::connection::{Connection, TransactionManager};

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

/// Fresh connections from r2d2.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod from_r2d2 {
    use std::time::Duration;

    use dbop_diesel::{Operation, Runner};
    use dbop_tests::postgres::{self as backend, Bed, PooledConn as Conn};
    use dbop_tests::{TestPool as _, caught, depth};
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::RunQueryDsl;
    use diesel::connection::SimpleConnection;
    use diesel::r2d2;

    type Pool = r2d2::Pool<r2d2::ConnectionManager<backend::Conn>>;

    /// Whether it goes on trying to connect by itself.
    const SOURCE_TRIES_AGAIN: bool = true;

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
