//! dbop-diesel on SQLite.

#![allow(
    clippy::duplicate_mod,
    reason = "written once, run on every kind of connection"
)]

mod migrations;
mod pool_in_closure;
mod replaced_file;
mod small_bench;
mod small_storm;

#[path = "../bench/harness.rs"]
mod bench;
#[path = "../storm/harness.rs"]
mod storm;

/// A service with idempotency keys, as a process of its own.
#[path = "../keys"]
mod keys {
    use dbop_tests::sqlite as backend;

    mod killed;
    mod processes;
    mod requests;
}

/// The scenarios.
#[path = "../scenarios"]
mod sync {
    use dbop_tests::environment::sqlite::sync::unpooled::*;

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

/// The scenarios that a pooled connection could make a difference to, on r2d2's.
#[path = "../scenarios"]
mod pooled {
    use dbop_tests::environment::sqlite::sync::pooled::*;

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
    use dbop_tests::environment::sqlite::sync::from_closure::*;

    mod any;
    mod closure;
    mod faults;
    mod gates;
    #[expect(dead_code, reason = "some of it is for other scenarios")]
    #[path = "../money.rs"]
    mod money;
}

/// Fresh connections from r2d2.
#[path = "../scenarios/connections"]
mod from_r2d2 {
    use dbop_tests::environment::sqlite::sync::from_r2d2::*;

    mod any;
    mod leaks;
    #[path = "../money.rs"]
    mod money;
    mod pool;
    #[path = "../sessions.rs"]
    mod sessions;
}
