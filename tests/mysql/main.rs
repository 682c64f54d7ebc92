//! dbop-diesel on MySQL and MariaDB.

#![allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]

mod compound;
mod set_option;

/// Idempotency keys.
#[path = "../keys"]
mod keys {
    use dbop_tests::mysql as backend;

    mod callers;
    mod killed;
    mod processes;
    mod requests;
    mod under_way;
}

/// The scenarios.
#[path = "../scenarios"]
mod sync {
    use dbop_tests::environment::mysql::sync::unpooled::*;

    use self::mysql::effect;

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

/// The scenarios that a pooled connection could make a difference to, on r2d2's.
#[path = "../scenarios"]
mod pooled {
    use dbop_tests::environment::mysql::sync::pooled::*;

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
    use dbop_tests::environment::mysql::sync::from_closure::*;

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

/// Fresh connections from r2d2.
#[path = "../scenarios/connections"]
mod from_r2d2 {
    use dbop_tests::environment::mysql::sync::from_r2d2::*;

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
