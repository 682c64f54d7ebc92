//! dbop-diesel on PostgreSQL.

#![allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]

mod created_at_once;
mod migrations;
mod row_by_row;

/// Idempotency keys.
#[path = "../keys"]
mod keys {
    use dbop_tests::postgres as backend;

    mod callers;
    mod killed;
    mod processes;
    mod requests;
    mod under_way;
}

/// The scenarios.
#[path = "../scenarios"]
mod sync {
    use dbop_tests::environment::postgres::sync::unpooled::*;

    use self::postgres::effect;

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

/// The scenarios that a pooled connection could make a difference to, on r2d2's.
#[path = "../scenarios"]
mod pooled {
    use dbop_tests::environment::postgres::sync::pooled::*;

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
    use dbop_tests::environment::postgres::sync::from_closure::*;

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

/// Fresh connections from r2d2.
#[path = "../scenarios/connections"]
mod from_r2d2 {
    use dbop_tests::environment::postgres::sync::from_r2d2::*;

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
