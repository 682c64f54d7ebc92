//! What is seen in spans and metrics of operations on MySQL and MariaDB.
//!
//! A program of its own, as the one for the other databases: each has the URL of one server.

#![allow(clippy::duplicate_mod, reason = "written once, run with both adapters")]

mod recorded;
mod seen;

/// The sync adapter.
#[path = "."]
mod sync {
    use dbop_tests::environment::mysql::sync::unpooled::{
        Bed, Conn, MODE, RunQueryDsl, Runner, backend, caught, helper, scenario, together,
    };

    #[expect(dead_code, reason = "some of it is for other tests")]
    #[path = "../scenarios/money.rs"]
    mod money;

    mod deadlock;
    mod spans;
}

/// The async adapter.
#[path = "."]
mod asynchronous {
    use dbop_tests::environment::mysql::asynchronous::unpooled::{
        Bed, Conn, MODE, RunQueryDsl, Runner, backend, caught, helper, scenario, together,
    };

    #[expect(dead_code, reason = "some of it is for other tests")]
    #[path = "../scenarios/money.rs"]
    mod money;

    mod deadlock;
    mod polled;
    mod spans;
}
