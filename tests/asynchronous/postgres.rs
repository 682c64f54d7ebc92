//! What exists in the async adapter only, on PostgreSQL.

use dbop_tests::asynchronous::{on_current_thread, on_many_threads};

/// On a runtime of several threads.
#[path = "."]
mod asynchronous {
    use dbop_tests::asynchronous::postgres::{Bed, Conn, Db, LOCK};
    use dbop_tests::postgres::Conn as SyncConn;

    use super::on_many_threads as run;

    /// What a service logs when opposite transfers meet.
    const CONTENTION: &[&str] = &[
        "transfer: attempt 1: deadlock (40P01) in body, trying again",
        "transfer: done in attempt ",
    ];

    mod axum_service;
    mod cancellation;
    mod cancellation_load;
    mod cancellation_pools;
    mod classes;
    mod closures;
    mod keying;
    mod money;
    mod panics;
    mod pools;
    mod postgres_axum_service;
    mod postgres_classes;
    mod postgres_pipeline;
    mod server_panics;
}

/// The same on a single thread.
#[path = "."]
#[allow(
    clippy::duplicate_mod,
    reason = "written once, run on both kinds of runtime"
)]
mod current_thread {
    use dbop_tests::asynchronous::postgres::{Bed, Conn, Db, LOCK, LOCK_NOWAIT};

    use super::on_current_thread as run;

    mod cancellation;
    mod closures;
    mod keying;
    mod money;
    mod panics;
    mod paused_time;
    mod pools;
    mod postgres_pipeline;
    mod server_panics;
}
