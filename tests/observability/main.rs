//! What is seen of operations in spans and metrics, and the services that show it.
//!
//! A program of its own: the subscriber is that of the whole process.

#![allow(
    clippy::duplicate_mod,
    reason = "written once, run with both adapters where both have it"
)]

mod recorded;
mod seen;

/// The sync adapter on SQLite.
#[cfg(feature = "sqlite")]
#[path = "."]
mod sync {
    use dbop_tests::environment::sqlite::sync::unpooled::{
        Bed, Conn, MODE, RunQueryDsl, Runner, backend, caught, helper, scenario,
    };

    #[expect(dead_code, reason = "some of it is for other tests")]
    #[path = "../scenarios/money.rs"]
    mod money;

    mod meters;
    mod spans;
}

/// The async adapter on SQLite.
#[cfg(feature = "sqlite")]
#[path = "."]
mod asynchronous {
    use dbop_tests::environment::sqlite::asynchronous::unpooled::{
        Bed, Conn, MODE, RunQueryDsl, Runner, backend, caught, helper, scenario,
    };

    #[expect(dead_code, reason = "some of it is for other tests")]
    #[path = "../scenarios/money.rs"]
    mod money;

    mod polled;
    mod spans;
}

#[cfg(feature = "sqlite")]
mod dashboard;
#[cfg(feature = "sqlite")]
mod programs;

/// Both adapters on PostgreSQL.
#[cfg(feature = "postgres")]
#[path = "."]
mod postgres {
    /// The sync adapter.
    #[path = "."]
    mod sync {
        use dbop_tests::environment::postgres::sync::unpooled::{
            Bed, Conn, MODE, RunQueryDsl, Runner, backend, caught, helper, scenario, together,
        };

        #[expect(dead_code, reason = "some of it is for other tests")]
        #[path = "../scenarios/money.rs"]
        mod money;

        mod deadlock;
        mod locked;
        mod spans;
    }

    /// The async adapter.
    #[path = "."]
    mod asynchronous {
        use dbop_tests::environment::postgres::asynchronous::unpooled::{
            Bed, Conn, MODE, RunQueryDsl, Runner, backend, caught, helper, scenario, together,
        };

        #[expect(dead_code, reason = "some of it is for other tests")]
        #[path = "../scenarios/money.rs"]
        mod money;

        mod deadlock;
        mod locked;
        mod polled;
        mod spans;
    }
}
