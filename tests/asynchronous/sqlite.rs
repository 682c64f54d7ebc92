//! dbop-diesel-async on SQLite.

// The types of twenty futures, one in the other.
#![recursion_limit = "512"]
#![allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]

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

    mod axum_service;
    mod cancellation;
    mod cancellation_load;
    mod cancellation_pools;
    #[expect(dead_code, reason = "some of it is for sessions on a server")]
    mod classes;
    mod closures;
    mod frame;
    mod fresh_cancellation;
    mod future_sizes;
    mod hooks;
    mod keying;
    mod leaked;
    mod leaks_cancellation;
    mod money;
    mod observing;
    mod panics;
    mod paused_time;
    mod pool_in_closure;
    mod pools;
    mod refused;
    mod sqlite_axum_small;
    mod sqlite_classes;
    mod sqlite_current_thread;
    mod sqlite_paused_time;
    mod sqlite_sync_runner;
}

/// The scenarios.
#[path = "../scenarios"]
mod scenarios {
    use dbop_tests::environment::sqlite::asynchronous::unpooled::*;

    #[path = "../asynchronous/allocations.rs"]
    mod allocations;
    mod any;
    mod cost;
    mod keys;
    mod leaks;
    mod money;
    mod records;
    mod retries;
    mod sessions;
    mod settings;
    mod sqlite;
}

/// The scenarios that a pooled connection could make a difference to, on deadpool's.
#[path = "../scenarios"]
mod pooled {
    use dbop_tests::environment::sqlite::asynchronous::pooled::*;

    mod any;
    mod money;
    mod pools;
    mod sessions;

    mod sqlite {
        use super::*;

        mod pool;
        mod steps;
    }
}

/// Fresh connections from a closure.
#[path = "../scenarios/connections"]
mod from_closure {
    use dbop_tests::environment::sqlite::asynchronous::from_closure::*;

    mod any;
    mod closure;
    mod faults;
    mod gates;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    #[path = "../money.rs"]
    mod money;
}

/// Fresh connections from deadpool.
#[path = "../scenarios/connections"]
mod from_deadpool {
    use dbop_tests::environment::sqlite::asynchronous::from_deadpool::*;

    mod any;
    mod leaks;
    #[path = "../money.rs"]
    mod money;
    mod pool;
    #[path = "../sessions.rs"]
    mod sessions;
}

/// Fresh connections from bb8.
#[path = "../scenarios/connections"]
mod from_bb8 {
    use dbop_tests::environment::sqlite::asynchronous::from_bb8::*;

    mod any;
    mod leaks;
    #[path = "../money.rs"]
    mod money;
    mod pool;
    #[path = "../sessions.rs"]
    mod sessions;
}

/// Fresh connections from mobc.
#[path = "../scenarios/connections"]
mod from_mobc {
    use dbop_tests::environment::sqlite::asynchronous::from_mobc::*;

    mod any;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    #[path = "../money.rs"]
    mod money;
    mod pool;
}
