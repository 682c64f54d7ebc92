//! Services in the shapes in which code around Diesel is written, each as its author would use dbop in it.
//!
//! Most of them meet a lock or a deadlock of another session, which is retried.

#![allow(
    clippy::duplicate_mod,
    reason = "written once, run with both adapters where both have the shape"
)]

/// The sync adapter on SQLite.
#[cfg(feature = "sqlite")]
#[path = "."]
mod sync {
    use dbop_diesel::SupportedConnection;
    use dbop_tests::environment::sqlite::sync::unpooled::{
        Bed, Conn, Connection, RunQueryDsl, Runner, helper, scenario,
    };

    /// What the boxed errors of the service can be.
    type BoxedError = Box<dyn std::error::Error>;

    #[expect(dead_code, reason = "some of it is for other tests")]
    #[path = "../scenarios/money.rs"]
    mod money;

    mod anyhow_context;
    mod boxed_errors;
    mod error_stack_report;
    mod eyre_report;
    mod generic_code;
    mod locked;
    mod not_repeatable;
    mod r2d2_service;
    mod sync_helper;
    mod test_transaction;
    mod text_in_enum;
}

/// The async adapter on SQLite.
#[cfg(feature = "sqlite")]
#[path = "."]
mod asynchronous {
    use dbop_diesel_async::SupportedConnection;
    use dbop_tests::environment::sqlite::asynchronous::unpooled::{
        Bed, Conn, Connection, RunQueryDsl, Runner, helper, scenario,
    };

    /// What the boxed errors of the service can be.
    type BoxedError = Box<dyn std::error::Error + Send + Sync>;

    #[expect(dead_code, reason = "some of it is for other tests")]
    #[path = "../scenarios/money.rs"]
    mod money;

    mod anyhow_context;
    mod async_helper;
    mod boxed_errors;
    mod error_stack_report;
    mod eyre_report;
    mod generic_code;
    mod locked;
    mod not_repeatable;
    mod single_thread;
    mod test_transaction;
    mod text_in_enum;
}

/// PostgreSQL, with the adapter that the service has.
#[cfg(feature = "postgres")]
#[path = "."]
mod postgres {
    /// The sync adapter.
    #[path = "."]
    mod sync {
        use dbop_tests::environment::postgres::sync::unpooled::{
            Bed, Conn, Connection, RunQueryDsl, Runner, scenario,
        };

        mod deadlocked;
        mod multi_connection;
        mod test_transaction_postgres;
    }

    /// The async adapter.
    #[path = "."]
    mod asynchronous {
        use dbop_tests::environment::postgres::asynchronous::unpooled::{
            Bed, Conn, Connection, RunQueryDsl, Runner, helper, scenario,
        };

        #[expect(dead_code, reason = "some of it is for other tests")]
        #[path = "../scenarios/money.rs"]
        mod money;

        mod deadlocked;
        mod deadpool_newtype;
        mod scope_boxed;
        mod test_transaction_postgres;
    }
}
