//! dbop-diesel-async on PostgreSQL.

#![allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]

use dbop_tests::asynchronous::{on_current_thread, on_many_threads};

/// What exists in the async adapter only, on a runtime of several threads.
#[path = "."]
mod asynchronous {
    use dbop_tests::asynchronous::postgres::{Bed, Conn, Db, LOCK};
    use dbop_tests::postgres::{self as backend, BACKEND, Conn as SyncConn};

    use super::on_many_threads as run;

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
    mod gates;
    mod hooks;
    mod keying;
    mod leaked;
    mod leaks_cancellation;
    mod money;
    mod observing;
    mod panics;
    mod pools;
    mod postgres_actix;
    mod postgres_axum_service;
    mod postgres_classes;
    mod postgres_pipeline;
    mod postgres_stream;
    mod postgres_worker;
    mod proxy_pipeline;
    mod refused;
    mod server_panics;
}

/// The same on a single thread.
#[path = "."]
mod current_thread {
    use dbop_tests::asynchronous::postgres::{Bed, Conn, Db, LOCK, LOCK_NOWAIT};

    use super::on_current_thread as run;

    mod cancellation;
    mod closures;
    mod keying;
    mod money;
    mod observing;
    mod panics;
    mod paused_time;
    mod pools;
    mod postgres_pipeline;
    mod postgres_stream;
    mod proxy_pipeline;
    mod server_panics;
}

/// The scenarios.
#[path = "../scenarios"]
mod scenarios {
    use dbop_tests::environment::postgres::asynchronous::unpooled::*;

    use self::postgres::effect;

    #[path = "../asynchronous/allocations.rs"]
    mod allocations;
    mod any;
    mod commit;
    mod cost;
    mod keys;
    mod leaks;
    mod money;
    mod postgres;
    mod records;
    mod retries;
    mod servers;
    mod sessions;
    mod settings;
}

/// The scenarios that a pooled connection could make a difference to, on deadpool's.
#[path = "../scenarios"]
mod pooled {
    use dbop_tests::environment::postgres::asynchronous::pooled::*;

    mod any;
    mod money;
    mod pools;
    mod sessions;

    mod postgres {
        use super::*;

        mod pool;
        #[expect(dead_code, reason = "most of it is for other scenarios")]
        mod steps;
    }
}

/// Fresh connections from a closure.
#[path = "../scenarios/connections"]
mod from_closure {
    use dbop_tests::environment::postgres::asynchronous::from_closure::*;

    mod any;
    mod closure;
    mod connecting;
    mod faults;
    mod gates;
    mod hurried;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    #[path = "../money.rs"]
    mod money;
    mod nodes;
    mod postgres;
    mod server;
    mod steps;
}

/// Fresh connections from deadpool.
#[path = "../scenarios/connections"]
mod from_deadpool {
    use dbop_tests::environment::postgres::asynchronous::from_deadpool::*;

    mod any;
    mod connecting;
    mod gates;
    mod leaks;
    #[path = "../money.rs"]
    mod money;
    mod nodes;
    mod pool;
    mod postgres;
    mod server;
    mod server_pool;
    #[path = "../sessions.rs"]
    mod sessions;
    mod settings;
    mod steps;
}

/// Fresh connections from bb8.
#[path = "../scenarios/connections"]
mod from_bb8 {
    use dbop_tests::environment::postgres::asynchronous::from_bb8::*;

    mod any;
    mod connecting;
    mod leaks;
    #[path = "../money.rs"]
    mod money;
    mod nodes;
    mod pool;
    mod postgres;
    mod server;
    mod server_pool;
    #[path = "../sessions.rs"]
    mod sessions;
    mod settings;
    mod steps;
}

/// Fresh connections from mobc.
#[path = "../scenarios/connections"]
mod from_mobc {
    use dbop_tests::environment::postgres::asynchronous::from_mobc::*;

    mod any;
    mod connecting;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    #[path = "../money.rs"]
    mod money;
    mod nodes;
    mod pool;
    mod postgres;
    mod server;
    mod server_pool;
    mod steps;
}
