//! dbop on sqlite.

/// The scenarios, on the sync adapter.
#[path = "../scenarios"]
mod sync {
    use dbop_diesel::{Operation, Runner};
    use dbop_tests::sqlite::{self as backend, Bed, Conn};
    use dbop_tests::{Deep, caught, deep, depth, is_test_transaction, together};
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::RunQueryDsl;
    use diesel::connection::{Connection, SimpleConnection, TransactionManager};

    type Manager = <Conn as Connection>::TransactionManager;

    const MODE: &str = "sync";

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

/// The scenarios that a pooled connection could make a difference to, on r2d2's.
#[path = "../scenarios"]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]
mod pooled {
    use dbop_diesel::{Operation, Runner};
    use dbop_tests::sqlite::{self as backend, PooledBed as Bed, PooledConn as Conn};
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
    use dbop_diesel::{Runner, Source};
    use dbop_tests::sqlite::{Bed, Conn};
    use dbop_tests::{caught, closure, depth};
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::RunQueryDsl;
    use diesel::connection::{Connection, TransactionManager};

    type Manager = <Conn as Connection>::TransactionManager;

    fn source(url: &str) -> impl Source<Conn = Conn> + use<> {
        closure(url)
    }

    mod fresh_any;
    mod fresh_closure;
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
    use dbop_tests::sqlite::{self as backend, Bed, PooledConn as Conn};
    use dbop_tests::{TestPool as _, caught, depth};
    use dbop_tests_macros::{sync_helper as helper, sync_scenario as scenario};
    use diesel::connection::SimpleConnection;
    use diesel::{RunQueryDsl, r2d2};

    type Pool = r2d2::Pool<r2d2::ConnectionManager<backend::Conn>>;

    fn source(url: &str) -> Pool {
        Pool::of(url, 2, Duration::from_secs(10))
    }

    mod fresh_any;
    mod fresh_leaks;
    mod fresh_pool;
    mod leaks_session;
    mod money;
}
