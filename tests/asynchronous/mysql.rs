//! dbop-diesel-async on MySQL and MariaDB.

#![allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]

use dbop_tests::asynchronous::{on_current_thread, on_many_threads};

/// What exists in the async adapter only, on a runtime of several threads.
#[path = "."]
mod asynchronous {
    use dbop_tests::asynchronous::mysql::{Bed, Conn, Db};
    use dbop_tests::mysql::{self as backend, BACKEND, Conn as SyncConn};

    use super::on_many_threads as run;

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
    mod mysql_classes;
    mod mysql_documented_options;
    mod mysql_stream;
    mod panics;
    mod pools;
    mod refused;
    mod server_panics;
}

/// The same on a single thread.
#[path = "."]
mod current_thread {
    use dbop_tests::asynchronous::mysql::{Bed, Conn, Db, LOCK, LOCK_NOWAIT};

    use super::on_current_thread as run;

    mod cancellation;
    mod closures;
    mod keying;
    mod money;
    mod observing;
    mod panics;
    mod paused_time;
    mod pools;
    mod server_panics;
}

/// The scenarios.
#[path = "../scenarios"]
mod scenarios {
    use dbop_tests::environment::mysql::asynchronous::unpooled::*;

    use self::mysql::effect;

    #[path = "../asynchronous/allocations.rs"]
    mod allocations;
    mod any;
    mod commit;
    mod cost;
    mod keys;
    mod leaks;
    mod money;
    mod mysql;
    mod records;
    mod retries;
    mod servers;
    mod sessions;
    mod settings;
}

/// The scenarios that a pooled connection could make a difference to, on deadpool's.
#[path = "../scenarios"]
mod pooled {
    use dbop_tests::environment::mysql::asynchronous::pooled::*;

    mod any;
    mod money;
    mod pools;
    mod sessions;

    mod mysql {
        use super::*;

        mod caller_deadlock;
        mod pool;
        mod steps;
    }
}

/// Fresh connections from a closure.
#[path = "../scenarios/connections"]
mod from_closure {
    use dbop_tests::environment::mysql::asynchronous::from_closure::*;

    mod any;
    mod closure;
    mod connecting;
    mod faults;
    mod gates;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    #[path = "../money.rs"]
    mod money;
    mod nodes;
    mod server;
    mod steps;
}

/// Fresh connections from deadpool.
#[path = "../scenarios/connections"]
mod from_deadpool {
    use dbop_tests::environment::mysql::asynchronous::from_deadpool::*;

    mod any;
    mod connecting;
    mod galera;
    mod gates;
    mod leaks;
    #[path = "../money.rs"]
    mod money;
    mod nodes;
    mod pool;
    mod server;
    mod server_pool;
    #[path = "../sessions.rs"]
    mod sessions;
    mod settings;
    mod steps;
    mod table_locks;
}

/// Fresh connections from bb8.
#[path = "../scenarios/connections"]
mod from_bb8 {
    use dbop_tests::environment::mysql::asynchronous::from_bb8::*;

    mod any;
    mod connecting;
    mod galera;
    mod leaks;
    #[path = "../money.rs"]
    mod money;
    mod nodes;
    mod pool;
    mod server;
    mod server_pool;
    #[path = "../sessions.rs"]
    mod sessions;
    mod settings;
    mod steps;
    mod table_locks;
}

/// Fresh connections from mobc.
#[path = "../scenarios/connections"]
mod from_mobc {
    use dbop_tests::environment::mysql::asynchronous::from_mobc::*;

    mod any;
    mod connecting;
    mod galera;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    #[path = "../money.rs"]
    mod money;
    mod nodes;
    mod pool;
    mod server;
    mod server_pool;
    mod steps;
    mod table_locks;
}
